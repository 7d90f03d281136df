"""Masks of photographs that are done, from what is stored of them: their files, or their regions."""

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
import rasterio.features
import shapely
from numpy.typing import NDArray

from batchseg.errors import DamagedResultError, OutputError, SourceError
from batchseg.inputs.tables import compute as pc
from batchseg.job.recipe import Recipe
from batchseg.output.photo_mask import read_layer
from batchseg.output.region_parts import read_part
from batchseg.predict.photo import PhotoMask, census
from batchseg.system import storage

Row = dict[str, Any]


class StoredMasks:
    """Gives the mask of a photograph by its ledger row; the last region table stays in memory."""

    def __init__(self, output: str, recipe: Recipe) -> None:
        self._output, self._recipe = output, recipe
        self._part: tuple[str, pa.Table] = ("", pa.table({}))

    def __call__(self, row: Row) -> PhotoMask:
        """The mask as it was predicted.

        Where no mask was kept it is drawn from the regions. These hold it whole if their outlines are not
        simplified, which lengths tell, and none is missing, which the row's counts of pixels tell.

        Raises:
            DamagedResultError: what is stored is not what was recorded, or too little.
        """
        made = {output["path"].partition("/")[0]: output for output in row["outputs"]}
        try:
            if "masks" in made:
                classes = self._read(made["masks"])
                confidence = self._read(made["confidence"]) if "confidence" in made else None
            else:
                classes, confidence = self._drawn(row, made.get("annotations")), None
        except (OSError, SourceError, OutputError, pa.ArrowException) as e:
            msg = f"stored results of {row['source_id']} cannot be used: {e}"
            raise DamagedResultError(msg) from e
        if self._recipe.confidence and confidence is None:
            msg = f"no confidence was kept of {row['source_id']}"
            raise DamagedResultError(msg)
        return PhotoMask(classes=classes, confidence=confidence, tiles=row["predicted"])

    def _read(self, made: Row) -> NDArray[Any]:
        data = storage.read_bytes(storage.join(self._output, made["path"]))
        if hashlib.sha256(data).hexdigest() != made["sha256"]:
            msg = f"{made['path']} has another checksum than was recorded"
            raise SourceError(msg)
        return read_layer(data)

    def _drawn(self, row: Row, part: Row | None) -> NDArray[Any]:
        classes = np.zeros((row["height"], row["width"]), self._recipe.mask_dtype)
        if row["region_count"] and part is not None:
            regions = self._regions(part["path"], row["source_id"])
            shapes = shapely.from_wkb(regions["geometry"].to_pylist())
            if not np.allclose(shapely.length(shapes), regions["perimeter_px"].to_numpy(), atol=0.1, rtol=0):
                msg = "the outlines of its regions are simplified"
                raise SourceError(msg)
            drawn = zip(shapes, regions["class_id"].to_pylist(), strict=True)
            rasterio.features.rasterize(list(drawn), out=classes)
        if census(classes, self._recipe.mask_nodata) != (row["class_ids"], row["class_pixels"]):
            msg = "its regions are not the whole mask"
            raise SourceError(msg)
        return classes

    def _regions(self, path: str, source_id: str) -> pa.Table:
        if self._part[0] != path:
            self._part = path, read_part(self._output, path).read()
        table = self._part[1]
        return table.filter(pc.equal(table["source_id"], source_id))

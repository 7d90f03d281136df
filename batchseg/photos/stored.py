"""Masks of photographs that are done, from what is stored of them: their files, or their regions."""

from typing import Any

import numpy as np
import pyarrow as pa
import rasterio.features
import shapely
from numpy.typing import NDArray

from batchseg import storage
from batchseg.errors import DamagedResultError, OutputError, SourceError
from batchseg.photos.fitting import PhotoMask
from batchseg.photos.maskfile import read_layer
from batchseg.photos.tables import compute as pc
from batchseg.recipe import Recipe
from batchseg.tables import read_part

Row = dict[str, Any]


class StoredMasks:
    """Gives the mask of a photograph by its ledger row; the last region table stays in memory."""

    def __init__(self, output: str, recipe: Recipe) -> None:
        self._output, self._recipe = output, recipe
        self._part: tuple[str, pa.Table] = ("", pa.table({}))

    def __call__(self, row: Row) -> PhotoMask:
        """The mask as it was predicted.

        Where no mask was kept it is drawn from the regions, which follow pixel sides; the row's counts tell
        whether that is the whole mask.

        Raises:
            DamagedResultError: what is stored is not what was recorded, or too little.
        """
        layers = {
            layer: made
            for made in row["outputs"]
            if (layer := made["path"].partition("/")[0]) in ("masks", "confidence")
        }
        try:
            if "masks" in layers:
                read = {layer: self._read(made) for layer, made in layers.items()}
                classes, confidence = read["masks"], read.get("confidence")
            else:
                classes, confidence = self._drawn(row), None
        except (OSError, SourceError, OutputError) as e:
            msg = f"stored results of {row['source_id']} cannot be read: {e}"
            raise DamagedResultError(msg) from e
        if self._recipe.confidence and confidence is None:
            msg = f"no confidence was kept of {row['source_id']}"
            raise DamagedResultError(msg)
        return PhotoMask(classes=classes, confidence=confidence, tiles=row["predicted"])

    def _read(self, made: Row) -> NDArray[Any]:
        uri = storage.join(self._output, made["path"])
        return read_layer(storage.read_bytes(uri), uri)

    def _drawn(self, row: Row) -> NDArray[Any]:
        classes = np.zeros((row["height"], row["width"]), self._recipe.mask_dtype)
        if row["region_count"]:
            own = self._regions(row)
            shapes = shapely.from_wkb(own["geometry"].to_pylist())
            drawn = list(zip(shapes, own["class_id"].to_pylist(), strict=True))
            rasterio.features.rasterize(drawn, out=classes)
        ids, pixels = np.unique(classes, return_counts=True)
        if (ids.tolist(), pixels.tolist()) != (list(row["class_ids"]), list(row["class_pixels"])):
            msg = f"the regions that were kept of {row['source_id']} are not its whole mask"
            raise DamagedResultError(msg)
        return classes

    def _regions(self, row: Row) -> pa.Table:
        path = next(made["path"] for made in row["outputs"] if made["path"].startswith("annotations/"))
        if self._part[0] != path:
            self._part = path, read_part(self._output, path).read()
        table = self._part[1]
        return table.filter(pc.equal(table["source_id"], row["source_id"]))

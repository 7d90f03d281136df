"""Masks of photographs as files: PNG with the classes' colours, or GeoTIFF.

They are read again from what is stored of a photograph that is done: its file, or its regions.
"""

import hashlib
import io
from typing import Any

import numpy as np
import pyarrow as pa
import rasterio.features
import shapely
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngImageFile
from rasterio.io import MemoryFile

from batchseg.errors import DamagedResultError, OutputError, SourceError
from batchseg.inputs.source import compute as pc
from batchseg.job.recipe import Product, Recipe
from batchseg.job.settings import Values
from batchseg.models.package import ClassInfo
from batchseg.output import layout
from batchseg.output.region_parts import read_part
from batchseg.output.value_layer import undivided
from batchseg.pixels.gdal import gdal
from batchseg.pixels.photo.limits import MAX_PIXELS
from batchseg.predict.numbers import Stored
from batchseg.predict.photo import Ids, PhotoMask, census
from batchseg.regions.wkb import read_polygons
from batchseg.system import fetch


def encode_mask(ids: Ids, product: Product, nodata: int, classes: tuple[ClassInfo, ...]) -> bytes:
    """Class ids (H, W) as a file of the job's format, with names and colours of `classes`.

    A PNG of uint8 has a palette of the classes' colours, if they have names, and its nodata is transparent;
    one of uint16 is grey.
    """
    if product.photo_options.mask_format == "tif":
        return _geotiff(ids, product, classes=classes, nodata=nodata)
    image = Image.fromarray(ids)
    if ids.itemsize > 1:
        return _png(image)
    if classes:
        image.putpalette(_palette(classes))
    return _png(image, transparency=nodata)


def encode_confidence(confidence: NDArray[np.uint8], product: Product) -> bytes:
    """255 x probability (H, W) as a grey file; 0 is nodata."""
    if product.photo_options.mask_format == "tif":
        return _geotiff(confidence, product, classes=(), nodata=0)
    return _png(Image.fromarray(confidence))


def encode_values(pixels: Stored, product: Product, values: Values) -> bytes:
    """Numbers (H, W) as a GeoTIFF, whatever the format of masks: a PNG holds no floats."""
    return _geotiff(pixels, product, classes=(), nodata=values.nodata, values=values)


PREDICTORS = {"uint16": 2, "float32": 3}
"""What is stored is how a number differs from the one before."""


def read_layer(data: bytes, size_hw: tuple[int, int] | None = None) -> NDArray[Any]:
    """The ids or confidences (H, W) of such a file, as they were encoded.

    Args:
        data: content of the file.
        size_hw: height and width that it must have, which its header tells; None: any.

    Raises:
        SourceError: it is damaged, or of another size.
    """
    try:
        if data.startswith(b"\x89PNG"):
            image = PngImageFile(io.BytesIO(data))
            _check_size(image.size[::-1], size_hw)
            return np.array(image)
        with gdal(), MemoryFile(data) as memory, memory.open(driver="GTiff") as dataset:
            _check_size(dataset.shape, size_hw)
            pixels: NDArray[Any] = dataset.read(1)
            return pixels
    except Exception as e:  # what Pillow and GDAL raise of damaged files has no common base
        raise SourceError(str(e) or type(e).__name__) from e


def _check_size(found_hw: tuple[int, int], size_hw: tuple[int, int] | None) -> None:
    """Before the pixels are decoded: a few bytes may stand for very many."""
    if size_hw is not None and found_hw != size_hw:
        msg = f"it has {found_hw[1]} x {found_hw[0]} pixels, recorded are {size_hw[1]} x {size_hw[0]}"
        raise SourceError(msg)


def _png(image: Image.Image, **options: Any) -> bytes:
    sink = io.BytesIO()
    # Level 3 takes a third of the time of the default for masks, and 10 % more bytes.
    image.save(sink, "PNG", compress_level=3, **options)
    return sink.getvalue()


def _palette(classes: tuple[ClassInfo, ...]) -> bytes:
    """RGB of all 256 values: a shorter palette would make Pillow save fewer bits per pixel."""
    return b"".join(bytes.fromhex(info.color[1:]) for info in classes).ljust(768, b"\x00")


def _geotiff(
    array: NDArray[Any],
    product: Product,
    *,
    classes: tuple[ClassInfo, ...],
    nodata: float,
    values: Values | None = None,
) -> bytes:
    height, width = array.shape
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "height": height,
        "width": width,
        "count": 1,
        "dtype": array.dtype,
        "nodata": nodata,
        "compress": product.compress,
    }
    if values is not None:
        profile["predictor"] = PREDICTORS[values.dtype]
    with gdal(), MemoryFile() as memory:
        with memory.open(**profile) as dataset:
            if classes:
                named = ((number, info.name) for number, info in enumerate(classes) if info.name)
                dataset.update_tags(**{f"CLASS_{number}": name for number, name in named})
                if array.itemsize == 1:
                    rgb = enumerate(bytes.fromhex(info.color[1:]) for info in classes)
                    dataset.write_colormap(1, {number: (*color, 255) for number, color in rgb})
            if values is not None and values.dtype == "uint16":
                dataset.scales, dataset.offsets = (values.scale,), (values.offset,)
            dataset.write(array, 1)
        data: bytes = memory.read()
    return data


Row = dict[str, Any]


def _recorded_size(row: Row) -> tuple[int, int]:
    """Height and width. Raises SourceError where they are those of no photograph that is taken."""
    height, width = row["height"], row["width"]
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        msg = f"its record says {width} x {height} pixels"
        raise SourceError(msg)
    return height, width


class StoredMasks:
    """Gives the mask of a photograph by its ledger row; the last region table stays in memory."""

    def __init__(self, output: str, recipe: Recipe) -> None:
        self._output, self._recipe = output, recipe
        self._part: tuple[str, pa.Table] = ("", pa.table({}))

    def __call__(self, row: Row) -> PhotoMask:
        """The mask as it was predicted.

        Where masks are cleaned, what was predicted is kept of each photograph. Else, where no mask was kept,
        it is drawn from the regions. These hold it whole if their outlines are not simplified, which lengths
        tell, and none is missing, which the row's counts of pixels tell.

        Raises:
            DamagedResultError: what is stored is not what was recorded, or too little.
        """
        made = {output["path"].partition("/")[0]: output for output in row["outputs"]}
        try:
            size_hw = _recorded_size(row)
            numbers = made.get(layout.VALUES)
            values = None if numbers is None else self._read(numbers, size_hw)
            if not self._recipe.has_mask and values is not None:
                classes, confidence = undivided(values, self._recipe.mask_nodata), None
            elif kept := made.get(layout.PREDICTED) or made.get(layout.MASKS):
                classes = self._read(kept, size_hw)
                scores = made.get(layout.CONFIDENCE)
                confidence = None if scores is None else self._read(scores, size_hw)
            else:
                classes, confidence = self._drawn(row, made.get(layout.ANNOTATIONS)), None
        except (OSError, SourceError, OutputError, pa.ArrowException) as e:
            msg = f"stored results of {row['source_id']} cannot be used: {e}"
            raise DamagedResultError(msg) from e
        for what, wanted, found in (
            ("confidence", self._recipe.confidence, confidence),
            ("number", self._recipe.values is not None, values),
        ):
            if wanted and found is None:
                msg = f"no {what} was kept of {row['source_id']}"
                raise DamagedResultError(msg)
        return PhotoMask(classes=classes, confidence=confidence, tiles=row["predicted"], values=values)

    def _read(self, made: Row, size_hw: tuple[int, int]) -> NDArray[Any]:
        data = fetch.read_bytes(layout.result_file(self._output, made["path"]))
        if hashlib.sha256(data).hexdigest() != made["sha256"]:
            msg = f"{made['path']} has another checksum than was recorded"
            raise SourceError(msg)
        return read_layer(data, size_hw)

    def _drawn(self, row: Row, part: Row | None) -> NDArray[Any]:
        ground = 0 if row["class_ids"] else self._recipe.mask_nodata
        classes = np.full((row["height"], row["width"]), ground, self._recipe.mask_dtype)
        if row["region_count"] and part is not None:
            regions = self._regions(part["path"], row["source_id"])
            shapes = read_polygons(regions["geometry"], part["path"])
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

"""Masks of photographs as files: PNG with the classes' colours, or GeoTIFF."""

import io
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngImageFile
from rasterio.io import MemoryFile

from batchseg.errors import SourceError
from batchseg.job.recipe import Product
from batchseg.job.settings import ClassInfo
from batchseg.pixels.read import gdal
from batchseg.predict.photo import Ids

Layer = Literal["masks", "confidence"]


def mask_file(source_id: str, product: Product, layer: Layer = "masks") -> str:
    """Path below the output."""
    assert product.photographs is not None
    return f"{layer}/{source_id}.{product.photographs.mask_format}"


def encode_mask(classes: Ids, product: Product, nodata: int) -> bytes:
    """Class ids (H, W) as a file of the job's format.

    A PNG of uint8 has a palette of the classes' colours, if they have names, and its nodata is transparent;
    one of uint16 is grey.
    """
    assert product.photographs is not None
    if product.photographs.mask_format == "tif":
        return _geotiff(classes, product, classes=product.classes, nodata=nodata)
    image = Image.fromarray(classes)
    if classes.itemsize > 1:
        return _png(image)
    if product.classes:
        image.putpalette(_palette(product.classes))
    return _png(image, transparency=nodata)


def encode_confidence(confidence: NDArray[np.uint8], product: Product) -> bytes:
    """255 x probability (H, W) as a grey file; 0 is nodata."""
    assert product.photographs is not None
    if product.photographs.mask_format == "tif":
        return _geotiff(confidence, product, classes=(), nodata=0)
    return _png(Image.fromarray(confidence))


def read_layer(data: bytes) -> NDArray[Any]:
    """The ids or confidences (H, W) of such a file, as they were encoded.

    Raises:
        SourceError: it is damaged.
    """
    try:
        if data.startswith(b"\x89PNG"):
            return np.array(PngImageFile(io.BytesIO(data)))
        with gdal(), MemoryFile(data) as memory, memory.open() as dataset:
            pixels: NDArray[Any] = dataset.read(1)
            return pixels
    except Exception as e:  # what Pillow and GDAL raise of damaged files has no common base
        raise SourceError(str(e) or type(e).__name__) from e


def _png(image: Image.Image, **options: Any) -> bytes:
    sink = io.BytesIO()
    # Level 3 takes a third of the time of the default for masks, and 10 % more bytes.
    image.save(sink, "PNG", compress_level=3, **options)
    return sink.getvalue()


def _palette(classes: tuple[ClassInfo, ...]) -> bytes:
    """RGB of all 256 values: a shorter palette would make Pillow save fewer bits per pixel."""
    return b"".join(bytes.fromhex(info.color[1:]) for info in classes).ljust(768, b"\x00")


def _geotiff(array: NDArray[Any], product: Product, *, classes: tuple[ClassInfo, ...], nodata: int) -> bytes:
    height, width = array.shape
    profile = {
        "driver": "GTiff",
        "height": height,
        "width": width,
        "count": 1,
        "dtype": array.dtype,
        "nodata": nodata,
        "compress": product.compress,
    }
    with gdal(), MemoryFile() as memory:
        with memory.open(**profile) as dataset:
            if classes:
                dataset.update_tags(**{f"CLASS_{number}": info.name for number, info in enumerate(classes)})
                if array.itemsize == 1:
                    rgb = enumerate(bytes.fromhex(info.color[1:]) for info in classes)
                    dataset.write_colormap(1, {number: (*color, 255) for number, color in rgb})
            dataset.write(array, 1)
        data: bytes = memory.read()
    return data

"""JPEG 2000 by GDAL, which keeps 16 bits; Pillow reduces colour of 16 bits to 8."""

from dataclasses import replace

import numpy as np
from rasterio.enums import ColorInterp
from rasterio.io import MemoryFile

from batchseg.inputs.formats import check_bands
from batchseg.pixels.gdal import BLOCK_CACHE_BYTES, gdal
from batchseg.pixels.photo.limits import Limits
from batchseg.pixels.photo.picture import Picture, make_picture
from batchseg.pixels.photo.tiff import (
    MADE_RGB,
    MIN_IS_BLACK,
    PALETTE,
    RGB,
    colors_of,
    expanded,
    place_of,
    valid_of,
)

SAMPLE_BYTES = 4
"""OpenJPEG's integers."""


def read(data: bytes, limits: Limits) -> Picture:
    """Decode a JPEG 2000 picture.

    Raises:
        SourceError: too large, or of a kind that is not expanded.
        NoRoomError: the limits have no room for it now.
        rasterio.errors.RasterioError: GDAL cannot read it.
    """
    with (
        gdal(),
        MemoryFile(data, filename="image.jp2") as memory,
        memory.open(driver="JP2OpenJPEG") as dataset,
    ):
        check_bands(dataset.count)
        has_palette = dataset.colorinterp[0] == ColorInterp.palette
        stored = sum(np.dtype(dtype).itemsize for dtype in dataset.dtypes)
        picture = max(stored, 3 if has_palette else 0)
        limits.check(
            dataset.height,
            dataset.width,
            decoding=SAMPLE_BYTES * dataset.count + stored + 2 * picture + 2,
            picture=2 * picture + 1,  # invalid pixels are filled in a copy
            file_bytes=2 * len(data),  # GDAL copies it
            more=min(BLOCK_CACHE_BYTES, dataset.height * dataset.width * stored),
        )
        bands = dataset.read()
        has_colour = ColorInterp.red in dataset.colorinterp
        photometric = PALETTE if has_palette else RGB if has_colour else MIN_IS_BLACK
        pixels, kind = expanded(dataset, bands, photometric)
        colors = colors_of(dataset) if kind not in MADE_RGB else ()
        picture = make_picture(pixels, valid_of(dataset, bands), kind, place=place_of(dataset))
        return replace(picture, colors=colors) if colors else picture

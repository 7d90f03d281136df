"""TIFF by GDAL, which reads all kinds of them and keeps 16 bits; what it leaves raw is expanded here."""

import io
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL.TiffImagePlugin import ImageFileDirectory_v2
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.io import MemoryFile

from batchseg.errors import SourceError
from batchseg.inputs.formats import check_bands, check_elsewhere
from batchseg.pixels.bands import described_colors
from batchseg.pixels.frames import check_one_page
from batchseg.pixels.gdal import BLOCK_CACHE_BYTES, gdal
from batchseg.pixels.photo.limits import Limits
from batchseg.pixels.photo.picture import Picture, make_picture, turning_bytes

WIDTH, HEIGHT, BITS, PHOTOMETRIC, ORIENTATION = 256, 257, 258, 262, 274
SUBFILE, STRIP_BYTES, TILE_BYTES, INK_SET, DNG_VERSION = 254, 279, 325, 332, 50706
"""Tags of TIFF 6.0, and of DNG."""

PLACE_TAGS = (33550, 33922, 34264, 34735, 50844)
"""ModelPixelScale, ModelTiepoint, ModelTransformation and GeoKeyDirectory of GeoTIFF 1.1, and GDAL's RPCs."""

MIN_IS_WHITE, MIN_IS_BLACK, RGB, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6
OTHERS = {
    4: "a transparency mask",
    8: "CIELab",
    9: "ICCLab",
    10: "ITULab",
    32803: "a camera's raw",
    32844: "LogL",
    32845: "LogLuv",
    34892: "a camera's raw",
}
"""Photometric interpretations that are not expanded."""

MADE_RGB = frozenset(("palette", "CMYK"))
"""Kinds of pictures whose bands are others than the file's."""

EXACT_IN_FLOAT32 = frozenset(("int8", "int16", "float16", "float32", "float64"))


def read(data: bytes, limits: Limits) -> Picture:
    """Decode a TIFF of one page.

    Invalid is what its mask leaves out, else what holds nodata in all bands, else what is transparent.
    Samples of int8, int16 and float64 become float32.

    Raises:
        SourceError: too large, of several pages, or of a kind that is not expanded.
        NoRoomError: the limits have no room for it now.
        rasterio.errors.RasterioError: GDAL cannot read it; and whatever Pillow says of damaged tags.
    """
    tags = _tags(data)
    _refuse(tags)
    with gdal(), MemoryFile(data, filename="image.tif") as memory, memory.open(driver="GTiff") as dataset:
        check_bands(dataset.count)
        check_elsewhere(dataset.tags(ns="OVERVIEWS"))
        check_one_page(dataset, lambda at, count: data[at : at + count], len(data))
        _check(limits, dataset, tags, len(data))
        # A strip or tile of no bytes: GDAL fills it with 0 and says nothing.
        if dataset.nodata is None and 0 in np.atleast_1d(tags.get(STRIP_BYTES, tags.get(TILE_BYTES, 1))):
            msg = "has parts that were never written"
            raise SourceError(msg)
        orientation = tags.get(ORIENTATION, 1)
        if orientation != 1 and _converted(dataset):
            msg = (
                "is CMYK or YCbCr, and turned by its orientation tag, which is not supported; save it as RGB"
            )
            raise SourceError(msg)
        bands = dataset.read()
        pixels, kind = expanded(dataset, bands, tags.get(PHOTOMETRIC, MIN_IS_BLACK))
        valid = valid_of(dataset, bands)
        place = place_of(dataset) if any(tag in tags for tag in PLACE_TAGS) else ""
        colors = colors_of(dataset) if kind not in MADE_RGB else ()
    picture = make_picture(pixels, valid, kind, orientation=orientation, place=place)
    stored = "" if str(bands.dtype) == str(pixels.dtype) else str(bands.dtype)
    return replace(picture, colors=colors, stored=stored) if colors or stored else picture


def _check(limits: Limits, dataset: rasterio.DatasetReader, tags: dict[int, Any], file_bytes: int) -> None:
    """Raises SourceError and NoRoomError as `Limits.check` does, and of types that numpy has not."""
    if "complex" in dataset.dtypes[0]:  # complex_int16 is GDAL's alone
        raise SourceError(_unsupported(dataset.dtypes[0]))
    dtype, photometric = np.dtype(dataset.dtypes[0]), tags.get(PHOTOMETRIC, MIN_IS_BLACK)
    has_alpha = ColorInterp.alpha in dataset.colorinterp
    used = 3 if photometric in (PALETTE, CMYK) else max(1, dataset.count - has_alpha)
    itemsize = dtype.itemsize if dtype.kind == "u" else 4
    stored, picture = dtype.itemsize * dataset.count, itemsize * used
    spread = max(np.atleast_1d(tags.get(BITS, 1))) not in (8, 16, 32)
    copies = 1 + has_alpha + (spread or dtype.kind == "i")
    copies += 2 * (photometric == MIN_IS_WHITE)
    decoding = stored + max(dtype.itemsize * used, picture) * copies + 2  # two of its validity
    decoding += dataset.count + 1 if dtype.kind == "f" else 0
    decoding += turning_bytes(tags.get(ORIENTATION, 1), picture) - picture
    rows, columns = dataset.block_shapes[0]
    limits.check(
        dataset.height,
        dataset.width,
        decoding=decoding,
        picture=2 * picture + 1,  # invalid pixels are filled in a copy
        file_bytes=2 * file_bytes,  # GDAL copies it
        # A strip or tile as libtiff unpacks it, and as GDAL's cache holds it.
        more=2 * rows * columns * stored + min(BLOCK_CACHE_BYTES, dataset.height * dataset.width * stored),
    )


def _tags(data: bytes) -> dict[int, Any]:
    """Numbers of the first page's tags to their values."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # 43 is BigTIFF's number, where TIFF has 42; its header is twice as long.
        directory = ImageFileDirectory_v2(data[:16] if 43 in data[2:4] else data[:8])
        stream = io.BytesIO(data)
        stream.seek(directory.next)
        directory.load(stream)
        wanted = (WIDTH, HEIGHT, BITS, PHOTOMETRIC, ORIENTATION, SUBFILE, STRIP_BYTES, TILE_BYTES, INK_SET)
        found = {tag: directory[tag] for tag in (*wanted, DNG_VERSION) if tag in directory}
        return found | {tag: True for tag in PLACE_TAGS if tag in directory}


def _refuse(tags: dict[int, Any]) -> None:
    """By name what cannot be expanded, and what is a small picture of another one."""
    photometric = tags.get(PHOTOMETRIC, MIN_IS_BLACK)
    bits = max(np.atleast_1d(tags.get(BITS, 1)))
    kind = OTHERS.get(photometric)
    if DNG_VERSION in tags or int(tags.get(SUBFILE, 0)) & 1:
        kind = "a preview, as in a camera's raw file,"
    elif photometric == CMYK and tags.get(INK_SET, 1) != 1:
        kind = "of inks other than CMYK,"
    elif photometric in (CMYK, PALETTE, YCBCR) and bits > 8:
        kind = f"{bits}-bit { {CMYK: 'CMYK', PALETTE: 'palette', YCBCR: 'YCbCr'}[photometric] }"
    if kind:
        msg = f"is {kind}, which is not supported; save it as RGB"
        raise SourceError(msg.replace(",,", ","))


def place_of(dataset: rasterio.DatasetReader) -> str:
    """What a file itself says of its place on the ground, in words; empty: nothing."""
    points, _ = dataset.gcps
    said = {
        "CRS": bool(dataset.crs),
        "geotransform": not dataset.transform.is_identity,
        "ground control points": bool(points),
        "RPCs": bool(dataset.tags(ns="RPC")),
    }
    return ", ".join(what for what, is_there in said.items() if is_there)


def _converted(dataset: rasterio.DatasetReader) -> bool:
    """Whether libtiff makes RGBA of other colours: it then turns strips, not the picture."""
    return dataset.count == 4 and "SOURCE_COLOR_SPACE" in dataset.tags(ns="IMAGE_STRUCTURE")


def colors_of(dataset: rasterio.DatasetReader) -> tuple[str, ...]:
    """The colour of each channel but alpha, as its name or its colour interpretation says; empty: none does.

    What a driver says by itself of three bands counts for nothing.
    """
    tags = [color.name for color in dataset.colorinterp]
    colors = described_colors([name or "" for name in dataset.descriptions], tags)
    kept = tuple(color for color, tag in zip(colors, tags, strict=False) if tag != "alpha")
    return kept if any(kept) else ()


def expanded(
    dataset: rasterio.DatasetReader, bands: NDArray[Any], photometric: int
) -> tuple[NDArray[Any], str]:
    """(height, width, channels) and `Picture.kind`, of bands (bands, height, width) as GDAL gives them."""
    colors = list(dataset.colorinterp)
    if photometric == PALETTE:
        return _by_palette(dataset, bands[0]), "palette"
    if photometric == CMYK:
        if colors[:3] != [ColorInterp.red, ColorInterp.green, ColorInterp.blue]:
            msg = "is CMYK of a kind that is not supported; save it as RGB"
            raise SourceError(msg)
        return _last(bands[:3]), "CMYK"  # GDAL has converted it
    has_alpha = ColorInterp.alpha in colors
    used = [band for band, color in enumerate(colors) if color != ColorInterp.alpha]
    pixels = _last(bands[used] if has_alpha else bands)
    nbits = int(dataset.tags(1, ns="IMAGE_STRUCTURE").get("NBITS", 8 * pixels.dtype.itemsize))
    pixels = _known_type(pixels, nbits)
    if photometric == MIN_IS_WHITE:
        pixels = _inverted(pixels, nbits)
    colour = {1: "grey", 3: "RGB" if photometric in (RGB, YCBCR) else "3 bands"}.get(
        len(used), f"{len(used)} bands"
    )
    alpha = {"RGB": "RGBA"}.get(colour, f"{colour} + alpha") if has_alpha else colour
    return pixels, f"{nbits}-bit {alpha}" if nbits > 8 else alpha


def _last(bands: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(np.moveaxis(bands, 0, 2))


def _by_palette(dataset: rasterio.DatasetReader, indices: NDArray[Any]) -> NDArray[Any]:
    colors = np.zeros((256, 3), np.uint8)
    for index, rgba in dataset.colormap(1).items():
        colors[index] = rgba[:3]
    return np.asarray(colors[indices])


def _known_type(pixels: NDArray[Any], nbits: int) -> NDArray[Any]:
    if pixels.dtype == np.uint8 and nbits < 8:
        most = 2**nbits - 1
        # As 8 bits show them: 0 and 255 for one bit, steps of 17 for four.
        spread = (np.arange(256) * 255 // most).clip(0, 255).astype(np.uint8)
        return np.asarray(spread[pixels])
    if pixels.dtype in (np.uint8, np.uint16):
        return pixels
    if str(pixels.dtype) in EXACT_IN_FLOAT32:
        return pixels.astype(np.float32, copy=False)
    raise SourceError(_unsupported(str(pixels.dtype)))


def _unsupported(dtype: str) -> str:
    return f"has {dtype} pixels, which are not supported; save it with 8 or 16 bits, or as float32"


def _inverted(pixels: NDArray[Any], nbits: int) -> NDArray[Any]:
    if pixels.dtype == np.float32:
        msg = "is grey of real numbers in which the least is white, which is not supported"
        raise SourceError(msg)
    most = 255 if pixels.dtype == np.uint8 else 2**nbits - 1
    return np.asarray(most - pixels).astype(pixels.dtype)


def valid_of(dataset: rasterio.DatasetReader, bands: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Shape (height, width), or None; in the order of GDAL's masks: the file's own, nodata, alpha."""
    flags = dataset.mask_flag_enums[0]
    valid: NDArray[np.bool_] | None = None
    if MaskFlags.nodata in flags or (MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags):
        valid = dataset.dataset_mask() != 0
    elif ColorInterp.alpha in dataset.colorinterp:
        valid = bands[dataset.colorinterp.index(ColorInterp.alpha)] != 0
    if bands.dtype.kind == "f":
        finite = np.isfinite(bands).all(axis=0)
        valid = finite if valid is None else valid & finite
    return valid

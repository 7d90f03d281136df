"""PNG, BMP, WebP, GIF, AVIF and HEIC by Pillow, and the JPEGs that `jpeg` leaves.

Pillow checks less than it could and reduces colour of 16 bits to 8: a PNG's checksums are looked at
here, and its colour of 16 bits is read by GDAL.
"""

import io
import struct
import warnings
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import AvifImagePlugin
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile
from rasterio.io import MemoryFile

from batchseg.errors import SourceError
from batchseg.pixels.gdal import BLOCK_CACHE_BYTES, gdal
from batchseg.pixels.photo.jpeg import coefficient_bytes, orientation_of
from batchseg.pixels.photo.limits import Limits
from batchseg.pixels.photo.picture import Picture, make_picture, turning_bytes

OPENERS: dict[str, type[ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "BMP": BmpImageFile,
    "WebP": WebPImageFile,
    "GIF": GifImageFile,
}
"""Pillow's readers themselves: `Image.open` would hide why a file is none."""

MODE_BYTES = {
    "1": (4, 2, 1),
    "L": (3, 2, 1),
    "P": (13, 6, 3),
    "LA": (9, 6, 1),
    "RGB": (11, 5, 3),
    "RGBA": (13, 6, 3),
    "CMYK": (14, 5, 3),
    "I;16": (7, 3, 2),
}
"""Of Pillow's modes: bytes per pixel until numpy has them, of what is held then beside the picture, and of
the picture. Pillow keeps four bytes where there are several channels, and gives them through two copies."""

WEBP_BYTES = 9
"""Per pixel, of the two canvases of libwebp's decoder, beside Pillow's image."""

KEPT_CHUNKS = frozenset((b"tRNS", b"acTL", b"fcTL", b"fdAT"))
"""Of a PNG's chunks that a reader may pass over those that tell of pixels: transparency, other frames."""
VIDEO_BYTES = 13
"""Per pixel, of the planes of an AVIF's or HEIC's decoder, which may have 12 bits, and of its RGBA."""

DEEP_BYTES = {2: (10, 7, 6), 4: (8, 5, 2), 6: (12, 9, 6)}
"""By the colour type of PNGs of 16 bits: as in MODE_BYTES."""


def read(data: bytes, form: str, limits: Limits) -> Picture:
    """Decode a file of one frame.

    Raises:
        SourceError: too large, animated, cut off, of a kind that is not expanded, or of a format whose
            decoder is not installed. What Pillow and GDAL raise besides has no common base.
        NoRoomError: the limits have no room for it now.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _read(data, form, limits)


def _read(data: bytes, form: str, limits: Limits) -> Picture:
    exif, given = _webp_exif(data) if form == "WebP" else None, data
    if form == "PNG":
        data, exif = _bare_png(data)
    if form == "WebP":  # its reader takes memory as soon as it is made
        _check(limits, *_webp_size(data), "RGBA", data, form, orientation_of(exif))
    image = _opener(form)(io.BytesIO(data))
    orientation = orientation_of(exif or image.info.get("exif"))
    if form != "WebP":
        copied = 0 if data is given else len(data)
        _check(limits, image.height, image.width, image.mode, data, form, orientation, copied=copied)
    if getattr(image, "is_animated", False):
        msg = (
            "holds several pictures; save one of them"
            if form == "HEIC"
            else f"is an animated {form}; save one frame of it"
        )
        raise SourceError(msg)
    pixels, valid, kind = _deep_png(data, image) if _is_deep(data, form) else _expanded(image, data)
    return make_picture(pixels, valid, kind, orientation=orientation)


def _opener(form: str) -> type[ImageFile]:
    """Raises SourceError where what reads the format is not installed."""
    if form == "AVIF":
        if not AvifImagePlugin.SUPPORTED:
            msg = "is an AVIF picture, which this Pillow was built without; save it as PNG"
            raise SourceError(msg)
        AvifImagePlugin.DEFAULT_MAX_THREADS = 1
        return AvifImagePlugin.AvifImageFile
    if form == "HEIC":
        try:
            import pillow_heif
        except ImportError as e:
            msg = (
                "is a HEIC picture; install pillow-heif (the extra `heic`) and run `batchseg retry`, or save "
                "it as JPEG"
            )
            raise SourceError(msg) from e
        pillow_heif.options.DECODE_THREADS = 1
        opener: type[ImageFile] = pillow_heif.HeifImageFile
        return opener
    return OPENERS[form]


def _is_deep(data: bytes, form: str) -> bool:
    """Whether it is a PNG of 16 bits and several channels, by IHDR's bit depth and colour type."""
    return form == "PNG" and data[24] == 16 and data[25] in DEEP_BYTES


def _check(
    limits: Limits,
    height: int,
    width: int,
    mode: str,
    data: bytes,
    form: str,
    orientation: int,
    *,
    copied: int = 0,
) -> None:
    """Raises SourceError and NoRoomError as `Limits.check` does. `copied`: bytes of the file, once more."""
    deep = _is_deep(data, form)
    loading, beside, picture = DEEP_BYTES[data[25]] if deep else MODE_BYTES.get(mode, (16, 8, 4))
    if deep and data[28]:  # interlaced: GDAL has a whole copy
        loading, beside = loading + 8, beside + 8
    elif form == "JPEG":
        loading += coefficient_bytes(data, 4)
    elif form == "WebP":
        loading, beside = loading + WEBP_BYTES, beside + WEBP_BYTES
    elif form in ("AVIF", "HEIC"):
        loading += VIDEO_BYTES
    decoding = max(loading, beside + turning_bytes(orientation, picture))
    more = min(BLOCK_CACHE_BYTES, 8 * height * width) if deep else 0
    limits.check(
        height, width, decoding=decoding, picture=picture + 1, file_bytes=2 * len(data) + copied, more=more
    )


Expanded = tuple[NDArray[Any], NDArray[np.bool_] | None, str]
"""Pixels (height, width) or (height, width, channels), valid (height, width) or None, `Picture.kind`."""


def _expanded(image: ImageFile, data: bytes) -> Expanded:
    image.load()
    mode, clear = image.mode, image.info.get("transparency")
    if mode == "P" and clear is not None:
        return _without_alpha(np.asarray(image.convert("RGBA")), "palette with transparency")
    if mode in ("P", "CMYK"):
        return np.asarray(image.convert("RGB")), None, {"P": "palette"}.get(mode, mode)
    if mode in ("LA", "RGBA"):
        expanded = _without_alpha(np.asarray(image), {"LA": "grey + alpha"}.get(mode, mode))
        if isinstance(image, BmpImageFile) and not expanded[1].any():
            # Who writes 0 throughout means no alpha: Windows and most viewers show the picture.
            return expanded[0], None, "RGB"
        return expanded
    # The transparent grey is told in the file's own bits; Pillow's pixels have eight.
    if mode in ("1", "L") and isinstance(image, PngImageFile) and clear is not None and data[24] < 8:
        clear = 255 if mode == "1" and clear else clear * 255 // (2 ** data[24] - 1)
    kind = {"1": "grey", "L": "grey", "RGB": "RGB", "I;16": "16-bit grey"}.get(mode)
    if kind is None:
        msg = f"is {mode}, which is not supported; save it as RGB"
        raise SourceError(msg)
    pixels = np.asarray(image.convert("L") if mode == "1" else image)
    return pixels, None if clear is None else _differs(pixels, clear), kind


def _without_alpha(pixels: NDArray[Any], kind: str) -> tuple[NDArray[Any], NDArray[np.bool_], str]:
    return pixels[:, :, :-1], pixels[:, :, -1] != 0, kind


def _differs(pixels: NDArray[Any], color: Any) -> NDArray[np.bool_]:
    """Where a pixel is not the one colour, or grey, that a PNG declares transparent."""
    differs = np.asarray(pixels != np.array(color, np.int64))
    return differs if pixels.ndim == 2 else np.asarray(differs.any(axis=2))


def _deep_png(data: bytes, image: ImageFile) -> Expanded:
    """Of 16 bits a sample and more than one: RGB, RGBA, grey with alpha."""
    with gdal(), MemoryFile(data, filename="image.tif") as memory, memory.open(driver="PNG") as dataset:
        pixels = np.moveaxis(dataset.read(), 0, 2)
    if pixels.shape[2] in (2, 4):
        return _without_alpha(pixels, f"16-bit {'RGBA' if pixels.shape[2] == 4 else 'grey + alpha'}")
    clear = image.info.get("transparency")
    return pixels, None if clear is None else _differs(pixels, clear), "16-bit RGB"


def _bare_png(data: bytes) -> tuple[bytes, bytes | None]:
    """Walk a PNG's chunks: all there, and those with pixels sound, which Pillow leaves unchecked.

    Returns:
        The PNG without what says nothing of its pixels, and may be damaged; and its EXIF block, which may
        also follow the pixels, if that is sound.
    """
    at, start, exif = 8, 0, None
    kept: list[memoryview] = []
    whole = memoryview(data)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        body = whole[at + 4 : at + 8 + length]
        check = data[at + 8 + length : at + 12 + length]
        if len(check) < 4:
            break
        # What no picture can do without begins with a capital letter. The checksum covers name and body.
        needed = kind[:1].isupper() or kind in KEPT_CHUNKS
        sound = (needed or kind == b"eXIf") and zlib.crc32(body) == int.from_bytes(check, "big")
        if needed and not sound:
            msg = f"damaged (PNG: wrong checksum of {kind.decode('latin-1')})"
            raise SourceError(msg)
        if kind == b"IEND":
            return b"".join((*kept, whole[start:])) if kept else data, exif
        exif = bytes(body[4:]) if kind == b"eXIf" and sound else exif
        at += 12 + length
        if not needed:
            kept.append(whole[start : at - 12 - length])
            start = at
    msg = "cut off: the PNG has no end"
    raise SourceError(msg)


def _webp_size(data: bytes) -> tuple[int, int]:
    """Height and width of the canvas (WebP container specification; RFC 6386, 9.1; WebP lossless, 3)."""
    if len(data) < 30 or len(data) < 8 + int.from_bytes(data[4:8], "little"):
        msg = "cut off: the WebP is shorter than it says"
        raise SourceError(msg)
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[27:30], "little"), 1 + int.from_bytes(data[24:27], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits >> 14 & 0x3FFF), 1 + (bits & 0x3FFF)
    width, height = struct.unpack_from("<HH", data, 26)
    return height & 0x3FFF, width & 0x3FFF


def _webp_exif(data: bytes) -> bytes | None:
    at = 12
    while at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] == b"EXIF":
            return data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2
    return None

"""JPEG by libjpeg-turbo, strictly: a file that was cut off or damaged is no grey area in a picture.

The format has no checksum: of files with one wrong bit 70 to 80 % decode without a warning.
"""

import itertools
import re
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from batchseg.errors import SourceError
from batchseg.pixels.photo.limits import Limits
from batchseg.pixels.photo.picture import Picture, make_picture, turning_bytes

SPACES = {
    "Gray": ("GRAY", "grey"),
    "YCbCr": ("RGB", "RGB"),
    "RGB": ("RGB", "RGB"),
    "CMYK": ("CMYK", "CMYK"),
    "YCCK": ("CMYK", "CMYK"),
}
"""Of libjpeg's colour space: what is decoded to, and `Picture.kind`."""

PADDING = 16
"""Bytes that an encoder may leave before the end marker to fill a word. Of 4000 files with one wrong bit
358 had no other warning than bytes left over there, and 3 of them so few."""

HARMLESS = re.compile(
    r"Unknown Adobe color transform|Invalid SOS parameters for sequential|Inconsistent progression sequence"
)
"""Of libjpeg's warnings (its jerror.h) those that say nothing of damaged pixels, and come before them."""

LEFT_OVER = re.compile(r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0xd9")

MARKER = re.compile(rb"\xff([^\x00\x01\xff\xd0-\xd8])")
"""The next segment, behind fill bytes and whatever else does not belong there."""

START, END = b"\xff\xd8", b"\xff\xd9"
SCAN, JFIF, EXIF, ADOBE = 0xDA, 0xE0, 0xE1, 0xEE
TAIL = 65536
"""Bytes at the end of a file in which the end marker is looked for; cameras write some after it."""
NEEDED = frozenset((*range(0xC0, 0xD0), 0xDB, SCAN, 0xDD, ADOBE))
"""Segments that pixels depend on: frame, tables, scan, restart interval, colour transform."""
PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
"""Frames that come in several scans."""
SMALL_BYTES = 2**22
"""Of a picture for which it is not worth 5 us to see whether it comes in several scans."""
MAX_SCANS = 100
"""GDAL's and libtiff's too. Pictures have one to some 20; of a few bytes each, thousands take hours."""
QUICK_WORK = 2**34
"""Samples times bytes of the file: as many scans as fit into it are decoded in a second or two."""
CMYK_BYTES = 18
"""Per pixel: decoded, in Pillow's form, as RGB of Pillow, which has four bytes, and twice as RGB."""
BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
ORIENTATION = 0x0112
INTEGERS = {(3, 1): "H", (3, 2): "H", (4, 1): "I"}
"""TIFF 6.0's types and counts that an orientation is taken from: by EXIF it is one SHORT, and some writers
take a LONG, or two SHORTs of which the first counts."""
PLAIN_JFIF = bytes.fromhex("ffe000104a46494600010100000100010000")


class UnusualError(Exception):
    """The header is not for libjpeg-turbo's simple interface: an unusual subsampling, for example."""


def read(data: bytes, limits: Limits) -> Picture:
    """Decode a JPEG.

    The pixels differ from those of Pillow nowhere, from OpenCV's by nothing or one step of rounding: all
    are libjpeg-turbo with its exact integer transform and smooth upsampling. CMYK is taken as Adobe
    stores it, inverted, and becomes RGB without a colour profile, as in Pillow. Of several pictures in
    one file (MPO) it is the first.

    Raises:
        SourceError: too large, in too many scans, cut off or damaged.
        UnusualError: another decoder may be asked.
        NoRoomError: the limits have no room for it now.
    """
    height, width, space, orientation = _header(data)
    target, kind = SPACES[space]
    channels = {"GRAY": 1, "RGB": 3, "CMYK": 4}[target]
    picture = min(channels, 3)
    decoding: float = 3 * channels
    samples = height * width * channels
    if samples > SMALL_BYTES or samples * len(data) > QUICK_WORK:
        kept = coefficient_bytes(data, channels)
        decoding = channels + kept if samples > SMALL_BYTES else decoding
    if target == "CMYK":
        decoding = max(decoding, CMYK_BYTES)
    decoding = max(decoding, turning_bytes(orientation, picture))
    limits.check(height, width, decoding=decoding, picture=picture, file_bytes=len(data))
    pixels = _pixels(data, target)
    if target == "CMYK":
        pixels = _rgb_of_cmyk(pixels)
    return make_picture(pixels, None, kind, orientation=orientation)


def coefficient_bytes(data: bytes, channels: int) -> int:
    """Bytes per pixel of what libjpeg keeps of a picture that comes in several scans.

    Raises:
        SourceError: it comes in more than MAX_SCANS.
    """
    for marker, start, _ in _segments(data):
        if marker in PROGRESSIVE or (marker == SCAN and data[start + 4 : start + 5] < bytes([channels])):
            _check_scans(data)
            return 2 * channels
    return 0


def _check_scans(data: bytes) -> None:
    if data.count(bytes([0xFF, SCAN])) <= MAX_SCANS:  # what follows the picture may hold the bytes, too
        return
    scans = (start for marker, start, _ in _segments(data, to_end=True) if marker == SCAN)
    if next(itertools.islice(scans, MAX_SCANS, None), None) is not None:
        msg = f"has more than {MAX_SCANS} scans, at most {MAX_SCANS} are taken"
        raise SourceError(msg)


def orientation_of(exif: bytes | None) -> int:
    """EXIF's orientation in an EXIF block, 1 where it says none.

    The first directory is looked through for it, and nothing else: damaged EXIF condemns no picture.
    """
    block = exif or b""
    while block.startswith(b"Exif\0\0"):
        block = block[6:]
    order = BYTE_ORDERS.get(block[:4])
    if order is None or len(block) < 8:
        return 1
    (start,) = struct.unpack_from(f"{order}I", block, 4)
    (entries,) = struct.unpack(f"{order}H", block[start : start + 2].ljust(2, b"\0"))
    found = 1
    for at in range(start + 2, min(start + 2 + 12 * entries, len(block) - 11), 12):
        tag, kind, count = struct.unpack_from(f"{order}HHI", block, at)
        if tag == ORIENTATION and (kind, count) in INTEGERS:
            (found,) = struct.unpack_from(order + INTEGERS[kind, count], block, at + 8)
    return found


def _rgb_of_cmyk(pixels: NDArray[Any]) -> NDArray[Any]:
    """Inverted (height, width, 4) to (height, width, 3), uint8."""
    height, width = pixels.shape[:2]
    image = Image.frombuffer("CMYK", (width, height), pixels, "raw", "CMYK;I", 0, 1)
    return np.asarray(image.convert("RGB"))


def _header(data: bytes) -> tuple[int, int, str, int]:
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(data, strict=False)
    except (ValueError, KeyError) as e:  # KeyError: where it has no frame yet
        if all(marker != SCAN for marker, _, _ in _segments(data)):
            msg = "cut off: the JPEG ends before its picture begins"
            raise SourceError(msg) from e
        raise UnusualError(str(e)) from e
    if space not in SPACES:
        raise UnusualError(space)
    exif = None
    for marker, start, end in _segments(data) if b"Exif\0\0" in data else ():
        if marker == EXIF and data.startswith(b"Exif\0\0", start + 4):
            exif = data[start + 4 : end]
            break
    return height, width, space, orientation_of(exif)


def _segments(data: bytes, *, to_end: bool = False) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of the segments up to the first scan's header, or to the picture's end."""
    at = len(START)
    while found := MARKER.search(data, at):
        start, marker = found.start(), data[found.start() + 1]
        at = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
        yield marker, start, at
        if marker == END[1] or (marker == SCAN and not to_end):
            return


def _pixels(data: bytes, target: str) -> NDArray[Any]:
    """(height, width, channels), or why not.

    libjpeg tells its first warning only, and one about the header would hide what comes after: such a
    file is decoded again with a plain header.
    """
    try:
        return _strictly(data, target)
    except ValueError as e:
        said = str(e)
    if _warns_of_header(data):
        try:
            return _strictly(_with_plain_header(data), target)
        except ValueError as e:
            said = str(e)
    if said.startswith("Premature end") or END not in data[-TAIL:]:
        msg = "cut off: the JPEG ends before its picture does"
        raise SourceError(msg)
    left_over = LEFT_OVER.match(said)
    if HARMLESS.match(said) or (left_over and int(left_over[1]) <= PADDING):
        return np.asarray(simplejpeg.decode_jpeg(data, target, strict=False))
    msg = f"damaged (libjpeg: {said})"
    raise SourceError(msg)


def _strictly(data: bytes, target: str) -> NDArray[Any]:
    """Raises ValueError at libjpeg's first warning."""
    return np.asarray(simplejpeg.decode_jpeg(data, target, strict=True))


def _warns_of_header(data: bytes) -> bool:
    try:
        simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return True
    return False


def _with_plain_header(data: bytes) -> bytes:
    """The same picture without what is odd before its first scan: junk, profiles, JFIF's version."""
    parts = [START]
    for marker, start, end in _segments(data):
        if marker == JFIF and data.startswith(b"JFIF\0", start + 4):
            parts.append(PLAIN_JFIF)
        elif marker in NEEDED:
            parts.append(data[start:] if marker == SCAN else data[start:end])
    return b"".join(parts)

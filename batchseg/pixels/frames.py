"""Files that hold several pictures: of such GDAL gives the first and says nothing."""

import re
from pathlib import Path

import rasterio

from batchseg.errors import SourceError
from batchseg.inputs.formats import local_head

HEAD_BYTES = 2**16
"""Of a PNG, in which it says that it is animated: before its pixels."""

_IMAGEJ = re.compile(r"\AImageJ=[^\n]*\n(?:.*\n)*?images=(\d+)")
"""ImageJ writes one directory for a stack that is larger than 4 GB; its planes follow each other."""

_TRUNCATED = re.compile(r'\A\{"shape": \[[^{}]*"truncated": true')
"""tifffile writes the same of stacks whose directories it left out but for the first."""

_ONE_EACH = "save each as a file of its own"


def check_one_page(dataset: rasterio.DatasetReader) -> None:
    """Raises SourceError where a TIFF holds several pictures; overviews and masks are none."""
    pages = len(dataset.subdatasets)
    if pages > 1:
        msg = f"holds {pages} pages; {_ONE_EACH}"
        raise SourceError(msg)
    description = dataset.tags().get("TIFFTAG_IMAGEDESCRIPTION", "")
    stack = _IMAGEJ.match(description[:4096])
    if stack and int(stack[1]) > dataset.count:
        msg = f"is an ImageJ stack of {int(stack[1])} images; {_ONE_EACH}"
        raise SourceError(msg)
    if _TRUNCATED.match(description[:4096]):
        msg = f"is a stack with a directory of its first image alone; {_ONE_EACH}"
        raise SourceError(msg)


def check_one_frame(dataset: rasterio.DatasetReader) -> None:
    """Look at a raster that is open.

    Raises:
        SourceError: it holds several pictures.
        OSError: it is gone.
    """
    if dataset.driver == "GTiff":
        check_one_page(dataset)
    elif dataset.driver in _ANIMATED and _ANIMATED[dataset.driver](Path(dataset.name)):
        msg = f"is an animated {dataset.driver}; save one frame of it"
        raise SourceError(msg)


def _is_animated_png(path: Path) -> bool:
    """PNG 3, 11.3.6.1: acTL stands before the first IDAT and begins with the number of frames."""
    head = local_head(path, HEAD_BYTES)
    at = head.find(b"acTL", 0, head.find(b"IDAT") if b"IDAT" in head else len(head))
    return at > 0 and int.from_bytes(head[at + 4 : at + 8], "big") > 1


def _is_animated_webp(path: Path) -> bool:
    """WebP container specification: a flag of the extended header."""
    head = local_head(path)
    return head[12:16] == b"VP8X" and bool(head[20] & 2)


def _is_animated_gif(path: Path) -> bool:
    """GIF89a, appendix A: whether a second image descriptor (2C) follows."""
    data = path.read_bytes()
    at, images = 13 + _color_table(data[10:11]), 0
    while at < len(data) and data[at] in (0x21, 0x2C):
        is_image = data[at] == 0x2C
        images += is_image
        if images > 1:
            return True
        at += 11 + _color_table(data[at + 9 : at + 10]) if is_image else 2
        while data[at : at + 1] not in (b"", b"\0"):
            at += 1 + data[at]
        at += 1
    return False


def _color_table(flags: bytes) -> int:
    """Bytes of a table of colours, by the byte that tells of it."""
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0


_ANIMATED = {"PNG": _is_animated_png, "WEBP": _is_animated_webp, "GIF": _is_animated_gif}

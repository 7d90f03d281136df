"""Files that hold several pictures: of such GDAL gives the first and says nothing."""

from functools import partial
from pathlib import Path
from typing import BinaryIO

import rasterio

from batchseg.errors import SourceError
from batchseg.inputs.formats import local_head
from batchseg.pixels.described_stacks import stack_of
from batchseg.pixels.tiff_pages import Read, hidden_picture
from batchseg.system import fetch

HEAD_BYTES = 2**16
"""Of a PNG, in which it says that it is animated: before its pixels."""

_ONE_EACH = "save each as a file of its own"

_ITEM_BYTES = {"int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "float32": 4, "float64": 8}


def check_one_page(dataset: rasterio.DatasetReader, read: Read | None, nbytes: int | None = None) -> None:
    """Look at a TIFF that is open; overviews and masks are no pictures.

    Args:
        dataset: the TIFF.
        read: gives its bytes; None: nobody asks for them.
        nbytes: how many it has; None: not known.

    Raises:
        SourceError: it holds several pictures.
    """
    pages = len(dataset.subdatasets)
    if pages > 1:
        msg = f"holds {pages} pages; {_ONE_EACH}"
        raise SourceError(msg)
    if read is not None and (hidden := hidden_picture(read)):
        msg = f"holds {hidden}; {_ONE_EACH}"
        raise SourceError(msg)
    description = dataset.tags().get("TIFFTAG_IMAGEDESCRIPTION", "")
    stack = description and stack_of(
        description,
        (dataset.count, dataset.height, dataset.width),
        nbytes=nbytes,
        itemsize=_ITEM_BYTES.get(dataset.dtypes[0], 1),
    )
    if stack:
        msg = f"is {stack}; {_ONE_EACH}"
        raise SourceError(msg)


def check_one_frame(uri: str, dataset: rasterio.DatasetReader) -> None:
    """Look at a raster that is open.

    Of a TIFF in a bucket the directories are asked for only where GDAL has overviews of about full size.

    Raises:
        SourceError: it holds several pictures.
        OSError: it is gone.
    """
    if dataset.driver == "GTiff":
        path = Path(dataset.name)
        if not path.is_file():
            is_odd = any(factor <= 1 for factor in dataset.overviews(1))
            check_one_page(dataset, partial(_ranges, uri) if is_odd else None)
            return
        with path.open("rb") as file:
            check_one_page(dataset, partial(_part, file), path.stat().st_size)
    elif dataset.driver in _ANIMATED and _ANIMATED[dataset.driver](Path(dataset.name)):
        msg = f"is an animated {dataset.driver}; save one frame of it"
        raise SourceError(msg)


def _part(file: BinaryIO, offset: int, count: int) -> bytes:
    file.seek(offset)
    return file.read(count)


def _ranges(uri: str, offset: int, count: int) -> bytes:
    return fetch.read_ranges(uri, [offset], [offset + count])[0]


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

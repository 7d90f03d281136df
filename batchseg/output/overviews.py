"""Half-size levels of a mask, strip by strip.

GDAL's COG driver can make them itself, by mode; on 43 megapixels that takes 0.6 s and 1.2 CPU seconds
of the 0.8 s after a scene's last tile, and this 0.15 s, in the pass that counts classes anyway.
"""

import contextlib
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window as RasterioWindow

from batchseg.system.threads import Helper

BLOCK = 512
"""Edge of a COG's blocks; levels are made until one block holds the whole raster."""

STRIP_PIXELS = 4 * 2**20
"""Read at once, however wide the mask is: memory does not grow with it."""

Pixels = NDArray[Any]

Look = Callable[[int, Pixels], None]
"""Sees a strip: its first row, and (rows, width) pixels; (bands, rows, width) of several bands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pyramid:
    """The levels of a mosaic."""

    levels: list[Path]
    """The largest first; none where one block holds the mosaic."""
    checksums: list[int]
    """CRC-32 of the pixels, row by row, of the mosaic and of each level, as they were in memory."""


def halve_classes(ids: Pixels, nodata: int) -> Pixels:
    """The most frequent class of each 2 x 2 pixels, the first one of equals; nodata only if all four are.

    Args:
        ids: (H, W); an odd last row or column is doubled.
        nodata: the highest value of the dtype.

    >>> halve_classes(np.array([[1, 2, 3], [2, 4, 255]], dtype=np.uint8), 255).tolist()
    [[2, 3]]
    """
    top, bottom, pairs = _pairs(ids)
    half: Pixels = _left(top, ids.dtype)
    mixed = (top != bottom) | (_right(top, ids.dtype) != half)
    at = np.flatnonzero(mixed)
    if len(at) > mixed.size // 8:
        return _most_frequent(_quarters(ids), nodata)
    # Inside of regions, which is nearly everywhere, all four are of one class.
    rows, cols = np.divmod(at, pairs)
    above, below = top[rows, cols], bottom[rows, cols]
    four = (
        _left(above, ids.dtype),
        _right(above, ids.dtype),
        _left(below, ids.dtype),
        _right(below, ids.dtype),
    )
    half[rows, cols] = _most_frequent(four, nodata)
    return half


def _pairs(ids: Pixels) -> tuple[Pixels, Pixels, int]:
    """Even and odd rows as integers of two pixels each, the left one in the lower half; and their number."""
    height, width = ids.shape
    if height % 2 or width % 2:
        ids = np.pad(ids, ((0, height % 2), (0, width % 2)), mode="edge")
    pairs = np.ascontiguousarray(ids).view(f"<u{2 * ids.itemsize}")
    return pairs[::2], pairs[1::2], pairs.shape[1]


def _left(pairs: Pixels, dtype: np.dtype[Any]) -> Pixels:
    return pairs.astype(dtype)


def _right(pairs: Pixels, dtype: np.dtype[Any]) -> Pixels:
    return (pairs >> (8 * dtype.itemsize)).astype(dtype)


def _most_frequent(four: tuple[Pixels, Pixels, Pixels, Pixels], nodata: int) -> Pixels:
    a, b, c, d = four
    # If a equals another one, nothing is more frequent: two against two at most, and a is the first.
    alone = (a != b) & (a != c) & (a != d)
    half = np.where(alone & ((b == c) | (b == d)), b, np.where(alone & (c == d), c, a))
    empty = half == nodata
    if empty.any():
        # Nodata is the highest value: of nodata and others the lowest is a class.
        half = np.where(empty, np.minimum(np.minimum(a, b), np.minimum(c, d)), half)
    return half


def halve_confidence(values: Pixels, nodata: int = 0) -> Pixels:
    """The mean of each 2 x 2 pixels, rounded, without those that are nodata; of several bands of each.

    >>> halve_confidence(np.array([[100, 201], [0, 0]], dtype=np.uint8)).tolist()
    [[151]]
    """
    quarters = np.stack(_quarters(values)).astype(np.uint16)
    count = np.count_nonzero(quarters != nodata, axis=0)
    total = quarters.sum(axis=0)
    # (total / count) rounded half up, in integers.
    half: Pixels = ((2 * total + count) // np.maximum(2 * count, 1)).astype(values.dtype)
    return half


def _quarters(pixels: Pixels) -> tuple[Pixels, Pixels, Pixels, Pixels]:
    """Of (..., H, W)."""
    height, width = pixels.shape[-2:]
    if height % 2 or width % 2:
        bands = [(0, 0)] * (pixels.ndim - 2)
        pixels = np.pad(pixels, (*bands, (0, height % 2), (0, width % 2)), mode="edge")
    a, b, c, d = (np.ascontiguousarray(pixels[..., i::2, j::2]) for i in (0, 1) for j in (0, 1))
    return a, b, c, d


def make_levels(
    mosaic: str,
    folder: Path,
    name: str,
    halve: Callable[[Pixels], Pixels],
    look: Look | None,
) -> Pyramid:
    """Write the levels of a mosaic as files.

    Args:
        mosaic: what rasterio opens.
        folder: where the files go.
        name: how they begin.
        halve: from a strip to one of half its height and width.
        look: sees each strip (first row, pixels) of the full size, in order, in a thread of its own: one core
            counts and traces a strip while another reads and halves the next one.
    """
    with contextlib.nullcontext() if look is None else _behind(look) as see:
        return _make_levels(mosaic, folder, name, halve, see)


def _make_levels(
    mosaic: str, folder: Path, name: str, halve: Callable[[Pixels], Pixels], look: Look | None
) -> Pyramid:
    levels: list[Path] = []
    checksums = [0]
    source = mosaic
    while True:
        with rasterio.open(source) as full:
            if max(full.shape) <= BLOCK or min(full.shape) < 2:  # a line cannot be halved both ways
                if not levels:
                    for row_off, strip in strips_of(full):
                        checksums[0] = _crc(strip, checksums[0])
                        if look:
                            look(row_off, strip)
                return Pyramid(levels=levels, checksums=checksums)
            height, width = (full.height + 1) // 2, (full.width + 1) // 2
            path = folder / f"{name}-{len(levels) + 1}.tif"
            checksums.append(0)
            profile = scratch_profile(height, width, full.dtypes[0], count=full.count)
            with rasterio.open(path, "w", **profile) as target:
                for row_off, strip in strips_of(full):
                    if not levels:
                        checksums[0] = _crc(strip, checksums[0])
                        if look:
                            look(row_off, strip)
                    half = halve(strip)
                    checksums[-1] = _crc(half, checksums[-1])
                    bands = half if half.ndim == 3 else half[None]
                    target.write(bands, window=RasterioWindow(0, row_off // 2, width, bands.shape[1]))
        levels.append(path)
        source = str(path)


def find_damage(path: Path, pyramid: Pyramid) -> str | None:
    """Read a file back that was made of a mosaic and its levels.

    On a disk that fills up, GDAL closes a file whose last blocks or directory were not written, and says
    nothing: libtiff prints its error and drops it.

    Returns:
        What of it is not as it was in memory; None: nothing.
    """
    for number, expected in enumerate(pyramid.checksums):
        options = {"overview_level": number - 1} if number else {}
        with rasterio.open(path, sharing=False, **options) as made:
            found = 0
            for _, strip in strips_of(made):
                found = _crc(strip, found)
        if found != expected:
            return f"overview {number}" if number else "the full size"
    return None


def _crc(pixels: Pixels, before: int) -> int:
    """Row by row, all bands of a row together, so that it is the same however a raster is cut into strips."""
    rows = np.moveaxis(pixels, 0, 1) if pixels.ndim == 3 else pixels
    return zlib.crc32(np.ascontiguousarray(rows).data, before)


def look_at(mosaic: str, look: Look) -> None:
    """Show each strip (first row, pixels) of a mosaic, in order."""
    with rasterio.open(mosaic) as full:
        for row_off, strip in strips_of(full):
            look(row_off, strip)


@contextlib.contextmanager
def _behind(look: Look) -> Iterator[Look]:
    """The same a strip later, in a thread of its own; the last strip at the end, in this one.

    So a raster of one strip has no thread. Errors come with a later strip, or at the end.
    """
    helper: Helper | None = None
    under_way, last = Future[None](), None
    under_way.set_result(None)

    def look_behind(row_off: int, strip: Pixels) -> None:
        nonlocal helper, under_way, last
        if last is not None:
            helper = helper or Helper()
            under_way.result()
            under_way = helper.start(partial(look, *last))
        last = row_off, strip

    try:
        yield look_behind
        under_way.result()
        if last is not None:
            look(*last)
    finally:
        wait([under_way])  # what it looks with is closed next
        if helper is not None:
            helper.close()


def strips_of(dataset: rasterio.DatasetReader) -> Iterator[tuple[int, Pixels]]:
    """Its rows from the first to the last, as (first row, (rows, width) pixels); (bands, rows, width) of
    several bands."""
    rows = strip_rows(dataset.width * dataset.count)
    for row_off in range(0, dataset.height, rows):
        height = min(rows, dataset.height - row_off)
        strip = dataset.read(window=RasterioWindow(0, row_off, dataset.width, height))
        yield row_off, strip[0] if dataset.count == 1 else strip


def strip_rows(width: int) -> int:
    """Rows of a strip: an even number, so that no pair of rows is cut."""
    return max(2, min(2 * BLOCK, STRIP_PIXELS // width) // 64 * 64)


def scratch_profile(height: int, width: int, dtype: str, *, count: int = 1) -> dict[str, Any]:
    """Of a file in the making, which is written and read once."""
    return {
        "driver": "GTiff",
        "height": height,
        "width": width,
        "count": count,
        "dtype": dtype,
        "compress": "zstd",
        "zstd_level": 1,
        "tiled": True,
        "blockxsize": BLOCK,
        "blockysize": BLOCK,
        "bigtiff": "if_safer",
    }

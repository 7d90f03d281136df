"""Pixels of one grid to those of another one with the same corners. Pure numpy; no I/O.

Along each axis by itself: where the target's pixels are larger, the mean of what a pixel covers; where they
are smaller, bilinear between centres. Places are fractions of integers, and sums are taken in one order: a
pixel is the same to the last bit whatever window it is part of.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.pixels.grid import Window

BLOCK_PIXELS = 2**20
"""That are held at once, of the grid that is the finer one, unless one row has more."""

Flags = NDArray[np.bool_]
Index = NDArray[np.int64]


LARGEST = np.finfo(np.float32).max / 4
"""Of values that are averaged. A value beyond is none of a measurement."""


@dataclass(frozen=True, slots=True)
class _Taps:
    """What some pixels of an axis take of the source's."""

    first: int
    """Of the source's pixels that any takes."""
    stop: int
    index: Index
    """(targets, taps) counted from `first`."""
    weights: NDArray[np.float32]
    """(targets, taps); of one target they add up to 1."""
    covered: Index
    """(targets, taps): how much of each a target covers, in units of which it has `whole`."""


@dataclass(frozen=True, slots=True)
class _Axis:
    source: int
    target: int
    """Pixels along it."""

    def taps(self, start: int, stop: int) -> _Taps:
        """Of a half-open range of the target's pixels.

        A source's pixel is `target` units long, and a target's `source` units.
        """
        at = np.arange(start, stop, dtype=np.int64)
        low, high = at * self.source, (at + 1) * self.source
        if self.source > self.target:
            index = _consecutive(low // self.target, -(-high // self.target))
        else:
            # The centre is that of two neighbours or lies between them; a smaller pixel covers no third.
            centre = (2 * at + 1) * self.source - self.target
            index = _consecutive(centre // (2 * self.target), centre // (2 * self.target) + 2)
        begins = index * self.target
        covered = np.minimum(high[:, None], begins + self.target) - np.maximum(low[:, None], begins)
        covered = covered.clip(0)
        if self.source > self.target:
            weights = covered / self.source
        else:
            share = (centre % (2 * self.target)) / (2 * self.target)
            weights = np.stack((1 - share, share), axis=1)
        # Beyond the edge the last pixel goes on. It is never covered there.
        index = index.clip(0, self.source - 1)
        first = int(index.min())
        return _Taps(
            first=first,
            stop=int(index.max()) + 1,
            index=index - first,
            weights=weights.astype(np.float32),
            covered=covered,
        )


def _consecutive(first: Index, stop: Index) -> Index:
    """(n, most) numbers from each `first`, as many as the longest range has."""
    return first[:, None] + np.arange(int((stop - first).max()))


@dataclass(frozen=True, slots=True)
class Resampling:
    """From a raster of one size to one of another; heights and widths in pixels."""

    source_hw: tuple[int, int]
    target_hw: tuple[int, int]

    @property
    def changes_nothing(self) -> bool:
        return self.source_hw == self.target_hw

    def blocks(self, at: Window) -> Iterator[Window]:
        """A window of the target in parts, each of which takes little memory.

        They are as wide as the window, so that a file's strip is decoded once.
        """
        (source_height, source_width), (height, width) = self.source_hw, self.target_hw
        across = max(at.width, at.width * source_width // width)
        rows = max(1, BLOCK_PIXELS // across * height // max(height, source_height))
        for row in range(at.row_off, at.row_stop, rows):
            yield replace(at, row_off=row, height=min(rows, at.row_stop - row))

    def needs(self, at: Window) -> Window:
        """The source's pixels that a window of the target takes."""
        rows, cols = self._taps(at)
        return Window(
            row_off=rows.first,
            col_off=cols.first,
            height=rows.stop - rows.first,
            width=cols.stop - cols.first,
        )

    def pixels(self, at: Window, pixels: NDArray[Any], valid: Flags | None) -> NDArray[Any]:
        """The window's pixels.

        Args:
            at: of the target.
            pixels: (bands, height, width) of `needs(at)`.
            valid: (height, width) True where they have data, None: everywhere. Others are not taken.

        Returns:
            (bands, height, width) of `at` in the same dtype, integers rounded; 0 where nothing is taken.
        """
        rows, cols = self._taps(at)
        held = np.where(True if valid is None else valid, pixels, 0).astype(np.float32)
        if pixels.dtype.kind == "f":  # weights add up to 1 but for rounding, which must not reach infinity
            np.clip(held, -LARGEST, LARGEST, out=held)
        total = _along_cols(_along_rows(held, rows), cols)
        # Where all have data a column of them stands for all: the sums are the same.
        known = np.ones((pixels.shape[-2], 1)) if valid is None else valid
        down = _along_rows(known.astype(np.float32), rows)
        weight = _along_cols(np.broadcast_to(down, (at.height, pixels.shape[-1])), cols)
        mean = total / np.where(weight > 0, weight, 1)
        if pixels.dtype.kind in "iu":
            info = np.iinfo(pixels.dtype)
            mean = np.rint(mean).clip(info.min, info.max)
        return mean.astype(pixels.dtype)

    def mostly(self, at: Window, flags: Flags) -> Flags:
        """(height, width) of `at`: where flags of `needs(at)` hold on at least half of a pixel's area."""
        rows, cols = self._taps(at)
        # Integers below 2 ** 53, so that half is half.
        covered = np.zeros((at.height, flags.shape[1]))
        for tap in range(rows.index.shape[1]):
            covered += flags[rows.index[:, tap]] * rows.covered[:, tap, None]
        area = np.zeros((at.height, at.width))
        for tap in range(cols.index.shape[1]):
            area += covered[:, cols.index[:, tap]] * cols.covered[:, tap]
        enough: Flags = 2 * area >= self.source_hw[0] * self.source_hw[1]
        return enough

    def _taps(self, at: Window) -> tuple[_Taps, _Taps]:
        (source_height, source_width), (height, width) = self.source_hw, self.target_hw
        rows = _Axis(source_height, height).taps(at.row_off, at.row_stop)
        return rows, _Axis(source_width, width).taps(at.col_off, at.col_stop)


def _along_rows(array: NDArray[np.float32], rows: _Taps) -> NDArray[np.float32]:
    """(..., height, width) to (..., targets, width)."""
    out = np.zeros((*array.shape[:-2], len(rows.index), array.shape[-1]), np.float32)
    for tap in range(rows.index.shape[1]):
        out += array[..., rows.index[:, tap], :] * rows.weights[:, tap, None]
    return out


def _along_cols(array: NDArray[np.float32], cols: _Taps) -> NDArray[np.float32]:
    """(..., height, width) to (..., height, targets)."""
    out = np.zeros((*array.shape[:-1], len(cols.index)), np.float32)
    for tap in range(cols.index.shape[1]):
        out += array[..., cols.index[:, tap]] * cols.weights[:, tap]
    return out


def nearest(target: int, source: int) -> Index:
    """Of each of `target` pixels along an axis the one of `source` pixels in which its centre lies.

    A centre on an edge belongs to the pixel behind it.

    >>> nearest(6, 3).tolist(), nearest(3, 6).tolist()
    ([0, 0, 1, 1, 2, 2], [1, 3, 5])
    """
    return (2 * np.arange(target, dtype=np.int64) + 1) * source // (2 * target)

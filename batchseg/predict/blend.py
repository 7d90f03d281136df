"""Overlapping answers of neighbouring tiles, weighted and summed in integers. Pure numpy.

Around the border of two cores lies a zone of `2 * rim` pixels that both tiles answer, around a corner one
that four do. Each axis has weights of 0..256 that fade a tile out while they fade its neighbour in, and add
up to 256 in every pixel; at the raster's own sides nothing fades. A probability is a byte, so the sum of a
zone is exact in 32 bits, whatever the order: shards, workers and kills leave no trace.

A zone between shards is left open. Each shard gives its own part of it, a `Strip`, weighted along the border
but not yet across it: that weight is one for each row or column, and without it 16 bits hold the sums.
`close` does it where the scene is finished.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from batchseg.job.recipe import Recipe
from batchseg.job.settings import Blend
from batchseg.pixels.grid import Shard, Tile, TileGrid, Window

FULL = 256
"""Weights of all tiles along one axis, together."""

Axis = Literal["rows", "cols"]
"""Along which a weight changes: across a border between rows of shards, or between columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """One shard's share of a zone that it has in common with others."""

    axis: Axis
    """Of the weights that are still to be applied."""
    is_before: bool
    """The shard lies above the border, or left of it: its weights fall."""
    window: Window
    sums: NDArray[np.uint16]
    """(K, H, W) of the window: 255 x probability x 256, or less where corners are shared; 0 where invalid."""


@dataclass(frozen=True, slots=True)
class _Span:
    """Part of a tile along one axis: what it shares with one neighbour, or has alone."""

    start: int
    stop: int
    border: int | None = None
    """Pixel at which the neighbour's core begins or ends; None: it is shared with nobody."""
    is_before: bool = False
    """The tile lies before the border."""

    def weights(self, ramp: NDArray[np.uint16]) -> NDArray[np.uint16]:
        if self.border is None:
            return np.full(self.stop - self.start, FULL, np.uint16)
        rising = ramp[: self.stop - self.start]  # the raster may end inside
        return np.subtract(np.uint16(FULL), rising) if self.is_before else rising


@lru_cache(maxsize=16)
def ramp_of(blend: Blend, overlap: int) -> NDArray[np.uint16]:
    """Weights (overlap,) of a tile from where its neighbour is alone to where it is alone, 0..256.

    hann: sin(pi / 2 * t)**2, half of a Hann window, with t from 0 to 1 (Pielawski and Waehlby 2020,
    doi 10.1371/journal.pone.0229839). linear: t.
    """
    t = (np.arange(overlap) + 0.5) / overlap
    shape = np.sin(np.pi / 2 * t) ** 2 if blend == "hann" else t
    ramp = np.rint(FULL * shape).astype(np.uint16)
    ramp.setflags(write=False)
    return ramp


def spans(core_off: int, core_stop: int, rim: int, length: int) -> list[_Span]:
    """The parts of a tile along one axis of `length` pixels, in their order."""
    found = []
    start, stop = max(0, core_off - rim), min(core_stop + rim, length)
    if core_off > 0:
        found.append(_Span(start, min(core_off + rim, length), core_off))
        start = found[0].stop
    far = core_stop - rim if core_stop < length else stop
    if start < far:
        found.append(_Span(start, far))
    if core_stop < length:
        found.append(_Span(far, stop, core_stop, is_before=True))
    return found


def alone(tile: Tile, grid: TileGrid) -> Window | None:
    """The part of a tile's answer that no other tile answers; None: all of it is shared."""
    core = tile.core
    rows = [s for s in spans(core.row_off, core.row_stop, grid.rim, grid.height) if s.border is None]
    cols = [s for s in spans(core.col_off, core.col_stop, grid.rim, grid.width) if s.border is None]
    return _window(rows[0], cols[0]) if rows and cols else None


def _window(rows: _Span, cols: _Span) -> Window:
    return Window(
        row_off=rows.start, col_off=cols.start, height=rows.stop - rows.start, width=cols.stop - cols.start
    )


@dataclass(slots=True)
class _Zone:
    sums: NDArray[np.unsignedinteger[Any]]
    axis: Axis | None
    is_before: bool


class Blender:
    """The zones of one shard's tiles, which come row by row."""

    def __init__(self, recipe: Recipe, shard: Shard) -> None:
        self._grid, self._core = shard.grid, shard.core
        self._ramp = ramp_of(recipe.blend, 2 * recipe.rim)
        self._zones: dict[Window, _Zone] = {}
        self.strips: list[Strip] = []
        """What other shards have a part in, as far as it is settled."""

    def add(
        self, tile: Tile, shares: NDArray[np.uint8], valid: NDArray[np.bool_] | None
    ) -> Iterator[tuple[Window, NDArray[np.uint32]]]:
        """Take a tile's probabilities.

        Args:
            tile: the next in row-major order.
            shares: (K, H, W) of `tile.kept`, 255 x probability.
            valid: (H, W) of it, True = usable; None: all.

        Yields:
            Windows inside the shard that no later tile has a part in, and their sums (K, H, W).
        """
        core, grid = tile.core, self._grid
        yield from self.settle(core.row_off - grid.rim)
        for rows in spans(core.row_off, core.row_stop, grid.rim, grid.height):
            for cols in spans(core.col_off, core.col_stop, grid.rim, grid.width):
                if rows.border is not None or cols.border is not None:
                    self._add_part(rows, cols, tile.kept, shares, valid)

    def _add_part(
        self,
        rows: _Span,
        cols: _Span,
        kept: Window,
        shares: NDArray[np.uint8],
        valid: NDArray[np.bool_] | None,
    ) -> None:
        window = _window(rows, cols)
        at = window.slices_within(kept)
        axis: Axis | None = None
        if rows.border in (self._core.row_off, self._core.row_stop):
            axis = "rows"
        elif cols.border in (self._core.col_off, self._core.col_stop):
            axis = "cols"
        dtype = np.dtype(np.uint32 if axis is None else np.uint16)
        down, across = (span.weights(self._ramp).astype(dtype) for span in (rows, cols))
        weights = across[None, :] if axis == "rows" else down[:, None]
        if axis is None:
            weights = weights * across
        weighted = shares[(..., *at)] * weights
        if valid is not None:
            weighted *= valid[at]
        if window in self._zones:
            self._zones[window].sums += weighted
        else:
            is_before = rows.is_before if axis == "rows" else cols.is_before
            self._zones[window] = _Zone(weighted, axis, is_before)

    def settle(self, before: int | None = None) -> Iterator[tuple[Window, NDArray[np.uint32]]]:
        """Give what ends above this row, or all, and no longer hold it; what others share joins `strips`."""
        for window in [w for w in self._zones if before is None or w.row_stop <= before]:
            zone = self._zones.pop(window)
            if zone.axis is None:
                yield window, zone.sums.astype(np.uint32, copy=False)
            elif zone.sums.any():
                sums = zone.sums.astype(np.uint16, copy=False)
                self.strips.append(Strip(axis=zone.axis, is_before=zone.is_before, window=window, sums=sums))


def close(
    strips: Iterable[Strip], window: Window, planes: int, *, blend: Blend, overlap: int
) -> NDArray[np.uint32]:
    """Sums (planes, H, W) of a border's zone, or of a part of its length, by all shards along it.

    Args:
        strips: those of one axis and one border, of which some reach into the window. What none covers has no
            valid pixel.
        window: all of the zone across the border: `overlap` pixels, less where the raster ends.
        planes: classes.
        blend: shape of the weights.
        overlap: pixels.
    """
    ramp = ramp_of(blend, overlap).astype(np.uint32)
    sums = np.zeros((planes, window.height, window.width), np.uint32)
    for strip in strips:
        rising = ramp[: strip.window.height if strip.axis == "rows" else strip.window.width]
        weights = FULL - rising if strip.is_before else rising
        weights = weights[:, None] if strip.axis == "rows" else weights[None, :]
        common = strip.window.common(window)
        part = strip.sums[(..., *common.slices_within(strip.window))]
        sums[(..., *common.slices_within(window))] += part * weights
    return sums

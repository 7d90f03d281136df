"""How many pixels depend on where tiles lie: a few are predicted again by tiles moved by half a core.

Whether a mask shows its tiles nobody sees from the mask alone, and a network that pools over its whole input
has seams whatever the halo. What changes when tiles lie otherwise is what is left to chance. Pure numpy.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.job.alignment import USUAL_STRIDE
from batchseg.job.recipe import Recipe
from batchseg.pixels.grid import Shard, TileGrid, Window
from batchseg.pixels.read import ShardPixels
from batchseg.predict.stitch import ShardMask

Steps = tuple[int, int]
"""Pixels by which tiles are moved, down and across."""

WANTED = 64
"""Moved tiles of a run that tell enough."""

LEAST_SHARE, MOST_SHARE = 0.005, 0.02
"""Of a run's tiles that are predicted again. One is, however few there are."""

STEPS = (0.7548776662466927, 0.5698402909980532)
"""1 / g and 1 / g**2 with g**3 = g + 1: points that these steps make fill a square evenly, however many
(Roberts 2018, The unreasonable effectiveness of quasirandom sequences)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """Tiles between those of a scene, and the pixels that they see, as `read_shards` gives them."""

    part: ShardPixels
    """Of the moved grid: its windows count from the raster's pixel `steps_hw`."""
    steps_hw: Steps


@dataclass(frozen=True, slots=True, kw_only=True)
class SeamSample:
    """What one place says of one class: how many of its pixels another place of the tiles changes."""

    row_off: int
    col_off: int
    height: int
    width: int
    """Of the place, in the scene."""
    class_id: int
    """In the mask."""
    pixels: int
    changed: int
    lon: float = math.nan
    lat: float = math.nan
    """The place's middle in degrees (EPSG:4326); nan where the scene has none."""


def share_to_move(tiles: int) -> float:
    """Of a run's tiles, those that are predicted again.

    >>> share_to_move(10), share_to_move(1000), share_to_move(6400), share_to_move(1_000_000)
    (0.1, 0.02, 0.01, 0.005)
    """
    return min(max(WANTED / max(tiles, 1), LEAST_SHARE), max(MOST_SHARE, 1 / max(tiles, 1)))


def moved_parts(
    recipe: Recipe, source_id: str, parts: Sequence[ShardPixels], share: float
) -> tuple[Moved, ...]:
    """The moved tiles of some shards of one scene, each inside what was read of them.

    The same scene has them at the same places in every run with the same shards.

    Args:
        recipe: the pixel settings.
        source_id: of the scene; chooses the places.
        parts: shards of it, read.
        share: of its tiles that are predicted again; 0: none.
    """
    if not share or not parts or not recipe.has_mask:
        return ()
    grid = parts[0].shard.grid
    side = 2 if recipe.rim else 1  # a blended pixel needs all tiles that answer it
    found: dict[tuple[Steps, int, int], Moved] = {}
    for row, col in _places(grid, source_id, share / side**2, side**2):
        if not any(_holds(part.shard, row, col) for part in parts):
            continue
        for key, shard, steps in _candidates(grid, row, col, side, _step(recipe, grid)):
            if (part := _gathered(parts, shard, steps)) is not None:
                found[key] = Moved(part=part, steps_hw=steps)
                break
    return tuple(found.values())


def _places(grid: TileGrid, source_id: str, share: float, most: int) -> Iterator[tuple[int, int]]:
    """Tiles of a scene, spread over it; fewer than one on average for many small scenes.

    Args:
        grid: of the scene.
        source_id: of the scene.
        share: of its tiles.
        most: tiles of a place. A scene whose share is a tile has one place at least, of however many.
    """
    rows, cols = grid.shape_hw
    if rows * cols < 2:
        return
    seeds = [
        int.from_bytes(hashlib.sha256(f"{axis}{source_id}".encode()).digest()[:6], "big") / 2**48
        for axis in ("count", "row", "col")
    ]
    count = int(share * rows * cols + seeds[0])
    if not count and share * most * rows * cols >= 1:
        count = 1
    for number in range(count):
        down, across = ((seed + number * step) % 1 for seed, step in zip(seeds[1:], STEPS, strict=True))
        yield int(down * rows), int(across * cols)


def _holds(shard: Shard, row: int, col: int) -> bool:
    if not (shard.rows[0] <= row < shard.rows[1] and shard.cols[0] <= col < shard.cols[1]):
        return False
    return shard.some is None or (row, col) in shard.some


def _step(recipe: Recipe, grid: TileGrid) -> int:
    """About half of a core, and a multiple of the network's stride: other places are no tile's."""
    core = grid.core_size
    stride = recipe.facts.stride or (USUAL_STRIDE if core % USUAL_STRIDE == 0 else 1)
    return max(stride, core // 2 // stride * stride)


def _candidates(
    grid: TileGrid, row: int, col: int, side: int, step: int
) -> Iterator[tuple[tuple[Steps, int, int], Shard, Steps]]:
    """Moved tiles around one, those moved both ways first: which can be had depends on what was read."""
    if step >= grid.core_size:
        return  # the tiles' own places
    for down, across in ((step, step), (0, step), (step, 0)):
        if (down and grid.shape_hw[0] < 2) or (across and grid.shape_hw[1] < 2):
            continue
        if grid.height <= down or grid.width <= across:
            continue
        moved = TileGrid(
            height=grid.height - down,
            width=grid.width - across,
            tile_size=grid.tile_size,
            halo=grid.halo,
            rim=grid.rim,
        )
        tall, wide = (min(side, count) for count in moved.shape_hw)
        for up, left in product((0, 1), (0, 1)):
            first = min(max(row - up, 0), moved.shape_hw[0] - tall)
            start = min(max(col - left, 0), moved.shape_hw[1] - wide)
            yield ((down, across), first, start), _shard(moved, first, start, tall, wide), (down, across)


def _shard(grid: TileGrid, row: int, col: int, tall: int, wide: int) -> Shard:
    first, last = grid.tile(row, col).window, grid.tile(row + tall - 1, col + wide - 1).window
    return Shard(
        core=grid.cores(row, row + tall, col, col + wide),
        read=Window(
            row_off=first.row_off,
            col_off=first.col_off,
            height=last.row_stop - first.row_off,
            width=last.col_stop - first.col_off,
        ),
        grid=grid,
        rows=(row, row + tall),
        cols=(col, col + wide),
    )


def _gathered(parts: Sequence[ShardPixels], shard: Shard, steps: Steps) -> ShardPixels | None:
    """What the tiles of a moved shard see, out of what was read; None: not all of it was."""
    grid = parts[0].shard.grid
    window = _moved(shard.read, steps).clip(grid.height, grid.width)
    near = [part for part in parts if part.shard.count and part.shard.read.meets(window)]
    seen = np.zeros((window.height, window.width), np.bool_)
    for part in near:
        seen[part.shard.read.common(window).slices_within(window)] = True
    if not seen.all():
        return None
    first = near[0].pixels
    pixels = np.empty((*first.shape[:-2], *seen.shape), first.dtype)
    valid = np.ones(seen.shape, np.bool_) if any(part.valid is not None for part in near) else None
    for part in near:
        common = part.shard.read.common(window)
        there, here = common.slices_within(part.shard.read), common.slices_within(window)
        pixels[(..., *here)] = part.pixels[(..., *there)]
        if valid is not None:
            valid[here] = True if part.valid is None else part.valid[there]
    held = _moved(window, (-steps[0], -steps[1]))
    moved = Shard(core=shard.core, read=held, grid=shard.grid, rows=shard.rows, cols=shard.cols)
    return ShardPixels(shard=moved, pixels=pixels, valid=valid)


def _moved(window: Window, steps: Steps) -> Window:
    return Window(
        row_off=window.row_off + steps[0],
        col_off=window.col_off + steps[1],
        height=window.height,
        width=window.width,
    )


def seam_samples(
    moved: Moved, again: ShardMask, masks: Sequence[ShardMask], nodata: int
) -> tuple[SeamSample, ...]:
    """What moved tiles say of the shards' masks, class by class of these.

    Pixels that only one of the two knows do not count: no data, and zones that wait for other shards.

    Args:
        moved: the tiles.
        again: what they answered.
        masks: of the shards that they lie in.
        nodata: of the masks.
    """
    if again.classes is None:
        return ()
    window = _moved(moved.part.shard.core, moved.steps_hw)
    said: NDArray[Any] = np.full((window.height, window.width), nodata, again.classes.dtype)
    for mask in masks:
        if mask.classes is not None and mask.shard.core.meets(window):
            common = mask.shard.core.common(window)
            said[common.slices_within(window)] = mask.classes[common.slices_within(mask.shard.core)]
    known = (said != nodata) & (again.classes != nodata)
    ids, changed = said[known], (said != again.classes)[known]
    pixels, others = np.bincount(ids), np.bincount(ids[changed], minlength=len(np.bincount(ids)))
    return tuple(
        SeamSample(
            row_off=window.row_off,
            col_off=window.col_off,
            height=window.height,
            width=window.width,
            class_id=int(class_id),
            pixels=int(pixels[class_id]),
            changed=int(others[class_id]),
        )
        for class_id in np.flatnonzero(pixels)
    )

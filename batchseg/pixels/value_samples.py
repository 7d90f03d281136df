"""A few pixels of a few scenes, read before a run begins, to see what their values are."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from batchseg.errors import SourceError
from batchseg.inputs.source import Scene
from batchseg.job.recipe import Recipe
from batchseg.job.settings import Scale
from batchseg.pixels.area import footprint
from batchseg.pixels.bands import bands_of
from batchseg.pixels.fit import of_scene
from batchseg.pixels.grid import Shard, ShardGrid, TileGrid
from batchseg.pixels.read import ShardPixels, read_shards, release
from batchseg.pixels.values import ValueSample
from batchseg.system import storage
from batchseg.system.processes import ProcessDiedError, each_in_fresh_process

SCENES = 3
"""That are looked at."""

READ_PIXELS = 10_000
"""Of what is read at once, that are looked at."""

WINDOW, WINDOWS = 64, 4
"""Pixels per side of a window, and windows that are read of a scene."""

TRIED = 8
"""Windows of a scene, if the first ones hold no data."""

DECODED = 4 * 2**20
"""Pixels times bands of a scene that are decoded for it, unless one window takes more: blocks may be large,
and of a PNG or a JPEG all that lies above a window is decoded with it."""

SEQUENTIAL = frozenset(("PNG", "JPEG", "WEBP", "GIF", "BMP"))

METADATA = Scale(kind="metadata", low=(0.0,), high=(1.0,))

SAMPLE_SECONDS = 30.0
"""For all of it: a run does not wait longer for a storage that is slow."""


def chosen_scenes(scenes: Sequence[Scene]) -> list[Scene]:
    """Some of many, in the middles of equal parts."""
    count = min(SCENES, len(scenes))
    return [scenes[(2 * part + 1) * len(scenes) // (2 * count)] for part in range(count)]


def sample_scenes(scenes: Sequence[Scene], recipe: Recipe) -> list[ValueSample]:
    """Valid pixels of each; a scene that gives none, for whatever reason, is left out."""
    try:
        found = [_sample_scene(scene, recipe) for scene in scenes]
    finally:
        release()
    return [sample for sample in found if sample is not None]


def sample_alone(scenes: Sequence[Scene], recipe: Recipe) -> list[ValueSample]:
    """The same in a process of its own, which a file may end."""
    answers = each_in_fresh_process(
        _sample_one, scenes, recipe, storage.environment(), timeout=SAMPLE_SECONDS / SCENES
    )
    return [one for answer in answers if not isinstance(answer, ProcessDiedError) for one in answer]


def _sample_one(scene: Scene, recipe: Recipe, where: dict[str, str]) -> list[ValueSample]:
    storage.adopt(where)
    return sample_scenes([scene], recipe)


def _sample_scene(scene: Scene, recipe: Recipe) -> ValueSample | None:
    # Whether the scene has a scale is not asked here: what it holds tells which one it needs.
    raw = replace(recipe, scale=Scale(kind="divide", low=(0.0,), high=(1.0,)), normalize=None)
    parts: list[NDArray[np.generic]] = []
    try:
        shards = _windows(scene, recipe)
        for some in (shards[:WINDOWS], shards[WINDOWS:]):
            if some and not parts:
                read, _ = read_shards(scene, raw, tuple(some))
                parts += [part for held in read if (part := _valid(held)).size]
    except SourceError:
        pass
    except Exception:  # noqa: BLE001  a defect over one source must not end a night; its lease will tell it
        return None
    if not parts:
        return None
    return _sample(scene, recipe, np.concatenate(parts, axis=1))


def sample_read(scene: Scene, recipe: Recipe, shards: Sequence[ShardPixels]) -> ValueSample | None:
    """Valid pixels of what was read of one scene, thinned to some READ_PIXELS; None where there are none."""
    size = sum(held.pixels.shape[1] * held.pixels.shape[2] for held in shards)
    step = max(1, math.ceil(math.sqrt(size / READ_PIXELS)))
    parts = []
    for held in shards:
        down, across = (min(step // 2, (side - 1) // 2) for side in held.pixels.shape[1:])
        rows, columns = slice(down, None, step), slice(across, None, step)
        valid = None if held.valid is None else held.valid[rows, columns]
        parts.append(_valid(replace(held, pixels=held.pixels[:, rows, columns], valid=valid)))
    pixels = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
    return _sample(scene, recipe, pixels) if pixels.size else None


def _sample(scene: Scene, recipe: Recipe, pixels: NDArray[np.generic]) -> ValueSample:
    dtypes = {scene.dtypes[band - 1] for band in bands_of(scene, recipe)}
    return ValueSample(
        source_id=scene.source.source_id,
        dtype=next(iter(dtypes)) if len(dtypes) == 1 else str(np.result_type(*dtypes)),
        pixels=pixels,
        scale=_own_scale(scene, recipe) or recipe.scale,
        said=_own_scale(scene, replace(recipe, scale=METADATA)),
    )


def _valid(held: ShardPixels) -> NDArray[np.generic]:
    """(bands, n)"""
    pixels = held.pixels.reshape(len(held.pixels), -1)
    return pixels if held.valid is None else pixels[:, held.valid.ravel()]


def _own_scale(scene: Scene, recipe: Recipe) -> Scale | None:
    """None where the recipe takes it from metadata, and the scene has none."""
    if recipe.scale.kind == "metadata" and not scene.rescale:
        return None
    try:
        return of_scene(recipe, scene).scale
    except ValueError:
        return None


def _windows(scene: Scene, recipe: Recipe) -> list[Shard]:
    """Windows all over the scene, fewer where its blocks are large; neighbours are not next to each other."""
    height = scene.height
    if scene.driver in SEQUENTIAL:
        height = min(height, max(WINDOW, DECODED // (scene.width * len(recipe.bands))))
    tiles = TileGrid(height=height, width=scene.width, tile_size=WINDOW, halo=0)
    grid = ShardGrid(tiles=tiles, tiles_hw=(1, 1))
    most = max(1, min(TRIED, DECODED // _decoded(scene, recipe)))
    count = min(grid.count, most if recipe.area is None else 8 * TRIED)
    indices = [(2 * part + 1) * grid.count // (2 * count) for part in range(count)]
    if recipe.area is not None:
        touched = footprint(recipe.area, scene).touches([grid.shard(index).core for index in indices])
        indices = [index for index, inside in zip(indices, touched, strict=True) if inside][:most]
    return [grid.shard(index) for index in (*indices[::2], *indices[1::2])]


def _decoded(scene: Scene, recipe: Recipe) -> int:
    """Pixels times bands that are decoded for one window."""
    down, across = (-(-WINDOW // side) * side for side in scene.block_hw)
    return min(down, scene.height) * min(across, scene.width) * len(recipe.bands)

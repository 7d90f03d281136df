"""Tiles of a job's own data, to try engines with."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.errors import ConfigError, SourceError
from batchseg.inputs.source import Scene, Source
from batchseg.job.recipe import Recipe
from batchseg.job.settings import Scale
from batchseg.pixels.fit import mismatch, of_scene, tile_grid
from batchseg.pixels.grid import ShardGrid, cut_tile
from batchseg.pixels.header import read_header
from batchseg.pixels.read import read_shards
from batchseg.system import fetch, storage
from batchseg.system.processes import ProcessDiedError, each_in_fresh_process

SOURCES, TRIED = 4, 16
"""Scenes that give tiles, and how many are opened to find them."""

SAMPLE_TIMEOUT = 60.0
"""Seconds for one source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One tile as it is read."""

    pixels: NDArray[np.generic]
    """(C, tile_size, tile_size), raw."""
    scale: Scale
    """The recipe's, or the scene's own."""


def sample_tiles(recipe: Recipe, sources: Sequence[Source], count: int) -> list[Sample]:
    """Up to `count` tiles, spread over scenes and within them; read in a process of its own.

    A source that cannot be read, or ends or stops the process, is passed over: here nobody is blamed.

    Raises:
        ConfigError: none of the sources tried gives a tile.
    """
    tried = [sources[number] for number in _spread(len(sources), TRIED)]
    try:
        samples = (_of_scenes if recipe.fit is None else _of_photographs)(recipe, tried, count)
    except ProcessDiedError as e:
        msg = f"the process that read tiles to try engines with {e}; name the model's own `engine` and fp32"
        raise ConfigError(msg) from e
    if not samples:
        msg = (
            "no source gave a tile to try engines with; look at `plan`, or name the model's own `engine` and "
            "`precision: fp32`"
        )
        raise ConfigError(msg)
    return samples


def _of_scenes(recipe: Recipe, sources: Sequence[Source], count: int) -> list[Sample]:
    """Of the first that are sound and fit."""
    scenes: list[Scene] = []
    for scene in each_in_fresh_process(read_header, sources, timeout=SAMPLE_TIMEOUT):
        if isinstance(scene, Scene) and not mismatch(scene, recipe):
            scenes.append(scene)
        if len(scenes) == min(SOURCES, count):
            break
    if not scenes:
        return []
    share, where = -(-count // len(scenes)), storage.environment()
    answers = each_in_fresh_process(_of_scene, scenes, recipe, share, where, timeout=SAMPLE_TIMEOUT)
    return [tile for tiles in answers if not isinstance(tiles, ProcessDiedError) for tile in tiles][:count]


def _of_photographs(recipe: Recipe, sources: Sequence[Source], count: int) -> list[Sample]:
    """The middle tile of each of some photographs, or the whole of one that is resized."""
    samples: list[Sample] = []
    where = storage.environment()
    for tile in each_in_fresh_process(_of_photograph, sources, recipe, where, timeout=SAMPLE_TIMEOUT):
        if isinstance(tile, Sample):
            samples.append(tile)
        if len(samples) == count:
            break
    return samples


def _of_photograph(source: Source, recipe: Recipe, where: dict[str, str]) -> Sample | None:
    from batchseg.pixels.photo.decode import decode
    from batchseg.predict.photo import Fitting

    storage.adopt(where)
    with contextlib.suppress(SourceError, OSError):
        fitting = Fitting(decode(fetch.read_bytes(source.uri), source.uri), recipe)
        if fitting.inputs:
            tile = np.ascontiguousarray(fitting.tile(fitting.inputs // 2))
            return Sample(pixels=tile, scale=recipe.scale)
    return None


def _of_scene(scene: Scene, recipe: Recipe, count: int, where: dict[str, str]) -> list[Sample]:
    """Of twice as many tiles those with the most valid pixels."""
    storage.adopt(where)
    grid = ShardGrid(tiles=tile_grid(recipe, scene.height, scene.width), tiles_hw=(1, 1))
    scale = of_scene(recipe, scene).scale
    found: list[tuple[float, Sample]] = []
    for index in _spread(grid.count, 2 * count):
        try:
            (held,), _ = read_shards(scene, recipe, (grid.shard(index),))
        except SourceError:
            break
        valid = 1.0 if held.valid is None else float(held.valid.mean())
        if valid:
            pixels: Any = np.ascontiguousarray(cut_tile(held.pixels, held.shard.read, held.shard.tiles[0]))
            found.append((valid, Sample(pixels=pixels, scale=scale)))
    found.sort(key=lambda item: -item[0])
    return [sample for _, sample in found[:count]]


def _spread(length: int, count: int) -> list[int]:
    """Up to `count` of the indices 0..length-1, in the middles of equal parts."""
    count = min(length, count)
    return [(2 * number + 1) * length // (2 * count) for number in range(count)]

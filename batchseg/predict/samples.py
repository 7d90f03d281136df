"""Crops of a job's own sources, to try networks, engines and tiles with."""

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.errors import ConfigError, SourceError
from batchseg.inputs.source import Scene, Source
from batchseg.job.recipe import Recipe
from batchseg.job.settings import Scale
from batchseg.pixels.fit import mismatch, of_scene, tile_grid
from batchseg.pixels.grid import ShardGrid
from batchseg.pixels.header import read_header
from batchseg.pixels.model_grid import model_shape, on_model_grid
from batchseg.pixels.read import read_shards
from batchseg.system import fetch, storage
from batchseg.system.processes import ProcessDiedError, each_in_fresh_process

SOURCES = 16
"""That are opened to find crops in."""

CROPS = 12
"""Together; of one scene they are spread over it."""

CROP_SIDE, CROP_BYTES = 1536, 32 * 2**20
"""Pixels per side at most: the largest tile that is tried. And bytes."""

LEAST_SIDE = 256

SAMPLE_TIMEOUT = 60.0
"""Seconds for one source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A part of one source as it is read."""

    pixels: NDArray[np.generic]
    """(C, H, W), raw; of a photograph that is resized (C, tile_size, tile_size)."""
    scale: Scale
    """The recipe's, or the scene's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    crops: tuple[Sample, ...]
    shapes_hw: tuple[tuple[int, int], ...]
    """Height and width of the sources that were looked at."""


def sample_crops(recipe: Recipe, sources: Sequence[Source], *, crops: int = CROPS) -> Samples:
    """Crops spread over sources and within them; read in a process of its own.

    A source that cannot be read, or ends or stops the process, is passed over: here nobody is blamed.

    Raises:
        ConfigError: none of the sources tried gives a crop.
    """
    tried = tried_of(sources)
    try:
        samples = (_of_scenes if recipe.fit is None else _of_photographs)(recipe, tried, crops)
    except ProcessDiedError as e:
        msg = f"the process that read tiles of sources {e}; `batchseg plan` says what is wrong with them"
        raise ConfigError(msg) from e
    if not samples.crops:
        msg = "no source gave a tile: none can be read and fits the job; `batchseg plan` says why"
        raise ConfigError(msg)
    return samples


def tried_of(sources: Sequence[Source]) -> list[Source]:
    """Those that are opened to find crops in."""
    return [sources[number] for number in spread_over(len(sources), SOURCES)]


def source_shapes(recipe: Recipe, sources: Sequence[Source]) -> tuple[tuple[int, int], ...]:
    """Height and width of those of `tried_of` that can be read and fit."""
    if recipe.fit is None:
        headers = each_in_fresh_process(read_header, sources, timeout=SAMPLE_TIMEOUT)
        scenes = (one for one in headers if isinstance(one, Scene) and not mismatch(one, recipe))
        return tuple(model_shape(scene, recipe) for scene in scenes)
    answers = each_in_fresh_process(_photograph_shape, sources, storage.environment(), timeout=SAMPLE_TIMEOUT)
    return tuple(answer for answer in answers if isinstance(answer, tuple))


def _photograph_shape(source: Source, where: dict[str, str]) -> tuple[int, int] | None:
    from batchseg.pixels.photo.decode import decode

    storage.adopt(where)
    with contextlib.suppress(SourceError, OSError):
        pixels = decode(fetch.read_bytes(source.uri), source.uri).pixels
        return pixels.shape[0], pixels.shape[1]
    return None


def _of_scenes(recipe: Recipe, sources: Sequence[Source], count: int) -> Samples:
    """Of those that are sound and fit."""
    scenes = [
        on_model_grid(scene, recipe)
        for scene in each_in_fresh_process(read_header, sources, timeout=SAMPLE_TIMEOUT)
        if isinstance(scene, Scene) and not mismatch(scene, recipe)
    ]
    if not scenes:
        return Samples(crops=(), shapes_hw=())
    share, where = -(-count // len(scenes)), storage.environment()
    answers = each_in_fresh_process(_of_scene, scenes, recipe, share, where, timeout=SAMPLE_TIMEOUT)
    found = [crops for crops in answers if not isinstance(crops, ProcessDiedError)]
    # The best of each scene, then the second best: a scene without valid pixels leaves its share to others.
    crops = [each[rank] for rank in range(share) for each in found if rank < len(each)]
    return Samples(crops=tuple(crops[:count]), shapes_hw=tuple((s.height, s.width) for s in scenes))


def _of_photographs(recipe: Recipe, sources: Sequence[Source], count: int) -> Samples:
    """The middle of each, or the whole of one that is resized."""
    where = storage.environment()
    answers = each_in_fresh_process(_of_photograph, sources, recipe, where, timeout=SAMPLE_TIMEOUT)
    found = [answer for answer in answers if isinstance(answer, tuple)]
    return Samples(
        crops=tuple(sample for sample, _ in found[:count]), shapes_hw=tuple(shape for _, shape in found)
    )


def _of_photograph(
    source: Source, recipe: Recipe, where: dict[str, str]
) -> tuple[Sample, tuple[int, int]] | None:
    from batchseg.pixels.photo.decode import decode
    from batchseg.predict.photo import Fitting

    storage.adopt(where)
    with contextlib.suppress(SourceError, OSError):
        fitting = Fitting(decode(fetch.read_bytes(source.uri), source.uri), recipe)
        if fitting.inputs:
            whole = fitting.tile(0) if recipe.fit == "resize" else _middle(fitting.pixels)
            return Sample(pixels=np.ascontiguousarray(whole), scale=recipe.scale), fitting.shape_hw
    return None


def _middle(pixels: NDArray[Any]) -> NDArray[Any]:
    side = _crop_side(pixels.itemsize * len(pixels))
    height, width = pixels.shape[-2:]
    top, left = max(0, height - side) // 2, max(0, width - side) // 2
    return pixels[:, top : top + side, left : left + side]


def _crop_side(bytes_per_pixel: int) -> int:
    """A multiple of LEAST_SIDE."""
    side = min(CROP_SIDE, math.isqrt(CROP_BYTES // bytes_per_pixel))
    return max(1, side // LEAST_SIDE) * LEAST_SIDE


def _of_scene(scene: Scene, recipe: Recipe, count: int, where: dict[str, str]) -> list[Sample]:
    """Of twice as many crops those with the most valid pixels, the best first."""
    storage.adopt(where)
    band_bytes = max(np.dtype(dtype).itemsize for dtype in scene.dtypes)
    side = _crop_side(band_bytes * len(recipe.bands))
    whole = replace(recipe, tile_size=side, halo=0, bake=None)
    grid = ShardGrid(tiles=tile_grid(whole, scene.height, scene.width), tiles_hw=(1, 1))
    scale = of_scene(recipe, scene).scale
    found: list[tuple[int, Sample]] = []
    for index in spread_over(grid.count, 2 * count):
        try:
            (held,), _ = read_shards(scene, whole, (grid.shard(index),))
        except SourceError:
            break
        valid = held.shard.read.size if held.valid is None else int(held.valid.sum())
        if valid:
            pixels: Any = np.ascontiguousarray(held.pixels)
            found.append((valid, Sample(pixels=pixels, scale=scale)))
    found.sort(key=lambda item: -item[0])
    return [sample for _, sample in found[:count]]


def spread_over(length: int, count: int) -> list[int]:
    """Up to `count` of the indices 0..length-1, in the middles of equal parts."""
    count = min(length, count)
    return [(2 * number + 1) * length // (2 * count) for number in range(count)]

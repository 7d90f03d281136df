"""Pixels through rasterio, on the network's grid. What GDAL says of a file becomes a SourceError here."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from batchseg.errors import SourceChangedError, SourceError
from batchseg.inputs.scene_rows import current_tag
from batchseg.inputs.source import Scene, Source
from batchseg.job.recipe import Recipe
from batchseg.pixels.area import footprint
from batchseg.pixels.fit import fill_values, held_dtype, of_scene
from batchseg.pixels.gdal import UNDECODABLE, gdal, is_damage, source_errors
from batchseg.pixels.grid import Shard, Window
from batchseg.pixels.model_grid import published
from batchseg.pixels.overviews import level
from batchseg.pixels.resample import Resampling
from batchseg.pixels.stack import Stack, open_source
from batchseg.pixels.validity import both_valid, valid_pixels
from batchseg.pixels.windows import BLOCKWISE_DRIVERS, WindowReader
from batchseg.system import archives
from batchseg.system.threads import start_aside


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardPixels:
    """What a shard's tiles need, halo included."""

    shard: Shard
    pixels: NDArray[np.generic]
    """Shape (bands, height, width) of `shard.read`, raw values, invalid pixels filled."""
    valid: NDArray[np.bool_] | None
    """Shape (height, width), True = usable. None: every pixel is."""
    bad_pixels: int = 0
    """Of the shard's core, that lie in blocks which cannot be decoded."""


def check_version(source: Source) -> None:
    """Raises SourceChangedError where the source's files are not those that were planned."""
    tag = current_tag(source)
    if tag is None:
        msg = "the file is gone"
        raise SourceChangedError(msg)
    if tag != source.tag:
        msg = "the file changed while the run was going on; the next run does the new version"
        raise SourceChangedError(msg)


def read_shards(scene: Scene, recipe: Recipe, shards: Sequence[Shard]) -> tuple[list[ShardPixels], float]:
    """Read the pixels of some shards of one scene.

    Returns:
        One ShardPixels per shard, and the seconds it took.

    Raises:
        SourceError: the content cannot be decoded.
        SourceChangedError: the source is not the planned version before or after the read.
    """
    started = time.perf_counter()
    version = _checking(scene.source)
    recipe = of_scene(recipe, scene)
    try:
        with gdal(), source_errors(_undecodable(scene, recipe), scene.source):
            dataset = _held.open(scene, recipe.nodata)
            read = [_read_shard(dataset, scene, recipe, shard) for shard in shards]
    except SourceError:
        _held.close()
        raise
    # Before and after: a file that is replaced during the read would give a mixture of both versions.
    version.result()
    check_version(scene.source)
    return read, time.perf_counter() - started


def _checking(source: Source) -> "Future[None]":
    """`check_version`; of a bucket it is a round trip, and is asked while the read begins."""
    if not source.is_local:
        return start_aside(check_version, source)
    check_version(source)
    done: Future[None] = Future()
    done.set_result(None)
    return done


class _Held(threading.local):
    """The last source stays open: neighbouring shards share its blocks, decoded once in GDAL's cache.

    It is closed in the thread that opened it: rasterio's openers end badly in others', and in the garbage
    collector's hands.
    """

    def __init__(self) -> None:
        self._key: tuple[Source, str, tuple[int, int]] | None = None
        self._dataset: rasterio.DatasetReader | Stack | None = None

    def open(self, scene: Scene, nodata: float | str) -> rasterio.DatasetReader | Stack:
        """The source, or the overview of it that is read in its place.

        Raises:
            SourceChangedError: it has another size than the header.
        """
        key = (scene.source, str(nodata), (scene.height, scene.width))  # NaN differs from itself
        if self._dataset is None or self._key != key:
            self.close()
            _check_members(scene.source)
            self._dataset = _opened(scene, nodata)
            self._key = key
        return self._dataset

    def close(self) -> None:
        if self._dataset is not None:
            self._dataset.close()
        self._dataset = self._key = None


def _check_members(source: Source) -> None:
    """Raises SourceError where a file in a ZIP is not what was packed: GDAL would read wrong pixels of it."""
    for uri in source.opened:
        if archives.is_member(uri):
            try:
                archives.check(uri)
            except archives.DamagedError as e:
                raise SourceError(str(e)) from e


_held = _Held()


def _opened(scene: Scene, nodata: float | str) -> rasterio.DatasetReader | Stack:
    dataset = open_source(scene.source, nodata)
    own = scene.on_own_grid
    try:
        if (dataset.height, dataset.width) != (own.height, own.width):
            msg = "the file changed while the run was going on; the next run does the new version"
            raise SourceChangedError(msg)
        number = None if scene.own is None else level(dataset, (scene.height, scene.width))
        overview = None if number is None else open_source(scene.source, nodata, number)
    except BaseException:
        dataset.close()
        raise
    if overview is None:
        return dataset
    dataset.close()
    return overview


def release() -> None:
    """Close the source that this thread holds open, at its end."""
    _held.close()


@dataclass(frozen=True, slots=True)
class _Part:
    """What a window of a raster holds; None of flags: all are valid, none is bad."""

    pixels: NDArray[Any]
    """(bands, height, width)"""
    valid: NDArray[np.bool_] | None
    bad: NDArray[np.bool_] | None


def _read_shard(
    dataset: rasterio.DatasetReader | Stack, scene: Scene, recipe: Recipe, shard: Shard
) -> ShardPixels:
    read = partial(_read_part, dataset, scene.on_own_grid, recipe)
    way = Resampling((dataset.height, dataset.width), (scene.height, scene.width))
    part = read(shard.read) if way.changes_nothing else _resampled(read, way, shard.read)
    pixels, valid, bad = part.pixels, part.valid, part.bad
    if valid is not None:
        fill = fill_values(recipe, str(pixels.dtype))
        np.copyto(pixels, fill[:, None, None], where=~valid)
    if recipe.area is not None and published(scene, recipe) is scene:
        # After the fill: what lies outside is still what a tile at the border sees beside it. A mask that is
        # brought to another grid is cut there (`output/own_grid`).
        inside = footprint(recipe.area, scene).inside(shard.read)
        valid = both_valid(valid, inside)
        bad = None if bad is None else both_valid(bad, inside)
    return ShardPixels(shard=shard, pixels=pixels, valid=valid, bad_pixels=_count_in_core(bad, shard))


def _read_part(dataset: rasterio.DatasetReader | Stack, scene: Scene, recipe: Recipe, at: Window) -> _Part:
    """A window of the dataset's own grid, which is the scene's or an overview's."""
    reader = WindowReader(
        at,
        raster_hw=(dataset.height, dataset.width),
        block_hw=dataset.block_shapes[0],
        is_damage=partial(is_damage, scene.source) if _leaves_blocks_out(scene, recipe) else None,
    )
    dtype = np.result_type(*(scene.dtypes[band - 1] for band in recipe.bands))
    pixels = reader.pixels(
        lambda window: dataset.read(list(recipe.bands), window=window), bands=len(recipe.bands), dtype=dtype
    )
    valid = valid_pixels(dataset, scene, recipe, pixels, reader)
    if reader.bad is not None:
        valid = both_valid(valid, ~reader.bad)
    return _Part(pixels.astype(held_dtype(scene, recipe), copy=False), valid, reader.bad)


def _resampled(read: Callable[[Window], _Part], way: Resampling, at: Window) -> _Part:
    """A window of the model's grid, block by block: it may be of very many pixels of the raster."""
    pixels: NDArray[Any] | None = None
    valid, bad = np.ones((at.height, at.width), bool), np.zeros((at.height, at.width), bool)
    for block in way.blocks(at):
        part, place = read(way.needs(block)), block.slices_within(at)
        made = way.pixels(block, part.pixels, part.valid)
        if pixels is None:
            pixels = np.empty((len(made), at.height, at.width), made.dtype)
        pixels[(slice(None), *place)] = made
        if part.valid is not None:
            valid[place] = way.mostly(block, part.valid)
        if part.bad is not None:
            bad[place] = way.mostly(block, part.bad)
    assert pixels is not None  # noqa: S101  what is read has pixels
    return _Part(pixels, None if valid.all() else valid, bad if bad.any() else None)


def _count_in_core(bad: NDArray[np.bool_] | None, shard: Shard) -> int:
    """Each pixel of a tile's core once, whatever the shard."""
    if bad is None:
        return 0
    return sum(int(np.count_nonzero(bad[tile.core.slices_within(shard.read)])) for tile in shard.tiles)


def _leaves_blocks_out(scene: Scene, recipe: Recipe) -> bool:
    return recipe.on_bad_block == "nodata" and scene.driver in BLOCKWISE_DRIVERS


def _undecodable(scene: Scene, recipe: Recipe) -> str:
    if recipe.on_bad_block == "quarantine" or _leaves_blocks_out(scene, recipe):
        return UNDECODABLE
    return f"damaged or cut off, and blocks can be left out of GeoTIFF alone, not of {scene.driver}"

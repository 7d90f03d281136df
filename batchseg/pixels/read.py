"""Pixels and headers through rasterio. Whatever GDAL says about a file becomes a SourceError here."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

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
from batchseg.pixels.grid import Shard
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
            dataset = _held.open(scene.source, recipe.nodata)
            if (dataset.height, dataset.width) != (scene.height, scene.width):
                msg = "the file changed while the run was going on; the next run does the new version"
                raise SourceChangedError(msg)
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
        self._key: tuple[Source, str] | None = None
        self._dataset: rasterio.DatasetReader | Stack | None = None

    def open(self, source: Source, nodata: float | str) -> rasterio.DatasetReader | Stack:
        key = (source, str(nodata))  # NaN differs from itself
        if self._dataset is None or self._key != key:
            self.close()
            _check_members(source)
            self._dataset, self._key = open_source(source, nodata), key
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


def release() -> None:
    """Close the source that this thread holds open, at its end."""
    _held.close()


def _read_shard(
    dataset: rasterio.DatasetReader | Stack, scene: Scene, recipe: Recipe, shard: Shard
) -> ShardPixels:
    reader = WindowReader(
        shard.read,
        raster_hw=(scene.height, scene.width),
        block_hw=scene.block_hw,
        is_damage=partial(is_damage, scene.source) if _leaves_blocks_out(scene, recipe) else None,
    )
    dtype = np.result_type(*(scene.dtypes[band - 1] for band in recipe.bands))
    pixels = reader.pixels(
        lambda window: dataset.read(list(recipe.bands), window=window), bands=len(recipe.bands), dtype=dtype
    )
    valid = valid_pixels(dataset, scene, recipe, pixels, reader)
    pixels = pixels.astype(held_dtype(scene, recipe), copy=False)
    bad = reader.bad
    if bad is not None:
        valid = both_valid(valid, ~bad)
    if valid is not None:
        fill = fill_values(recipe, str(pixels.dtype))
        np.copyto(pixels, fill[:, None, None], where=~valid)
    if recipe.area is not None:
        # After the fill: what lies outside is still what a tile at the border sees beside it.
        inside = footprint(recipe.area, scene).inside(shard.read)
        valid = both_valid(valid, inside)
        bad = None if bad is None else both_valid(bad, inside)
    return ShardPixels(shard=shard, pixels=pixels, valid=valid, bad_pixels=_count_in_core(bad, shard))


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

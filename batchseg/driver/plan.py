"""What a run over scenes will do, decided before it does anything.

Pure functions of sources, settings and ledger: which scenes, in which shards, and what that takes.
`batchseg plan` is `dry_run`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from random import random

import numpy as np

from batchseg.driver.scene_triage import Triage
from batchseg.errors import ConfigError
from batchseg.inputs.source import Refusal, Scene
from batchseg.job.recipe import Product, Recipe
from batchseg.job.settings import JobConfig
from batchseg.output.ledger import Ledger
from batchseg.output.record import SceneRecord, ShardRecord
from batchseg.pixels.area import footprint
from batchseg.pixels.fit import held_dtype, mismatch, tile_grid
from batchseg.pixels.grid import Shard, ShardGrid, Window
from batchseg.system.machine import memory_bytes

SHARD_SECONDS, SHARDS_PER_SECOND = 0.5, 512
"""Aim of a shard's prediction: what a kill can cost, and how even the end of a run is. More where all
predictors together would end more shards in a second: each is a record, of some 0.03 ms of the driver."""

SHARD_TILES_AT_LEAST, SLOW_SHARD_SECONDS = 9, 3.0
"""Tiles of a shard, unless they take longer: the halo of one tile is read again by all its neighbours."""

SHARD_BYTES = 32 * 2**20
"""Pixels of a shard at most, unless one tile has more."""

SHARD_TILES = 64

LEASES_PER_WORKER = 3
"""One predicted, one read and waiting, one being read or written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneJob:
    """One scene to do, whole or the rest of it."""

    scene: Scene
    grid: ShardGrid
    committed: tuple[ShardRecord, ...]
    """Its shards that earlier runs recorded."""
    encoded: SceneRecord | None
    """Its done record, where only names, colours or format changed: nothing is predicted."""

    @property
    def grid_name(self) -> str:
        down, across = self.grid.tiles_hw
        return f"{down}x{across}"

    @property
    def is_outside(self) -> bool:
        """Whether the area of interest does not touch it."""
        return self.grid.wanted is not None and not any(self.grid.wanted)

    @property
    def tiles_at_most(self) -> int:
        """Tiles that it may take, those of committed shards included."""
        return 0 if self.encoded is not None else self.grid.tiles.count

    def open_shards(self) -> list[Shard]:
        if self.encoded is not None:
            return []
        return [shard for shard in self._uncommitted() if shard.count]

    def outside_shards(self) -> list[Shard]:
        """Those that lie outside the area of interest: nobody reads them."""
        if self.encoded is not None or self.grid.wanted is None:
            return []
        return [shard for shard in self._uncommitted() if not shard.count]

    def _uncommitted(self) -> Iterator[Shard]:
        windows = {record.window for record in self.committed}
        return (shard for shard in self.grid if shard.core not in windows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    triage: Triage
    jobs: tuple[SceneJob, ...]
    refusals: tuple[Refusal, ...]


def make_plan(
    triaged: Triage,
    headers: Iterable[Scene | Refusal],
    *,
    recipe: Recipe,
    product: Product,
    ledger: Ledger,
    cpu_classes: Sequence[str],
    workers: int,
    shard_tiles: int | None,
    fragments_exist: Callable[[Sequence[ShardRecord]], list[bool]] = lambda records: [True] * len(records),
) -> Plan:
    """Turn headers into jobs and refusals: unfinished scenes first, last those that failed, in any order.

    Args:
        triaged: the sources.
        headers: what was read of those to do, in any order.
        recipe: pixel settings.
        product: names, colours, format.
        ledger: what is committed.
        cpu_classes: of the predictors at hand; shards of another class cannot be joined with theirs.
        workers: number of predictors.
        shard_tiles: tiles per shard side; None: chosen per scene.
        fragments_exist: asked for a scene's committed shards; somebody may have cleaned up.
    """
    jobs: list[SceneJob] = []
    scenes, refusals = _told_apart(headers, recipe)
    pixel = recipe.digest
    tiles = sum(tile_grid(recipe, scene.height, scene.width).count for scene in scenes)
    seconds = max(SHARD_SECONDS, workers / SHARDS_PER_SECOND)
    share = min(tiles // (4 * workers), _tiles_in_time(seconds, recipe.facts.seconds_per_tile))
    for scene in scenes:
        job = _job(scene, recipe, pixel, product, ledger, cpu_classes, share, shard_tiles)
        if scene.source.source_id in triaged.lost:
            job = replace(job, encoded=None)
        elif scene.source.source_id in triaged.incomplete:
            job = replace(job, encoded=_to_encode_again(scene, pixel, ledger))
        there = fragments_exist(job.committed)
        kept = (record for record, is_there in zip(job.committed, there, strict=True) if is_there)
        jobs.append(replace(job, committed=tuple(kept)))
    jobs.sort(key=lambda job: _turn(job.scene.source.source_id, triaged, begun=bool(job.committed)))
    refusals.sort(key=lambda refusal: _turn(refusal.source.source_id, triaged))
    return Plan(triage=triaged, jobs=tuple(jobs), refusals=tuple(refusals))


def _turn(source_id: str, triaged: Triage, *, begun: bool = False) -> tuple[bool, bool, float, str]:
    """Sorts sources as they are done. What ended a run must not stand before the rest in the next one.

    Nor before others that failed, every time: their order is another one in each run.
    """
    failed = source_id in triaged.failed
    return failed, not begun, random() if failed else 0.0, source_id  # noqa: S311  no secret


def _told_apart(headers: Iterable[Scene | Refusal], recipe: Recipe) -> tuple[list[Scene], list[Refusal]]:
    scenes, refusals = [], []
    for header in headers:
        if isinstance(header, Refusal):
            refusals.append(header)
        elif reason := mismatch(header, recipe):
            refusals.append(Refusal(source=header.source, reason=reason, mismatch=True))
        else:
            scenes.append(header)
    return scenes, refusals


def _job(
    scene: Scene,
    recipe: Recipe,
    pixel: str,
    product: Product,
    ledger: Ledger,
    cpu_classes: Sequence[str],
    share: int,
    shard_tiles: int | None,
) -> SceneJob:
    source = scene.source
    tiles = tile_grid(recipe, scene.height, scene.width)
    committed = [
        record
        for record in ledger.shards(source.source_id)
        if (record.tag, record.pixel) == (source.tag, pixel) and record.cpu_class in cpu_classes
    ]
    # A scene that was begun keeps its shards, whatever the job asks for now.
    tiles_hw = committed[0].grid_hw if committed else shard_shape(scene, recipe, share, shard_tiles)
    done = _usable(scene, pixel, ledger)
    return SceneJob(
        scene=scene,
        grid=ShardGrid(tiles=tiles, tiles_hw=tiles_hw, wanted=_wanted(scene, recipe)),
        committed=tuple(committed),
        encoded=done if done is not None and done.product != product.digest else None,
    )


def _usable(scene: Scene, pixel: str, ledger: Ledger) -> SceneRecord | None:
    """The scene's done record, if its mask is of this version and these pixel settings."""
    done = ledger.source(scene.source.source_id)
    if not isinstance(done, SceneRecord) or done.status != "done":
        return None
    return done if (done.tag, done.pixel) == (scene.source.tag, pixel) else None


def _to_encode_again(scene: Scene, pixel: str, ledger: Ledger) -> SceneRecord | None:
    """The same, as if its mask were of another format: all that is made of it is made again."""
    done = _usable(scene, pixel, ledger)
    return None if done is None else replace(done, encoding="")


def _wanted(scene: Scene, recipe: Recipe) -> bytes | None:
    """The tiles whose core touches the area of interest, as ShardGrid takes them."""
    if recipe.area is None:
        return None
    grid = tile_grid(recipe, scene.height, scene.width)
    rows, cols = grid.shape_hw
    cores = [grid.cores(row, row + 1, col, col + 1) for row in range(rows) for col in range(cols)]
    return np.packbits(footprint(recipe.area, scene).touches(cores)).tobytes()


def shard_shape(scene: Scene, recipe: Recipe, share: int, shard_tiles: int | None) -> tuple[int, int]:
    """Tiles per shard, down and across, bounded in bytes.

    Shards of striped files are wide, so that a strip is decoded once; others are nearly square.

    Args:
        scene: the scene.
        recipe: pixel settings.
        share: most tiles, of about half a second of prediction, with which all predictors have several
            shards of the whole job, and so end at about the same time.
        shard_tiles: tiles per side where the job says so.
    """
    rows, cols = tile_grid(recipe, scene.height, scene.width).shape_hw
    if shard_tiles is not None:
        return min(shard_tiles, rows), min(shard_tiles, cols)
    tile_bytes = recipe.tile_size**2 * bytes_per_pixel(scene, recipe)
    count = min(
        SHARD_TILES,
        SHARD_BYTES // tile_bytes,
        share,
    )
    count = max(count, 1)
    striped = scene.block_hw[1] >= scene.width
    across = min(cols, count if striped else -int(-(count**0.5) // 1))
    return min(rows, max(1, count // across)), across


def _tiles_in_time(seconds: float, seconds_per_tile: float) -> int:
    """The probe's second tile may have been slow for a busy machine; a shard of one tile is all overhead."""
    usual, at_least = seconds / seconds_per_tile, SLOW_SHARD_SECONDS / seconds_per_tile
    return int(max(usual, min(SHARD_TILES_AT_LEAST, at_least)))


def bytes_per_pixel(scene: Scene, recipe: Recipe) -> int:
    """Of the selected bands as they are held in memory."""
    return len(recipe.bands) * held_dtype(scene, recipe).itemsize


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A plan in numbers."""

    scenes: int
    tiles: int
    """To be predicted at most; tiles without valid pixels are skipped when they are read."""
    source_pixels: int
    bytes_in: int
    """Decoded bytes that will be read, halo included."""
    bytes_out: int
    """Masks before compression, and their overviews."""
    in_flight_bytes: int
    """Bound of pixels and masks between reading and writing: the object store is made for it."""
    seconds: float
    """Prediction alone, at the probe tile's speed."""


def in_flight_bound(workers: int, asked: int | None) -> int:
    """Bytes in flight: each predictor's leases at their largest, at most a quarter of the memory here."""
    return asked or min(workers * LEASES_PER_WORKER * (SHARD_BYTES + SHARD_BYTES // 2), memory_bytes() // 4)


def estimate(plan: Plan, recipe: Recipe, workers: int, max_in_flight: int | None) -> Estimate:
    tiles = pixels = bytes_in = bytes_out = largest = 0
    out_size = np.dtype(recipe.mask_dtype).itemsize + recipe.confidence
    for job in plan.jobs:
        scene = job.scene
        own_tiles, own_pixels, read, largest_read = _sums(job)
        tiles, pixels = tiles + own_tiles, pixels + own_pixels
        bytes_in += read * bytes_per_pixel(scene, recipe)
        # Overviews add a quarter, a sixteenth and so on: a third.
        bytes_out += scene.height * scene.width * out_size * 4 // 3
        largest = max(largest, largest_read * bytes_per_pixel_in_flight(scene, recipe))
    bound = max(in_flight_bound(workers, max_in_flight), largest)
    return Estimate(
        scenes=len(plan.jobs),
        tiles=tiles,
        source_pixels=pixels,
        bytes_in=bytes_in,
        bytes_out=bytes_out,
        in_flight_bytes=bound,
        seconds=tiles * recipe.facts.seconds_per_tile / workers,
    )


def _sums(job: SceneJob) -> tuple[int, int, int, int]:
    """Tiles, pixels of their cores, pixels to be read, and those of the largest shard."""
    if job.encoded is None and job.grid.wanted is None and not job.committed:  # without making its shards
        return job.grid.tiles.count, job.scene.height * job.scene.width, *job.grid.reads()
    shards = job.open_shards()
    reads = [shard.read.size for shard in shards]
    return (
        sum(shard.count for shard in shards),
        sum(shard.pixels for shard in shards),
        sum(reads),
        max(reads, default=0),
    )


def shard_bytes(read: Window, scene: Scene, recipe: Recipe) -> int:
    """A shard in flight."""
    return read.size * bytes_per_pixel_in_flight(scene, recipe)


def bytes_per_pixel_in_flight(scene: Scene, recipe: Recipe) -> int:
    """Of what is read: its pixels, a byte of validity, and its mask and confidence."""
    return bytes_per_pixel(scene, recipe) + 1 + np.dtype(recipe.mask_dtype).itemsize + recipe.confidence


def refuse_unfit_job(plan: Plan, config: JobConfig, remedy: str = "") -> None:
    """A job that fits none of its sources is wrong; one that does not fit a few has odd sources.

    Args:
        plan: of the job.
        config: the job.
        remedy: what samples of the sources tell to write into it.

    Raises:
        ConfigError: every source is sound and none fits the job, nor ever did.
    """
    mismatches = [refusal for refusal in plan.refusals if refusal.mismatch]
    if not mismatches or plan.jobs or plan.triage.done:
        return
    first = mismatches[0]
    more = f" (and {len(mismatches) - 1} more like it)" if len(mismatches) > 1 else ""
    msg = f"{config.path} fits none of its inputs: {first.source.source_id} {first.reason}{more}"
    raise ConfigError(msg, *([remedy] if remedy else []))

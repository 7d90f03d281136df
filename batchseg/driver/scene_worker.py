"""The life of a lease: read, predict and stitch, write. The same functions run inline and on Ray."""

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.errors import SourceError, StoppedError
from batchseg.inputs.source import Scene
from batchseg.job.recipe import Product, Recipe
from batchseg.job.settings import Scale
from batchseg.output.fragments import shard_record, write_shards
from batchseg.output.record import SceneRecord, ShardRecord
from batchseg.output.scene_mask import finish_scene
from batchseg.output.seam_shares import with_seams
from batchseg.pixels.fit import of_scene
from batchseg.pixels.gdal import check_bytes
from batchseg.pixels.grid import Shard, Tile, cut_tile, tiles_in
from batchseg.pixels.own_values import check_values, may_contradict
from batchseg.pixels.read import ShardPixels, read_shards
from batchseg.pixels.usual_values import Reach, reach_of
from batchseg.pixels.value_samples import sample_read
from batchseg.predict.answer import Answer
from batchseg.predict.moved import Moved, SeamSample, moved_parts, seam_samples
from batchseg.predict.predictor import Predictor, Preparation
from batchseg.predict.stitch import ShardMask, Stitcher
from batchseg.system import storage
from batchseg.system.processes import (
    MEMORY_BYTES,
    NotStartedError,
    ProcessDiedError,
    each_in_fresh_process,
)
from batchseg.system.threads import Helper
from batchseg.system.timing import Stint, Stopwatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A few seconds of one predictor's work: consecutive shards of one scene."""

    id: int
    scene: Scene
    grid: str
    """Tiles per shard, `down x across`."""
    cpu_class: str
    """Of the predictors that may work on this scene."""
    shards: Sequence[Shard]
    is_whole: bool = False
    """Nothing else of the scene is to be predicted, or was: it is finished here, without fragments."""
    epoch: int = 0
    """Of the run's lock, for a scene that is finished."""
    profiled: bool = False
    """Whether each step's times are wanted, not only a stint's as a whole."""
    moved_share: float = 0.0
    """Of its tiles that are predicted again, moved by half a core."""

    @property
    def tiles(self) -> int:
        return tiles_in(self.shards)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeasePixels:
    shards: list[ShardPixels]
    seconds: float
    scale: Scale
    """The recipe's, or the scene's own."""
    reach: Reach | None = None
    """How far the values reach, of a thinned part of them; None where nobody asks."""
    stints: tuple[Stint, ...] = ()
    profiled: bool = False
    moved: tuple[Moved, ...] = ()
    """Tiles that tell what depends on their place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseMasks:
    masks: list[ShardMask]
    read_seconds: float
    predict_seconds: float
    stitch_seconds: float
    """Cutting, scaling, classifying and placing tiles."""
    pixel_bytes: int
    reach: Reach | None = None
    stints: tuple[Stint, ...] = ()
    profiled: bool = False
    seams: tuple[SeamSample, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseResult:
    records: list[ShardRecord]
    """None of a scene that is done, as no fragment is there."""
    read_seconds: float
    predict_seconds: float
    stitch_seconds: float
    write_seconds: float
    pixel_bytes: int
    done: SceneRecord | None = None
    """Of the whole scene, which is finished."""
    finish_seconds: float = 0.0
    reach: Reach | None = None
    stints: tuple[Stint, ...] = ()
    """Of its reader, predictor and writer."""

    @property
    def predicted(self) -> int:
        """Tiles."""
        return sum(record.predicted for record in self.records) if self.done is None else self.done.predicted


def read_lease(recipe: Recipe, lease: Lease) -> LeasePixels:
    """Raises SourceError where the content cannot be decoded, or its values cannot be meant."""
    watch = Stopwatch("reader", profiled=lease.profiled)
    with watch.step("read"):
        shards, seconds = read_shards(lease.scene, recipe, lease.shards)
        reach = _judged(shards, recipe, lease.scene)
        moved = moved_parts(recipe, lease.scene.source.source_id, shards, lease.moved_share)
    return LeasePixels(
        shards=shards,
        seconds=seconds,
        scale=of_scene(recipe, lease.scene).scale,
        reach=reach,
        stints=(watch.stint("read"),),
        profiled=lease.profiled,
        moved=moved,
    )


def _judged(shards: list[ShardPixels], recipe: Recipe, scene: Scene) -> Reach | None:
    """How far the values reach. Raises MismatchError where they cannot be meant."""
    is_bytes = str(shards[0].pixels.dtype) == "uint8"
    if not recipe.check_values or (is_bytes and not may_contradict("uint8", recipe.scale, recipe)):
        return None
    sample = sample_read(scene, recipe, shards)
    if sample is None:
        return None
    check_values(sample, recipe)
    return None if is_bytes else reach_of(sample)


def read_lease_alone(recipe: Recipe, lease: Lease, timeout: float) -> LeasePixels:
    """The same in a fresh process, whose start is not counted.

    Raises:
        Exception: as `read_lease`.
        ProcessDiedError: the process crashed, hung, or took memory without end.
        NotStartedError: there was none.
    """
    # All bands of the lease twice over, in the widest type, beside what any file may need.
    memory = MEMORY_BYTES + 64 * sum(shard.read.height * shard.read.width for shard in lease.shards)
    given = recipe, storage.environment()
    try:
        (answer,) = each_in_fresh_process(_read_doubtful, [lease], *given, timeout=timeout, memory=memory)
    except StoppedError as e:
        if isinstance(e.__cause__, ProcessDiedError):
            raise NotStartedError(str(e.__cause__)) from e
        raise
    if isinstance(answer, Exception):
        raise answer
    return answer


def _read_doubtful(lease: Lease, recipe: Recipe, where: dict[str, str]) -> LeasePixels | Exception:
    """`read_lease`, or its error; content is only called damaged if its bytes can be read."""
    storage.adopt(where)
    try:
        try:
            return read_lease(recipe, lease)
        except SourceError as e:
            if not e.transient:
                check_bytes(lease.scene.source)
            raise
    except (MemoryError, StoppedError):
        raise  # the process says so in words of its own
    except Exception as e:  # noqa: BLE001  whatever it is, it is raised where the lease is
        return e


def predict_lease(
    predictor: Predictor,
    recipe: Recipe,
    pixels: LeasePixels,
    batch_size: int = 1,
    stop: Callable[[], bool] = lambda: False,
    overlap: bool | None = None,
) -> LeaseMasks:
    """Predict and stitch a lease's shards.

    Args:
        predictor: the network.
        recipe: the pixel settings.
        pixels: what read_lease gave.
        batch_size: tiles per run of the network; pixels do not depend on it.
        stop: asked between batches; True ends the work.
        overlap: prepare and stitch tiles while the network computes; None: where it computes on a device.

    Raises:
        StoppedError: `stop` said so.
        ModelError: a class id does not fit the mask.
    """
    overlap = recipe.device == "gpu" if overlap is None else overlap
    preparation = Preparation(replace(recipe, scale=pixels.scale))
    cpu = time.thread_time if predictor.threads == 1 else time.process_time
    watch = Stopwatch("predictor", profiled=pixels.profiled, cpu=cpu)
    started = time.perf_counter()
    run = _Beside(predictor) if overlap else _Here(predictor)
    buffers = [preparation.buffer(batch_size) for _ in range(1 + overlap)]
    parts = [*pixels.shards, *(moved.part for moved in pixels.moved)]
    stitchers = [Stitcher(recipe, held.shard) for held in parts]
    waiting: deque[_Batch] = deque()
    with contextlib.closing(run):
        for number, batch in enumerate(_batches(parts, batch_size)):
            if stop():
                msg = "stopped in the middle of a shard"
                raise StoppedError(msg)
            tiles = buffers[number % len(buffers)][: len(batch.tiles)]
            held = parts[batch.shard]
            with watch.step("prepare"):
                for slot, (tile, _) in zip(tiles, batch.tiles, strict=True):
                    preparation(cut_tile(held.pixels, held.shard.read, tile), slot)
            run.start(tiles)
            waiting.append(batch)
            if len(waiting) > overlap:
                _place(waiting.popleft(), run, stitchers, watch)
        for batch in waiting:
            _place(batch, run, stitchers, watch)
    with watch.step("stitch"):
        masks = [s.finished(held.bad_pixels) for s, held in zip(stitchers, parts, strict=True)]
        masks, again = masks[: len(pixels.shards)], masks[len(pixels.shards) :]
        seams = _seams(pixels.moved, again, masks, recipe)
    return LeaseMasks(
        masks=masks,
        read_seconds=pixels.seconds,
        predict_seconds=run.seconds,
        stitch_seconds=max(0.0, time.perf_counter() - started - run.seconds),
        pixel_bytes=sum(held.pixels.nbytes for held in pixels.shards),
        reach=pixels.reach,
        stints=(*pixels.stints, *predictor.take_loading(), watch.stint("predict")),
        profiled=pixels.profiled,
        seams=seams,
    )


def _seams(
    moved: Sequence[Moved], again: Sequence[ShardMask], masks: Sequence[ShardMask], recipe: Recipe
) -> tuple[SeamSample, ...]:
    found = (
        seam_samples(tiles, mask, masks, recipe.mask_nodata) for tiles, mask in zip(moved, again, strict=True)
    )
    return tuple(sample for samples in found for sample in samples)


@dataclass(frozen=True, slots=True)
class _Batch:
    """Tiles of one shard that go through the network together, with the validity of what is kept of them."""

    shard: int
    tiles: Sequence[tuple[Tile, NDArray[np.bool_] | bool]]


def _batches(shards: list[ShardPixels], size: int) -> Iterator[_Batch]:
    for number, held in enumerate(shards):
        work = [(tile, valid) for tile in held.shard.tiles if (valid := _kept_valid(held, tile)) is not False]
        for first in range(0, len(work), size):
            yield _Batch(number, work[first : first + size])


def _place(batch: _Batch, run: "_Here", stitchers: list[Stitcher], watch: Stopwatch) -> None:
    """Wait for a batch's answers and put them in their places."""
    with watch.step("network"):
        answers = run.answers()
    with watch.step("stitch"):
        for answer, (tile, valid) in zip(answers, batch.tiles, strict=True):
            stitchers[batch.shard].place(tile, answer, valid if isinstance(valid, np.ndarray) else None)


class _Here:
    """The network in this thread, when its answers are asked for."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._tiles: deque[NDArray[Any]] = deque()
        self.seconds = 0.0
        """Of the network."""

    def start(self, tiles: NDArray[Any]) -> None:
        self._tiles.append(tiles)

    def answers(self) -> list[Answer]:
        """Of the first batch that was started and not asked for."""
        return self._run(self._tiles.popleft())

    def _run(self, tiles: NDArray[Any]) -> list[Answer]:
        started = time.perf_counter()
        try:
            return self._predictor.run(tiles)
        finally:
            self.seconds += time.perf_counter() - started

    def close(self) -> None:
        """Nothing waits here."""


class _Beside(_Here):
    """The network in a thread of its own: tiles are prepared and stitched while a device computes."""

    def __init__(self, predictor: Predictor) -> None:
        super().__init__(predictor)
        self._helper = Helper()
        self._started: deque[Future[list[Answer]]] = deque()

    def start(self, tiles: NDArray[Any]) -> None:
        self._started.append(self._helper.start(partial(self._run, tiles)))

    def answers(self) -> list[Answer]:
        return self._started.popleft().result()

    def close(self) -> None:
        wait(self._started)  # its buffers are about to go
        self._helper.close()


def _kept_valid(held: ShardPixels, tile: Tile) -> NDArray[np.bool_] | bool:
    """Validity of what is kept of the tile: an array, True for all of it, False for none (not predicted)."""
    if held.valid is None:
        return True
    valid = held.valid[tile.kept.slices_within(held.shard.read)]
    # Valid pixels in the rest of the halo do not count: nothing of the tile would be kept.
    return valid if valid.any() else False


def write_lease(
    output: str, recipe: Recipe, product: Product, lease: Lease, masks: LeaseMasks
) -> LeaseResult:
    """Publish what was predicted: the mask where it is of a whole scene, fragments of it else.

    Raises:
        OutputError: it cannot be written.
    """
    watch = Stopwatch("writer", profiled=lease.profiled)
    scene, grid, cpu_class, done = lease.scene, lease.grid, lease.cpu_class, None
    writing = finishing = 0.0
    with watch.step("finish" if lease.is_whole else "write"):
        if lease.is_whole:
            records = [shard_record(scene, recipe, grid, cpu_class, mask) for mask in masks.masks]
            records = with_seams(records, masks.seams, scene)
            done, finishing = finish_scene(
                output, scene, recipe, product, tuple(records), lease.epoch, masks.masks
            )
            records = []
        else:
            records, writing = write_shards(output, scene, recipe, grid, cpu_class, masks.masks)
            records = with_seams(records, masks.seams, scene)
    return LeaseResult(
        records=records,
        read_seconds=masks.read_seconds,
        predict_seconds=masks.predict_seconds,
        stitch_seconds=masks.stitch_seconds,
        write_seconds=writing,
        finish_seconds=finishing,
        pixel_bytes=masks.pixel_bytes,
        done=done,
        reach=masks.reach,
        stints=(*masks.stints, watch.stint("write")),
    )

"""What is to be done of scenes whose headers are known: in which shards, and what that takes.

Headers come while leases run (`intake`); the first ones decide how large shards are. `batchseg plan` is
`dry_run`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from batchseg.driver.tasks import LEASES_AT_ONCE
from batchseg.driver.triage import PREDICT, REMAKE, Triage
from batchseg.errors import ConfigError
from batchseg.inputs.source import Refusal, Scene
from batchseg.job.recipe import Recipe
from batchseg.job.settings import JobConfig
from batchseg.output.ledger import Ledger
from batchseg.output.record import SceneRecord, ShardRecord
from batchseg.pixels.area import footprint
from batchseg.pixels.fit import held_dtype, mismatch, tile_grid
from batchseg.pixels.grid import AllShards, Shard, ShardGrid, Window, pixels_in, pixels_read, tiles_in
from batchseg.pixels.model_grid import on_model_grid, published
from batchseg.system.machine import memory_bytes

SHARD_SECONDS, SHARDS_PER_SECOND = 0.5, 512
"""Aim of a shard's prediction: what a kill can cost, and how even the end of a run is. More where all
predictors together would end more shards in a second: each is a record, of some 0.03 ms of the driver."""

SHARD_TILES_AT_LEAST, SLOW_SHARD_SECONDS = 9, 3.0
"""Tiles of a shard, unless they take longer: the halo of one tile is read again by all its neighbours."""

SHARD_BYTES = 32 * 2**20
"""Pixels of a shard at most, unless one tile has more."""

SHARD_TILES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneJob:
    """One scene to do, whole or the rest of it."""

    scene: Scene
    grid: ShardGrid
    committed: tuple[ShardRecord, ...]
    """Its shards that earlier runs recorded."""
    encoded: SceneRecord | None
    """Its done record, where only names, colours or format changed: nothing is predicted."""
    is_grazed: bool = False
    """The area of interest touches it, and holds no pixel's centre: it is outside."""

    @property
    def grid_name(self) -> str:
        down, across = self.grid.tiles_hw
        return f"{down}x{across}"

    @property
    def is_outside(self) -> bool:
        """Whether the area of interest holds none of its pixels."""
        return self.grid.wanted is not None and not any(self.grid.wanted)

    @property
    def tiles_at_most(self) -> int:
        """Tiles that it may take, those of committed shards included."""
        return 0 if self.encoded is not None else self.grid.tiles.count

    def open_shards(self) -> Sequence[Shard]:
        """Those that are to be predicted, in row-major order."""
        if self.encoded is not None:
            return ()
        if self.grid.wanted is None and not self.committed:
            return AllShards(self.grid)
        return tuple(shard for shard in self._uncommitted() if shard.count)

    def outside_shards(self) -> list[Shard]:
        """Those that lie outside the area of interest: nobody reads them."""
        if self.encoded is not None or self.grid.wanted is None:
            return []
        return [shard for shard in self._uncommitted() if not shard.count]

    def _uncommitted(self) -> Iterator[Shard]:
        windows = {record.window for record in self.committed}
        return (shard for shard in self.grid if shard.core not in windows)


Read = tuple[int, Scene | Refusal]
"""What was read of a row of `Triage.todo`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is known of a run's work by the headers that were read."""

    triage: Triage
    jobs: tuple[SceneJob, ...]
    refusals: tuple[Refusal, ...]
    unread: int = 0
    """Rows of `triage.todo` whose headers were not read yet."""


class Planner:
    """Makes jobs of headers, whenever they come.

    Args:
        recipe: pixel settings.
        ledger: what is committed.
        cpu_classes: of the predictors at hand; shards of another class cannot be joined with theirs.
        workers: number of predictors.
        shard_tiles: tiles per shard side; None: chosen per scene.
        leases: that all predictors take at once; None: as usual.
        fragments_exist: asked for a scene's committed shards; somebody may have cleaned up.
    """

    def __init__(
        self,
        *,
        recipe: Recipe,
        ledger: Ledger,
        cpu_classes: Sequence[str],
        workers: int,
        shard_tiles: int | None,
        leases: int | None = None,
        fragments_exist: Callable[[Sequence[ShardRecord]], list[bool]] = lambda records: (
            [True] * len(records)
        ),
    ) -> None:
        self.recipe, self.workers = recipe, workers
        self.leases = leases or LEASES_AT_ONCE * workers
        self.memory = memory_bytes()
        """Of this machine, asked once: limits of control groups are read from a dozen files."""
        self._ledger, self._cpu_classes = ledger, cpu_classes
        self._shard_tiles, self._fragments_exist = shard_tiles, fragments_exist
        seconds = max(SHARD_SECONDS, workers / SHARDS_PER_SECOND)
        self._share = _tiles_in_time(seconds, recipe.facts.seconds_per_tile)

    def share_out(self, scenes: Sequence[Scene], count: int) -> None:
        """Choose shards with which all predictors have several of the whole job.

        Args:
            scenes: those of which headers were read.
            count: scenes of the whole job.
        """
        tiles = sum(tile_grid(self.recipe, scene.height, scene.width).count for scene in scenes)
        if scenes:
            self._share = min(self._share, tiles * count // len(scenes) // (4 * self.workers))

    def job(self, scene: Scene, stored: int) -> SceneJob:
        """What is to be done of a scene. `stored`: PREDICT, ENCODE or REMAKE."""
        source, recipe = scene.source, self.recipe
        committed = [
            record
            for record in self._ledger.shards(source.source_id)
            if (record.tag, record.pixel) == (source.tag, recipe.digest)
            and record.cpu_class in self._cpu_classes
        ]
        # A scene that was begun keeps its shards, whatever the job asks for now.
        shape = shard_shape(scene, recipe, self._share, self._shard_tiles)
        tiles_hw = committed[0].grid_hw if committed else shape
        there = self._fragments_exist(committed) if committed else []
        wanted, is_grazed = wanted_tiles(scene, recipe)
        return SceneJob(
            scene=scene,
            grid=ShardGrid(
                tiles=tile_grid(recipe, scene.height, scene.width), tiles_hw=tiles_hw, wanted=wanted
            ),
            is_grazed=is_grazed,
            committed=tuple(record for record, is_there in zip(committed, there, strict=True) if is_there),
            encoded=None if stored == PREDICT else self._encoded(scene, again=stored == REMAKE),
        )

    def _encoded(self, scene: Scene, *, again: bool) -> SceneRecord | None:
        """The scene's done record; `again`: as if its mask were of another format, so that all that is made
        of it is made again."""
        done = self._ledger.source(scene.source.source_id)
        if not isinstance(done, SceneRecord):
            return None
        return replace(done, encoding="") if again else done


def make_plan(triaged: Triage, read: Iterable[Read], planner: Planner) -> Plan:
    """Turn headers into jobs and refusals, in the order of their rows."""
    scenes, refusals = told_apart(sorted(read, key=lambda each: each[0]), planner.recipe)
    count = triaged.todo.num_rows
    planner.share_out([scene for _, scene in scenes], count - len(refusals))
    return Plan(
        triage=triaged,
        jobs=tuple(planner.job(scene, int(triaged.stored[row])) for row, scene in scenes),
        refusals=tuple(refusals),
        unread=count - len(scenes) - len(refusals),
    )


def told_apart(read: Iterable[Read], recipe: Recipe) -> tuple[list[tuple[int, Scene]], list[Refusal]]:
    """Scenes that fit the job, on the model's grid, and what does not or could not be read."""
    scenes, refusals = [], []
    for row, header in read:
        if isinstance(header, Refusal):
            refusals.append(header)
        elif reason := mismatch(header, recipe):
            refusals.append(Refusal(source=header.source, reason=reason, mismatch=True))
        else:
            scenes.append((row, on_model_grid(header, recipe)))
    return scenes, refusals


def wanted_tiles(scene: Scene, recipe: Recipe) -> tuple[bytes | None, bool]:
    """The tiles of which a kept pixel touches the area of interest, as ShardGrid takes them; none where it is
    grazed.

    And whether it is: touched at an edge, or by less than a pixel.
    """
    if recipe.area is None:
        return None, False
    grid = tile_grid(recipe, scene.height, scene.width)
    rows, cols = grid.shape_hw
    cores = [grid.grown(grid.cores(row, row + 1, col, col + 1)) for row in range(rows) for col in range(cols)]
    there = footprint(recipe.area, scene)
    touched = there.touches(cores)
    is_grazed = bool(touched.any()) and not there.holds_a_pixel([cores[n] for n in np.flatnonzero(touched)])
    return np.packbits(touched & (not is_grazed)).tobytes(), is_grazed


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
    """Decoded bytes that will be read, halo included; without overviews of scenes that are read coarser."""
    bytes_out: int
    """Masks before compression, and their overviews."""
    in_flight_bytes: int
    """Bound of pixels and masks between reading and writing."""
    seconds: float
    """Prediction alone, at the probe tile's speed."""


def in_flight_bound(leases: int, asked: int | None, memory: int) -> int:
    """Bytes in flight: all predictors' leases at their largest, at most a quarter of the memory here."""
    return asked or min(leases * (SHARD_BYTES + SHARD_BYTES // 2), memory // 4)


class Measured:
    """What jobs take, summed up as they come.

    Args:
        recipe: pixel settings.
        cleans: whether masks are cleaned, and what was predicted is kept as well.
    """

    def __init__(self, recipe: Recipe, *, cleans: bool = False) -> None:
        self._recipe = recipe
        self._out_size = recipe.layer_bytes + cleans * recipe.mask_bytes
        self.heard = 0
        """Headers that were read, of what is refused too."""
        self._sums = np.zeros(5, np.int64)
        """Scenes, tiles, pixels, bytes in, bytes out."""
        self._whole = np.zeros(5, np.int64)
        """The same, as if nothing were committed: what the others are likely to be."""
        self._largest = 0

    def add(self, job: SceneJob) -> None:
        scene, recipe = job.scene, self._recipe
        tiles, pixels, read, largest = _sums(job)
        # Overviews add a quarter, a sixteenth and so on: a third.
        out = published(scene, recipe).size * self._out_size * 4 // 3
        decoded = read * scene.on_own_grid.size // max(scene.size, 1)
        own = (1, tiles, pixels, decoded * bytes_per_pixel(scene, recipe), out)
        self._sums += own
        self._whole += _sized(own, job.tiles_at_most) if job.committed else own
        self._largest = max(self._largest, largest * bytes_per_pixel_in_flight(scene, recipe))
        self.heard += 1

    def estimate(self, unread: int, planner: Planner, max_in_flight: int | None) -> Estimate:
        """Numbers of all, with so many scenes of which nothing is known."""
        more = self._whole * (unread / max(self.heard, 1))
        scenes, tiles, pixels, bytes_in, bytes_out = (int(n) for n in self._sums + more.astype(np.int64))
        bound = in_flight_bound(planner.leases, max_in_flight, planner.memory)
        return Estimate(
            scenes=scenes,
            tiles=tiles,
            source_pixels=pixels,
            bytes_in=bytes_in,
            bytes_out=bytes_out,
            in_flight_bytes=max(bound, self._largest),
            seconds=tiles * self._recipe.facts.seconds_per_tile / planner.workers,
        )


def _sized(own: tuple[int, ...], tiles: int) -> tuple[int, ...]:
    """Sums of what is left of a scene, enlarged to those of all its tiles."""
    scenes, left, *others, out = own
    return scenes, tiles, *(value * tiles // max(left, 1) for value in others), out


def _sums(job: SceneJob) -> tuple[int, int, int, int]:
    """Tiles, pixels of their cores, pixels to be read, and those of the largest shard."""
    shards = job.open_shards()
    if isinstance(shards, AllShards):
        read, most = job.grid.reads()
    else:
        read, most = pixels_read(shards), max((shard.read.size for shard in shards), default=0)
    return tiles_in(shards), pixels_in(shards), read, most


def shard_bytes(read: Window, scene: Scene, recipe: Recipe) -> int:
    """A shard in flight."""
    return read.size * bytes_per_pixel_in_flight(scene, recipe)


def bytes_per_pixel_in_flight(scene: Scene, recipe: Recipe) -> int:
    """Of what is read: its pixels, a byte of validity, and its mask and confidence."""
    return bytes_per_pixel(scene, recipe) + 1 + recipe.layer_bytes


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
    msg = f"{config.path} fits none of its inputs: {first.source.source_id} {first.reason}"
    if more := len(mismatches) - 1:
        msg += f" (and {more} more like it: `batchseg plan` with `--set inputs=FILE` says why of one)"
    raise ConfigError(msg, *([remedy] if remedy else []))

"""What is left of a run's scenes: those that wait, the open shards of those begun, and what is tried again.

Each question is answered in a time that grows neither with the scenes in progress nor with the predictors:
a driver of hundreds of predictors asks some hundred times a second.
"""

from collections import Counter, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush

from batchseg.driver.open_shards import OpenShards
from batchseg.driver.plan import SceneJob, bytes_per_pixel_in_flight
from batchseg.driver.tasks import Isolation
from batchseg.job.recipe import Recipe
from batchseg.output.record import SceneRecord, ShardRecord
from batchseg.pixels.grid import Shard, tiles_in


@dataclass(slots=True)
class SceneWork:
    """One scene in progress."""

    number: int
    """In the order in which scenes were begun."""
    job: SceneJob
    records: list[ShardRecord | SceneRecord]
    open: OpenShards
    outside: list[Shard]
    """Outside the area of interest: not leased, empty in the mask."""
    cpu_class: str | None
    bytes_per_pixel: int
    """Of what is read and in flight."""
    tiles_open: int = 0
    lost: int = 0
    starved: set[str] = field(default_factory=set)
    """Processes that had work on it when they were ended for lack of memory."""
    over: bool = False
    """Refused or finished: later answers are dropped."""
    finishing: bool = False
    held: bool = False
    """One of its leases timed out: only that one is tried again for now."""

    @property
    def source_id(self) -> str:
        return self.job.scene.source.source_id

    @property
    def is_untouched(self) -> bool:
        """Whether nothing of it was given to a predictor yet, nor recorded by an earlier run."""
        return self.cpu_class is None and not self.records

    @property
    def is_predicted(self) -> bool:
        """Whether all its shards are there."""
        return len(self.records) + len(self.outside) == self.job.grid.count


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Shards that are to be tried again, and how."""

    work: SceneWork
    shards: Sequence[Shard]
    isolation: Isolation
    tried: frozenset[Isolation]
    """Steps that were isolated in earlier attempts at these shards."""
    deaths: int
    """Predictors that died over them."""


class Retries:
    """Shards that are to be tried again, by the class of CPU of their scene, first come first."""

    def __init__(self) -> None:
        self._waiting: dict[str | None, deque[Retry]] = {}

    def add(self, retry: Retry) -> None:
        self._waiting.setdefault(retry.work.cpu_class, deque()).append(retry)

    def next(self, cpu_class: str) -> Retry | None:
        """The first for a class of CPU whose scene is not over."""
        waiting = self._waiting.get(cpu_class)
        while waiting:
            if not (retry := waiting.popleft()).work.over:
                return retry
        return None

    def forget(self, work: SceneWork) -> None:
        self._waiting[work.cpu_class] = deque(
            retry for retry in self._waiting.get(work.cpu_class, ()) if retry.work is not work
        )


class _OpenScenes:
    """Scenes with shards that a predictor may take, by class of CPU; None: those that have none yet."""

    def __init__(self, begun: Mapping[int, SceneWork]) -> None:
        self._begun = begun
        self._heaps: dict[str | None, list[int]] = {}
        """Of numbers, some of them of scenes that are no longer open to the class."""

    def add(self, work: SceneWork) -> None:
        if work.open:
            heappush(self._heaps.setdefault(work.cpu_class, []), work.number)

    def first(self, cpu_class: str | None) -> SceneWork | None:
        heap = self._heaps.get(cpu_class, [])
        while heap:
            work = self._begun.get(heap[0])
            if work is not None and work.open and not work.held and work.cpu_class == cpu_class:
                return work
            heappop(heap)
        return None


class SceneQueue:
    """Scenes in the order in which they are to be started.

    Args:
        recipe: pixel settings.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._waiting: deque[SceneJob] = deque()
        self._recipe = recipe
        self._begun: dict[int, SceneWork] = {}
        """Those that are not over."""
        self._next_number = 0
        self._open = _OpenScenes(self._begun)
        self._classes: Counter[str] = Counter()
        """Scenes begun by the class of CPU that they belong to."""
        self._tiles_left = 0
        self.tiles_to_come = 0
        """That scenes are likely to have whose headers were not read yet."""
        self.retries = Retries()

    def add(self, jobs: Iterable[SceneJob]) -> None:
        """Scenes that are to be begun after those that wait."""
        jobs = list(jobs)
        self._waiting += jobs
        self._tiles_left += sum(job.tiles_at_most for job in jobs)

    @property
    def waits(self) -> int:
        """Scenes that were not begun."""
        return len(self._waiting)

    @property
    def begun(self) -> int:
        """Scenes in progress."""
        return len(self._begun)

    @property
    def tiles_left(self) -> int:
        """Tiles that nobody was given yet, of scenes that wait at most, of others by guess."""
        return self._tiles_left + self.tiles_to_come

    def begin(self) -> SceneWork:
        """Begin the next scene that waits."""
        job = self._waiting.popleft()
        self._tiles_left -= job.tiles_at_most
        work = SceneWork(
            number=self._next_number,
            job=job,
            records=[job.encoded] if job.encoded is not None else list(job.committed),
            open=OpenShards(),
            outside=job.outside_shards(),
            cpu_class=job.committed[0].cpu_class if job.committed else None,
            bytes_per_pixel=bytes_per_pixel_in_flight(job.scene, self._recipe),
        )
        self._next_number += 1
        self._begun[work.number] = work
        if work.cpu_class is not None:
            self._classes[work.cpu_class] += 1
        self.put_back(work, job.open_shards())
        return work

    def next_open(self, cpu_class: str) -> SceneWork | None:
        """The first scene with shards left that a predictor of this class may take."""
        first = [work for key in (cpu_class, None) if (work := self._open.first(key)) is not None]
        return min(first, key=lambda work: work.number, default=None)

    def take(self, work: SceneWork, slot: int) -> Shard:
        """The shard that `work.open.first` gave the predictor."""
        shard = work.open.take(slot)
        self._count(work, -shard.count)
        return shard

    def take_all(self, work: SceneWork) -> Sequence[Shard]:
        """All shards that are open, in order."""
        shards = work.open.rest
        work.open.clear()
        self._count(work, -work.tiles_open)
        return shards

    def _count(self, work: SceneWork, tiles: int) -> None:
        work.tiles_open += tiles
        self._tiles_left += tiles

    def put_back(self, work: SceneWork, shards: Sequence[Shard]) -> None:
        """Shards come before those that are open."""
        work.open.put(shards)
        self._count(work, tiles_in(shards))
        self._open.add(work)

    def assign(self, work: SceneWork, cpu_class: str) -> None:
        """A scene belongs to the class of CPU that predicts its first shard."""
        if work.cpu_class != cpu_class:
            work.cpu_class = cpu_class
            self._classes[cpu_class] += 1
            self._open.add(work)

    def release(self, work: SceneWork) -> None:
        """One that was held goes on."""
        if work.held:
            work.held = False
            self._open.add(work)

    def end(self, work: SceneWork) -> int:
        """A scene is done or refused; the number of its tiles that nobody was given."""
        work.over = True
        self._begun.pop(work.number, None)
        if work.cpu_class is not None:
            self._classes[work.cpu_class] -= 1
        left = work.tiles_open
        work.open.clear()
        self._count(work, -left)
        return left

    def stranded(self, classes: Collection[str]) -> list[SceneWork]:
        """Scenes begun whose class of CPU is none of these, and whose shards are not all predicted."""
        lost = {key for key, count in self._classes.items() if count and key not in classes}
        if not lost:
            return []
        return [work for work in self._begun.values() if work.cpu_class in lost and not work.finishing]

    def begin_again(self, work: SceneWork) -> None:
        """Forget what was predicted of a scene: any class of CPU may do it."""
        self.retries.forget(work)
        if work.cpu_class is not None:
            self._classes[work.cpu_class] -= 1
        self._count(work, -work.tiles_open)
        work.job, work.cpu_class, work.held = replace(work.job, committed=()), None, False
        work.records, work.outside, work.open = [], work.job.outside_shards(), OpenShards()
        self.put_back(work, work.job.open_shards())


def outside_record(job: SceneJob, shard: Shard, recipe: Recipe, cpu_class: str) -> ShardRecord:
    """A shard that nobody read; never committed, as the next run knows it from the plan too."""
    source, core = job.scene.source, shard.core
    return ShardRecord(
        source_id=source.source_id,
        tag=source.tag,
        pixel=recipe.digest,
        cpu_class=cpu_class,
        grid=job.grid_name,
        row_off=core.row_off,
        col_off=core.col_off,
        height=core.height,
        width=core.width,
        empty=True,
        uri=source.uri,
    )

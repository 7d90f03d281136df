"""What the driver gives to an executor and hears of it: tasks, outcomes, failures, and the interface itself.

A lease of shards and a group of photographs are the units of scheduling. The driver knows this interface;
`executors` has those who serve it.

An executor answers with outcomes, never with exceptions of Ray: a failure says what kind it
is, and the driver decides whom it counts against.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import pyarrow as pa

from batchseg.driver.scene_worker import Lease, LeaseResult
from batchseg.engines.base import telling_line
from batchseg.errors import BatchsegError, NoRoomError, SourceError
from batchseg.inputs.source import Doubt, Refusal, Scene, Source
from batchseg.job.recipe import Product, Recipe
from batchseg.job.settings import MAX_PHOTO_MEMORY
from batchseg.output.record import SceneRecord, ShardRecord
from batchseg.output.scene_mask import finish_scene
from batchseg.pixels.usual_values import Usual
from batchseg.pixels.values import ValueSample
from batchseg.system.processes import NotStartedError, ProcessDiedError
from batchseg.system.timing import Stint, Stopwatch

Work = Literal["predict", "hash", "derive"]
"""predict: read, predict, judge. hash: digests of the files' bytes. derive: from stored results, nothing
is predicted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Consecutive photographs; never recorded."""

    id: int
    work: Work
    images: bytes
    """LISTING rows as an Arrow stream: a slice of a table would carry the whole table along."""
    results: bytes = b""
    """derive: ledger rows, aligned with `images`, of the results to derive from."""
    count: int
    seconds: float = math.inf
    """After which no more of it is begun: what a stop or a kill can cost, however large the images are."""
    profiled: bool = False
    """Whether each step's times are wanted, not only the whole's."""
    epoch: int = 0
    """Of the run's lock; 0: it publishes nothing."""
    memory: int = MAX_PHOTO_MEMORY
    """Bytes that one photograph may take."""
    alone: bool = False
    """It is one photograph that takes very much, and no other such is under way."""
    usual: tuple[Usual, ...] = ()
    """What the output's first photographs held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupAnswer:
    """What a worker made of a group."""

    rows: pa.Table
    """Ledger rows of the photographs that are done; of `hash` two columns, source_id and content."""
    doubts: tuple[Doubt, ...]
    left: tuple[str, ...] = ()
    """Ids of those that were not begun, because the group's seconds were over."""
    large: tuple[str, ...] = ()
    """Ids of those that take too much memory to be done beside others."""
    turned: str = ""
    """Id of one that is red, green, blue by its format, where the job turns such."""
    tiles: int = 0
    pixels: int = 0
    read_seconds: float = 0.0
    predict_seconds: float = 0.0
    stitch_seconds: float = 0.0
    """From answers to masks, regions and verdicts."""
    write_seconds: float = 0.0
    stints: tuple[Stint, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspected:
    """What came of looking at photographs."""

    doubts: tuple[Doubt, ...]
    left: tuple[str, ...] = ()
    """Ids of those that were not looked at, because the time was over."""


def to_stream(table: pa.Table) -> bytes:
    """An Arrow stream of the table's own rows, whatever it is a slice of."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def from_stream(data: bytes) -> pa.Table:
    return pa.ipc.open_stream(data).read_all()


LEASES_AT_ONCE = 3
"""Of a predictor: one is predicted, one read and waiting, one being read or written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One predictor, what its answers' last bits depend on, and how much it is given ahead."""

    id: int
    cpu_class: str
    leases: int = LEASES_AT_ONCE
    """That it takes at once."""


Step = Literal["read", "predict", "write", "finish", "group"]
"""What a task is at. A lease is read, predicted and written; a group is one step, as is its inspection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a task did not come back."""

    kind: Literal["error", "crash", "timeout", "lost"]
    """error: the step said so. crash: its process ended. timeout: no answer in time.
    lost: node, memory or a neighbour's crash; never the source's fault."""
    step: Step
    reason: str
    transient: bool = False
    """Of a source's error: the storage failed, not the content."""
    is_own: bool = False
    """Of a source's error: its content is to blame, as the storage gave it."""
    memory: bool = False
    """The machine's memory ran out, or would have: what recurs may be the source's fault after all."""
    process: str = ""
    """Names the process that ended, with which other leases may have failed; empty: none did, or it is not
    known."""
    fatal: BatchsegError | None = None
    """Not about one source: ends the run."""

    @classmethod
    def of(cls, error: BatchsegError, step: Step) -> "Failure":
        if isinstance(error, SourceError):
            transient, memory = error.transient, isinstance(error, NoRoomError)
            return cls(
                kind="error",
                step=step,
                reason=str(error),
                transient=transient,
                is_own=not transient,
                memory=memory,
            )
        return cls(kind="error", step=step, reason=str(error), fatal=error)


Isolation = Literal["none", "read", "predict"]
"""Which step of a lease runs alone in a fresh process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTask:
    """Shards to read, to predict by the slot's predictor, and to write."""

    lease: Lease
    slot: Slot
    isolation: Isolation = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class LotTask:
    """Several small scenes for the slot's predictor, each whole, in one call."""

    leases: tuple[Lease, ...]
    """One per scene."""
    slot: Slot

    @property
    def id(self) -> int:
        """That of its first lease, which no other task has."""
        return self.leases[0].id


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishTask:
    """A scene whose shards are all committed, or whose mask is to be encoded again."""

    scene: Scene
    shards: tuple[ShardRecord | SceneRecord, ...]
    epoch: int
    """Of the run's lock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupTask:
    """Photographs for the slot's predictor, which reads and writes them too."""

    group: Group
    slot: Slot


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectionTask:
    """Photographs to look at one by one in a fresh process."""

    group: Group


Task = LeaseTask | LotTask | FinishTask | GroupTask | InspectionTask

PredictorTask = LeaseTask | LotTask | GroupTask
"""For the predictor of its slot, and for no other."""


def id_of(task: PredictorTask) -> int:
    """Unique among a run's tasks for predictors: they are leases and lots, or groups."""
    match task:
        case LeaseTask():
            return task.lease.id
        case LotTask():
            return task.id
        case GroupTask():
            return task.group.id


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseOutcome:
    lease_id: int
    result: LeaseResult | Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class LotOutcome:
    lot_id: int
    result: tuple[LeaseResult | Failure, ...] | Failure
    """Of each lease; or why the call gave none of them, which says nothing of any single one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishOutcome:
    source_id: str
    result: tuple[SceneRecord, float] | Failure
    """The scene's `done` record and the seconds it took."""
    stints: tuple[Stint, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupOutcome:
    group_id: int
    result: GroupAnswer | Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectionOutcome:
    """Which photographs fail alone, in a fresh process."""

    group_id: int
    result: Inspected | Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotsChanged:
    """Predictors came or went: these take work from now on. What others had comes back as lost."""

    slots: tuple[Slot, ...]


Outcome = LeaseOutcome | LotOutcome | FinishOutcome | GroupOutcome | InspectionOutcome | SlotsChanged


def outcome_of(task: Task, result: Any) -> Outcome:
    """What came of a task: a Failure, or what its kind of outcome holds."""
    match task:
        case LeaseTask():
            return LeaseOutcome(lease_id=task.lease.id, result=result)
        case LotTask():
            return LotOutcome(lot_id=task.id, result=result)
        case FinishTask():
            return FinishOutcome(source_id=task.scene.source.source_id, result=result)
        case GroupTask():
            return GroupOutcome(group_id=task.group.id, result=result)
        case InspectionTask():
            return InspectionOutcome(group_id=task.group.id, result=result)


def taken_back(task: Task) -> Outcome:
    """Of a task that nobody has begun with."""
    return outcome_of(task, Failure(kind="lost", step=presumed_step(task), reason="it was taken back"))


def presumed_step(task: Task) -> Step:
    """What works on a task, as far as it is known without asking: a lease's predictor predicts."""
    match task:
        case LeaseTask() | LotTask():
            return "predict"
        case FinishTask():
            return "finish"
        case GroupTask() | InspectionTask():
            return "group"


def died_reading(lease: Lease, error: ProcessDiedError) -> Failure:
    """A fresh process ended over a lease. A source whose server does not answer is not blamed."""
    transient = error.hung and not lease.scene.source.is_local
    reason = f"the process that read it {error}"
    if isinstance(error, NotStartedError):
        return Failure(kind="lost", step="read", reason=reason)
    return Failure(kind="crash", step="read", reason=reason, transient=transient)


def failed_reading(error: Exception) -> Failure:
    """Of an error that no module foresaw: the source's, if it recurs with the source alone."""
    reason = f"reading it failed: {type(error).__name__}: {telling_line(error)}"
    return Failure(kind="error", step="read", reason=reason)


def finished(output: str, recipe: Recipe, product: Product, task: FinishTask) -> FinishOutcome:
    """Finish a scene, timed."""
    source_id = task.scene.source.source_id
    watch = Stopwatch("finisher", profiled=True)
    try:
        with watch.step("finish"):
            done = finish_scene(output, task.scene, recipe, product, task.shards, task.epoch)
    except BatchsegError as e:
        return FinishOutcome(source_id=source_id, result=Failure.of(e, "finish"))
    return FinishOutcome(source_id=source_id, result=done, stints=(watch.stint("finish"),))


FINISH_PIXELS_PER_SECOND = 500_000
"""A hundredth of what a core does on a disk: what a scene's finish may take beside `lease_timeout`."""


def finish_limit(scene: Scene, timeout: float) -> float:
    """Seconds after which a scene's finish is given up: those of a step, and more for a large scene."""
    return timeout + max(scene.size, scene.on_own_grid.size) / FINISH_PIXELS_PER_SECOND


class Executor(Protocol):
    """Tasks in, outcomes out, in any order."""

    def headers(self, sources: Iterator[Source]) -> Iterator[Scene | Refusal]:
        """Read headers, in any order and in a thread of the caller's, also while leases run.

        Sources are taken as they can be read: who asks for no more headers has a bounded number of them read.
        A file that ends its reader's process is refused like any other bad one.
        """
        ...

    def samples(self, scenes: Sequence[Scene], recipe: Recipe) -> list[ValueSample]:
        """Read a few pixels of each. What cannot be read, or not in `SAMPLE_SECONDS`, is left out."""
        ...

    def start(self, recipe: Recipe, product: Product) -> Sequence[Slot]:
        """Load the predictors.

        Raises:
            ModelError: a predictor cannot be made.
        """
        ...

    def submit(self, task: Task) -> None: ...

    def abandon(self, task: Task) -> Step | Literal["lost"]:
        """Give up a task, and end what works on it. No outcome follows.

        Returns:
            The step that it was in; lost where that is not why it gave no answer: its host gave none.
        """
        ...

    def withdraw(self, task: LeaseTask) -> None:
        """Take a lease back that nothing is wrong with. Its outcome follows: lost where nobody has begun with
        it, else as it would have been. What has begun may hang, and is to be abandoned then."""
        ...

    def poll(self, timeout: float) -> list[Outcome]:
        """Outcomes so far; waits up to `timeout` seconds for the first."""
        ...

    def close(self) -> None: ...


Stop = Callable[[], str | None]

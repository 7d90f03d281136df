"""Every step in the calling process, one lease after the other: for small jobs and for debugging."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from batchseg.errors import BatchsegError, StoppedError
from batchseg.executors import (
    Failure,
    FinishOutcome,
    FinishTask,
    GroupOutcome,
    Isolation,
    LeaseOutcome,
    Outcome,
    SiftOutcome,
    Slot,
)
from batchseg.finish import finish_scene
from batchseg.isolate import ProcessDiedError, call_in_fresh_process
from batchseg.machine import cpu_class
from batchseg.photos.group import Group, GroupAnswer, from_stream
from batchseg.photos.sift import sift
from batchseg.photos.worker import GroupWorker, usual_batch
from batchseg.predict import load_predictor
from batchseg.read import read_header, read_headers_alone
from batchseg.recipe import Product, Recipe
from batchseg.scene import Refusal, Scene, Source
from batchseg.steps import Lease, LeaseResult, predict_lease, read_lease, write_lease


class InlineExecutor:
    """One predictor that uses `threads` threads."""

    def __init__(
        self, output: str, *, threads: int, batch_size: int | None, timeout: float, stop: Callable[[], bool]
    ) -> None:
        self._output, self._threads, self._asked_batch = output, threads, batch_size
        self._timeout, self._stop = timeout, stop
        self._leases: deque[tuple[Lease, Isolation]] = deque()
        self._finishes: deque[FinishTask] = deque()
        self._groups: deque[Group] = deque()
        self._sifts: deque[Group] = deque()

    def headers(self, sources: Sequence[Source]) -> Iterator[Scene | Refusal]:
        doubtful = []
        for source in sources:
            answer = read_header(source)
            if isinstance(answer, Scene):
                yield answer
            else:
                doubtful.append(source)
        if doubtful:  # a refusal stands only if it recurs in a fresh process
            yield from read_headers_alone(doubtful, self._timeout)

    def start(self, recipe: Recipe, product: Product) -> Sequence[Slot]:
        self._recipe, self._product = recipe, product
        batch_size = self._asked_batch or (1 if recipe.fit is None else usual_batch(recipe))
        self._batch_size = batch_size
        self._predictor = load_predictor(recipe, threads=self._threads, batch_size=batch_size)
        where = cpu_class() if recipe.device == "cpu" else recipe.facts.cpu_class
        if product.photographs is not None:
            self._worker = GroupWorker(
                self._output,
                recipe,
                product,
                self._predictor,
                batch_size=batch_size,
                readers=self._threads,
                cpu_class=where,
            )
        return [Slot(id=0, cpu_class=where)]

    def submit(self, lease: Lease, slot: Slot, isolation: Isolation) -> None:
        self._leases.append((lease, isolation))

    def finish(self, task: FinishTask) -> None:
        self._finishes.append(task)

    def abandon(self, lease_id: int) -> Literal["read", "predict", "lost"]:
        self._leases = deque(item for item in self._leases if item[0].id != lease_id)
        return "read"

    def submit_group(self, group: Group, slot: Slot) -> None:
        self._groups.append(group)

    def sift(self, group: Group) -> None:
        self._sifts.append(group)

    def abandon_group(self, group_id: int) -> Literal["group", "lost"]:
        self._groups = deque(group for group in self._groups if group.id != group_id)
        return "group"

    def poll(self, timeout: float) -> list[Outcome]:
        if self._sifts:
            group = self._sifts.popleft()
            doubts = sift(from_stream(group.images).to_pylist(), self._recipe, self._timeout)
            return [SiftOutcome(group_id=group.id, result=doubts)]
        if self._groups:
            group = self._groups.popleft()
            return [GroupOutcome(group_id=group.id, result=self._run_group(group))]
        if self._finishes:
            return [self._run_finish(self._finishes.popleft())]
        if self._leases:
            lease, isolation = self._leases.popleft()
            return [LeaseOutcome(lease_id=lease.id, result=self._run_lease(lease, isolation))]
        return []

    def _run_lease(self, lease: Lease, isolation: Isolation) -> LeaseResult | Failure:
        try:
            if isolation == "read":
                pixels = call_in_fresh_process(read_lease, self._recipe, lease, timeout=self._timeout)
            else:
                pixels = read_lease(self._recipe, lease)
        except BatchsegError as e:
            return Failure.of(e, "read")
        except ProcessDiedError as e:
            return Failure(kind="crash", step="read", reason=f"the process that read it {e}")
        try:
            masks = predict_lease(self._predictor, self._recipe, pixels, self._batch_size, self._stop)
            return write_lease(self._output, self._recipe, lease, masks)
        except StoppedError as e:
            if self._stop():
                return Failure(kind="lost", step="predict", reason=str(e))
            return Failure.of(e, "write")
        except BatchsegError as e:
            return Failure.of(e, "predict")
        except Exception as e:  # noqa: BLE001  Paddle raises RuntimeError, ValueError, MemoryError
            return Failure(kind="error", step="predict", reason=f"predicting it: {e}")

    def _run_group(self, group: Group) -> GroupAnswer | Failure:
        try:
            return self._worker(group)
        except BatchsegError as e:
            return Failure.of(e, "group")
        except Exception as e:  # noqa: BLE001  Paddle raises RuntimeError, ValueError, MemoryError
            return Failure(kind="error", step="group", reason=f"predicting it: {e}")

    def _run_finish(self, task: FinishTask) -> FinishOutcome:
        source_id = task.scene.source.source_id
        try:
            done = finish_scene(
                self._output, task.scene, self._recipe, self._product, task.shards, task.epoch
            )
            return FinishOutcome(source_id=source_id, result=done)
        except BatchsegError as e:
            return FinishOutcome(source_id=source_id, result=Failure.of(e, "finish"))

    def close(self) -> None:
        self._leases.clear()
        self._finishes.clear()
        self._groups.clear()
        self._sifts.clear()

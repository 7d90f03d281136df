"""Every step in the calling process, one lease after the other: for small jobs and for debugging.

Steps run in a thread beside the caller's, so that one that hangs can be told. A read that hangs is left to
its thread; a network that does cannot be, and ends the run. A crash ends the run as well: only second
attempts have a process of their own.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from batchseg.driver.scene_worker import (
    Lease,
    LeaseResult,
    predict_lease,
    read_lease,
    read_lease_alone,
    write_lease,
)
from batchseg.driver.tasks import (
    Failure,
    FinishOutcome,
    FinishTask,
    Group,
    GroupAnswer,
    GroupOutcome,
    Isolation,
    LeaseOutcome,
    Outcome,
    SiftOutcome,
    Slot,
    died_reading,
    failed_reading,
    finish_limit,
    finished,
    from_stream,
)
from batchseg.engines.base import telling_line
from batchseg.errors import BatchsegError, StoppedError
from batchseg.inputs.source import Refusal, Scene, Source, words
from batchseg.job.recipe import Product, Recipe
from batchseg.pixels.header import read_header, read_headers_alone
from batchseg.pixels.read import release
from batchseg.predict.predictor import load_predictor, usual_batch
from batchseg.system.machine import cpu_class
from batchseg.system.processes import START_SECONDS, ProcessDiedError
from batchseg.system.threads import Helper

if TYPE_CHECKING:
    from batchseg.driver.photo_worker import GroupWorker


@dataclass(slots=True)
class _Step:
    """What the helper works on."""

    work: Lease | Group | FinishTask
    answer: Future[Outcome]
    until: float
    """Of time.monotonic, when it is given up."""
    seconds: float
    """That it may take."""


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
        self._helper = Helper()
        self._step: _Step | None = None
        self._left: set[int] = set()
        """Leases that were given up, and whose reading may still end."""
        self._doing: Literal["read", "predict", "write", "finish", "group", "sift"] = "read"

    def headers(self, sources: Sequence[Source]) -> Iterator[Scene | Refusal]:
        doubtful = []
        helper = Helper()  # the other one loads the model meanwhile
        for source in sources:
            reading = helper.start(partial(read_header, source))
            if not wait([reading], timeout=self._timeout).done:
                helper.give_up()
                helper = Helper()
                doubtful.append(source)
            elif isinstance(answer := reading.result(), Scene):
                yield answer
            else:
                doubtful.append(source)
        helper.close()
        if doubtful:  # a refusal stands only if it recurs in a fresh process
            yield from read_headers_alone(doubtful, self._timeout)

    def start(self, recipe: Recipe, product: Product) -> Sequence[Slot]:
        self._recipe, self._product = recipe, product
        self._batch_size = batch_size = self._asked_batch or usual_batch(recipe)
        self._predictor = load_predictor(recipe, threads=self._threads, batch_size=batch_size)
        where = cpu_class() if recipe.device == "cpu" else recipe.facts.cpu_class
        self._cpu_class = where
        self._worker = self._new_worker()
        return [Slot(id=0, cpu_class=where)]

    def _new_worker(self) -> "GroupWorker | None":
        if self._product.photographs is None:
            return None
        from batchseg.driver.photo_worker import GroupWorker  # decoders that scenes do not need

        return GroupWorker(
            self._output,
            self._recipe,
            self._product,
            self._predictor,
            batch_size=self._batch_size,
            readers=self._threads,
            cpu_class=self._cpu_class,
        )

    def submit(self, lease: Lease, slot: Slot, isolation: Isolation) -> None:
        self._leases.append((lease, isolation))

    def finish(self, task: FinishTask) -> None:
        self._finishes.append(task)

    def abandon(self, lease_id: int) -> Literal["read", "predict", "write", "lost"]:
        self._leases = deque(item for item in self._leases if item[0].id != lease_id)
        return "read"

    def abandon_finish(self, source_id: str) -> None:
        """Nothing: see `poll`."""

    def submit_group(self, group: Group, slot: Slot) -> None:
        self._groups.append(group)

    def sift(self, group: Group) -> None:
        self._sifts.append(group)

    def abandon_group(self, group_id: int) -> Literal["group", "lost"]:
        self._groups = deque(group for group in self._groups if group.id != group_id)
        return "group"

    def abandon_sift(self, group_id: int) -> None:
        """Nothing: see `poll`."""

    def poll(self, timeout: float) -> list[Outcome]:
        """Outcomes so far; waits up to `timeout` seconds for the first.

        Time limits are kept here, not by the driver: of what waits behind another step nothing is late.

        Raises:
            StoppedError: a step hangs that only the end of the process can end.
        """
        if self._step is None:
            self._step = self._next_step()
        if (step := self._step) is None:
            return []
        if wait([step.answer], timeout=timeout).done:
            self._step = None
            return [step.answer.result()]
        if time.monotonic() <= step.until:
            return []
        self._step = None
        return [self._given_up(step)]

    def _next_step(self) -> _Step | None:
        if self._sifts:
            group = self._sifts.popleft()
            return self._begin(group, "sift", partial(self._run_sift, group), self._timeout + START_SECONDS)
        if self._groups:
            group = self._groups.popleft()
            return self._begin(group, "group", partial(self._run_group, group), self._timeout)
        if self._finishes:
            task = self._finishes.popleft()
            limit = finish_limit(task.scene, self._timeout)
            return self._begin(task, "finish", partial(self._run_finish, task), limit)
        if self._leases:
            lease, isolation = self._leases.popleft()
            return self._begin(lease, "read", partial(self._run_lease, lease, isolation), self._timeout)
        return None

    def _begin(
        self,
        work: Lease | Group | FinishTask,
        what: Literal["read", "finish", "group", "sift"],
        function: Callable[[], Outcome],
        seconds: float,
    ) -> _Step:
        self._doing = what
        return _Step(work, self._helper.start(function), time.monotonic() + seconds, seconds)

    def _given_up(self, step: _Step) -> Outcome:
        """A step that gives no answer is left to its thread, where another one can go on without it."""
        self._helper.give_up()
        self._helper = Helper()
        what = self._doing
        reason = f"no answer within lease_timeout ({step.seconds:.0f} s)"
        if isinstance(step.work, Lease) and what == "read":
            self._left.add(step.work.id)
            failure = Failure(kind="timeout", step="read", reason=reason)
            return LeaseOutcome(lease_id=step.work.id, result=failure)
        if isinstance(step.work, Group) and what == "group" and not self._predictor.is_busy:
            self._worker = self._new_worker()
            failure = Failure(kind="timeout", step="group", reason=reason)
            return GroupOutcome(group_id=step.work.id, result=failure)
        msg = (
            f"{_name_of(step.work)}: the step `{what}` gave no answer within {step.seconds:.0f} s, and an "
            f"inline run cannot end it; `executor: ray` finds what is to blame and goes on with the rest"
        )
        raise StoppedError(msg)

    def _run_sift(self, group: Group) -> SiftOutcome:
        from batchseg.driver.photo_worker import sift

        rows = from_stream(group.images).to_pylist()
        return SiftOutcome(group_id=group.id, result=sift(rows, self._recipe, 0.8 * self._timeout))

    def _run_lease(self, lease: Lease, isolation: Isolation) -> LeaseOutcome:
        return LeaseOutcome(lease_id=lease.id, result=self._lease_result(lease, isolation))

    def _lease_result(self, lease: Lease, isolation: Isolation) -> LeaseResult | Failure:
        try:
            if isolation == "read":
                pixels = read_lease_alone(self._recipe, lease, 0.8 * self._timeout)
            else:
                pixels = read_lease(self._recipe, lease)
        except BatchsegError as e:
            return Failure.of(e, "read")
        except ProcessDiedError as e:
            return died_reading(lease, e)
        except Exception as e:  # noqa: BLE001  a defect over one source must not end a night
            return failed_reading(e)
        if lease.id in self._left:
            return Failure(kind="lost", step="read", reason="it was given up")
        try:
            self._doing = "predict"
            masks = predict_lease(self._predictor, self._recipe, pixels, self._batch_size, self._stop)
            self._doing = "write"
            return write_lease(self._output, self._recipe, lease, masks)
        except StoppedError as e:
            if self._stop():
                return Failure(kind="lost", step="predict", reason=str(e))
            return Failure.of(e, "write")
        except BatchsegError as e:
            return Failure.of(e, "predict")
        except Exception as e:  # noqa: BLE001  Paddle raises RuntimeError, ValueError, MemoryError
            return Failure(kind="error", step="predict", reason=f"predicting it: {telling_line(e)}")

    def _run_group(self, group: Group) -> GroupOutcome:
        return GroupOutcome(group_id=group.id, result=self._group_result(group))

    def _group_result(self, group: Group) -> GroupAnswer | Failure:
        assert self._worker is not None
        try:
            return self._worker(group)
        except BatchsegError as e:
            return Failure.of(e, "group")
        except Exception as e:  # noqa: BLE001  Paddle raises RuntimeError, ValueError, MemoryError
            return Failure(kind="error", step="group", reason=f"predicting it: {telling_line(e)}")

    def _run_finish(self, task: FinishTask) -> FinishOutcome:
        return finished(self._output, self._recipe, self._product, task)

    def close(self) -> None:
        if self._step is None:  # or else it may hang
            self._helper.start(release)
        self._helper.close()
        self._leases.clear()
        self._finishes.clear()
        self._groups.clear()
        self._sifts.clear()


def _name_of(work: Lease | Group | FinishTask) -> str:
    if isinstance(work, Group):
        names = words(from_stream(work.images)["source_id"])
        return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
    return work.scene.source.source_id

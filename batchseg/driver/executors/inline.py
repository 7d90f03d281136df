"""Every step in the calling process, one task after the other: for small jobs and for debugging.

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
from typing import Literal

from batchseg.driver.executors.steps import Steps
from batchseg.driver.given_up import GivenUpError
from batchseg.driver.tasks import (
    Failure,
    FinishTask,
    GroupTask,
    InspectionTask,
    LeaseTask,
    LotTask,
    Outcome,
    Slot,
    Step,
    Task,
    finish_limit,
    from_stream,
    outcome_of,
    taken_back,
)
from batchseg.errors import StoppedError
from batchseg.inputs.source import Refusal, Scene, Source, words
from batchseg.job.recipe import Product, Recipe
from batchseg.pixels.header import read_headers_here
from batchseg.pixels.value_samples import SAMPLE_SECONDS, sample_scenes
from batchseg.pixels.values import ValueSample
from batchseg.predict.predictor import usual_batch
from batchseg.system.processes import START_SECONDS
from batchseg.system.threads import Helper

FIRST: tuple[type[Task], ...] = (InspectionTask, GroupTask, FinishTask, LeaseTask, LotTask)
"""Kinds of tasks, those first that are done first."""


@dataclass(frozen=True, slots=True)
class _Current:
    """What the helper works on."""

    task: Task
    outcome: Future[Outcome]
    until: float
    """Of time.monotonic, when it is given up."""
    seconds: float
    """That it may take."""


class InlineExecutor:
    """One predictor that uses `threads` threads.

    Args:
        output: root of the results.
        threads: that the predictor uses.
        batch_size: tiles per run of the network; None: as is usual for the network.
        timeout: seconds until a step is given up.
        stop: whether the run is to end.
    """

    def __init__(
        self, output: str, *, threads: int, batch_size: int | None, timeout: float, stop: Callable[[], bool]
    ) -> None:
        self._output, self._threads, self._asked_batch = output, threads, batch_size
        self._timeout, self._stop = timeout, stop
        self._waiting: dict[type[Task], deque[Task]] = {kind: deque() for kind in FIRST}
        self._helper = Helper()
        self._current: _Current | None = None
        self._taken_back: list[Outcome] = []
        self._close_steps: Callable[[], None] = lambda: None

    def headers(self, sources: Iterator[Source]) -> Iterator[Scene | Refusal]:
        return read_headers_here(sources, self._timeout)

    def samples(self, scenes: Sequence[Scene], recipe: Recipe) -> list[ValueSample]:
        helper = Helper()
        reading = helper.start(partial(sample_scenes, scenes, recipe))
        if not wait([reading], timeout=min(self._timeout, SAMPLE_SECONDS)).done:
            helper.give_up()
            return []
        helper.close()
        return reading.result()

    def start(self, recipe: Recipe, product: Product) -> Sequence[Slot]:
        self._steps = Steps(
            self._output,
            recipe,
            product,
            threads=self._threads,
            readers=self._threads,
            batch_size=self._asked_batch or usual_batch(recipe),
            timeout=self._timeout,
            stop=self._stop,
        )
        self._close_steps = self._steps.close
        return [Slot(id=0, cpu_class=self._steps.cpu_class)]

    def submit(self, task: Task) -> None:
        self._waiting[type(task)].append(task)

    def abandon(self, task: Task) -> Step | Literal["lost"]:
        """Forget a group that waits. What hangs is given up by `poll`."""
        if isinstance(task, GroupTask):
            self._forget(task)
        return "group"

    def withdraw(self, task: LeaseTask) -> None:
        if self._forget(task):
            self._taken_back.append(taken_back(task))

    def _forget(self, task: Task) -> bool:
        """Whether it was waiting."""
        waiting = self._waiting[type(task)]
        self._waiting[type(task)] = deque(other for other in waiting if other is not task)
        return len(waiting) > len(self._waiting[type(task)])

    def poll(self, timeout: float) -> list[Outcome]:
        """Outcomes so far; waits up to `timeout` seconds for the first.

        Time limits are kept here, not by the driver: of what waits behind another step nothing is late.

        Raises:
            StoppedError: a step that writes hangs, and only the end of the process can end it.
        """
        if self._taken_back:
            outcomes, self._taken_back = self._taken_back, []
            return outcomes
        if self._current is None:
            self._begin_next()
        if (current := self._current) is None:
            return []
        if wait([current.outcome], timeout=timeout).done:
            self._current = None
            return [current.outcome.result()]
        if time.monotonic() <= current.until:
            return []
        self._current = None
        return [self._given_up(current)]

    def _begin_next(self) -> None:
        waiting = next((queue for kind in FIRST if (queue := self._waiting[kind])), None)
        if waiting is not None:
            task = waiting.popleft()
            seconds = self._limit(task)
            outcome = self._helper.start(self._steps.of(task))
            self._current = _Current(task, outcome, time.monotonic() + seconds, seconds)

    def _limit(self, task: Task) -> float:
        """Seconds until a task's first answer is late."""
        if isinstance(task, FinishTask):
            return finish_limit(task.scene, self._timeout)
        starts = isinstance(task, InspectionTask) or (
            isinstance(task, LeaseTask) and task.isolation == "read"
        )
        return self._timeout + (START_SECONDS if starts else 0.0)

    def _given_up(self, current: _Current) -> Outcome:
        """A step that gives no answer is left to its thread, where another one can go on without it."""
        self._helper.give_up()
        self._helper = Helper()
        task, doing = current.task, self._steps.doing_for(current.task)
        reason = f"no answer within lease_timeout ({current.seconds:.0f} s)"
        msg = (
            f"{_name_of(task)}: the step `{doing}` gave no answer within {current.seconds:.0f} s, and an "
            f"inline run cannot end it; `executor: auto` finds what is to blame and goes on with the rest"
        )
        if isinstance(task, LeaseTask | LotTask) and doing in ("read", "predict"):
            fatal = None if doing == "read" else GivenUpError(msg)
            self._steps.leave_lease()
            failure = Failure(kind="timeout", step=doing, reason=reason, fatal=fatal)
            return outcome_of(task, failure)
        if isinstance(task, GroupTask):
            fatal = GivenUpError(msg) if self._steps.is_predicting else None
            self._steps.leave_group()
            failure = Failure(kind="timeout", step="group", reason=reason, fatal=fatal)
            return outcome_of(task, failure)
        raise StoppedError(msg)

    def close(self) -> None:
        if self._current is None:  # or else it may hang
            self._close_steps()
        self._helper.close()
        for waiting in self._waiting.values():
            waiting.clear()


def _name_of(task: Task) -> str:
    match task:
        case GroupTask() | InspectionTask():
            names = words(from_stream(task.group.images)["source_id"])
            return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
        case LeaseTask():
            return task.lease.scene.source.source_id
        case LotTask():
            return f"{task.leases[0].scene.source.source_id} and {len(task.leases) - 1} more"
        case FinishTask():
            return task.scene.source.source_id

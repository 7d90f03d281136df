"""The executor of plain processes: a predictor per core of this machine, each in a process of its own.

A task is one question to a process; its answer is the outcome. Answers come by threads that hear the
processes; who died over what is judged where the driver polls.
"""

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Literal

from batchseg.driver.executors.processes.child import Child, ChildDiedError, TakenBackError
from batchseg.driver.executors.processes.headers import CHECK_SECONDS, HeaderReader
from batchseg.driver.executors.processes.predictor import serve
from batchseg.driver.executors.processes.seats import Seats
from batchseg.driver.lease_worker import LeaseStep
from batchseg.driver.tasks import (
    Failure,
    FinishTask,
    GroupTask,
    InspectionTask,
    LeaseTask,
    Outcome,
    PredictorTask,
    Slot,
    SlotsChanged,
    Step,
    Task,
    id_of,
    outcome_of,
    presumed_step,
    taken_back,
)
from batchseg.engines.base import telling_line
from batchseg.errors import ConfigError, StoppedError
from batchseg.inputs.source import Refusal, Scene, Source
from batchseg.job.recipe import Product, Recipe
from batchseg.pixels.values import ValueSample
from batchseg.predict.predictor import usual_batch
from batchseg.system.cgroups import memory_kills
from batchseg.system.machine import core_count
from batchseg.system.threads import Helper

START_TIMEOUT = 300.0
"""Seconds for predictors to load their model."""

ASK_SECONDS = 5.0
"""For a predictor's word on what it is at. One that is stopped gives none."""


@dataclass(slots=True, eq=False)
class Call:
    """A task with a process, or one that waits for a predictor that is loaded."""

    task: Task
    child: Child | None = None
    answer: Future[Outcome] | None = None
    is_doubtful: bool = False
    """A process died over it before, and perhaps for it."""

    @property
    def key(self) -> int | str:
        """Unique among what is under way."""
        match self.task:
            case FinishTask():
                return self.task.scene.source.source_id
            case InspectionTask():
                return self.task.group.id
            case _:
                return id_of(self.task)

    @property
    def has_own_child(self) -> bool:
        """Whether its predictor serves no other task."""
        return self.is_doubtful or (isinstance(self.task, LeaseTask) and self.task.isolation == "predict")


class ProcessesExecutor:
    """Predictors in processes of this machine.

    Args:
        output: root of the results.
        workers: predictors.
        batch_size: tiles per run of the network; None: as is usual for the network.
        timeout: seconds until the driver gives a step up.
    """

    def __init__(self, output: str, *, workers: int, batch_size: int | None, timeout: float) -> None:
        self._given, self._asked_batch, self._workers = (output, timeout), batch_size, workers
        self._spawner, self._closing = Helper(), threading.Event()
        self._memory_kills, self._counting = memory_kills(), threading.Lock()
        self._ended: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        """Calls that have their answer; None: a process came or went."""
        self._calls: dict[int | str, Call] = {}
        self._seats = Seats(self._new_child, workers)
        self._headers = HeaderReader(self._seats, timeout, self._closing)
        self._told: list[Slot] | None = None
        """The predictors that the driver knows; None: it has not been told of any."""
        self._taken_back: list[Outcome] = []
        """Of tasks that were taken back before they were given out."""
        self._died_finishing: set[int | str] = set()
        """Scenes of whose finishes one may have ended a process: they are finished alone from then on."""
        self._suspects: set[ChildDiedError] = set()
        """Ends of processes for which a group is blamed."""

    def _new_child(self) -> Child:
        try:
            return Child(
                self._spawner,
                serve,
                *self._given,
                lacked_memory=self._lacked_memory,
                on_end=lambda: self._ended.put(None),
            )
        except OSError as e:
            msg = f"cannot start a process for a predictor: {e.strerror or e}"
            raise StoppedError(msg) from e

    def _lacked_memory(self) -> bool:
        """Whether the kernel's kills for want of memory are more than those that were blamed on it so far."""
        with self._counting:
            lacked = memory_kills() > self._memory_kills
            self._memory_kills += lacked
            return lacked

    def headers(self, sources: Iterator[Source]) -> Iterator[Scene | Refusal]:
        yield from self._headers.read(sources)

    def samples(self, scenes: Sequence[Scene], recipe: Recipe) -> list[ValueSample]:
        return self._headers.samples(scenes, recipe)

    def start(self, recipe: Recipe, product: Product) -> Sequence[Slot]:
        """Load the predictors: all of them, or after START_TIMEOUT some.

        Raises:
            ConfigError: the network is to run on a GPU.
            ModelError: it cannot be loaded.
            StoppedError: no predictor was ready in time, or they die, or the run is closing.
        """
        if recipe.device == "gpu":
            msg = "executor: processes predicts on CPUs; set `device: cpu`, or `executor: ray` for GPUs"
            raise ConfigError(msg)
        readers = max(1, core_count() // self._workers)
        self._seats.load(recipe, product, self._asked_batch or usual_batch(recipe), readers)
        until = time.monotonic() + START_TIMEOUT
        while awaited := self._seats.awaited():
            late = time.monotonic() > until
            if self._closing.is_set() or (late and not self._seats.ready()):
                msg = f"{self._workers} predictors were not ready in time"
                raise StoppedError(msg)
            if late:
                break
            wait(awaited, timeout=CHECK_SECONDS)
            self._seats.tend(first=True)
        self._told = self._live()
        return self._told

    def _live(self) -> list[Slot]:
        return [seat.slot for seat in self._seats.ready()]

    def submit(self, task: Task) -> None:
        call = Call(task)
        call.is_doubtful = isinstance(task, FinishTask) and call.key in self._died_finishing
        self._calls[call.key] = call
        self._launch(call)

    def _launch(self, call: Call) -> None:
        """Give a task to its predictor, or to the one with the least to do, if it is loaded."""
        if isinstance(call.task, PredictorTask):
            seat = self._seats.get(call.task.slot.id)
        else:
            seat = min(self._seats.ready(), key=lambda seat: seat.child.load, default=self._seats.get(0))
        if not seat.is_ready:
            return
        call.child = self._seats.make_beside() if call.has_own_child else seat.child
        call.answer = call.child.ask("do", call.task)
        call.answer.add_done_callback(lambda _: self._ended.put(call))

    def abandon(self, task: Task) -> Step | Literal["lost"]:
        """Give up a task, and end its process: no thread of it can be. An inspection ends by itself."""
        call = self._calls.pop(Call(task).key)
        if call.child is None or call.answer is None:
            return "lost" if isinstance(task, PredictorTask) else presumed_step(call.task)
        if isinstance(task, InspectionTask):
            call.child.take_back(call.answer)
            return presumed_step(call.task)
        step = self._step_of(call, call.child)
        call.child.kill()
        return step

    def _step_of(self, call: Call, child: Child) -> Step | Literal["lost"]:
        if not isinstance(call.task, LeaseTask):
            return presumed_step(call.task)
        try:
            step: LeaseStep = child.ask("step_of", call.task.lease.id).result(ASK_SECONDS)
        except ChildDiedError:  # it has just ended
            return "lost"
        except TimeoutError:  # one of its own may still load the network
            return "lost" if call.has_own_child else "predict"
        return "lost" if step == "waits" else step

    def withdraw(self, task: LeaseTask) -> None:
        """Take a lease back; where its predictor has begun with it, it may end for nothing."""
        call = self._calls.get(task.lease.id)
        if call is None:
            return  # its outcome is on its way
        if call.child is None or call.answer is None:
            del self._calls[call.key]
            self._taken_back.append(taken_back(task))
        elif call.has_own_child:
            call.child.kill()
        else:
            call.child.take_back(call.answer)

    def poll(self, timeout: float) -> list[Outcome]:
        """Outcomes so far; waits up to `timeout` seconds for the first.

        Raises:
            StoppedError: predictors die again and again before they are loaded.
        """
        self._seats.tend()
        outcomes, self._taken_back = self._taken_back, []
        if self._told is not None and (live := self._live()) != self._told:
            self._told = live
            outcomes.append(SlotsChanged(slots=tuple(live)))
        for call in [call for call in self._calls.values() if call.child is None]:
            self._launch(call)
        outcomes += self._lost()
        calls = self._ended_calls(0.0 if outcomes else timeout)
        return [*outcomes, *(self._end(call) for call in calls)]

    def _ended_calls(self, timeout: float) -> list[Call]:
        """In the order of their answers, in which those of a process that died stand as they were asked."""
        ended = []
        try:
            ended.append(self._ended.get(timeout=timeout))
            while True:
                ended.append(self._ended.get_nowait())
        except queue.Empty:
            pass
        return [call for call in ended if call is not None and self._calls.get(call.key) is call]

    def _lost(self) -> list[Outcome]:
        """What waits for a predictor that is not made any more."""
        lost = [
            call
            for call in self._calls.values()
            if call.child is None
            and isinstance(call.task, PredictorTask)
            and self._seats.get(call.task.slot.id).is_closed
        ]
        for call in lost:
            del self._calls[call.key]
        return [
            outcome_of(
                call.task, Failure(kind="lost", step=presumed_step(call.task), reason="its predictor is lost")
            )
            for call in lost
        ]

    def _end(self, call: Call) -> Outcome:
        del self._calls[call.key]
        assert call.child is not None and call.answer is not None  # noqa: S101  it has an answer
        if call.has_own_child:
            call.child.kill()
        if (error := call.answer.exception()) is not None:
            return outcome_of(call.task, self._why_not(call, error))
        if isinstance(call.task, PredictorTask) and not call.has_own_child:
            self._seats.answered(call.task.slot.id)
        return call.answer.result()

    def _why_not(self, call: Call, error: BaseException) -> Failure:
        """Its process died. Each lease that it had may be why: it is read alone next, and if it was so
        before, it gets a predictor of its own. Groups are done one by one: the first is the suspect."""
        step = presumed_step(call.task)
        if isinstance(call.task, LeaseTask) and call.task.isolation == "none":
            step = "read"
        if isinstance(error, TakenBackError):
            return Failure(kind="lost", step=step, reason="it was taken back")
        if not isinstance(error, ChildDiedError):
            return Failure(kind="crash", step=step, reason=f"{step}ing it failed: {telling_line(error)}")
        if error.was_ended:
            return Failure(kind="lost", step=step, reason="its process was ended over other work")
        if error.memory:
            reason = "the machine's memory ran out, and the kernel ended the process"
            assert call.child is not None  # noqa: S101  that is what died
            return Failure(kind="lost", step=step, reason=reason, memory=True, process=str(call.child.pid))
        if isinstance(call.task, FinishTask):
            self._died_finishing.add(call.key)
        if isinstance(call.task, GroupTask):
            if error in self._suspects:
                return Failure(kind="lost", step=step, reason="its predictor died over other work")
            self._suspects.add(error)
        return Failure(kind="crash", step=step, reason=f"{step}ing it ended the process: {error.how}")

    def close(self) -> None:
        """End all processes."""
        self._closing.set()
        self._seats.close()
        self._spawner.close()

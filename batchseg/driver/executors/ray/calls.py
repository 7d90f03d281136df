"""Leases and groups on a Ray cluster: one call each, to the predictor that reads, predicts and writes it.

What runs on a host that is gone comes back as lost: Ray leaves a call on a host that was cut off pending
for minutes, and does not do it again.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import ray
from ray import exceptions as ray_errors

from batchseg.driver.executors.ray import tasks
from batchseg.driver.executors.ray.failures import cause_of, failure_of, lost_with_host
from batchseg.driver.executors.ray.hosts import Hosts
from batchseg.driver.executors.ray.predictors import PredictorMaker
from batchseg.driver.executors.ray.seats import Seats
from batchseg.driver.executors.ray.slots import Slots
from batchseg.driver.lease_worker import LeaseStep
from batchseg.driver.tasks import (
    Failure,
    GroupTask,
    LeaseTask,
    LotTask,
    Outcome,
    PredictorTask,
    Step,
    id_of,
    outcome_of,
    presumed_step,
    taken_back,
)

ASK_SECONDS = 5.0
"""For a predictor's word on what it is at. One that is stopped gives none."""


@dataclass(slots=True)
class Call:
    """A task in Ray's hands, or one that waits for its predictor to be made anew."""

    task: PredictorTask
    node: str = ""
    """Empty until it is launched."""
    actor: Any = None
    """The predictor that it was given to."""
    done: Any = None
    """The reference of what the driver gets."""
    started: float = field(default_factory=time.monotonic)

    @property
    def id(self) -> int:
        return id_of(self.task)

    @property
    def slot(self) -> int:
        return self.task.slot.id

    @property
    def has_own_actor(self) -> bool:
        """Whether its predictor serves no other task."""
        return isinstance(self.task, LeaseTask) and self.task.isolation == "predict"


class PredictorCalls:
    """Calls under way: with the predictor of the slot that each task was given to."""

    def __init__(
        self, context: tasks.RunContext, hosts: Hosts, seats: Seats, slots: Slots, maker: PredictorMaker
    ) -> None:
        self._where, self._hosts, self._seats = context.where, hosts, seats
        self._slots, self._maker = slots, maker
        self._calls: dict[int, Call] = {}
        self._ending: dict[Any, Call] = {}
        """By reference."""
        self._taken_back: list[Outcome] = []
        """Of tasks that were taken back before they were given out."""
        self._waiting: dict[int, Call] = {}
        """By id: those whose predictor is being made anew. They are given out once it is there."""

    def submit(self, task: PredictorTask) -> None:
        call = Call(task)
        self._calls[call.id] = call
        if not self._launch(call):
            self._waiting[call.id] = call

    def launch(self) -> None:
        """Start those whose predictors are there by now."""
        for call in list(self._waiting.values()):
            if self._launch(call):
                del self._waiting[call.id]

    def _launch(self, call: Call) -> bool:
        seat, task = self._seats.get(call.slot), call.task
        if seat is None or not self._slots.takes_work(call.slot):
            return False
        call.node, call.actor = seat.node, seat.actor
        if call.has_own_actor:
            call.actor = self._maker.make_beside(**self._hosts.pinned_to(seat.node))
        match task:
            case LeaseTask():
                call.done = call.actor.do_lease.remote(self._where, task.lease, task.isolation)
            case LotTask():
                call.done = call.actor.do_lot.remote(self._where, task.leases)
            case GroupTask():
                call.done = call.actor.do_group.remote(self._where, task.group)
        self._ending[call.done] = call
        return True

    def abandon(self, task: PredictorTask) -> Step | Literal["lost"]:
        """Give up a task, and end its predictor: no thread of it can be."""
        call = self._pop(id_of(task))
        if call.done is None:
            return "lost"  # nobody began with it
        if self._hosts.was_silent(call.node, call.started):
            self._replace(call, blame=False)
            return "lost"
        step = self._step_of(call)
        self._replace(call, blame=step != "lost")
        return step

    def withdraw(self, task: LeaseTask) -> None:
        """Take a lease back; where its predictor has begun with it, it may end for nothing."""
        call = self._calls.get(task.lease.id)
        if call is None:
            return  # its outcome is on its way
        if call.done is None:
            self._pop(call.id)
            self._taken_back.append(taken_back(task))
        elif call.has_own_actor:
            self._kill_own(call)
        else:
            ray.cancel(call.done)

    def _step_of(self, call: Call) -> Step | Literal["lost"]:
        if not isinstance(call.task, LeaseTask):
            return presumed_step(call.task)
        try:
            step: LeaseStep = ray.get(call.actor.step_of.remote(call.id), timeout=ASK_SECONDS)
        except ray_errors.GetTimeoutError:  # one of its own may still load the network
            return "lost" if call.has_own_actor else "predict"
        except ray_errors.RayError:  # it has just ended
            return "lost"
        return "lost" if step == "waits" else step

    def references(self) -> list[Any]:
        return list(self._ending)

    def ended(self, ready: Iterable[Any]) -> list[Outcome]:
        """In the order in which they were given out: of several to a predictor that died the first is the
        suspect."""
        calls = [call for ref in ready if (call := self._ending.get(ref)) is not None]
        return [self._end(call) for call in sorted(calls, key=lambda call: call.id)]

    def _end(self, call: Call) -> Outcome:
        self._pop(call.id)
        try:
            result = ray.get(call.done, timeout=tasks.FETCH_SECONDS)
        except ray_errors.RayError as e:
            return outcome_of(call.task, self._why_not(call, e))
        self._kill_own(call)
        if not call.has_own_actor:
            self._seats.answered(call.slot)
        return outcome_of(call.task, result)

    def _why_not(self, call: Call, error: ray_errors.RayError) -> Failure:
        """It was taken back in time, or its predictor died. Then each lease that it had may be why: it is
        read alone next, and if it was so before, it gets a predictor of its own. Groups are done one by one:
        the first is the suspect."""
        if isinstance(error, ray_errors.TaskCancelledError):
            return Failure(kind="lost", step=presumed_step(call.task), reason="it was taken back")
        lost = self._hosts.failed(call.node)
        seat = self._seats.get(call.slot)
        is_first = seat is not None and call.actor is seat.actor
        self._replace(call, blame=not lost)
        if lost:
            return lost_with_host(presumed_step(call.task))
        if isinstance(call.task, LeaseTask):
            failure = failure_of(cause_of(error), "read" if call.task.isolation == "none" else "predict")
            return replace(failure, process=str(call.actor))
        if is_first or isinstance(call.task, LotTask):
            return failure_of(cause_of(error), presumed_step(call.task))
        return Failure(
            kind="lost", step=presumed_step(call.task), reason="its predictor died over other work"
        )

    def lost(self) -> list[Outcome]:
        outcomes, self._taken_back = self._taken_back, []
        for call in list(self._calls.values()):
            seat = self._seats.get(call.slot)
            waits_in_vain = call.done is None and (seat is None or seat.is_closed)
            if waits_in_vain or (call.node and self._hosts.state(call.node) == "gone"):
                self._pop(call.id)
                self._kill_own(call)
                outcomes.append(outcome_of(call.task, lost_with_host(presumed_step(call.task))))
        return outcomes

    def close(self) -> None:
        for call in self._calls.values():
            self._kill_own(call)

    def _pop(self, call_id: int) -> Call:
        call = self._calls.pop(call_id)
        self._waiting.pop(call_id, None)
        self._ending.pop(call.done, None)
        return call

    def _kill_own(self, call: Call) -> None:
        if call.has_own_actor:
            self._seats.kill(call.actor)

    def _replace(self, call: Call, *, blame: bool) -> None:
        """End a call's predictor; a slot gets a new one."""
        self._kill_own(call)
        if not call.has_own_actor:
            self._seats.end(call.slot, call.actor, blame=blame)

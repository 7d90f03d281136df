"""Leases on a Ray cluster: read by a task, predicted by an actor, written by a task, all on one host.

What runs on a host that is gone comes back as lost: Ray leaves a task on a host that was cut off pending
for minutes, and does not do it again.
"""

import contextlib
from collections.abc import Sequence
from typing import Any, Literal

import ray
from ray import exceptions as ray_errors

from batchseg.driver.executors.ray import tasks
from batchseg.driver.executors.ray.failures import cause_of, failure_of, first_line, lost_with_host
from batchseg.driver.executors.ray.hosts import Hosts
from batchseg.driver.executors.ray.lease_queue import LeaseQueue, RayLease
from batchseg.driver.executors.ray.predictors import PredictorMaker
from batchseg.driver.executors.ray.seats import Seats
from batchseg.driver.executors.ray.slots import Slots
from batchseg.driver.scene_worker import LeaseResult
from batchseg.driver.tasks import Failure, LeaseOutcome, LeaseTask, Outcome, Step

REMOTE_READS = 6
"""At once from buckets, per host: while one waits for its replies the others decode."""


class Leases:
    """Leases under way, and those that wait for a reader or for their predictor."""

    def __init__(
        self,
        context: tasks.RunContext,
        hosts: Hosts,
        seats: Seats,
        slots: Slots,
        maker: PredictorMaker,
    ) -> None:
        self._context, self._hosts, self._seats = context, hosts, seats
        self._slots, self._maker = slots, maker
        self._queue = LeaseQueue()

    def submit(self, task: LeaseTask) -> None:
        self._queue.add(RayLease(task))
        self.launch()

    def launch(self) -> None:
        """Start queued leases as far as reading them now is of use."""
        of = self._context
        while (lease := self._next_to_read()) is not None:
            seat = self._seats.get(lease.slot)
            assert seat is not None  # noqa: S101  its slot takes work
            isolation, what = lease.task.isolation, lease.task.lease
            near = self._hosts.pinned_to(seat.node)
            lease.node, lease.own_actor = seat.node, isolation == "predict"
            lease.actor = self._maker.make_beside(**near) if lease.own_actor else seat.actor
            lease.read = tasks.read.options(**near).remote(
                of.where, of.recipe, what, isolation == "read", of.timeout
            )
            lease.masks = lease.actor.predict.remote(lease.read)
            lease.done = tasks.write.options(**near).remote(of.where, of.output, of.recipe, what, lease.masks)
            self._queue.launched(lease)

    def _next_to_read(self) -> RayLease | None:
        """One read at a time per host where predictors are the slower side: neighbouring shards then meet in
        one process, whose cache holds the blocks they share. As many as there are predictors where these
        wait."""
        queue, reading = self._queue, self._queue.being_read
        takes = self._slots.takes_work
        if reading < len(self._slots) and (hungry := queue.first_hungry(takes)) is not None:
            return hungry
        first = queue.first(takes)
        if first is None:
            return None
        remote = not first.task.lease.scene.source.is_local
        return first if reading < (REMOTE_READS if remote else 1) * self._slots.host_count else None

    def abandon(self, task: LeaseTask) -> Step | Literal["lost"]:
        lease = self._queue.pop(task.lease.id)
        if lease.done is None:
            return "lost"  # nobody began with it
        reading = not lease.is_read
        with contextlib.suppress(ray_errors.RayError):
            ray.cancel(lease.read, force=True)
        lost = self._hosts.was_silent(lease.node, lease.started)
        if reading and not lost:
            self._kill_own(lease)
            return "read"  # its predictor only waits for it, and gets an error instead
        if not lost and ray.wait([lease.masks], timeout=0, fetch_local=False)[0]:
            with contextlib.suppress(ray_errors.RayError):
                ray.cancel(lease.done, force=True)
            self._kill_own(lease)
            return "write"
        self._replace(lease, blame=not lost)
        return "lost" if lost else "predict"

    def references(self) -> list[Any]:
        return self._queue.references()

    def ended(self, ready: Sequence[Any]) -> list[Outcome]:
        for ref in ready:
            self._queue.read_ended(ref)
        leases = [lease for ref in ready if (lease := self._queue.ended_by(ref)) is not None]
        return [self._end(lease) for lease in sorted(leases, key=lambda lease: lease.started)]

    def _end(self, lease: RayLease) -> LeaseOutcome:
        """The outcome of a lease. Of several to a predictor that died, the first is the suspect."""
        self._queue.pop(lease.id)
        try:
            result: LeaseResult | Failure = ray.get(lease.done, timeout=tasks.FETCH_SECONDS)
        except ray_errors.RayError as e:
            return LeaseOutcome(lease_id=lease.id, result=self._why_not(lease, e))
        if not lease.own_actor:
            self._seats.answered(lease.slot)
        self._kill_own(lease)
        return LeaseOutcome(lease_id=lease.id, result=result)

    def _why_not(self, lease: RayLease, error: ray_errors.RayError) -> Failure:
        cause = cause_of(error)
        lost = self._hosts.failed(lease.node)
        if not isinstance(cause, ray_errors.RayActorError):
            self._kill_own(lease)
            return lost_with_host("read") if lost else _worker_died(lease, error, cause)
        seat = self._seats.get(lease.slot)
        is_first = lease.own_actor or (seat is not None and lease.actor is seat.actor)
        self._replace(lease, blame=not lost)
        if lost:
            return lost_with_host("predict")
        if is_first:
            return failure_of(cause, "predict")
        return Failure(kind="lost", step="predict", reason="its predictor died over other work")

    def lost(self) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for lease in self._queue.all():
            waits_in_vain = lease.actor is None and lease.slot not in self._slots
            if waits_in_vain or (lease.node and self._hosts.state(lease.node) == "gone"):
                self._queue.pop(lease.id)
                self._kill_own(lease)
                outcomes.append(LeaseOutcome(lease_id=lease.id, result=lost_with_host("predict")))
        return outcomes

    def close(self) -> None:
        for lease in self._queue.all():
            self._kill_own(lease)

    def _replace(self, lease: RayLease, *, blame: bool) -> None:
        """End a lease's predictor; a slot gets a new one."""
        if lease.own_actor:
            self._kill_own(lease)
        else:
            self._seats.end(lease.slot, lease.actor, blame=blame)

    def _kill_own(self, lease: RayLease) -> None:
        if lease.own_actor:
            self._seats.kill(lease.actor)


def _worker_died(lease: RayLease, error: BaseException, cause: BaseException) -> Failure:
    """A task that read or wrote did not end. An error that went through the predictor comes wrapped."""
    if error is cause:
        return failure_of(cause, "write")
    if lease.task.isolation == "read":  # what the file itself ends is the fresh process within the task
        reason = f"the task that read it ended: {first_line(cause)}"
        return Failure(kind="lost", step="read", reason=reason)
    return failure_of(cause, "read")

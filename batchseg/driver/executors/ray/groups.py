"""Photographs on a Ray cluster: groups that a predictor does whole, and those that are inspected."""

import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import ray
from ray import exceptions as ray_errors

from batchseg.driver.executors.ray import tasks
from batchseg.driver.executors.ray.failures import cause_of, failure_of, lost_with_host
from batchseg.driver.executors.ray.hosts import Hosts
from batchseg.driver.executors.ray.seats import Seats
from batchseg.driver.tasks import (
    Failure,
    GroupAnswer,
    GroupOutcome,
    GroupTask,
    InspectionOutcome,
    InspectionTask,
    Outcome,
    Step,
)


@dataclass(slots=True)
class RayGroup:
    """A group in Ray's hands."""

    id: int
    slot: int
    node: str = ""
    """Empty where the predictor went since the driver was told: it is lost."""
    actor: Any = None
    done: Any = None
    started: float = field(default_factory=time.monotonic)


class Groups:
    """Groups under way: with the predictor of the slot that each was given to."""

    def __init__(self, context: tasks.RunContext, hosts: Hosts, seats: Seats) -> None:
        self._where, self._hosts, self._seats = context.where, hosts, seats
        self._groups: dict[int, RayGroup] = {}

    def submit(self, task: GroupTask) -> None:
        group, seat = RayGroup(id=task.group.id, slot=task.slot.id), self._seats.get(task.slot.id)
        if seat is not None and seat.is_ready:
            group.actor, group.node = seat.actor, seat.node
            group.done = seat.actor.do_group.remote(self._where, task.group)
        self._groups[group.id] = group

    def abandon(self, task: GroupTask) -> Step | Literal["lost"]:
        group = self._groups.pop(task.group.id)
        lost = self._hosts.was_silent(group.node, group.started)
        self._seats.end(group.slot, group.actor, blame=not lost)
        return "lost" if lost else "group"

    def references(self) -> list[Any]:
        # What has none is lost, which is told with the next look at hosts; Ray waits for no None.
        return [group.done for group in self._groups.values() if group.done is not None]

    def ended(self, ready: Iterable[Any]) -> list[Outcome]:
        by_reference = {group.done: group for group in self._groups.values()}
        ended = [by_reference[ref] for ref in ready if ref in by_reference]
        return [self._end(group) for group in sorted(ended, key=lambda group: group.id)]

    def _end(self, group: RayGroup) -> GroupOutcome:
        """The outcome of a group. Of several to a predictor that died, the first is the suspect."""
        del self._groups[group.id]
        try:
            answer: GroupAnswer | Failure = ray.get(group.done, timeout=tasks.FETCH_SECONDS)
        except ray_errors.RayError as e:
            return GroupOutcome(group_id=group.id, result=self._why_not(group, e))
        self._seats.answered(group.slot)
        return GroupOutcome(group_id=group.id, result=answer)

    def _why_not(self, group: RayGroup, error: ray_errors.RayError) -> Failure:
        lost = self._hosts.failed(group.node)
        seat = self._seats.get(group.slot)
        is_first = seat is not None and group.actor is seat.actor
        self._seats.end(group.slot, group.actor, blame=not lost)
        if lost:
            return lost_with_host("group")
        if is_first:
            return failure_of(cause_of(error), "group")
        return Failure(kind="lost", step="group", reason="its predictor died over another group")

    def lost(self) -> list[Outcome]:
        gone = [
            number
            for number, group in self._groups.items()
            if not group.node or self._hosts.state(group.node) == "gone"
        ]
        for number in gone:
            del self._groups[number]
        return [GroupOutcome(group_id=number, result=lost_with_host("group")) for number in gone]


class GroupInspections:
    """Groups whose photographs are looked at one by one, on the host that the run is on."""

    def __init__(self, context: tasks.RunContext, hosts: Hosts) -> None:
        self._context, self._hosts = context, hosts
        self._running: dict[Any, int] = {}
        """Group id by reference."""

    def submit(self, task: InspectionTask) -> None:
        of = self._context
        alone = tasks.inspect_group.options(**self._hosts.pinned_to(self._hosts.home))
        # Shorter than the driver waits: see tasks.read.
        self._running[alone.remote(of.where, of.recipe, task.group, 0.8 * of.timeout)] = task.group.id

    def abandon(self, task: InspectionTask) -> Step:
        for ref in [ref for ref, group_id in self._running.items() if group_id == task.group.id]:
            del self._running[ref]
            with contextlib.suppress(ray_errors.RayError):
                ray.cancel(ref, force=True)
        return "group"

    def references(self) -> list[Any]:
        return list(self._running)

    def ended(self, ready: Iterable[Any]) -> list[Outcome]:
        return [self._end(ref) for ref in ready if ref in self._running]

    def _end(self, ref: Any) -> InspectionOutcome:
        group_id = self._running.pop(ref)
        try:
            return InspectionOutcome(group_id=group_id, result=ray.get(ref))
        except ray_errors.RayError as e:
            return InspectionOutcome(group_id=group_id, result=failure_of(cause_of(e), "group"))

    def lost(self) -> list[Outcome]:
        """None: they are on the run's own host."""
        return []

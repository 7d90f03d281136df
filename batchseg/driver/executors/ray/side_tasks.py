"""What runs on a Ray cluster beside predictors: scenes that are finished, photographs that are inspected."""

import contextlib
from collections.abc import Iterable
from typing import Any

import ray
from ray import exceptions as ray_errors

from batchseg.driver.executors.ray import tasks
from batchseg.driver.executors.ray.failures import cause_of, failure_of, lost_with_host
from batchseg.driver.executors.ray.hosts import Hosts
from batchseg.driver.executors.ray.slots import Slots
from batchseg.driver.tasks import (
    FinishOutcome,
    FinishTask,
    InspectionOutcome,
    InspectionTask,
    Outcome,
    Step,
    outcome_of,
    presumed_step,
)

SideTask = FinishTask | InspectionTask


class SideTasks:
    """Those under way: finishes on the predictors' hosts in turn, inspections on the run's own."""

    def __init__(self, context: tasks.RunContext, hosts: Hosts, slots: Slots) -> None:
        self._context, self._hosts, self._slots = context, hosts, slots
        self._running: dict[Any, tuple[SideTask, str]] = {}
        """With the node, by reference."""

    def submit(self, task: SideTask) -> None:
        of = self._context
        if isinstance(task, FinishTask):
            node = self._slots.node(len(self._running))
            ref = tasks.finish.options(**self._hosts.pinned_to(node)).remote(
                of.where, of.output, of.recipe, of.product, task
            )
        else:
            node = self._hosts.home
            # Shorter than the driver waits: that task must outlive the fresh process within to end it.
            ref = tasks.inspect_group.options(**self._hosts.pinned_to(node)).remote(
                of.where, of.recipe, task.group, 0.8 * of.timeout
            )
        self._running[ref] = task, node

    def abandon(self, task: SideTask) -> Step:
        for ref in [ref for ref, (other, _) in self._running.items() if _name(other) == _name(task)]:
            del self._running[ref]
            with contextlib.suppress(ray_errors.RayError):
                ray.cancel(ref, force=True)
        return presumed_step(task)

    def references(self) -> list[Any]:
        return list(self._running)

    def ended(self, ready: Iterable[Any]) -> list[Outcome]:
        return [self._end(ref) for ref in ready if ref in self._running]

    def _end(self, ref: Any) -> Outcome:
        task, node = self._running.pop(ref)
        try:
            answer = ray.get(ref, timeout=tasks.FETCH_SECONDS)
        except ray_errors.RayError as e:
            step = presumed_step(task)
            lost = self._hosts.failed(node)
            return outcome_of(task, lost_with_host(step) if lost else failure_of(cause_of(e), step))
        if isinstance(task, InspectionTask):
            return InspectionOutcome(group_id=task.group.id, result=answer)
        finished: FinishOutcome = answer
        return finished

    def lost(self) -> list[Outcome]:
        gone = [ref for ref, (_, node) in self._running.items() if self._hosts.state(node) == "gone"]
        lost = [self._running.pop(ref)[0] for ref in gone]
        return [outcome_of(task, lost_with_host(presumed_step(task))) for task in lost]


def _name(task: SideTask) -> str | int:
    return task.scene.source.source_id if isinstance(task, FinishTask) else task.group.id

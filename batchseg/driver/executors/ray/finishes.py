"""Scenes that are finished by tasks of a Ray cluster: their masks joined, encoded and measured."""

import contextlib
from collections.abc import Iterable
from typing import Any

import ray
from ray import exceptions as ray_errors

from batchseg.driver.executors.ray import tasks
from batchseg.driver.executors.ray.failures import cause_of, failure_of, lost_with_host
from batchseg.driver.executors.ray.hosts import Hosts
from batchseg.driver.executors.ray.slots import Slots
from batchseg.driver.tasks import FinishOutcome, FinishTask, Outcome, Step


class Finishes:
    """Finishes under way, on the hosts of the predictors in turn."""

    def __init__(self, context: tasks.RunContext, hosts: Hosts, slots: Slots) -> None:
        self._context, self._hosts, self._slots = context, hosts, slots
        self._running: dict[Any, tuple[str, str]] = {}
        """Source id and node by reference."""

    def submit(self, task: FinishTask) -> None:
        node, of = self._slots.node(len(self._running)), self._context
        ref = tasks.finish.options(**self._hosts.pinned_to(node)).remote(
            of.where, of.output, of.recipe, of.product, task
        )
        self._running[ref] = task.scene.source.source_id, node

    def abandon(self, task: FinishTask) -> Step:
        source_id = task.scene.source.source_id
        for ref in [ref for ref, (of, _) in self._running.items() if of == source_id]:
            del self._running[ref]
            with contextlib.suppress(ray_errors.RayError):
                ray.cancel(ref, force=True)
        return "finish"

    def references(self) -> list[Any]:
        return list(self._running)

    def ended(self, ready: Iterable[Any]) -> list[Outcome]:
        return [self._end(ref) for ref in ready if ref in self._running]

    def _end(self, ref: Any) -> FinishOutcome:
        source_id, node = self._running.pop(ref)
        try:
            answer: FinishOutcome = ray.get(ref, timeout=tasks.FETCH_SECONDS)
            return answer
        except ray_errors.RayError as e:
            lost = self._hosts.failed(node)
            result = lost_with_host("finish") if lost else failure_of(cause_of(e), "finish")
            return FinishOutcome(source_id=source_id, result=result)

    def lost(self) -> list[Outcome]:
        gone = [ref for ref, (_, node) in self._running.items() if self._hosts.state(node) == "gone"]
        lost = [self._running.pop(ref) for ref in gone]
        return [FinishOutcome(source_id=of, result=lost_with_host("finish")) for of, _ in lost]

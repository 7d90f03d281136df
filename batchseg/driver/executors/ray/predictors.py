"""The predictor as a Ray actor, and how the actors of a run are made."""

from dataclasses import dataclass
from typing import Any

import ray

from batchseg.driver.executors.ray.tasks import RunContext, Where
from batchseg.driver.executors.steps import Steps
from batchseg.driver.lease_worker import MOST_READERS, LeaseStep
from batchseg.driver.scene_worker import Lease, LeaseResult
from batchseg.driver.tasks import LEASES_AT_ONCE, Failure, Group, GroupAnswer, Isolation
from batchseg.errors import BatchsegError
from batchseg.job.recipe import Product, Recipe
from batchseg.system import storage


class PredictorActor:
    """A process that holds a loaded network: it does whole leases of scenes, or groups of photographs."""

    def __init__(
        self, recipe: Recipe, batch_size: int, output: str, product: Product, readers: int, timeout: float
    ) -> None:
        self._steps = Steps(output, recipe, product, readers=readers, batch_size=batch_size, timeout=timeout)

    def hello(self) -> tuple[str, str]:
        """Node id and CPU class."""
        node: str = ray.get_runtime_context().get_node_id()
        return node, self._steps.cpu_class

    @ray.method(concurrency_group="leases")  # type: ignore[untyped-decorator]
    def do_lease(self, where: Where, lease: Lease, isolation: Isolation) -> LeaseResult | Failure:
        """Scenes are read and written where they are predicted: their pixels cross no process."""
        try:
            storage.adopt(where)
        except BatchsegError as e:
            return Failure.of(e, "read")
        return self._steps.lease(lease, isolation)

    @ray.method(concurrency_group="leases")  # type: ignore[untyped-decorator]
    def do_lot(self, where: Where, leases: tuple[Lease, ...]) -> tuple[LeaseResult | Failure, ...] | Failure:
        """Several scenes, each in one lease, one after the other."""
        try:
            storage.adopt(where)
        except BatchsegError as e:
            return Failure.of(e, "read")
        return self._steps.lot(leases)

    @ray.method(concurrency_group="questions")  # type: ignore[untyped-decorator]
    def step_of(self, lease_id: int) -> LeaseStep:
        """What is done for a lease."""
        return self._steps.step_of(lease_id)

    @ray.method(concurrency_group="groups")  # type: ignore[untyped-decorator]
    def do_group(self, where: Where, group: Group) -> GroupAnswer | Failure:
        """So are photographs, one group after the other."""
        try:
            storage.adopt(where)
        except BatchsegError as e:
            return Failure.of(e, "group")
        return self._steps.group(group)


def leases_at_once(readers: int) -> int:
    """Of a predictor with so many threads that read: beside theirs one is predicted, and one written."""
    return max(LEASES_AT_ONCE, min(readers, MOST_READERS) + 2)


CONCURRENCY = {"leases": leases_at_once(MOST_READERS), "questions": 1, "groups": 1}
"""Threads of an actor: the leases that it is given at once wait in it for each other."""

remote_predictor: Any = ray.remote(
    num_cpus=1, max_restarts=0, max_task_retries=0, concurrency_groups=CONCURRENCY
)(PredictorActor)


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictorMaker:
    """Makes the predictors of a run."""

    context: RunContext
    device: str
    gpus: float
    """That each one reserves where the device is "gpu"; it may be a part of one."""
    batch_size: int
    readers: int
    """Threads of each that read ahead."""

    def make(self) -> Any:
        """A predictor that reserves its GPU, or its CPU."""
        if self.device == "gpu":
            return self._make(num_gpus=self.gpus, num_cpus=1)
        return self._make(num_gpus=0, num_cpus=1)

    def make_beside(self, **where: Any) -> Any:
        """A predictor for one lease alone, beside the others of a node: it reserves nothing.

        Args:
            where: options that name the node.
        """
        return self._make(num_gpus=0, num_cpus=0, **where)

    def _make(self, **options: Any) -> Any:
        of = self.context
        return remote_predictor.options(**options).remote(
            of.recipe, self.batch_size, of.output, of.product, self.readers, of.timeout
        )

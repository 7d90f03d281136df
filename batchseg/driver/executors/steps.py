"""The steps of a task in the calling process, in the thread that asks, whatever the executor.

Errors become failures here; how long a step may take is not known here.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

from batchseg.driver.lease_worker import LeaseStep, LeaseWorker
from batchseg.driver.scene_worker import Lease, LeaseResult
from batchseg.driver.tasks import (
    Failure,
    FinishTask,
    Group,
    GroupAnswer,
    GroupOutcome,
    GroupTask,
    Inspected,
    InspectionOutcome,
    InspectionTask,
    Isolation,
    LeaseOutcome,
    LeaseTask,
    LotOutcome,
    LotTask,
    Outcome,
    Task,
    finished,
    from_stream,
)
from batchseg.engines.base import telling_line
from batchseg.errors import BatchsegError
from batchseg.job.recipe import Product, Recipe
from batchseg.predict.predictor import load_predictor
from batchseg.system.machine import cpu_class

if TYPE_CHECKING:
    from batchseg.driver.photo_worker import GroupWorker

Doing = Literal["read", "predict", "write", "finish", "group", "inspect"]


class Steps:
    """Does tasks with one predictor, which it loads.

    Args:
        output: root of the results.
        recipe: pixel settings.
        product: names, formats, rules.
        threads: that the predictor uses.
        readers: threads that read ahead: leases' from disks, and photographs.
        batch_size: tiles per run of the network.
        timeout: seconds that the driver waits for a step.
        stop: whether the run is to end: a lease ends between two tiles.

    Raises:
        ModelError: the network cannot be loaded.
    """

    def __init__(
        self,
        output: str,
        recipe: Recipe,
        product: Product,
        *,
        threads: int = 1,
        readers: int,
        batch_size: int,
        timeout: float,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._output, self._recipe, self._product = output, recipe, product
        self._readers, self._batch_size, self._timeout, self._stop = readers, batch_size, timeout, stop
        self._predictor = load_predictor(recipe, threads=threads, batch_size=batch_size)
        self.cpu_class = cpu_class() if recipe.device == "cpu" else recipe.facts.cpu_class
        self._leases = self._new_lease_worker()
        self._worker = self._new_worker()

    @property
    def is_predicting(self) -> bool:
        """Whether the network works, or hangs."""
        return self._predictor.is_busy

    def of(self, task: Task) -> Callable[[], Outcome]:
        """What does a task."""
        match task:
            case LeaseTask():
                return lambda: LeaseOutcome(
                    lease_id=task.lease.id, result=self.lease(task.lease, task.isolation)
                )
            case LotTask():
                return lambda: LotOutcome(lot_id=task.id, result=self.lot(task.leases))
            case FinishTask():
                return partial(finished, self._output, self._recipe, self._product, task)
            case GroupTask():
                return lambda: GroupOutcome(group_id=task.group.id, result=self.group(task.group))
            case InspectionTask():
                return partial(self._inspect, task.group)

    def lease(self, lease: Lease, isolation: Isolation) -> LeaseResult | Failure:
        """A lease of a scene, from its pixels to its fragments or masks."""
        return self._leases(lease, isolation)

    def lot(self, leases: Sequence[Lease]) -> tuple[LeaseResult | Failure, ...]:
        """Leases one after the other: what is read ahead, and held, is as much as of one lease at a time."""
        return tuple(self.lease(lease, "none") for lease in leases)

    def group(self, group: Group) -> GroupAnswer | Failure:
        """A group of photographs, one after the other."""
        assert self._worker is not None  # noqa: S101  groups come of photographs alone, which have one
        try:
            return self._worker(group)
        except BatchsegError as e:
            return Failure.of(e, "group")
        except Exception as e:  # noqa: BLE001  Paddle raises RuntimeError, ValueError, MemoryError
            return Failure(kind="error", step="group", reason=f"predicting it: {telling_line(e)}")

    def step_of(self, lease_id: int) -> LeaseStep:
        """What is done for a lease."""
        return self._leases.step_of(lease_id)

    def doing_for(self, task: Task) -> Doing:
        """What is done for the task that is under way."""
        match task:
            case LeaseTask():
                step = self.step_of(task.lease.id)
                return "read" if step == "waits" else step
            case LotTask():
                steps = (self.step_of(lease.id) for lease in task.leases)
                return next((step for step in steps if step != "waits"), "read")
            case FinishTask():
                return "finish"
            case GroupTask():
                return "group"
            case InspectionTask():
                return "inspect"

    def leave_lease(self) -> None:
        """A lease hangs in its worker: if its step ends, nothing follows."""
        self._leases.leave()
        self._leases = self._new_lease_worker()

    def leave_group(self) -> None:
        """A group hangs in its worker, before the network: the next ones get another worker."""
        self._worker = self._new_worker()

    def close(self) -> None:
        self._leases.close()

    def _new_lease_worker(self) -> LeaseWorker:
        return LeaseWorker(
            self._output,
            self._recipe,
            self._product,
            self._predictor,
            batch_size=self._batch_size,
            readers=self._readers,
            timeout=self._timeout,
            stop=self._stop,
        )

    def _new_worker(self) -> "GroupWorker | None":
        """What does groups; None: the product is of scenes, which are spared the decoders of photographs."""
        if self._product.photographs is None:
            return None
        from batchseg.driver.photo_worker import GroupWorker

        return GroupWorker(
            self._output,
            self._recipe,
            self._product,
            self._predictor,
            batch_size=self._batch_size,
            readers=self._readers,
            cpu_class=self.cpu_class,
        )

    def _inspect(self, group: Group) -> InspectionOutcome:
        from batchseg.driver.photo_worker import inspect_photos

        rows = from_stream(group.images).to_pylist()
        inspected: Inspected = inspect_photos(
            rows, self._recipe, 0.8 * self._timeout, memory=group.memory, alone=group.alone, usual=group.usual
        )
        return InspectionOutcome(group_id=group.id, result=inspected)

"""The steps of a task in the calling process, one after the other, in the thread that asks.

Errors become failures here, as in Ray's tasks; how long a step may take is not known here.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Literal

from batchseg.driver.executors.group_worker import group_worker
from batchseg.driver.scene_worker import (
    LeaseResult,
    predict_lease,
    read_lease,
    read_lease_alone,
    write_lease,
)
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
    LeaseOutcome,
    LeaseTask,
    Outcome,
    Task,
    died_reading,
    failed_reading,
    finished,
    from_stream,
)
from batchseg.engines.base import telling_line
from batchseg.errors import BatchsegError, StoppedError
from batchseg.job.recipe import Product, Recipe
from batchseg.predict.predictor import load_predictor
from batchseg.system.machine import cpu_class
from batchseg.system.processes import ProcessDiedError

if TYPE_CHECKING:
    from batchseg.driver.photo_worker import GroupWorker

Doing = Literal["read", "predict", "write", "finish", "group", "inspect"]


class Steps:
    """Does tasks with one predictor, which it loads.

    Args:
        output: root of the results.
        recipe: pixel settings.
        product: names, formats, rules.
        threads: that the predictor uses, or that read photographs ahead.
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
        threads: int,
        batch_size: int,
        timeout: float,
        stop: Callable[[], bool],
    ) -> None:
        self._output, self._recipe, self._product = output, recipe, product
        self._threads, self._batch_size, self._timeout, self._stop = threads, batch_size, timeout, stop
        self._predictor = load_predictor(recipe, threads=threads, batch_size=batch_size)
        self.cpu_class = cpu_class() if recipe.device == "cpu" else recipe.facts.cpu_class
        self._worker = self._new_worker()
        self._left: set[int] = set()
        """Leases that were given up, and whose reading may still end."""
        self.doing: Doing = "read"

    @property
    def is_predicting(self) -> bool:
        """Whether the network works, or hangs."""
        return self._predictor.is_busy

    def of(self, task: Task) -> Callable[[], Outcome]:
        """What does a task. The first step counts as begun."""
        match task:
            case LeaseTask():
                self.doing = "read"
                return partial(self._do_lease, task)
            case FinishTask():
                self.doing = "finish"
                return partial(finished, self._output, self._recipe, self._product, task)
            case GroupTask():
                self.doing = "group"
                return partial(self._do_group, task.group)
            case InspectionTask():
                self.doing = "inspect"
                return partial(self._inspect, task.group)

    def leave_read(self, lease_id: int) -> None:
        """A lease's reading hangs: if it ends, in whatever thread, nothing follows."""
        self._left.add(lease_id)

    def leave_group(self) -> None:
        """A group hangs in its worker, before the network: the next ones get another worker."""
        self._worker = self._new_worker()

    def _new_worker(self) -> "GroupWorker | None":
        return group_worker(
            self._output,
            self._recipe,
            self._product,
            self._predictor,
            batch_size=self._batch_size,
            readers=self._threads,
            cpu_class=self.cpu_class,
        )

    def _do_lease(self, task: LeaseTask) -> LeaseOutcome:
        return LeaseOutcome(lease_id=task.lease.id, result=self._lease_result(task))

    def _lease_result(self, task: LeaseTask) -> LeaseResult | Failure:
        lease = task.lease
        try:
            if task.isolation == "read":
                # Shorter than the executor waits: this process must outlive the fresh one to end it.
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
            self.doing = "predict"
            masks = predict_lease(self._predictor, self._recipe, pixels, self._batch_size, self._stop)
            self.doing = "write"
            return write_lease(self._output, self._recipe, lease, masks)
        except StoppedError as e:
            if self._stop():
                return Failure(kind="lost", step="predict", reason=str(e))
            return Failure.of(e, "write")
        except BatchsegError as e:
            return Failure.of(e, "predict")
        except Exception as e:  # noqa: BLE001  Paddle raises RuntimeError, ValueError, MemoryError
            return Failure(kind="error", step="predict", reason=f"predicting it: {telling_line(e)}")

    def _do_group(self, group: Group) -> GroupOutcome:
        return GroupOutcome(group_id=group.id, result=self._group_result(group))

    def _group_result(self, group: Group) -> GroupAnswer | Failure:
        assert self._worker is not None  # noqa: S101  groups come of photographs alone, which have one
        try:
            return self._worker(group)
        except BatchsegError as e:
            return Failure.of(e, "group")
        except Exception as e:  # noqa: BLE001  as above
            return Failure(kind="error", step="group", reason=f"predicting it: {telling_line(e)}")

    def _inspect(self, group: Group) -> InspectionOutcome:
        from batchseg.driver.photo_worker import inspect_photos

        rows = from_stream(group.images).to_pylist()
        inspected: Inspected = inspect_photos(
            rows, self._recipe, 0.8 * self._timeout, memory=group.memory, alone=group.alone
        )
        return InspectionOutcome(group_id=group.id, result=inspected)

"""Steps as Ray tasks, the predictor as a Ray actor, and Ray's errors as failures.

Tasks that read, write and finish reserve no CPU: the predictors hold them all, and a task that asks
for one would never start. Ray's own retries are off; the driver decides what is done again.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

# Ray reports usage to the network unless told not to; an overnight job talks to nobody.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Ray 2.60 warns at every task that it will stop hiding GPUs from tasks without one.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# Above 10 GB Ray refuses to keep its objects in files where /dev/shm is too small; the run says so instead.
os.environ.setdefault("RAY_OBJECT_STORE_ALLOW_SLOW_STORAGE", "1")
# Ray's C++ handler would turn a SIGTERM into an abort before the run can record what it did.
os.environ.setdefault("RAY_DISABLE_FAILURE_SIGNAL_HANDLER", "1")

import ray
from ray import exceptions as ray_errors

from batchseg.driver.scene_worker import (
    Lease,
    LeaseMasks,
    LeasePixels,
    LeaseResult,
    predict_lease,
    read_lease,
    read_lease_alone,
    write_lease,
)
from batchseg.driver.tasks import (
    Failure,
    FinishOutcome,
    FinishTask,
    Group,
    GroupAnswer,
    Sifted,
    died_reading,
    failed_reading,
    finished,
    from_stream,
)
from batchseg.engines.base import telling_line
from batchseg.errors import BatchsegError, StoppedError
from batchseg.inputs.source import Refusal, Scene, Source
from batchseg.job.recipe import Product, Recipe
from batchseg.pixels.header import read_header, read_headers_alone
from batchseg.predict.predictor import load_predictor
from batchseg.system import storage
from batchseg.system.disks import describe, full_disks, is_full
from batchseg.system.machine import cpu_class
from batchseg.system.processes import ProcessDiedError

if TYPE_CHECKING:
    from batchseg.driver.photo_worker import GroupWorker

FULL_ERRORS = (ray_errors.OutOfDiskError, ray_errors.ObjectStoreFullError)

LOST_ERRORS = (
    ray_errors.OutOfMemoryError,
    ray_errors.NodeDiedError,
    ray_errors.LocalRayletDiedError,
    ray_errors.ObjectLostError,
    ray_errors.OwnerDiedError,
    ray_errors.RuntimeEnvSetupError,
    ray_errors.TaskCancelledError,
)

Where = dict[str, str]
"""Options of the storages: a worker process may be older than the run, or on another machine."""


@ray.remote(num_cpus=0, max_retries=0)
def warm(where: Where, uris: list[str], seconds: float) -> None:
    """Hold a worker process, so that Ray starts another for the next task: importing takes a second, and so
    does a bucket's first client."""
    storage.adopt(where)
    for uri in uris:
        with contextlib.suppress(OSError):  # whoever reads there says so
            storage.connect(uri)
    time.sleep(seconds)


@ray.remote(num_cpus=0, max_retries=0)
def headers(where: Where, sources: list[Source]) -> list[Scene | Refusal]:
    storage.adopt(where)
    return [read_header(source) for source in sources]


@ray.remote(num_cpus=0, max_retries=0, num_returns="streaming")
def headers_alone(where: Where, sources: list[Source], timeout: float) -> Iterator[Scene | Refusal]:
    storage.adopt(where)
    yield from read_headers_alone(sources, timeout)


@ray.remote(num_cpus=0, max_retries=0)
def read(where: Where, recipe: Recipe, lease: Lease, isolated: bool, timeout: float) -> LeasePixels | Failure:
    storage.adopt(where)
    try:
        if isolated:
            # Shorter than the driver waits: this process must outlive the fresh one to end it.
            return read_lease_alone(recipe, lease, 0.8 * timeout)
        return read_lease(recipe, lease)
    except BatchsegError as e:
        return Failure.of(e, "read")
    except ProcessDiedError as e:
        return died_reading(lease, e)
    except Exception as e:  # noqa: BLE001  a defect over one source must not end a night
        return failed_reading(e)


@ray.remote(num_cpus=0, max_retries=0)
def write(
    where: Where, output: str, recipe: Recipe, lease: Lease, masks: LeaseMasks | Failure
) -> LeaseResult | Failure:
    storage.adopt(where)
    if isinstance(masks, Failure):
        return masks
    try:
        return write_lease(output, recipe, lease, masks)
    except BatchsegError as e:
        return Failure.of(e, "write")


@ray.remote(num_cpus=0, max_retries=0)
def finish(where: Where, output: str, recipe: Recipe, product: Product, task: FinishTask) -> FinishOutcome:
    storage.adopt(where)
    return finished(output, recipe, product, task)


@ray.remote(num_cpus=0, max_retries=0)
def sift_group(where: Where, recipe: Recipe, group: Group, timeout: float) -> Sifted | Failure:
    from batchseg.driver.photo_worker import sift

    storage.adopt(where)
    try:
        return sift(from_stream(group.images).to_pylist(), recipe, timeout)
    except BatchsegError as e:
        return Failure.of(e, "group")


class PredictorActor:
    def __init__(self, recipe: Recipe, batch_size: int, output: str, product: Product, readers: int) -> None:
        self._recipe, self._batch_size = recipe, batch_size
        self._predictor = load_predictor(recipe, batch_size=batch_size)
        self._worker = self._group_worker(output, product, readers)

    def _group_worker(self, output: str, product: Product, readers: int) -> "GroupWorker | None":
        if product.photographs is None:
            return None
        from batchseg.driver.photo_worker import GroupWorker  # decoders that scenes do not need

        return GroupWorker(
            output,
            self._recipe,
            product,
            self._predictor,
            batch_size=self._batch_size,
            readers=readers,
            cpu_class=self.hello()[1],
        )

    def hello(self) -> tuple[str, str]:
        """Node id and CPU class."""
        node: str = ray.get_runtime_context().get_node_id()
        return node, cpu_class() if self._recipe.device == "cpu" else self._recipe.facts.cpu_class

    def predict(self, pixels: LeasePixels | Failure) -> LeaseMasks | Failure:
        if isinstance(pixels, Failure):
            return pixels
        try:
            return predict_lease(self._predictor, self._recipe, pixels, self._batch_size)
        except BatchsegError as e:
            return Failure.of(e, "predict")
        except Exception as e:  # noqa: BLE001  Paddle raises RuntimeError, ValueError, MemoryError
            return Failure(kind="error", step="predict", reason=f"predicting it: {telling_line(e)}")

    def do_group(self, where: Where, group: Group) -> GroupAnswer | Failure:
        """Photographs are read where they are predicted: their pixels cross no process."""
        storage.adopt(where)
        assert self._worker is not None
        try:
            return self._worker(group)
        except BatchsegError as e:
            return Failure.of(e, "group")
        except Exception as e:  # noqa: BLE001  as above
            return Failure(kind="error", step="group", reason=f"predicting it: {telling_line(e)}")


remote_predictor: Any = ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)(PredictorActor)


def failure_of(error: BaseException, step: Any) -> Failure:
    """A Ray error as a failure: lost with a node or to the out-of-memory killer, or a crash.

    A process that touches shared memory on a full disk is ended by SIGBUS: no source is to blame for it.
    """
    if isinstance(error, FULL_ERRORS) or is_full(error) or full_disks():
        said = describe(error) if isinstance(error, OSError) else first_line(error)
        left = "; ".join(full_disks()) or "Ray keeps data in /dev/shm and in the temporary folder (TMPDIR)"
        msg = f"no room for what is in flight: {said} ({left}); make room, or lower max_in_flight"
        return Failure(kind="lost", step=step, reason=msg, fatal=StoppedError(msg))
    if isinstance(error, LOST_ERRORS):
        memory = isinstance(error, ray_errors.OutOfMemoryError)
        reason = f"{type(error).__name__}: {first_line(error)}"
        return Failure(kind="lost", step=step, reason=reason, memory=memory)
    return Failure(kind="crash", step=step, reason=f"{step}ing it ended the process: {type(error).__name__}")


def first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)

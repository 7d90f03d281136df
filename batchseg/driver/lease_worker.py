"""A lease's life in its predictor's process: read ahead, predicted, written behind.

No pixel leaves the process. Each step has threads of its own: while the network computes, the next lease is
read and the one before it is written. The network has one thread, as its library may keep state per thread.
"""

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Literal

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
from batchseg.driver.tasks import Failure, Isolation, died_reading, failed_reading
from batchseg.engines.base import telling_line
from batchseg.errors import BatchsegError, StoppedError
from batchseg.job.recipe import Product, Recipe
from batchseg.pixels.read import release
from batchseg.predict.predictor import Predictor
from batchseg.system.machine import give_back_freed_memory
from batchseg.system.processes import ProcessDiedError
from batchseg.system.threads import Helper

LeaseStep = Literal["waits", "read", "predict", "write"]

MOST_READERS = 6
"""Threads that read ahead for one network: so many cores decode some 500 megapixels a second of deflate."""

REMOTE_READERS = 3
"""Threads of a predictor that read from buckets: while one waits for its replies the others decode."""


TRIM_SECONDS = 1.0
"""Between two looks for freed memory: each walks all that there is, and the network faults its part in."""


class LeaseWorker:
    """Does leases with one predictor, for as many callers at once as are to be read ahead.

    Args:
        output: root of the results.
        recipe: the pixel settings.
        product: what is made of masks.
        predictor: the network.
        batch_size: tiles per run of the network; pixels do not depend on it.
        readers: threads that read ahead from disks, MOST_READERS at most. Each holds its last source open, so
            that neighbouring leases share its blocks; with one of them they are decoded once.
        timeout: seconds that the driver waits for a step.
        stop: asked between batches; True ends a lease.
    """

    def __init__(
        self,
        output: str,
        recipe: Recipe,
        product: Product,
        predictor: Predictor,
        *,
        batch_size: int,
        readers: int,
        timeout: float,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._output, self._recipe, self._product, self._predictor = output, recipe, product, predictor
        self._batch_size, self._timeout, self._stop = batch_size, timeout, stop
        readers = min(readers, MOST_READERS)
        self._local = Helper(readers, at_end=release)
        self._remote = Helper(max(readers, REMOTE_READERS), at_end=release)
        self._network = Helper()
        self._steps: dict[int, LeaseStep] = {}
        """By the id of a lease: what is done for it."""
        self._alone = threading.Lock()
        """Fresh processes one after the other: a predictor that died leaves several doubtful leases."""
        self._changing = threading.Lock()
        self._left = False
        self._trimmed_at = 0.0
        """When freed memory was given back last."""

    def __call__(self, lease: Lease, isolation: Isolation = "none") -> LeaseResult | Failure:
        """Do a lease. Callers wait for those before them, step by step."""
        self._steps[lease.id] = "waits"
        try:
            return self._predicted(lease, self._read(lease, isolation))
        finally:
            del self._steps[lease.id]
            if time.monotonic() - self._trimmed_at > TRIM_SECONDS:
                self._trimmed_at = time.monotonic()
                give_back_freed_memory()

    def step_of(self, lease_id: int) -> LeaseStep:
        """What is done for a lease; of one that is not known here that it waits."""
        return self._steps.get(lease_id, "waits")

    def leave(self) -> None:
        """A step hangs, and another worker goes on with the predictor: what ends here now goes no further."""
        with self._changing:
            self._left = True
        self.close()

    def close(self) -> None:
        """End the threads once they are through. What readers hold open they close."""
        for helper in (self._local, self._remote, self._network):
            helper.close()

    def _read(self, lease: Lease, isolation: Isolation) -> LeasePixels | Failure:
        try:
            if isolation == "read":
                return self._read_alone(lease)
            readers = self._local if lease.scene.source.is_local else self._remote
            return readers.start(partial(self._begin_reading, lease)).result()
        except BatchsegError as e:
            return Failure.of(e, "read")
        except ProcessDiedError as e:
            return died_reading(lease, e)
        except Exception as e:  # noqa: BLE001  a defect over one source must not end a night
            return failed_reading(e)

    def _read_alone(self, lease: Lease) -> LeasePixels:
        with self._alone:
            self._steps[lease.id] = "read"
            # Shorter than the driver waits: this process must outlive the fresh one to end it.
            pixels = read_lease_alone(self._recipe, lease, 0.8 * self._timeout)
            self._steps[lease.id] = "waits"
            return pixels

    def _begin_reading(self, lease: Lease) -> LeasePixels:
        self._steps[lease.id] = "read"
        pixels = read_lease(self._recipe, lease)
        self._steps[lease.id] = "waits"
        return pixels

    def _predict(self, lease: Lease, pixels: LeasePixels) -> LeaseMasks:
        self._steps[lease.id] = "predict"
        return predict_lease(self._predictor, self._recipe, pixels, self._batch_size, self._stop)

    def _predicted(self, lease: Lease, pixels: LeasePixels | Failure) -> LeaseResult | Failure:
        if isinstance(pixels, Failure):
            return pixels
        step: Literal["predict", "write"] = "predict"
        try:
            with self._changing:  # a new worker has the network, or this one
                if self._left:
                    return Failure(kind="lost", step="read", reason="it was given up")
                predicting = self._network.start(partial(self._predict, lease, pixels))
            del pixels  # it is the network's, and is freed with the last tile
            masks = predicting.result()
            self._steps[lease.id] = step = "write"
            return write_lease(self._output, self._recipe, self._product, lease, masks)
        except StoppedError as e:
            if self._stop():
                return Failure(kind="lost", step="predict", reason=str(e))
            return Failure.of(e, step)
        except BatchsegError as e:
            return Failure.of(e, step)
        except Exception as e:  # noqa: BLE001  Paddle raises RuntimeError, ValueError, MemoryError
            doing = "predicting" if step == "predict" else "writing"
            return Failure(kind="error", step=step, reason=f"{doing} it: {telling_line(e)}")

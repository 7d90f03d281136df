"""The executor that a job asks for, started when something is left to do."""

import contextlib
import math
import multiprocessing
import time
from concurrent.futures import Future, wait

from batchseg.driver.events import Listener, Note
from batchseg.driver.executors.inline import InlineExecutor
from batchseg.driver.executors.watched import CHECK_SECONDS, START_SECONDS, WatchedExecutor
from batchseg.driver.tasks import Executor, Stop
from batchseg.errors import StoppedError
from batchseg.job.settings import JobConfig
from batchseg.system.disks import SHARED_MEMORY, free_bytes
from batchseg.system.machine import core_count, predictor_count
from batchseg.system.temp_folders import socket_root
from batchseg.system.threads import Helper, start_aside

OBJECT_STORE_BYTES = 128 * 2**20
"""Of a cluster that is started: for lists of photographs and records of scenes. Ray wants 75 MB at least."""

JOIN_SECONDS, OWN_SECONDS = 90.0, 300.0
"""Of joining a cluster, whose head has answered after 30 s or never; of starting one, in two tries."""

GRACE_SECONDS = 12.0
"""More for a cluster of the run's own when the run is told to stop."""


class LazyExecutor:
    """The executor is started when there is work, its engine as early as that is certain."""

    def __init__(self, config: JobConfig, stop: Stop, stack: contextlib.ExitStack, emit: Listener) -> None:
        self._config, self._stop, self._stack, self._emit = config, stop, stack, emit
        self._executor: Executor | None = None

    def start(self) -> Executor:
        if self._executor is None:
            if (line := describe_small_memory(self._config)) is not None:
                self._emit(Note(text=line))
            # Not in the main thread: see RayExecutor. The thread stays, as Ray's processes end with it.
            starting = start_aside(make_executor, self._config, self._stop, stay=True)
            self._executor = self._started(starting)
            self._stack.callback(self._executor.close)
        return self._executor

    def _started(self, starting: Future[Executor]) -> Executor:
        """The executor; to stop is heard meanwhile, and what hangs is given up.

        Raises:
            StoppedError: told to stop, or Ray gave no answer.
        """
        joins = self._config.ray_address is not None
        seconds = JOIN_SECONDS if joins else OWN_SECONDS
        until = time.monotonic() + seconds
        while not wait([starting], timeout=CHECK_SECONDS).done:
            reason = self._stop()
            if reason is None and time.monotonic() > until:
                reason = (
                    f"Ray gave no answer for {seconds:.0f} s while it was {'joined' if joins else 'started'}"
                )
            # A cluster that is nearly there is soon ended in order.
            if reason and not wait([starting], timeout=0.0 if joins else GRACE_SECONDS).done:
                _give_up()
                raise StoppedError(reason)
        return starting.result()


def _give_up() -> None:
    """Leave a start that hangs to its thread, and nothing of it behind."""
    from batchseg.driver.executors.ray.cluster import give_up_starts

    give_up_starts()
    for process in multiprocessing.active_children():
        process.kill()
    Helper.given_up += 1


def describe_small_memory(config: JobConfig) -> str | None:
    """What is to be known of a local Ray cluster whose object store does not fit into shared memory.

    Ray keeps it in files then: containers have 64 MiB of /dev/shm unless told otherwise. No pixels go there.
    """
    if config.executor != "ray" or config.ray_address is not None:
        return None
    with contextlib.suppress(OSError):
        if (free := free_bytes(SHARED_MEMORY)) < OBJECT_STORE_BYTES:
            return (
                f"{SHARED_MEMORY} has {free / 2**20:.0f} MiB free, and Ray's objects may take "
                f"{OBJECT_STORE_BYTES // 2**20} MiB: kept in {socket_root()} instead; give the container "
                f"more (docker run --shm-size={OBJECT_STORE_BYTES // 2**20}m)"
            )
    return None


def worker_count(config: JobConfig) -> int:
    """Predictors on this machine, or inline threads: one per core it may use, unless the job says."""
    return config.workers or (core_count() if config.executor == "inline" else predictor_count())


def driver_timeout(config: JobConfig) -> float:
    """Seconds until the driver gives a step up. The inline executor keeps the limit itself."""
    return math.inf if config.executor == "inline" else config.lease_timeout


def make_executor(config: JobConfig, stop: Stop) -> Executor:
    workers = worker_count(config)
    batch_size = config.batch_size
    if config.executor == "inline":
        return InlineExecutor(
            config.output,
            threads=workers,
            batch_size=batch_size,
            timeout=config.lease_timeout,
            stop=lambda: stop() is not None,
        )
    if config.executor == "processes":
        from batchseg.driver.executors.processes.executor import ProcessesExecutor

        return ProcessesExecutor(
            config.output, workers=workers, batch_size=batch_size, timeout=config.lease_timeout
        )
    from batchseg.driver.executors.ray.executor import RayExecutor

    engine = RayExecutor(
        config.output,
        address=config.ray_address,
        workers=config.workers,
        gpus_per_worker=config.gpus_per_worker,
        batch_size=batch_size,
        timeout=config.lease_timeout,
        object_store_bytes=OBJECT_STORE_BYTES,
    )
    # One file that hangs is read twice before its header is refused.
    return WatchedExecutor(engine, header_seconds=4 * config.lease_timeout + START_SECONDS)

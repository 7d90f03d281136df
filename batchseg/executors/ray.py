"""Steps as Ray tasks, predictors as Ray actors. The only module that imports ray.

Tasks that read, write and finish reserve no CPU: the predictors hold them all, and a task that asks
for one would never start. Ray's own retries are off; the driver decides what is done again.
"""

import contextlib
import os
import secrets
import shutil
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

# Ray reports usage to the network unless told not to; an overnight job talks to nobody.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Ray 2.60 warns at every task that it will stop hiding GPUs from tasks without one.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# Ray's C++ handler would turn a SIGTERM into an abort before the run can record what it did.
os.environ.setdefault("RAY_DISABLE_FAILURE_SIGNAL_HANDLER", "1")

import ray
from ray import exceptions as ray_errors
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from batchseg import storage
from batchseg.engines import telling_line
from batchseg.errors import BatchsegError, ConfigError, ModelError, SourceError, StoppedError
from batchseg.executors import (
    Failure,
    FinishOutcome,
    FinishTask,
    GroupOutcome,
    Isolation,
    LeaseOutcome,
    Outcome,
    SiftOutcome,
    Slot,
    died_reading,
)
from batchseg.finish import finish_scene
from batchseg.isolate import START_SECONDS, ProcessDiedError
from batchseg.ledger import Record
from batchseg.machine import cpu_class
from batchseg.photos.group import Group, GroupAnswer, Sifted, from_stream
from batchseg.photos.sift import sift
from batchseg.photos.worker import GroupWorker, usual_batch
from batchseg.predict import load_predictor
from batchseg.read import read_header, read_headers_alone
from batchseg.recipe import Product, Recipe
from batchseg.scene import Refusal, Scene, Source
from batchseg.scratch import RAY_PREFIX, held_folder, socket_root
from batchseg.steps import (
    Lease,
    LeaseMasks,
    LeasePixels,
    LeaseResult,
    predict_lease,
    read_lease,
    read_lease_alone,
    write_lease,
)

HEADERS_PER_TASK = 64
HEADERS_LOST_LIMIT = 3
"""Times in a row that who reads doubtful headers ends without having read one."""

START_TIMEOUT = 300.0
"""Seconds for all predictors to load their model."""

WARM_WORKERS, WARM_SECONDS = 2, 0.5
"""One to read and one to write. An idle worker costs 1 % of a core, so not more than are of use at first."""

REMOTE_READS = 6
"""At once from buckets: while one waits for its replies the others decode."""

MAX_RESTARTS_IN_A_ROW = 3
"""Predictors that die before their first answer, one after the other, before the run is stopped."""

LOST_ERRORS = (
    ray_errors.OutOfMemoryError,
    ray_errors.NodeDiedError,
    ray_errors.ObjectLostError,
    ray_errors.OwnerDiedError,
    ray_errors.ObjectStoreFullError,
    ray_errors.RuntimeEnvSetupError,
    ray_errors.TaskCancelledError,
)


Where = dict[str, str]
"""Options of the storages: a worker process may be older than the run, or on another machine."""


@ray.remote(num_cpus=0, max_retries=0)
def _warm(seconds: float) -> None:
    """Hold a worker process, so that Ray starts another for the next task: importing takes a second."""
    time.sleep(seconds)


@ray.remote(num_cpus=0, max_retries=0)
def _headers(where: Where, sources: list[Source]) -> list[Scene | Refusal]:
    storage.adopt(where)
    return [read_header(source) for source in sources]


@ray.remote(num_cpus=0, max_retries=0, num_returns="streaming")
def _headers_alone(where: Where, sources: list[Source], timeout: float) -> Iterator[Scene | Refusal]:
    storage.adopt(where)
    yield from read_headers_alone(sources, timeout)


@ray.remote(num_cpus=0, max_retries=0)
def _read(
    where: Where, recipe: Recipe, lease: Lease, isolated: bool, timeout: float
) -> LeasePixels | Failure:
    storage.adopt(where)
    try:
        if isolated:
            # Shorter than the driver waits: this process must outlive the fresh one to end it.
            return read_lease_alone(recipe, lease, 0.8 * timeout)
        return read_lease(recipe, lease)
    except SourceError as e:
        return Failure.of(e, "read")
    except ProcessDiedError as e:
        return died_reading(lease, e)


@ray.remote(num_cpus=0, max_retries=0)
def _write(
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
def _finish(
    where: Where, output: str, recipe: Recipe, product: Product, task: FinishTask
) -> tuple[Record, float] | Failure:
    storage.adopt(where)
    try:
        return finish_scene(output, task.scene, recipe, product, task.shards, task.epoch)
    except BatchsegError as e:
        return Failure.of(e, "finish")


@ray.remote(num_cpus=0, max_retries=0)
def _sift(where: Where, recipe: Recipe, group: Group, timeout: float) -> Sifted:
    storage.adopt(where)
    return sift(from_stream(group.images).to_pylist(), recipe, timeout)


class _PredictorActor:
    def __init__(self, recipe: Recipe, batch_size: int, output: str, product: Product, readers: int) -> None:
        self._recipe, self._batch_size = recipe, batch_size
        self._predictor = load_predictor(recipe, batch_size=batch_size)
        self._worker: GroupWorker | None = None
        if product.photographs is not None:
            self._worker = GroupWorker(
                output,
                recipe,
                product,
                self._predictor,
                batch_size=batch_size,
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


_remote_predictor: Any = ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)(_PredictorActor)


@dataclass(slots=True)
class _Worker:
    """One predictor actor; replaced when it dies."""

    actor: Any
    node: str
    ready: Any
    """Answered once the model is loaded."""
    died_in_a_row: int = 0
    """Before that: over some work it may be the work's fault, which the driver finds out."""


@dataclass(slots=True)
class _GroupFlight:
    """A group on its way."""

    group: Group
    slot: int
    actor: Any
    done: Any


@dataclass(slots=True)
class _Flight:
    """A lease on its way."""

    lease: Lease
    slot: int
    isolation: Isolation
    actor: Any = None
    read: Any = None
    masks: Any = None
    done: Any = None
    own_actor: bool = False
    started: float = field(default_factory=time.monotonic)


class RayExecutor:
    """Predictors on every GPU or core of a Ray cluster: a given one, or one that lives with the run."""

    def __init__(
        self,
        output: str,
        *,
        address: str | None,
        workers: int | None,
        gpus_per_worker: float,
        batch_size: int | None,
        timeout: float,
        object_store_bytes: int,
    ) -> None:
        """Connect or start Ray. Not in the main thread, where Ray would install a SIGTERM handler of its own.

        Raises:
            ConfigError: there is no cluster at the address.
        """
        self._output, self._asked_batch, self._timeout = output, batch_size, timeout
        self._asked_workers, self._gpus = workers, gpus_per_worker
        self._where: Where = storage.environment()
        self._folder: Path | None = None
        self._lock: Any = None
        self._closing, self._starting, self._listing = False, threading.Lock(), threading.Lock()
        self._connect(address, object_store_bytes)
        self._workers: list[_Worker] = []
        self._flights: dict[int, _Flight] = {}
        self._queued: deque[_Flight] = deque()
        self._reading: dict[Any, int] = {}
        self._finishes: dict[Any, str] = {}
        self._groups: dict[int, _GroupFlight] = {}
        self._sifts: dict[Any, int] = {}

    def _connect(self, address: str | None, object_store_bytes: int) -> None:
        quiet = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
        try:
            if address is not None or ray.is_initialized():
                ray.init(address=address or None, ignore_reinit_error=True, **quiet)
                self._owns_cluster = False
            else:
                self._start_local(object_store_bytes, quiet)
                self._owns_cluster = True
        except Exception as e:  # Ray raises ConnectionError, ValueError, RuntimeError and bare Exception
            self._remove_folder()
            where = f"connect to the Ray cluster at {address}" if address else "start Ray on this machine"
            msg = f"cannot {where}: {e}"
            raise (ConfigError if address else StoppedError)(msg) from e

    def _start_local(self, object_store_bytes: int, quiet: dict[str, Any]) -> None:
        self._folder, self._lock = held_folder(RAY_PREFIX, root=socket_root())
        # Or else Ray makes one and keeps it in the home folder, of which there may be none.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        ray.init(
            num_cpus=self._asked_workers or len(os.sched_getaffinity(0)),
            include_dashboard=False,
            object_store_memory=object_store_bytes,
            _temp_dir=str(self._folder),
            _system_config={
                # Workers cost a second of CPU to start (imports); Ray ends idle ones after one second.
                "idle_worker_killing_time_threshold_ms": 10 * 60 * 1000,
            },
            **quiet,
        )

    def headers(self, sources: Sequence[Source]) -> Iterator[Scene | Refusal]:
        parts = deque(
            list(sources[at : at + HEADERS_PER_TASK]) for at in range(0, len(sources), HEADERS_PER_TASK)
        )
        running: dict[Any, list[Source]] = {}
        doubtful: list[Source] = []
        while parts or running:
            while parts and len(running) < 4:
                part = parts.popleft()
                running[_headers.remote(self._where, part)] = part
            ready = self._ready_in_time(list(running), self._timeout)
            if not ready:  # a header that never comes: its batch is looked at one by one
                for ref, part in running.items():
                    ray.cancel(ref, force=True)
                    doubtful += part
                running.clear()
            for ref in ready:
                part = running.pop(ref)
                try:
                    answers = ray.get(ref)
                except ray_errors.RayError:
                    doubtful += part
                    continue
                # A refusal stands only if it recurs in a fresh process.
                doubtful += [a.source for a in answers if isinstance(a, Refusal)]
                yield from (a for a in answers if isinstance(a, Scene))
        lost = 0
        while doubtful:
            before, reason = len(doubtful), "no answer in time"
            answers = _headers_alone.remote(self._where, doubtful, self._timeout)
            try:
                # What hangs over a file is ended there; a process that does not do so is ended here.
                while doubtful and self._ready_in_time([answers], 2 * self._timeout + 2 * START_SECONDS):
                    yield ray.get(next(answers))
                    doubtful = doubtful[1:]
            except ray_errors.RayError as e:
                reason = _first_line(e)
            ray.cancel(answers, force=True)
            lost = lost + 1 if len(doubtful) == before else 0
            if lost == HEADERS_LOST_LIMIT:
                msg = f"headers could not be read: {reason}"
                raise StoppedError(msg)

    def _ready_in_time(self, refs: list[Any], timeout: float) -> list[Any]:
        """Those of some references that are ready; none when the time is over. close() ends the wait."""
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            with self._listing:
                if self._closing:
                    msg = "stopped while headers were read"
                    raise StoppedError(msg)
                ready, _ = ray.wait(refs, timeout=0.2)
            if ready:
                return list(ready)
        return []

    def start(self, recipe: Recipe, product: Product) -> Sequence[Slot]:
        self._product, self._device = product, recipe.device
        self._batch_size = self._asked_batch or (1 if recipe.fit is None else usual_batch(recipe))
        self._recipe, self._product_ref = ray.put(recipe), ray.put(product)
        count = self._asked_workers or self._capacity()
        if count < 1:
            msg = f"the Ray cluster has no {'GPU' if self._device == 'gpu' else 'CPU'} to run a predictor on"
            raise ConfigError(msg)
        cores = len(os.sched_getaffinity(0)) if self._owns_cluster else count
        self._readers = max(1, cores // count)
        actors = [self._new_actor() for _ in range(count)]
        warm = [_warm.remote(WARM_SECONDS) for _ in range(WARM_WORKERS)] if self._owns_cluster else []
        ready = [actor.hello.remote() for actor in actors]
        hellos = self._answers(ready, warm)
        self._workers = [
            _Worker(actor=actor, node=node, ready=ref)
            for actor, ref, (node, _) in zip(actors, ready, hellos, strict=True)
        ]
        self._several_nodes = len({worker.node for worker in self._workers}) > 1
        return [Slot(id=number, cpu_class=kind) for number, (_, kind) in enumerate(hellos)]

    def _answers(self, hellos: list[Any], warm: list[Any]) -> list[tuple[str, str]]:
        """What the actors say once their model is loaded; close() ends the wait."""
        until = time.monotonic() + START_TIMEOUT
        pending = [*hellos, *warm]
        with self._starting:
            while pending:
                if self._closing or time.monotonic() > until:
                    msg = f"{len(hellos)} predictors were not ready in time; has the cluster as many free?"
                    raise StoppedError(msg)
                _, pending = ray.wait(pending, num_returns=1, timeout=0.2)
            try:
                answers: list[tuple[str, str]] = ray.get(hellos)
            except ray_errors.RayError as e:
                msg = f"model: a predictor cannot be started: {getattr(e, 'cause', None) or _first_line(e)}"
                raise ModelError(msg) from e
        return answers

    def _capacity(self) -> int:
        resources = ray.cluster_resources()
        if self._device == "gpu":
            return int(resources.get("GPU", 0) / self._gpus)
        return int(resources.get("CPU", 0))

    def _new_actor(self, *, reserve: bool = True) -> Any:
        gpu = self._device == "gpu"
        options = {"num_gpus": self._gpus if gpu and reserve else 0, "num_cpus": 1 if reserve else 0}
        return _remote_predictor.options(**options).remote(
            self._recipe, self._batch_size, self._output, self._product_ref, self._readers
        )

    def submit(self, lease: Lease, slot: Slot, isolation: Isolation) -> None:
        flight = _Flight(lease=lease, slot=slot.id, isolation=isolation)
        self._flights[lease.id] = flight
        self._queued.append(flight)
        self._launch()

    def _launch(self) -> None:
        """Start queued flights as far as reading them now is of use."""
        while (flight := self._next_to_read()) is not None:
            self._queued.remove(flight)
            worker = self._workers[flight.slot]
            flight.own_actor = flight.isolation == "predict"
            flight.actor = self._new_actor(reserve=False) if flight.own_actor else worker.actor
            near = self._near(worker.node)
            isolated = flight.isolation == "read"
            flight.read = _read.options(**near).remote(
                self._where, self._recipe, flight.lease, isolated, self._timeout
            )
            flight.masks = flight.actor.predict.remote(flight.read)
            flight.done = _write.options(**near).remote(
                self._where, self._output, self._recipe, flight.lease, flight.masks
            )
            self._reading[flight.read] = flight.lease.id

    def _next_to_read(self) -> _Flight | None:
        """One read at a time where predictors are the slower side: neighbouring shards then meet in one
        process, whose cache holds the blocks they share. As many as there are predictors where these wait."""
        if len(self._reading) < len(self._workers):
            hungry = next((flight for flight in self._queued if self._is_hungry(flight.slot)), None)
            if hungry is not None:
                return hungry
        if not self._queued:
            return None
        remote = storage.local_path(self._queued[0].lease.scene.source.uri) is None
        return self._queued[0] if len(self._reading) < (REMOTE_READS if remote else 1) else None

    def _is_hungry(self, slot: int) -> bool:
        """Whether nothing that is read waits for this predictor."""
        flights = (flight for flight in self._flights.values() if flight.slot == slot)
        return all(flight.read is None or flight.read in self._reading for flight in flights)

    def _near(self, node: str) -> dict[str, Any]:
        if not self._several_nodes:
            return {}
        return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node_id=node, soft=True)}

    def finish(self, task: FinishTask) -> None:
        ref = _finish.remote(self._where, self._output, self._recipe, self._product, task)
        self._finishes[ref] = task.scene.source.source_id

    def abandon(self, lease_id: int) -> Literal["read", "predict", "write"]:
        flight = self._flights.pop(lease_id)
        if flight in self._queued:
            self._queued.remove(flight)
            return "read"
        reading = self._reading.pop(flight.read, None) is not None
        with contextlib.suppress(ray_errors.RayError):
            ray.cancel(flight.read, force=True)
        if reading:
            return "read"  # its predictor only waits for it, and gets an error instead
        if ray.wait([flight.masks], timeout=0, fetch_local=False)[0]:
            with contextlib.suppress(ray_errors.RayError):
                ray.cancel(flight.done, force=True)
            if flight.own_actor:
                self._replace(flight)
            return "write"
        self._replace(flight)
        return "predict"

    def abandon_finish(self, source_id: str) -> None:
        self._cancel(self._finishes, source_id)

    def abandon_sift(self, group_id: int) -> None:
        self._cancel(self._sifts, group_id)

    def _cancel(self, running: dict[Any, Any], wanted: object) -> None:
        for ref in [ref for ref, what in running.items() if what == wanted]:
            del running[ref]
            with contextlib.suppress(ray_errors.RayError):
                ray.cancel(ref, force=True)

    def submit_group(self, group: Group, slot: Slot) -> None:
        actor = self._workers[slot.id].actor
        done = actor.do_group.remote(self._where, group)
        self._groups[group.id] = _GroupFlight(group=group, slot=slot.id, actor=actor, done=done)

    def sift(self, group: Group) -> None:
        # Shorter than the driver waits: see _read.
        self._sifts[_sift.remote(self._where, self._recipe, group, 0.8 * self._timeout)] = group.id

    def abandon_group(self, group_id: int) -> None:
        flight = self._groups.pop(group_id)
        self._end_actor(flight.actor, flight.slot)

    def poll(self, timeout: float) -> list[Outcome]:
        self._launch()
        by_done = {flight.done: flight for flight in self._flights.values() if flight.done is not None}
        groups = {flight.done: flight for flight in self._groups.values()}
        watched = [*by_done, *self._reading, *self._finishes, *groups, *self._sifts]
        if not watched:
            return []
        ready, _ = ray.wait(watched, num_returns=1, timeout=timeout, fetch_local=False)
        if ready:
            ready, _ = ray.wait(watched, num_returns=len(watched), timeout=0, fetch_local=False)
        for ref in ready:
            self._reading.pop(ref, None)
        landed = sorted((by_done[ref] for ref in ready if ref in by_done), key=lambda flight: flight.started)
        outcomes: list[Outcome] = [self._land(flight) for flight in landed]
        outcomes += [self._finished(ref) for ref in ready if ref in self._finishes]
        ended = sorted((groups[ref] for ref in ready if ref in groups), key=lambda flight: flight.group.id)
        outcomes += [self._land_group(flight) for flight in ended]
        outcomes += [self._sifted(ref) for ref in ready if ref in self._sifts]
        self._launch()
        return outcomes

    def _land(self, flight: _Flight) -> LeaseOutcome:
        """The outcome of a flight. Of several to a predictor that died, the first is the suspect."""
        del self._flights[flight.lease.id]
        self._reading.pop(flight.read, None)
        try:
            result: LeaseResult | Failure = ray.get(flight.done)
        except ray_errors.RayError as e:
            cause = getattr(e, "cause", None) or e
            if not isinstance(cause, ray_errors.RayActorError):
                return LeaseOutcome(lease_id=flight.lease.id, result=_crash(cause, "read"))
            worker = self._workers[flight.slot]
            if flight.own_actor or flight.actor is worker.actor:
                self._replace(flight)
                return LeaseOutcome(lease_id=flight.lease.id, result=_crash(cause, "predict"))
            reason = "its predictor died over another lease"
            lost = Failure(kind="lost", step="predict", reason=reason)
            return LeaseOutcome(lease_id=flight.lease.id, result=lost)
        if not flight.own_actor:
            self._workers[flight.slot].died_in_a_row = 0
        else:
            ray.kill(flight.actor)
        return LeaseOutcome(lease_id=flight.lease.id, result=result)

    def _land_group(self, flight: _GroupFlight) -> GroupOutcome:
        del self._groups[flight.group.id]
        try:
            result: GroupAnswer | Failure = ray.get(flight.done)
        except ray_errors.RayError as e:
            cause = getattr(e, "cause", None) or e
            if flight.actor is self._workers[flight.slot].actor:
                self._end_actor(flight.actor, flight.slot)
                return GroupOutcome(group_id=flight.group.id, result=_crash(cause, "group"))
            lost = Failure(kind="lost", step="group", reason="its predictor died over another group")
            return GroupOutcome(group_id=flight.group.id, result=lost)
        self._workers[flight.slot].died_in_a_row = 0
        return GroupOutcome(group_id=flight.group.id, result=result)

    def _sifted(self, ref: Any) -> SiftOutcome:
        group_id = self._sifts.pop(ref)
        try:
            return SiftOutcome(group_id=group_id, result=ray.get(ref))
        except ray_errors.RayError as e:
            return SiftOutcome(group_id=group_id, result=_crash(getattr(e, "cause", None) or e, "group"))

    def _replace(self, flight: _Flight) -> None:
        """End a flight's predictor; a slot gets a new one."""
        if flight.own_actor:
            with contextlib.suppress(ray_errors.RayError):
                ray.kill(flight.actor)
            return
        self._end_actor(flight.actor, flight.slot)

    def _end_actor(self, actor: Any, slot: int) -> None:
        """End a slot's predictor, and give it a new one."""
        with contextlib.suppress(ray_errors.RayError):
            ray.kill(actor)
        worker = self._workers[slot]
        if worker.actor is not actor:
            return
        worker.died_in_a_row = 0 if _is_answered(worker.ready) else worker.died_in_a_row + 1
        if worker.died_in_a_row > MAX_RESTARTS_IN_A_ROW:
            msg = f"a predictor died {worker.died_in_a_row} times in a row; is there memory enough for it?"
            raise StoppedError(msg)
        worker.actor = self._new_actor()
        worker.ready = worker.actor.hello.remote()

    def _finished(self, ref: Any) -> FinishOutcome:
        source_id = self._finishes.pop(ref)
        try:
            return FinishOutcome(source_id=source_id, result=ray.get(ref))
        except ray_errors.RayError as e:
            return FinishOutcome(source_id=source_id, result=_crash(getattr(e, "cause", None) or e, "finish"))

    def close(self) -> None:
        self._closing = True
        with self._starting, self._listing:  # a start under way in another thread ends first
            pass
        for flight in self._flights.values():
            if flight.own_actor:
                with contextlib.suppress(ray_errors.RayError):
                    ray.kill(flight.actor)
        for worker in self._workers:
            with contextlib.suppress(ray_errors.RayError):
                ray.kill(worker.actor)
        self._workers = []
        if self._owns_cluster:
            ray.shutdown()
        self._remove_folder()

    def kill(self) -> None:
        """End the cluster that was started here, by force: it does not answer."""
        if self._owns_cluster and (node := ray._private.worker._global_node) is not None:
            # Ray's own way of killing them waits for each.
            for process in [info.process for infos in node.all_processes.values() for info in infos]:
                with contextlib.suppress(OSError):
                    os.kill(process.pid, signal.SIGKILL)
        self._remove_folder()

    def _remove_folder(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._lock.close()
            self._folder = None


def _crash(error: BaseException, step: Any) -> Failure:
    """A Ray error as a failure: lost with a node or to the out-of-memory killer, or a crash."""
    if isinstance(error, LOST_ERRORS):
        memory = isinstance(error, ray_errors.OutOfMemoryError)
        reason = f"{type(error).__name__}: {_first_line(error)}"
        return Failure(kind="lost", step=step, reason=reason, memory=memory)
    return Failure(kind="crash", step=step, reason=f"{step}ing it ended the process: {type(error).__name__}")


def _is_answered(ref: Any) -> bool:
    with contextlib.suppress(ray_errors.RayError):
        ray.get(ref, timeout=0)
        return True
    return False


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)

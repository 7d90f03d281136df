"""Leases, groups and finishes on a Ray cluster: a given one, or one that lives with the run.

What runs on a host that is gone comes back as lost: Ray leaves a task on a host that was cut off pending
for minutes, and does not do it again.
"""

import contextlib
import math
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

from batchseg.driver.executors import ray_tasks as tasks  # sets what Ray reads when it is imported

# isort: split
import ray
from ray import exceptions as ray_errors
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from batchseg.driver.executors.ray_cluster import lean_head
from batchseg.driver.executors.ray_fleet import Fleet
from batchseg.driver.executors.ray_hosts import Hosts
from batchseg.driver.executors.ray_leases import Flight, Leases
from batchseg.driver.scene_worker import Lease, LeaseResult
from batchseg.driver.tasks import (
    Failure,
    FinishOutcome,
    FinishTask,
    Group,
    GroupAnswer,
    GroupOutcome,
    Isolation,
    LeaseOutcome,
    Outcome,
    SiftOutcome,
    Slot,
    SlotsChanged,
)
from batchseg.errors import ConfigError, StoppedError
from batchseg.inputs.source import Refusal, Scene, Source
from batchseg.job.recipe import Product, Recipe
from batchseg.predict.predictor import usual_batch
from batchseg.system import storage
from batchseg.system.disks import check_room, full_disks
from batchseg.system.processes import START_SECONDS
from batchseg.system.temp_folders import RAY_PREFIX, end_cluster, held_folder, socket_root

HEADERS_PER_TASK = 64
HEADERS_LOST_LIMIT = 3
"""Times in a row that who reads doubtful headers ends without having read one."""

WARM_WORKERS, WARM_SECONDS = 2, 0.5
"""One to read and one to write. An idle worker costs 1 % of a core, so not more than are of use at first."""

REMOTE_READS = 6
"""At once from buckets, per host: while one waits for its replies the others decode."""

FETCH_SECONDS = 15.0
"""For an answer that lies on another host; it was cut off if that does not do."""

IDLE_SECONDS = 0.02

TEND_SECONDS = 0.2
"""Between looks at all predictors and hosts, unless one came."""

ASK_SHARE, GATHER_SECONDS = 0.05, 0.1
"""Of the time that asking for what is ready may take, as it asks for all that is under way (0.3 us each, and
thousands of them): so after the first answer it waits for more, a tenth of a second at most."""

NEEDED_BYTES, NEEDED_FILES = 4 * 2**20, 100
"""Of the temporary folder's disk, before Ray is started there: where its processes cannot write their logs it
waits 30 s, and then says that it is overloaded. A session of 2.60 has 55 files and 130 KiB from the first."""


@dataclass(slots=True)
class _GroupFlight:
    """A group on its way."""

    group: Group
    slot: int
    node: str
    actor: Any
    done: Any
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
        self._where: tasks.Where = storage.environment()
        self._folder: Path | None = None
        self._lock: Any = None
        self._closing, self._starting, self._listing = False, threading.Lock(), threading.Lock()
        self._connect(address, object_store_bytes)
        self._hosts = Hosts(self._processes() if self._owns_cluster else {})
        self._fleet: Fleet | None = None
        self._told: list[Slot] = []
        self._live: set[int] = set()
        """Ids of `_told`."""
        self._host_count = 1
        """That they are on."""
        self._tended_at, self._gathers = -math.inf, 0.0
        self._hellos: list[Any] = []
        self._leases = Leases()
        self._finishes: dict[Any, tuple[str, str]] = {}
        """Source id and node."""
        self._groups: dict[int, _GroupFlight] = {}
        self._sifts: dict[Any, int] = {}

    def _connect(self, address: str | None, object_store_bytes: int) -> None:
        quiet = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
        try:
            if address is not None or ray.is_initialized():
                ray.init(address=address or None, ignore_reinit_error=True, **quiet)
                self._owns_cluster = False
            else:
                self._owns_cluster = True
                try:
                    self._start_local(object_store_bytes, quiet)
                except StoppedError:
                    raise
                except Exception:  # noqa: BLE001  its raylet gets 30 s, which a busy machine may exceed
                    self._remove_folder()
                    self._start_local(object_store_bytes, quiet)
        except Exception as e:  # Ray raises ConnectionError, ValueError, RuntimeError and bare Exception
            self._remove_folder()
            if isinstance(e, StoppedError):
                raise
            where = f"connect to the Ray cluster at {address}" if address else "start Ray on this machine"
            msg = f"cannot {where}: {e}{_because_of(e)}"
            if not address and (left := full_disks()):
                msg += f" ({'; '.join(left)}; make room there, or name another folder in TMPDIR)"
            raise (ConfigError if address else StoppedError)(msg) from e

    def _start_local(self, object_store_bytes: int, quiet: dict[str, Any]) -> None:
        root = socket_root()
        check_room(root, "Ray", nbytes=NEEDED_BYTES, files=NEEDED_FILES)
        self._folder, self._lock = held_folder(RAY_PREFIX, root=root)
        # Or else Ray makes one and keeps it in the home folder, of which there may be none.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        with lean_head():
            ray.init(
                _node_ip_address="127.0.0.1",
                num_cpus=self._asked_workers or len(os.sched_getaffinity(0)),
                include_dashboard=False,
                object_store_memory=object_store_bytes,
                _temp_dir=str(self._folder / "r"),  # which Ray opens to everybody
                _system_config={
                    # Workers cost a second of CPU to start (imports); Ray ends idle ones after one second.
                    "idle_worker_killing_time_threshold_ms": 10 * 60 * 1000,
                    # Its end is seen at once; on a busy machine it may be slow to say that it lives.
                    "health_check_failure_threshold": 60,
                    # Statistics and histories of tasks for an API server that this cluster has not.
                    "enable_metrics_collection": False,
                    "task_events_report_interval_ms": 0,
                    "event_stats": False,
                },
                **quiet,
            )

    @staticmethod
    def _processes() -> dict[str, Any]:
        """Of the run's own cluster."""
        started = ray._private.worker._global_node.all_processes
        return {name: started[name][0].process for name in ("raylet", "gcs_server")}

    def headers(self, sources: Sequence[Source]) -> Iterator[Scene | Refusal]:
        parts = deque(
            list(sources[at : at + HEADERS_PER_TASK]) for at in range(0, len(sources), HEADERS_PER_TASK)
        )
        running: dict[Any, list[Source]] = {}
        doubtful: list[Source] = []
        # Now, while the model loads: later their imports and clients would take the predictors' cores.
        if self._owns_cluster and sources and not sources[0].is_local:
            self._warm(REMOTE_READS - WARM_WORKERS, [sources[0].uri, self._output])
        while parts or running:
            while parts and len(running) < 4:
                part = parts.popleft()
                running[tasks.headers.options(**self._at(self._hosts.home)).remote(self._where, part)] = part
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
        yield from self._doubtful_headers(doubtful)

    def _doubtful_headers(self, doubtful: list[Source]) -> Iterator[Scene | Refusal]:
        asked, lost = tasks.headers_alone.options(**self._at(self._hosts.home)), 0
        while doubtful:
            before, reason = len(doubtful), "no answer in time"
            answers = asked.remote(self._where, doubtful, self._timeout)
            try:
                # What hangs over a file is ended there; a process that does not do so is ended here.
                while doubtful and self._ready_in_time([answers], 2 * self._timeout + 2 * START_SECONDS):
                    yield ray.get(next(answers))
                    doubtful = doubtful[1:]
            except StoppedError as e:
                raise StoppedError(str(getattr(e, "cause", e))) from e  # Ray words it with a traceback
            except ray_errors.RayError as e:
                reason = tasks.first_line(e)
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
        self._batch_size = self._asked_batch or usual_batch(recipe)
        with self._starting:
            return self._start(recipe)

    def _start(self, recipe: Recipe) -> list[Slot]:
        self._recipe, self._product_ref = ray.put(recipe), ray.put(self._product)
        fleet = Fleet(
            self._hosts, self._new_actor, asked=self._asked_workers, device=self._device, gpus=self._gpus
        )
        cores = len(os.sched_getaffinity(0)) if self._owns_cluster else fleet.size
        self._readers = max(1, cores // max(1, fleet.size))
        warm = self._warm(WARM_WORKERS, [self._output]) if self._owns_cluster else []
        self._fleet = fleet
        fleet.start(lambda: self._closing, warm)
        return self._tell(fleet.live())

    def _warm(self, count: int, uris: list[str]) -> list[Any]:
        return [tasks.warm.remote(self._where, uris, WARM_SECONDS) for _ in range(count)]

    def _tell(self, live: list[Slot]) -> list[Slot]:
        """Predictors that take work from now on."""
        seats = [self._predictors.seat(slot.id) for slot in live]
        self._told, self._live = live, {slot.id for slot in live}
        self._host_count = max(1, len({seat.node for seat in seats if seat is not None}))
        return live

    @property
    def _predictors(self) -> Fleet:
        assert self._fleet is not None
        return self._fleet

    def _new_actor(self, *, own_of: str | None = None) -> Any:
        """A predictor for a seat; or for one lease alone, beside the others of a node."""
        gpu, reserve = self._device == "gpu", own_of is None
        options = {"num_gpus": self._gpus if gpu and reserve else 0, "num_cpus": 1 if reserve else 0}
        where = {} if own_of is None else self._at(own_of)
        return tasks.remote_predictor.options(**options, **where).remote(
            self._recipe, self._batch_size, self._output, self._product_ref, self._readers
        )

    def _at(self, node: str) -> dict[str, Any]:
        """Options of a task that is to run on a node, so that it is known with which host it goes."""
        if self._hosts.is_single:
            return {}
        return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node_id=node, soft=True)}

    def submit(self, lease: Lease, slot: Slot, isolation: Isolation) -> None:
        self._leases.queue(Flight(lease=lease, slot=slot.id, isolation=isolation))
        self._launch()

    def _launch(self) -> None:
        """Start queued flights as far as reading them now is of use."""
        while (flight := self._next_to_read()) is not None:
            seat = self._predictors.seat(flight.slot)
            assert seat is not None
            flight.node, flight.own_actor = seat.node, flight.isolation == "predict"
            flight.actor = self._new_actor(own_of=seat.node) if flight.own_actor else seat.actor
            near, isolated = self._at(seat.node), flight.isolation == "read"
            flight.read = tasks.read.options(**near).remote(
                self._where, self._recipe, flight.lease, isolated, self._timeout
            )
            flight.masks = flight.actor.predict.remote(flight.read)
            flight.done = tasks.write.options(**near).remote(
                self._where, self._output, self._recipe, flight.lease, flight.masks
            )
            self._leases.launched(flight)

    def _next_to_read(self) -> Flight | None:
        """One read at a time per host where predictors are the slower side: neighbouring shards then meet in
        one process, whose cache holds the blocks they share. As many as there are predictors where these
        wait."""
        reading = self._leases.being_read
        if reading < len(self._live) and (hungry := self._leases.first_hungry(self._takes_work)) is not None:
            return hungry
        first = self._leases.first(self._takes_work)
        if first is None:
            return None
        remote = not first.lease.scene.source.is_local
        return first if reading < (REMOTE_READS if remote else 1) * self._host_count else None

    def _takes_work(self, slot: int) -> bool:
        seat = self._predictors.seat(slot)
        return slot in self._live and seat is not None and seat.is_ready

    def finish(self, task: FinishTask) -> None:
        node = self._place(len(self._finishes))
        ref = tasks.finish.options(**self._at(node)).remote(
            self._where, self._output, self._recipe, self._product, task
        )
        self._finishes[ref] = task.scene.source.source_id, node

    def _place(self, turn: int) -> str:
        """The node of one predictor after the other, as long as its host is here; else the run's own."""
        for step in range(len(self._told)):
            seat = self._predictors.seat(self._told[(turn + step) % len(self._told)].id)
            if seat is not None and self._hosts.state(seat.node) == "here":
                return seat.node
        return self._hosts.home

    def abandon(self, lease_id: int) -> Literal["read", "predict", "write", "lost"]:
        flight = self._leases.pop(lease_id)
        if flight.done is None:
            return "lost"  # nobody began with it
        reading = not flight.is_read
        with contextlib.suppress(ray_errors.RayError):
            ray.cancel(flight.read, force=True)
        lost = self._hosts.was_silent(flight.node, flight.started)
        if reading and not lost:
            self._kill_own(flight)
            return "read"  # its predictor only waits for it, and gets an error instead
        if not lost and ray.wait([flight.masks], timeout=0, fetch_local=False)[0]:
            with contextlib.suppress(ray_errors.RayError):
                ray.cancel(flight.done, force=True)
            self._kill_own(flight)
            return "write"
        self._replace(flight, blame=not lost)
        return "lost" if lost else "predict"

    def abandon_finish(self, source_id: str) -> None:
        for ref in [ref for ref, (of, _) in self._finishes.items() if of == source_id]:
            self._cancel(self._finishes, ref)

    def abandon_sift(self, group_id: int) -> None:
        for ref in [ref for ref, of in self._sifts.items() if of == group_id]:
            self._cancel(self._sifts, ref)

    def _cancel(self, running: dict[Any, Any], ref: Any) -> None:
        del running[ref]
        with contextlib.suppress(ray_errors.RayError):
            ray.cancel(ref, force=True)

    def submit_group(self, group: Group, slot: Slot) -> None:
        seat = self._predictors.seat(slot.id)
        if seat is None or not seat.is_ready:
            actor, node, done = None, "", None  # it went since the driver was told; see _with_lost_hosts
        else:
            actor, node = seat.actor, seat.node
            done = actor.do_group.remote(self._where, group)
        self._groups[group.id] = _GroupFlight(group=group, slot=slot.id, node=node, actor=actor, done=done)

    def sift(self, group: Group) -> None:
        # Shorter than the driver waits: see tasks.read.
        alone = tasks.sift_group.options(**self._at(self._hosts.home))
        self._sifts[alone.remote(self._where, self._recipe, group, 0.8 * self._timeout)] = group.id

    def abandon_group(self, group_id: int) -> Literal["group", "lost"]:
        flight = self._groups.pop(group_id)
        lost = self._hosts.was_silent(flight.node, flight.started)
        self._predictors.end(flight.slot, flight.actor, blame=not lost)
        return "lost" if lost else "group"

    def poll(self, timeout: float) -> list[Outcome]:
        outcomes = self._with_lost_hosts() if self._fleet is not None else []
        self._launch()
        groups = {flight.done: flight for flight in self._groups.values()}
        watched = [*self._leases.references(), *self._finishes, *groups, *self._sifts]
        if outcomes or not watched:
            time.sleep(0.0 if outcomes else min(timeout, IDLE_SECONDS))
            return outcomes
        ready = self._gathered([*watched, *self._hellos], timeout)
        for ref in ready:
            self._leases.read_ended(ref)
        flights = [flight for ref in ready if (flight := self._leases.landed(ref)) is not None]
        landed = sorted(flights, key=lambda flight: flight.started)
        outcomes = [self._land(flight) for flight in landed]
        outcomes += [self._finished(ref) for ref in ready if ref in self._finishes]
        ended = sorted((groups[ref] for ref in ready if ref in groups), key=lambda flight: flight.group.id)
        outcomes += [self._land_group(flight) for flight in ended]
        outcomes += [self._sifted(ref) for ref in ready if ref in self._sifts]
        if any(hello in ready for hello in self._hellos):
            self._tended_at = -math.inf
        self._launch()
        return outcomes

    def _gathered(self, awaited: list[Any], timeout: float) -> list[Any]:
        """References that are ready, and those that become so soon after the first."""
        ready, _ = ray.wait(awaited, num_returns=1, timeout=timeout, fetch_local=False)
        if not ready:
            return []
        time.sleep(self._gathers)
        before = time.monotonic()
        ready, _ = ray.wait(awaited, num_returns=len(awaited), timeout=0, fetch_local=False)
        self._gathers = min((time.monotonic() - before) / ASK_SHARE, GATHER_SECONDS)
        return list(ready)

    def _with_lost_hosts(self) -> list[Outcome]:
        """Predictors that came or went, and what went with them."""
        now = time.monotonic()
        if now - self._tended_at < TEND_SECONDS:
            return []
        self._tended_at = now
        self._predictors.tend()
        self._hellos = self._predictors.hellos()
        outcomes: list[Outcome] = []
        live = self._predictors.live()
        if live != self._told:
            outcomes.append(SlotsChanged(slots=tuple(self._tell(live))))
        for flight in self._leases.all():
            waits_in_vain = flight.actor is None and flight.slot not in self._live
            if waits_in_vain or (flight.node and self._is_gone(flight.node)):
                outcomes.append(self._lose(flight))
        for group in list(self._groups.values()):
            if not group.node or self._is_gone(group.node):
                del self._groups[group.group.id]
                outcomes.append(GroupOutcome(group_id=group.group.id, result=_lost("group")))
        for ref, (source_id, node) in list(self._finishes.items()):
            if self._is_gone(node):
                del self._finishes[ref]
                outcomes.append(FinishOutcome(source_id=source_id, result=_lost("finish")))
        return outcomes

    def _is_gone(self, node: str) -> bool:
        return self._hosts.state(node) == "gone"

    def _lose(self, flight: Flight) -> LeaseOutcome:
        self._leases.pop(flight.lease.id)
        self._kill_own(flight)
        return LeaseOutcome(lease_id=flight.lease.id, result=_lost("predict"))

    def _land(self, flight: Flight) -> LeaseOutcome:
        """The outcome of a flight. Of several to a predictor that died, the first is the suspect."""
        self._leases.pop(flight.lease.id)
        try:
            result: LeaseResult | Failure = ray.get(flight.done, timeout=FETCH_SECONDS)
        except ray_errors.RayError as e:
            return LeaseOutcome(lease_id=flight.lease.id, result=self._why_not(flight, e))
        if not flight.own_actor:
            self._predictors.answered(flight.slot)
        self._kill_own(flight)
        return LeaseOutcome(lease_id=flight.lease.id, result=result)

    def _why_not(self, flight: Flight, error: ray_errors.RayError) -> Failure:
        cause = getattr(error, "cause", None) or error
        lost = self._hosts.failed(flight.node)
        if not isinstance(cause, ray_errors.RayActorError):
            self._kill_own(flight)
            return _lost("read") if lost else _worker_died(flight, error, cause)
        seat = self._predictors.seat(flight.slot)
        is_first = flight.own_actor or (seat is not None and flight.actor is seat.actor)
        self._replace(flight, blame=not lost)
        if lost:
            return _lost("predict")
        if is_first:
            return tasks.failure_of(cause, "predict")
        return Failure(kind="lost", step="predict", reason="its predictor died over another lease")

    def _land_group(self, flight: _GroupFlight) -> GroupOutcome:
        del self._groups[flight.group.id]
        try:
            result: GroupAnswer | Failure = ray.get(flight.done, timeout=FETCH_SECONDS)
        except ray_errors.RayError as e:
            cause = getattr(e, "cause", None) or e
            lost = self._hosts.failed(flight.node)
            seat = self._predictors.seat(flight.slot)
            is_first = seat is not None and flight.actor is seat.actor
            self._predictors.end(flight.slot, flight.actor, blame=not lost)
            if lost:
                result = _lost("group")
            elif is_first:
                result = tasks.failure_of(cause, "group")
            else:
                result = Failure(kind="lost", step="group", reason="its predictor died over another group")
            return GroupOutcome(group_id=flight.group.id, result=result)
        self._predictors.answered(flight.slot)
        return GroupOutcome(group_id=flight.group.id, result=result)

    def _sifted(self, ref: Any) -> SiftOutcome:
        group_id = self._sifts.pop(ref)
        try:
            return SiftOutcome(group_id=group_id, result=ray.get(ref))
        except ray_errors.RayError as e:
            cause = getattr(e, "cause", None) or e
            return SiftOutcome(group_id=group_id, result=tasks.failure_of(cause, "group"))

    def _replace(self, flight: Flight, *, blame: bool) -> None:
        """End a flight's predictor; a slot gets a new one."""
        if flight.own_actor:
            self._kill_own(flight)
        else:
            self._predictors.end(flight.slot, flight.actor, blame=blame)

    def _kill_own(self, flight: Flight) -> None:
        if flight.own_actor:
            self._predictors.kill(flight.actor)

    def _finished(self, ref: Any) -> FinishOutcome:
        source_id, node = self._finishes.pop(ref)
        try:
            answer: FinishOutcome = ray.get(ref, timeout=FETCH_SECONDS)
            return answer
        except ray_errors.RayError as e:
            cause = getattr(e, "cause", None) or e
            lost = self._hosts.failed(node)
            result = _lost("finish") if lost else tasks.failure_of(cause, "finish")
            return FinishOutcome(source_id=source_id, result=result)

    def check(self) -> None:
        """Raises StoppedError where the cluster's head, or a process of the run's own cluster, is gone."""
        self._hosts.check()

    def close(self) -> None:
        self._closing = True
        with self._starting, self._listing:  # a start under way in another thread ends first
            pass
        for flight in self._leases.all():
            self._kill_own(flight)
        if self._fleet is not None:
            self._fleet.close()
        self._hosts.close()
        if self._owns_cluster:
            ray.shutdown()
        self._remove_folder()

    def kill(self) -> None:
        """End the cluster that was started here, by force: it does not answer."""
        self._closing = True
        self._hosts.close()
        if self._owns_cluster and (node := ray._private.worker._global_node) is not None:
            # Ray's own way of killing them waits for each.
            for process in [info.process for infos in node.all_processes.values() for info in infos]:
                with contextlib.suppress(OSError):
                    os.kill(process.pid, signal.SIGKILL)
        self._remove_folder()

    def _remove_folder(self) -> None:
        if self._folder is not None:
            end_cluster(self._folder)
            shutil.rmtree(self._folder, ignore_errors=True)
            self._lock.close()
            self._folder = None


def _because_of(error: BaseException) -> str:
    """The cause that Ray hides behind "Failed to connect": a token that does not fit, for one."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f" ({tasks.first_line(error)})" if isinstance(error, ray_errors.AuthenticationError) else ""


def _lost(step: Literal["read", "predict", "group", "finish"]) -> Failure:
    return Failure(kind="lost", step=step, reason="the host that it was on is lost, or its predictor was")


def _worker_died(flight: Flight, error: BaseException, cause: BaseException) -> Failure:
    """A task that read or wrote did not end. An error that went through the predictor comes wrapped."""
    if error is cause:
        return tasks.failure_of(cause, "write")
    if flight.isolation == "read":  # what the file itself ends is the fresh process within the task
        reason = f"the task that read it ended: {tasks.first_line(cause)}"
        return Failure(kind="lost", step="read", reason=reason)
    return tasks.failure_of(cause, "read")

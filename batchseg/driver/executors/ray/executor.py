"""The executor on Ray: predictors on every GPU or core of a cluster, a given one or the run's own.

It puts the parts together, gives each task to the part for its kind, and waits for all of them at once.
"""

import math
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from batchseg.driver.executors.ray import tasks  # sets what Ray reads when it is imported

# isort: split
import ray

from batchseg.driver.executors.ray.calls import PredictorCalls
from batchseg.driver.executors.ray.cluster import Cluster
from batchseg.driver.executors.ray.fleet import Capacity, Fleet
from batchseg.driver.executors.ray.headers import HeaderReader
from batchseg.driver.executors.ray.hosts import Hosts
from batchseg.driver.executors.ray.predictors import PredictorMaker, leases_at_once
from batchseg.driver.executors.ray.seats import Seats
from batchseg.driver.executors.ray.side_tasks import SideTasks
from batchseg.driver.executors.ray.slots import Slots
from batchseg.driver.executors.ray.versions import check_hosts
from batchseg.driver.tasks import (
    LeaseTask,
    Outcome,
    PredictorTask,
    Slot,
    SlotsChanged,
    Step,
    Task,
)
from batchseg.inputs.source import Refusal, Scene, Source
from batchseg.job.recipe import Product, Recipe
from batchseg.pixels.values import ValueSample
from batchseg.predict.predictor import usual_batch
from batchseg.system import storage
from batchseg.system.machine import core_count

IDLE_SECONDS = 0.02

TEND_SECONDS = 0.2
"""Between looks at all predictors and hosts, unless one came."""

ASK_SHARE, GATHER_SECONDS = 0.05, 0.1
"""Of the time that asking for what is ready may take, as it asks for all that is under way (0.3 us each, and
thousands of them): so after the first answer it waits for more, a tenth of a second at most."""


class RayExecutor:
    """Predictors on every GPU or core of a Ray cluster."""

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
        """Connect or start Ray. Not in the main thread: see `Cluster`, also for what is raised.

        Args:
            output: root of the results.
            address: of a cluster that is there; None: one is started.
            workers: predictors; None: as many as there is room for.
            gpus_per_worker: that each one reserves.
            batch_size: tiles per run of the network; None: as is usual for the network.
            timeout: seconds until the driver gives a step up.
            object_store_bytes: of a cluster that is started.
        """
        self._output, self._asked_batch, self._timeout = output, batch_size, timeout
        self._asked_workers, self._gpus = workers, gpus_per_worker
        self._where = storage.environment()
        self._closing, self._starting = threading.Event(), threading.Lock()
        self._cluster = Cluster(address, cpus=workers, object_store_bytes=object_store_bytes)
        self._hosts = Hosts(self._cluster.own_processes())
        if not self._cluster.is_own:
            try:
                check_hosts(self._hosts)
            except BaseException:
                self._hosts.close()
                raise
        self._headers = HeaderReader(self._where, self._hosts, timeout, self._closing)
        self._fleet: Fleet | None = None
        self._hellos: list[Any] = []
        self._tended_at, self._gathers = -math.inf, 0.0

    def headers(self, sources: Iterator[Source]) -> Iterator[Scene | Refusal]:
        return self._headers.read(sources)

    def samples(self, scenes: Sequence[Scene], recipe: Recipe) -> list[ValueSample]:
        return self._headers.samples(scenes, recipe)

    def start(self, recipe: Recipe, product: Product) -> Sequence[Slot]:
        batch_size = self._asked_batch or usual_batch(recipe)
        with self._starting:
            context = tasks.RunContext(
                where=self._where,
                output=self._output,
                recipe=ray.put(recipe),
                product=ray.put(product),
                timeout=self._timeout,
            )
            capacity = Capacity(self._hosts, asked=self._asked_workers, device=recipe.device, gpus=self._gpus)
            count = capacity.wanted
            cores = core_count()
            if not self._cluster.is_own:
                cores = int(sum(host.cpus for host in self._hosts.all()))
            maker = PredictorMaker(
                context=context,
                device=recipe.device,
                gpus=self._gpus,
                batch_size=batch_size,
                readers=max(1, cores // max(1, count)),
            )
            fleet = self._build(context, capacity, maker)
            fleet.start(self._closing.is_set)
            live = fleet.live()
            self._slots.tell(live)
            return live

    def _build(self, context: tasks.RunContext, capacity: Capacity, maker: PredictorMaker) -> Fleet:
        """The parts that know the run's recipe; gives the last of them."""
        hosts, seats = self._hosts, Seats(maker.make, self._hosts)
        self._slots = Slots(seats, hosts)
        self._calls = PredictorCalls(context, hosts, seats, self._slots, maker)
        self._aside = SideTasks(context, hosts, self._slots)
        self._seats = seats
        self._fleet = fleet = Fleet(hosts, seats, capacity, leases_at_once(maker.readers))
        return fleet

    def submit(self, task: Task) -> None:
        if isinstance(task, PredictorTask):
            self._calls.submit(task)
        else:
            self._aside.submit(task)

    def abandon(self, task: Task) -> Step | Literal["lost"]:
        if isinstance(task, PredictorTask):
            return self._calls.abandon(task)
        return self._aside.abandon(task)

    def withdraw(self, task: LeaseTask) -> None:
        self._calls.withdraw(task)

    def poll(self, timeout: float) -> list[Outcome]:
        if self._fleet is None:
            time.sleep(min(timeout, IDLE_SECONDS))
            return []
        outcomes = self._tend(self._fleet)
        self._calls.launch()
        awaited = [*self._calls.references(), *self._aside.references()]
        if outcomes or not awaited:
            time.sleep(0.0 if outcomes else min(timeout, IDLE_SECONDS))
            return outcomes
        ready = self._ready([*awaited, *self._hellos], timeout)
        outcomes = [*self._calls.ended(ready), *self._aside.ended(ready)]
        if any(hello in ready for hello in self._hellos):
            self._tended_at = -math.inf
        return outcomes

    def _ready(self, awaited: list[Any], timeout: float) -> list[Any]:
        """References that are ready, and those that become so soon after the first."""
        ready, _ = ray.wait(awaited, num_returns=1, timeout=timeout, fetch_local=False)
        if not ready:
            return []
        time.sleep(self._gathers)
        before = time.monotonic()
        ready, _ = ray.wait(awaited, num_returns=len(awaited), timeout=0, fetch_local=False)
        self._gathers = min((time.monotonic() - before) / ASK_SHARE, GATHER_SECONDS)
        return list(ready)

    def _tend(self, fleet: Fleet) -> list[Outcome]:
        """Predictors that came or went, and what went with them."""
        now = time.monotonic()
        if now - self._tended_at < TEND_SECONDS:
            return []
        self._tended_at = now
        fleet.tend()
        self._hellos = self._seats.hellos()
        live = fleet.live()
        outcomes: list[Outcome] = [SlotsChanged(slots=tuple(live))] if self._slots.tell(live) else []
        return [*outcomes, *self._calls.lost(), *self._aside.lost()]

    def check(self) -> None:
        """Raises StoppedError where the cluster's head, or a process of the run's own cluster, is gone."""
        self._hosts.check()

    def close(self) -> None:
        self._closing.set()
        self._headers.close()
        with self._starting:  # a start under way in another thread ends first
            pass
        if self._fleet is not None:
            self._calls.close()
            self._seats.close()
        self._hosts.close()
        self._cluster.close()

    def kill(self) -> None:
        """End the cluster that was started here, by force: it does not answer."""
        self._closing.set()
        self._hosts.close()
        self._cluster.kill()

"""A Ray cluster of many GPUs in virtual time, for scheduler.py: steps do nothing, and take their time."""

import contextlib
import heapq
import pickle
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

from factories import make_facts
from factories import make_recipe as small_recipe

from batchseg.driver.executors.ray import calls, executor, side_tasks, tasks
from batchseg.driver.executors.ray.fleet import Capacity
from batchseg.driver.executors.ray.hosts import Hosts
from batchseg.driver.executors.ray.predictors import leases_at_once
from batchseg.driver.executors.ray.tasks import RunContext
from batchseg.driver.scene_worker import Lease, LeaseResult
from batchseg.driver.tasks import FinishOutcome, FinishTask
from batchseg.inputs.source import Georeference, Scene, Source
from batchseg.job.recipe import Product, Recipe
from batchseg.output.record import Output, SceneRecord, ShardRecord
from batchseg.pixels.grid import Shard

GPUS_PER_HOST, READERS = 8, 8
"""The second of a predictor: cores that a host has per GPU."""

LEASE_CALLS, FINISH_CALLS, PER_REFERENCE = 0.85e-3, 0.3e-3, 0.3e-6
"""CPU seconds of the thread that calls Ray 2.60: for a lease's call and its answer,
for a finish, and for each reference that is waited for (ray_calls.py, 2-core EPYC). Ray's own threads in the
driver's process take the next two beside it, without Python's lock."""

LEASE_BESIDE, FINISH_BESIDE = 1.6e-3, 0.5e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Seconds that steps take."""

    name: str
    tiles_per_second: float
    """Of one GPU."""
    read: float
    """Seconds per tile, in one reader."""
    write: float
    """Seconds per shard."""
    finish: float
    """Seconds per scene."""
    side: int = 10_980
    """Pixels of a scene's side."""


LOADS = {
    load.name: load
    for load in (
        # A heavy network: a scene is 21 s of a GPU's work.
        Load(name="40/s", tiles_per_second=40, read=0.01, write=0.02, finish=2.0),
        # PP-LiteSeg: one scene is 0.4 s of a large GPU's work.
        Load(name="2000/s", tiles_per_second=2000, read=0.0004, write=0.02, finish=2.0),
    )
}


class Clock:
    """Virtual seconds: CPU of this process but for the simulation's own, and what was waited for."""

    def __init__(self) -> None:
        self._aside = self._waited = self.charged = self.beside = 0.0
        self._stopped = 0.0
        """What the clock shows while the simulation itself works."""
        self.on_disk = 0.0
        """Seconds that commits waited for the disk."""

    def cpu(self) -> float:
        return (self._stopped or time.process_time() - self._aside) + self.charged

    def charge(self, seconds: float, beside: float = 0.0) -> None:
        """CPU time of what is not there, in the driver's thread and beside it."""
        self.charged += seconds
        self.beside += beside

    def __call__(self) -> float:
        return self.cpu() + self._waited

    def wait_until(self, then: float) -> None:
        self._waited += max(0.0, then - self())

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """What happens within takes no time."""
        before, self._stopped = time.thread_time(), time.process_time() - self._aside
        try:
            yield
        finally:
            self._stopped = 0.0
            self._aside += time.thread_time() - before

    @contextlib.contextmanager
    def disk(self) -> Iterator[None]:
        """What the wall clock shows and the CPU does not passes here too."""
        wall, cpu = time.monotonic(), time.process_time()
        try:
            yield
        finally:
            waited = max(0.0, time.monotonic() - wall - (time.process_time() - cpu))
            self._waited += waited
            self.on_disk += waited


class Ref:
    """What a task will give, and when."""

    __slots__ = ("at", "data", "value")

    def __init__(self, at: float, value: Any = None, data: bytes = b"") -> None:
        self.at, self.value, self.data = at, value, data


class Cluster:
    """Stands for the module `ray`, and for a run's tasks and actors: everything goes well."""

    def __init__(self, clock: Clock, load: Load, recipe: Recipe, product: Product) -> None:
        self._clock, self._load, self._recipe, self._product = clock, load, recipe, product
        self._due: list[tuple[float, int, Ref]] = []
        self._made = 0

    def put(self, value: Any) -> Any:
        return value

    def get(self, ref: Ref, timeout: float | None = None) -> Any:
        return pickle.loads(ref.data)  # noqa: S301  made by this object

    def wait(
        self, refs: Sequence[Ref], num_returns: int = 1, timeout: float = 0.0, fetch_local: bool = True
    ) -> tuple[list[Ref], list[Ref]]:
        self._clock.charge(PER_REFERENCE * len(refs))
        with self._clock.aside():
            if timeout:
                asked = set(refs)
                while self._due and self._due[0][2] not in asked:  # its answer was taken
                    heapq.heappop(self._due)
                until = self._clock() + timeout
                self._clock.wait_until(min([until, *(due[0] for due in self._due[:1])]))
            now = self._clock()
            return [ref for ref in refs if ref.at <= now][:num_returns], []

    def kill(self, actor: Any) -> None:
        pass

    cancel = kill

    def _ref(self, at: float, value: Any = None, data: bytes = b"") -> Ref:
        ref = Ref(at, value, data)
        self._made += 1
        heapq.heappush(self._due, (at, self._made, ref))
        return ref

    def do_lease(self, actor: "Actor", lease: Lease) -> Ref:
        pickle.dumps(lease)
        self._clock.charge(LEASE_CALLS, LEASE_BESIDE)
        with self._clock.aside():
            # One reader per predictor, and each step behind those of the leases before.
            actor.read = max(actor.read, self._clock()) + self._load.read * lease.tiles
            seconds = lease.tiles / self._load.tiles_per_second
            actor.free = max(actor.free, actor.read) + seconds
            behind = self._load.finish if lease.is_whole else self._load.write * len(lease.shards)
            return self._ref(actor.free + behind, data=pickle.dumps(self._result(lease)))

    def do_lot(self, actor: "Actor", leases: tuple[Lease, ...]) -> Ref:
        pickle.dumps(leases)
        self._clock.charge(LEASE_CALLS, LEASE_BESIDE)
        with self._clock.aside():
            now, tiles = self._clock(), sum(lease.tiles for lease in leases)
            predicting = tiles / self._load.tiles_per_second
            aside = tiles * self._load.read + len(leases) * self._load.finish
            # The network goes on with another lot's scenes while one of this lot is read or finished.
            actor.free = max(actor.free, now) + predicting
            thread = heapq.heappop(actor.threads)
            end = max(actor.free, max(thread, now) + predicting + aside)
            heapq.heappush(actor.threads, end)
            return self._ref(end, data=pickle.dumps(tuple(self._result(lease) for lease in leases)))

    def _result(self, lease: Lease) -> LeaseResult:
        scene, done = lease.scene, None
        if lease.is_whole:
            done = done_record(scene.source, scene, self._recipe, self._product, predicted=lease.tiles)
        return LeaseResult(
            records=[] if lease.is_whole else [self._record(lease, shard) for shard in lease.shards],
            read_seconds=0.1,
            predict_seconds=lease.tiles / self._load.tiles_per_second,
            stitch_seconds=0.0,
            write_seconds=0.1,
            pixel_bytes=1,
            done=done,
        )

    def _record(self, lease: Lease, shard: Shard) -> ShardRecord:
        return ShardRecord(
            source_id=lease.scene.source.source_id,
            tag=lease.scene.source.tag,
            pixel=self._recipe.digest,
            cpu_class=lease.cpu_class,
            grid=lease.grid,
            row_off=shard.core.row_off,
            col_off=shard.core.col_off,
            height=shard.core.height,
            width=shard.core.width,
            predicted=shard.count,
            fragment_bytes=1000,
            uri=lease.scene.source.uri,
        )

    def finish(self, where: Any, output: str, recipe: Recipe, product: Product, task: FinishTask) -> Ref:
        pickle.dumps(task)
        self._clock.charge(FINISH_CALLS, FINISH_BESIDE)
        with self._clock.aside():
            record = done_record(task.scene.source, task.scene, self._recipe, product)
            done = FinishOutcome(source_id=task.scene.source.source_id, result=(record, 1.0))
            return self._ref(self._clock() + self._load.finish, data=pickle.dumps(done))


class Actor:
    """A GPU's predictor."""

    def __init__(self, cluster: Cluster) -> None:
        self.read = self.free = 0.0
        """Until when it reads, and predicts."""
        self.threads = [0.0] * leases_at_once(READERS)
        """Until when each of those is busy that do lots."""
        self.hello = SimpleNamespace(remote=lambda: None)
        self.do_lease = SimpleNamespace(remote=lambda where, lease, isolation: cluster.do_lease(self, lease))
        self.do_lot = SimpleNamespace(remote=lambda where, leases: cluster.do_lot(self, leases))


class Task:
    """A function as Ray wraps it."""

    def __init__(self, function: Any) -> None:
        self.remote = function

    def options(self, **options: Any) -> "Task":
        return self


class SimulatedHosts:
    """Hosts that are all there."""

    def __init__(self, gpus: int) -> None:
        count = -(-gpus // GPUS_PER_HOST)
        self._hosts = {
            f"{n:056x}": SimpleNamespace(node=f"{n:056x}", gpus=float(GPUS_PER_HOST), cpus=64.0)
            for n in range(count)
        }
        self.home, self.head_is_lost = next(iter(self._hosts)), False

    pinned_to = Hosts.pinned_to

    def all(self) -> list[Any]:
        return [host for host in self._hosts.values() if self.state(host.node) != "gone"]

    def state(self, node: str) -> str:
        return "here" if node in self._hosts else "gone"

    def check(self) -> None:
        pass

    def close(self) -> None:
        pass


class SimulatedRay(executor.RayExecutor):
    """The executor on a simulated cluster, whose predictors are there at once."""

    def __init__(self, output: str, cluster: Cluster, clock: Clock, gpus: int, product: Product) -> None:
        stand_in(cluster, clock, gpus)
        super().__init__(
            output,
            address="simulated",
            workers=None,
            gpus_per_worker=1.0,
            batch_size=8,
            timeout=600.0,
            object_store_bytes=0,
        )
        hosts: Any = self._hosts
        maker: Any = SimpleNamespace(readers=READERS, make=lambda: Actor(cluster))
        context = RunContext(where={}, output=output, recipe=None, product=product, timeout=600.0)
        self._build(context, Capacity(hosts, asked=gpus, device="gpu", gpus=1.0), maker)
        self._seats.keep(gpus)
        for seat in self._seats.all():
            seat.node, seat.cpu_class, seat.hello = f"{seat.id // GPUS_PER_HOST:056x}", "gpu", None
        self.slots = self._fleet.live()

    def close(self) -> None:
        """Nothing was started."""


def stand_in(cluster: Cluster, clock: Clock, gpus: int) -> None:
    """Put a simulated cluster in Ray's place, and its clock in that of the time."""
    whole: Any = executor
    whole.check_hosts = lambda hosts: None
    whole.Cluster = lambda *_, **__: SimpleNamespace(is_own=False, own_processes=dict)
    whole.Hosts = lambda own: SimulatedHosts(gpus)
    whole.time = SimpleNamespace(monotonic=clock, sleep=lambda seconds: clock.wait_until(clock() + seconds))
    for module in (whole, calls, side_tasks):
        module.ray = cluster
        module.tasks = SimpleNamespace(
            finish=Task(cluster.finish),
            FETCH_SECONDS=tasks.FETCH_SECONDS,
        )


def make_recipe(load: Load) -> Recipe:
    facts = make_facts(seconds_per_tile=1 / load.tiles_per_second, cpu_class="gpu")
    return small_recipe(facts=facts, tile_size=512, halo=64, device="gpu")


def make_source(number: int) -> Source:
    name = f"{number % 100:02d}/tile-{number // 100:06d}/S2A_MSIL2A_20260101T103421_{number:08d}.tif"
    uri = f"s3://archive/scenes/{name}"
    return Source(source_id=name, uri=uri, files=(uri,), tag=f"{number:032x}", size=300_000_000)


def make_scene(source: Source, side: int) -> Scene:
    where = Georeference(
        crs_wkt="EPSG:32633", transform=(10.0, 0.0, 5e5, 0.0, -10.0, 5e6), gcps=(), gcps_crs_wkt=None, rpcs=()
    )
    return Scene(
        source=source,
        driver="GTiff",
        height=side,
        width=side,
        dtypes=("uint8",) * 3,
        nodata=(None,) * 3,
        alpha_bands=(),
        block_hw=(512, 512),
        georeference=where,
    )


def done_record(
    source: Source, scene: Scene, recipe: Recipe, product: Product, predicted: int = 0
) -> SceneRecord:
    mask = Output(path=f"masks/{source.source_id}", nbytes=10**6, sha256="0" * 64)
    return SceneRecord(
        status="done",
        source_id=source.source_id,
        tag=source.tag,
        pixel=recipe.digest,
        product=product.digest,
        predicted=predicted,
        height=scene.height,
        width=scene.width,
        valid_pixels=scene.height * scene.width,
        class_ids=(0, 1, 2, 3),
        class_pixels=(1, 2, 3, 4),
        class_area_m2=(1.0, 2.0, 3.0, 4.0),
        outputs=(mask, replace(mask, path=f"{mask.path}.aux.xml")),
        uri=source.uri,
    )

"""What one driver costs that feeds 8, 64 and 512 GPUs over millions of scenes, in virtual time.

    python -m benchmarks.scheduler [--gpus 8 64 512] [--seconds 60] [--scenes 100000] [--json PATH]

Driver, ledger (on a local disk), log and the executor for Ray are the real ones. Ray and the steps are
simulated: a step takes the seconds that `simulated.LOADS` says, and what goes through Ray is pickled,
unpickled and charged with the CPU time that Ray's own calls take. The clock is the CPU time of this process
without that of the simulation, the waiting of commits for the disk, and the time jumped over where the driver
waits. So GPUs are idle here too where the driver is too slow.

The table says per load and number of GPUs what the driver takes of the time in which all GPUs work (more
than 100 %: they cannot all work), of that batchseg's own part, how busy the GPUs are, and why, and which
module and function of the driver cost most (Ray: its calls and pickling). Figures are of a stretch in
mid-run; those for 10,000,000 scenes, time and memory of triage, plan and ledger, are extrapolated from
`--scenes`, of which there is one row each in the ledger.
"""

import argparse
import contextlib
import cProfile
import json
import logging
import os
import platform
import pstats
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from factories import make_config, make_product

from batchseg.driver.events import SceneDone, ShardsDone
from batchseg.driver.executors.ray.predictors import leases_at_once
from batchseg.driver.executors.watched import WatchedExecutor
from batchseg.driver.intake import Nothing
from batchseg.driver.plan import Measured, Planner
from batchseg.driver.progress import LogListener, Sums
from batchseg.driver.scene_loop import SceneLoop
from batchseg.driver.scene_scheduler import LEASE_SECONDS, LEASES_PER_SECOND
from batchseg.driver.triage import PREDICT, triage
from batchseg.errors import StoppedError
from batchseg.inputs.scene_rows import to_sources
from batchseg.inputs.source import LISTING
from batchseg.output.ledger import Ledger
from batchseg.output.record import SCHEMA, to_table
from batchseg.pixels.fit import tile_grid
from benchmarks.options import Options
from benchmarks.record import Figure
from benchmarks.simulated import (
    LOADS,
    READERS,
    Clock,
    Cluster,
    Load,
    SimulatedRay,
    done_record,
    make_recipe,
    make_scene,
    make_source,
)

MILLIONS = 10_000_000
LEASE_BYTES = 2**30
"""That the hosts have room for, per lease."""

TITLE = "The driver of many GPUs, simulated"

SUITE_SECONDS, SUITE_SCENES = 20.0, 20_000
"""Of virtual time, and in the ledger, as a part of the suite."""

MOST_SCENES = 120_000

CPU_SECONDS = 20.0
"""Of the driver after which a stretch ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What a driver did in a stretch."""

    load: str
    gpus: int
    share: float
    """Of the time in which all GPUs work."""
    own: float
    """Of the same, without Ray's calls."""
    beside: float
    """Of the same, what Ray's threads take on other cores."""
    disk: float
    """Of the same, waiting for commits."""
    busy: float
    leases_per_second: float
    shards_per_second: float
    scenes_per_second: float
    microseconds_per_lease: float
    """Without Ray's calls."""
    bottleneck: str
    """What keeps the GPUs from more."""
    costliest_module: str
    costliest_function: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Sums at a moment."""

    clock: float
    cpu: float
    charged: float
    beside: float
    disk: float
    busy: float
    seen: Counter[str]


class Endless(Nothing):
    """The scenes that are there are the first of many, whose headers have not come."""

    tiles = 10**12


class Stretch:
    """A run of which a stretch is measured, after as much time as two leases take."""

    def __init__(self, folder: Path, load: Load, gpus: int, seconds: float, known: int) -> None:
        recipe, product = make_recipe(load), make_product()
        self._clock = Clock()
        self._cluster = Cluster(self._clock, load, recipe, product)
        self._seen: Counter[str] = Counter()
        self._predicted = 0.0
        self._marks: list[Mark] = []
        self._seconds = seconds
        lease = max(LEASE_SECONDS, gpus / LEASES_PER_SECOND)
        self._warm = 10 + 2 * lease
        fill_ledger(folder, known, load)
        ledger = Ledger(str(folder))
        ledger.claim("run")
        tiles = tile_grid(recipe, load.side, load.side).count
        scenes = gpus * load.tiles_per_second * (self._warm + seconds) / tiles
        sources = [make_source(known + number) for number in range(min(MOST_SCENES, int(scenes) + 5 * gpus))]
        planner = Planner(recipe=recipe, ledger=ledger, cpu_classes=["gpu"], workers=gpus, shard_tiles=None)
        headers = [make_scene(source, load.side) for source in sources]
        planner.share_out(headers, len(headers))
        self._jobs = [planner.job(scene, PREDICT) for scene in headers]
        self._listeners: list[Callable[[Any], None]] = [Sums(), LogListener(make_logger(folder))]
        self._engine = SimulatedRay(str(folder), self._cluster, self._clock, gpus, product)
        self._ledger, self._append = ledger, ledger.append
        ledger.append = self._append_slowly
        self._arguments: dict[str, Any] = {
            "output": str(folder),
            "recipe": recipe,
            "ledger": ledger,
            "slots": self._engine.slots,
            "emit": self._emit,
            "stop": self._stop,
            "in_flight_bytes": gpus * leases_at_once(READERS) * LEASE_BYTES,
            "lease_timeout": 600.0,
            "stop_after": 10,
            "epoch": 1,
            "clock": self._clock,
        }

    def go(self, profile: bool) -> tuple[Mark, Mark, cProfile.Profile]:
        """The marks at its ends. What is profiled does without the thread for Ray."""
        watched = self._engine if profile else WatchedExecutor(self._engine, header_seconds=9)
        driver = SceneLoop(executor=watched, **self._arguments)
        profiler = cProfile.Profile(self._clock.cpu)
        self._started = self._clock()
        self._profiler = profiler if profile else None
        with contextlib.suppress(StoppedError):
            driver.run(self._jobs, later=Endless())
        return self._marks[0], self._marks[1], profiler

    def _append_slowly(self, records: Any) -> None:
        with self._clock.disk():
            self._append(records)

    def _emit(self, event: Any) -> None:
        if isinstance(event, ShardsDone):
            self._seen += Counter(leases=1, shards=event.shards)
            self._predicted += event.predict_seconds
        elif isinstance(event, SceneDone):
            self._seen["scenes"] += 1
        for listener in self._listeners:
            listener(event)

    def _stop(self) -> str | None:
        passed = self._clock() - self._started
        if not self._marks and passed > self._warm:
            self._mark()
            if self._profiler is not None:
                self._profiler.enable()
        elif len(self._marks) == 1:
            first = self._marks[0]
            if passed > self._warm + self._seconds or self._clock.cpu() - first.cpu > CPU_SECONDS:
                if self._profiler is not None:
                    self._profiler.disable()
                self._mark()
        return "enough" if len(self._marks) == 2 else None

    def _mark(self) -> None:
        clock = self._clock
        self._marks.append(
            Mark(
                clock=clock(),
                cpu=clock.cpu(),
                charged=clock.charged,
                beside=clock.beside,
                disk=clock.on_disk,
                busy=self._predicted,
                seen=Counter(self._seen),
            )
        )


def make_logger(folder: Path) -> logging.Logger:
    logger = logging.getLogger(str(folder))
    logger.addHandler(logging.FileHandler(folder / "log.txt"))
    logger.setLevel(logging.INFO)
    logger.propagate = False
    return logger


def fill_ledger(folder: Path, count: int, load: Load) -> None:
    """One row each of scenes that earlier runs did."""
    ledger = Ledger(str(folder))
    ledger.claim("earlier")
    recipe, product = make_recipe(load), make_product()
    scene = make_scene(make_source(0), load.side)
    row = to_table([done_record(scene.source, scene, recipe, product)])
    for start in range(0, count, 100_000):
        sources = [make_source(number) for number in range(start, min(start + 100_000, count))]
        table = row.take(pa.array([0] * len(sources)))
        for name in ("source_id", "tag", "uri"):
            values = pa.array([getattr(source, name) for source in sources])
            table = table.set_column(SCHEMA.get_field_index(name), name, values)
        ledger.append_table(table)
    ledger.merge()


def simulate(load: Load, gpus: int, seconds: float, known: int) -> Row:
    ends = []
    for profile in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            ends.append(Stretch(Path(folder), load, gpus, seconds, known).go(profile))
    first, last, _ = ends[0]
    *_, profiler = ends[1]
    passed = last.clock - first.clock
    full = (last.busy - first.busy) / gpus
    seen = last.seen - first.seen
    cpu, charged = last.cpu - first.cpu, last.charged - first.charged
    module, function = costs(profiler)
    return Row(
        load=load.name,
        gpus=gpus,
        share=cpu / full,
        own=(cpu - charged) / full,
        beside=(last.beside - first.beside) / full,
        disk=(last.disk - first.disk) / full,
        busy=full / passed,
        leases_per_second=seen["leases"] / passed,
        shards_per_second=seen["shards"] / passed,
        scenes_per_second=seen["scenes"] / passed,
        microseconds_per_lease=1e6 * (cpu - charged) / max(1, seen["leases"]),
        bottleneck=bottleneck(full / passed, (cpu + last.disk - first.disk) / passed),
        costliest_module=module,
        costliest_function=function,
    )


def bottleneck(busy: float, driver: float) -> str:
    """What is used up first: the driver, or the scenes that may be in progress at once."""
    if busy > 0.95:
        return "GPUs"
    return "driver" if driver > 0.75 else "finishing (4 scenes in progress per GPU)"


def costs(profiler: cProfile.Profile) -> tuple[str, str]:
    """The module and the function of batchseg that cost most, with their parts of the whole.

    What other libraries take counts for the functions that called them; Ray stands for its calls and
    for pickling.
    """
    stats: dict[Any, Any] = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
    own = {function: entry[2] for function, entry in stats.items()}
    for _ in range(12):  # up through libraries that call each other
        for function, (_, _, _, _, callers) in stats.items():
            whole = sum(entry[3] for entry in callers.values())
            if place(function) is None and whole and own[function]:
                for caller, entry in callers.items():
                    own[caller] = own.get(caller, 0.0) + own[function] * entry[3] / whole
                own[function] = 0.0
    modules: Counter[str] = Counter()
    functions: Counter[str] = Counter()
    for function, seconds in own.items():
        module = place(function) or "other"
        modules[module] += seconds
        if module not in ("Ray", "other"):
            functions[f"{module}.{function[2]}"] += seconds
    total = sum(modules.values())
    return tuple(
        f"{c.most_common(1)[0][0]} {c.most_common(1)[0][1] / total:.0%}" for c in (modules, functions)
    )  # type: ignore[return-value]


def place(function: tuple[str, int, str]) -> str | None:
    """Which part a function of a profile belongs to; None: a library."""
    path = Path(function[0])
    if path.name in ("simulated.py", "scheduler.py"):
        return "Ray"
    return path.stem if "batchseg" in path.parts and "benchmarks" not in path.parts else None


def resident() -> int:
    """Bytes of this process in memory."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) << 10


def make_listing(first: int, last: int) -> pa.Table:
    """LISTING of scenes that the ledger does not know, as they stand in a bucket."""
    sources = (make_source(number) for number in range(first, last))
    rows = [(s.source_id, s.uri, s.tag, s.size, False, "", "", "") for s in sources]
    columns = zip(LISTING.names, zip(*rows, strict=True), strict=True)
    return pa.table({name: list(cells) for name, cells in columns}, schema=LISTING).sort_by("source_id")


def plan_costs(count: int, load: Load, gpus: int) -> dict[str, dict[str, float]]:
    """Microseconds and bytes per scene of what comes before the first lease, and of the ledger."""
    recipe, product = make_recipe(load), make_product()
    found: dict[str, dict[str, float]] = {}

    def step(name: str, function: Callable[[], Any]) -> Any:
        before, began = resident(), time.process_time()
        answer = function()
        seconds, nbytes = time.process_time() - began, resident() - before
        found[name] = {"microseconds": 1e6 * seconds / count, "bytes": max(0, nbytes) / count}
        return answer

    with tempfile.TemporaryDirectory() as folder:
        fill_ledger(Path(folder), count, load)
        ledger = step("ledger, read", lambda: Ledger(folder))
        step("ledger, sorted", ledger.table)
        listing = step("listing", lambda: make_listing(count, 2 * count))
        digests = {"pixel": recipe.digest, "product": product.digest}
        triaged = step("triage", lambda: triage(listing, ledger.table(), **digests))
        sources = step("sources, while leases run", lambda: to_sources(triaged.todo, make_config()))
        headers = [make_scene(source, load.side) for source in sources]
        planner = Planner(recipe=recipe, ledger=ledger, cpu_classes=["gpu"], workers=gpus, shard_tiles=None)
        measured = Measured(recipe)

        def plan() -> None:
            for scene in headers:
                measured.add(planner.job(scene, PREDICT))

        step("jobs, while leases run", plan)
        ledger.claim("run")
        step("ledger, merged", ledger.merge)
    return found


def measure(options: Options) -> tuple[Sequence[Figure], Mapping[str, object]]:
    """Case h: the driver's share of the time, for GPUs of both speeds."""
    rows = []
    for load in LOADS.values():
        for gpus in (8, 64, 512):
            rows.append(row := simulate(load, gpus, SUITE_SECONDS, SUITE_SCENES))
            options.say(f"  {row.gpus} GPUs at {row.load}: {row.share:.1%}, busy {row.busy:.0%}")
    figures = [
        Figure(
            what=f"driver's share of the time of {row.gpus} GPUs, each {row.load}",
            above=(row.share,),
            note=f"first bottleneck: {row.bottleneck}; GPUs busy {min(1.0, row.busy):.0%}; "
            f"costliest: {row.costliest_function}",
            **({"at_most": 0.10} if row.gpus == 512 else {}),
        )
        for row in rows
    ]
    before = plan_costs(SUITE_SCENES, LOADS["40/s"], 512)
    return figures, {"rows": [asdict(row) for row in rows], "before": before}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpus", type=int, nargs="+", default=[8, 64, 512])
    parser.add_argument("--loads", nargs="+", choices=LOADS, default=list(LOADS))
    parser.add_argument("--seconds", type=float, default=60.0, help="of virtual time that are measured")
    parser.add_argument("--scenes", type=int, default=100_000, help="in the ledger, and planned")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    before = plan_costs(asked.scenes, LOADS["40/s"], max(asked.gpus))
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{date.today()}, {machine}; ledger of {asked.scenes:,} scenes\n")
    print(
        "| tiles/s of a GPU | GPUs | leases/s | shards/s | scenes/s | GPUs busy | driver's share | own | "
        "Ray's threads | disk | own us per lease | first bottleneck | costliest module | function |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|")
    rows = []
    for name in asked.loads:
        for gpus in asked.gpus:
            row = simulate(LOADS[name], gpus, asked.seconds, asked.scenes)
            rows.append(row)
            print(
                f"| {row.load} | {row.gpus} | {row.leases_per_second:.0f} | {row.shards_per_second:.0f} | "
                f"{row.scenes_per_second:.1f} | {min(1.0, row.busy):.0%} | {row.share:.1%} | {row.own:.1%} | "
                f"{row.beside:.1%} | {row.disk:.1%} | {row.microseconds_per_lease:.0f} | "
                f"{row.bottleneck} | {row.costliest_module} | {row.costliest_function} |",
                flush=True,
            )
    print(f"\n| before the first lease, and the ledger | us per scene | bytes | {MILLIONS:,} scenes |")
    print("|---|---|---|---|")
    for name, found in before.items():
        us, nbytes = found["microseconds"], found["bytes"]
        whole = f"{us * MILLIONS / 1e6:.0f} s, {nbytes * MILLIONS / 2**30:.1f} GiB"
        print(f"| {name} | {us:.1f} | {nbytes:.0f} | {whole} |")
    if asked.json:
        document = {"case": "h", "rows": [asdict(row) for row in rows], "before": before}
        asked.json.write_text(json.dumps(document, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

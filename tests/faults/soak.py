"""Hours of small jobs in one Ray cluster, and one predictor over 20,000 tiles: does anything grow?"""

import contextlib
import os
import random
import secrets
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np

from faults.commands import Place, kill, said, start
from faults.context import Context
from faults.record import Trial
from faults.workload import Workload, make_workload, place, undisturbed

HOURS = 3.0
"""Of small jobs, unless FAULT_SOAK_HOURS says otherwise."""

TILES_DOWN, TILES_ACROSS = 138, 146
"""20,148 tiles."""

SETTLED = 0.5
"""Share of the time that is left out of slopes: workers start, and GDAL's cache of 96 MiB fills."""

MOST_MIB_PER_HOUR, MOST_FILES_PER_HOUR = 8.0, 2.0
"""More is a leak: 64 MiB in a night of eight hours."""


@dataclass(slots=True)
class Gauge:
    """What the processes of a trial held, by the time in seconds since it began."""

    at: list[float] = field(default_factory=list)
    anon_mib: list[float] = field(default_factory=list)
    files: list[float] = field(default_factory=list)
    shared_mib: list[float] = field(default_factory=list)
    processes: list[float] = field(default_factory=list)
    by_process: list[dict[str, float]] = field(default_factory=list)
    """RssAnon in MiB by program and process id."""

    def take(self, at: float, pids: list[int]) -> None:
        shared, files, each = 0.0, 0, {}
        for pid in pids:
            with contextlib.suppress(OSError):
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                held = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Rss")}
                program = Path(f"/proc/{pid}/comm").read_text().strip()
                each[f"{program} {pid}"] = float(held["RssAnon"]) / 1024
                # Mapped by several; who serves it maps all of it.
                shared = max(shared, float(held["RssShmem"]) / 1024)
                files += len(list(Path(f"/proc/{pid}/fd").iterdir()))
        self.at.append(at)
        self.anon_mib.append(sum(each.values()))
        self.by_process.append(each)
        self.shared_mib.append(shared)
        self.files.append(files)
        self.processes.append(len(each))

    def slopes(self) -> dict[str, float]:
        """Per hour, by least squares over what follows the first `SETTLED` of the time."""
        at = np.array(self.at)
        later = at >= SETTLED * at.max()
        columns = {
            "RssAnon MiB": self.anon_mib,
            "open files": self.files,
            "shared memory (/dev/shm) MiB": self.shared_mib,
            "processes": self.processes,
        }
        fits = {name: np.polyfit(at[later] / 3600, np.array(v)[later], 1) for name, v in columns.items()}
        return {name: float(fit[0]) for name, fit in fits.items()}


def trials(context: Context) -> Iterator[Trial]:
    for seed, _ in context.seeds("one predictor over 20,000 tiles", 1):
        yield _many_tiles(context, seed)
    for seed, chance in context.seeds("small jobs in one Ray cluster", 1):
        yield _small_jobs(context, seed, chance)


def _many_tiles(context: Context, seed: int) -> Trial:
    """The driver of an inline run is the predictor's process too."""
    workload = make_workload("scenes", context.work / "soak-tiles", size=0)
    _write_large_scene(workload.folder / "in" / "large.tif")
    gauge, began = Gauge(), time.monotonic()
    with place() as here:
        job = workload.job("tiles", regions=None, shard_tiles=16)
        workload.remove("tiles")
        process = start(here, "run", job, "--executor", "inline")
        before = 0
        while process.poll() is None:
            tiles = here.count_path.stat().st_size if here.count_path.exists() else 0
            if tiles > before:  # predicting, not loading the network nor finishing the mask
                gauge.take(time.monotonic() - began, [process.pid])
            before = tiles
            time.sleep(0.5)
        tiles = len(here.predicted())
    workload.remove("tiles")
    return _judged(
        gauge,
        fault="one predictor over 20,000 tiles",
        seed=seed,
        times=tiles,
        right=int(process.returncode == 0),
    )


def _small_jobs(context: Context, seed: int, chance: random.Random) -> Trial:
    workloads = [
        make_workload(kind, context.work / f"soak-{kind}", size=2) for kind in ("scenes", "photographs")
    ]
    expected = {w.kind: undisturbed(w) for w in workloads}
    hours = float(os.environ.get("FAULT_SOAK_HOURS", HOURS))
    until, began, gauge = time.monotonic() + hours * 3600, time.monotonic(), Gauge()
    counts: dict[str, int] = defaultdict(int)
    odd = ""
    # Ctrl-C ends it early, with what was seen until then.
    with place() as here, _cluster(here) as address, contextlib.suppress(KeyboardInterrupt):
        while time.monotonic() < until:
            workload = chance.choice(workloads)
            code, same = _one_job(workload, here, address, expected[workload.kind][0])
            counts["runs"] += 1
            counts["right"] += code == 0
            counts["same"] += same
            if code != 0:
                odd = odd or f"; {workload.kind} ended with {code}: {said(here)[-300:]}"
            # What lives on: the drivers have ended.
            gauge.take(time.monotonic() - began, here.processes())
    return _judged(
        gauge,
        fault="small jobs in one Ray cluster",
        seed=seed,
        times=counts["runs"],
        runs=counts["runs"],
        right=counts["right"],
        identical=counts["same"] == counts["runs"],
        odd=odd,
    )


def _one_job(workload: Workload, here: Place, address: str, expected: object) -> tuple[int, bool]:
    """Its exit code, and whether its output is as it should be."""
    workload.remove("small")
    process = start(here, "run", workload.job("small", ray_address=address, workers=1), "--quiet")
    code = process.wait(600)
    return code, workload.outcome("small") == expected


def _judged(
    gauge: Gauge,
    *,
    fault: str,
    seed: int,
    times: int,
    right: int,
    runs: int = 1,
    identical: bool | None = None,
    odd: str = "",
) -> Trial:
    slopes = gauge.slopes()
    hours = gauge.at[-1] / 3600
    steady = slopes["RssAnon MiB"] < MOST_MIB_PER_HOUR and slopes["open files"] < MOST_FILES_PER_HOUR
    # Over minutes a slope per hour is mostly noise: there what was gained in all counts, by the middles of
    # stretches, because a sample may fall into the start of a finish.
    settled = int(SETTLED * len(gauge.at))
    part = max(1, (len(gauge.at) - settled) // 4)
    gained = median(gauge.anon_mib[-part:]) - median(gauge.anon_mib[settled : settled + part])
    grew = not steady and gained > MOST_MIB_PER_HOUR * max(hours, 1.0)
    before, after = gauge.by_process[settled], gauge.by_process[-1]
    gains = {name: now - before[name] for name, now in after.items() if name in before}
    most = ", ".join(f"{name} {gain:+.0f}" for name, gain in sorted(gains.items(), key=lambda kv: -kv[1])[:3])
    said_ = ", ".join(f"{name} {value:+.1f} per hour" for name, value in slopes.items())
    return Trial(
        section="soak",
        fault=fault,
        seed=seed,
        times=times,
        runs=runs,
        ended_right=right,
        identical=identical,
        cost_s=gauge.at[-1],
        cost="duration",
        found=f"it grows: {said_}" if grew else "",
        note=f"{hours:.2f} hours; {said_}; RssAnon {gauge.anon_mib[-1]:.0f} MiB, {gained:+.0f} since settled "
        f"({most}){odd}",
    )


@contextmanager
def _cluster(here: Place) -> Iterator[str]:
    """The address of a Ray cluster of two CPUs, which ends with the trial."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Ray asks for the mode too where an address is given: without it `ray start` and the runs disagree.
    os.environ |= {"RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_AUTH_MODE": "token"}
    command = [
        str(Path(sys.executable).with_name("ray")),
        "start",
        "--head",
        "--num-cpus=2",
        f"--port={port}",
    ]
    command += ["--include-dashboard=false", "--disable-usage-stats"]
    command += [f"--temp-dir={here.folder}", f"--object-store-memory={512 * 2**20}"]
    started = subprocess.run(command, env=here.environment(), capture_output=True, text=True, check=False)
    try:
        if started.returncode:
            raise RuntimeError(started.stderr or said(here))
        yield f"127.0.0.1:{port}"
    finally:
        kill(here.processes())


def _write_large_scene(path: Path) -> None:
    import rasterio
    from rasterio.windows import Window

    if path.exists():
        return
    height, width = TILES_DOWN * 48 - 11, TILES_ACROSS * 48 - 5
    profile = {"driver": "GTiff", "count": 4, "dtype": "uint16", "compress": "deflate", "crs": "EPSG:32633"}
    profile |= {"tiled": True, "blockxsize": 256, "blockysize": 256, "height": height, "width": width}
    chance = np.random.default_rng(1)
    with rasterio.open(path, "w", transform=rasterio.Affine(10, 0, 6e5, 0, -10, 5e6), **profile) as dataset:
        for row in range(0, height, 256):
            rows = min(256, height - row)
            strip = chance.integers(100, 4000, (4, rows, width), dtype=np.uint16)
            dataset.write(strip, window=Window(0, row, width, rows))

"""What many small scenes cost: a first run, a second one with nothing to do, and CPU per scene by step.

    python -m benchmarks.many_scenes FOLDER [--scenes 10000] [--workers 2]

Makes scenes of 96 x 112 pixels in FOLDER/in, which are kept, and segments them into FOLDER/out, which is made
anew. A run of a hundredth of them comes first: CPU per scene is the difference of both runs, so that neither
Ray's start nor the network's loading is in it.
"""

import argparse
import collections
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import Affine

from batchseg.system import file_info, listing
from benchmarks import profiles
from benchmarks.networks import spectral
from benchmarks.runs import NO_TRIALS, Run, batchseg, write_job

HEIGHT, WIDTH = 96, 112

FOLDERS = 100
"""That the scenes lie in; the run of few takes the first."""

LEASE_STEPS = ("read", "prepare", "network", "stitch", "write")


def make_scenes(folder: Path, count: int) -> None:
    """Make `count` scenes, and remove what an earlier call made beyond."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    wanted = [folder / f"{number % FOLDERS:02d}" / f"{number:06d}.tif" for number in range(count)]
    for path in set(folder.glob("*/*.tif")) - set(wanted):
        path.unlink()
    for number, path in enumerate(wanted):
        if path.exists():
            continue
        pixels = rng.integers(100, 6000, (4, HEIGHT // 16, WIDTH // 16), dtype=np.uint16)
        path.parent.mkdir(exist_ok=True)
        pixels = pixels.repeat(16, axis=1).repeat(16, axis=2)
        east, north = 500_000 + 2000 * (number % 100), 5_000_000 - 2000 * (number // 100)
        profile = {"driver": "GTiff", "count": 4, "height": HEIGHT, "width": WIDTH, "dtype": "uint16"}
        place = {"crs": "EPSG:32633", "transform": Affine(10, 0, east, 0, -10, north)}
        with rasterio.open(path, "w", **profile, **place) as dataset:
            dataset.write(pixels)


def job_of(folder: Path, name: str, inputs: str, workers: int) -> Path:
    return write_job(
        folder / f"{name}.yaml",
        inputs=inputs,
        model=str(spectral(folder, 4)),
        output=name,
        bands=[1, 2, 3, 4],
        tile_size=128,
        halo=8,
        scale={"divide": 10000},
        classes=["soil", "water", "vegetation", "bright"],
        workers=workers,
        gate=NO_TRIALS,
    )


def first_run(job: Path, *, noted: bool) -> Run:
    """A run into an output that is made anew, and stays."""
    output = job.with_suffix("")
    shutil.rmtree(output, ignore_errors=True)
    return batchseg(job, output, noted=noted)


@dataclass(frozen=True, slots=True)
class Ended:
    """A command: seconds to its exit, and CPU seconds of it and of those that it waited for."""

    seconds: float
    cpu: float


def run_again(job: Path) -> Ended:
    """A run with nothing to do."""
    script = str(Path(sys.executable).with_name("batchseg"))
    began = time.monotonic()
    process = subprocess.Popen([script, "run", str(job), "--quiet"])
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        msg = f"the second run of {job} ended with {process.returncode}"
        raise RuntimeError(msg)
    return Ended(time.monotonic() - began, used.ru_utime + used.ru_stime)


def cpu_by_step(run: Run) -> Mapping[str, float]:
    """CPU seconds of a run: its start by phases, leases by steps, all else, and its end."""
    found: dict[str, float] = {}
    for line in profiles.start(run):
        found[_phase(line.name)] = found.get(_phase(line.name), 0.0) + line.cpu
    done = {line.name: line.cpu for line in profiles.work(run, profiles.last_commit(run))}
    found |= {f"lease: {step}": done.pop(step) for step in LEASE_STEPS}
    found |= done
    found |= {line.name: line.cpu for line in profiles.end(run)}
    return found


def _phase(name: str) -> str:
    """
    >>> _phase("checking the model and listing inputs"), _phase("starting predictors, reading headers")
    ('listing', 'header')
    """
    return next((word for word in ("listing", "header") if re.search(word, name)), name)


def show(few: Run, many: Run, scenes: tuple[int, int]) -> None:
    """Print CPU per scene by step, and what a run costs before its first scene."""
    each, all_of_them = cpu_by_step(few), cpu_by_step(many)
    print(f"\nCPU by step, of {scenes[1]:,} scenes and of {scenes[0]:,}\n")
    print("| step | ms per scene | s of the run itself |\n|---|---|---|")
    sums = [0.0, 0.0]
    for step, seconds in all_of_them.items():
        slope = (seconds - each.get(step, 0.0)) / (scenes[1] - scenes[0])
        rest = seconds - slope * scenes[1]
        print(f"| {step} | {1e3 * slope:.3f} | {rest:.2f} |")
        sums = [sums[0] + slope, sums[1] + rest]
    print(f"| **all** | {1e3 * sums[0]:.3f} | {sums[1]:.2f} |")


def count_listings(job: Path) -> collections.Counter[str]:
    """Listing calls of a run with nothing to do, in this process."""
    from batchseg.driver.begin import begin
    from batchseg.driver.job import run_job
    from batchseg.job.file import load_job

    calls: collections.Counter[str] = collections.Counter()
    homes = [(listing, name) for name in ("list_files", "list_folder", "list_subfolders")]
    for home, name in (*homes, (file_info, "file_info")):
        real = getattr(home, name)

        def counted(*arguments, _name=name, _real=real):
            calls[_name] += 1
            return _real(*arguments)

        for module in [m for known, m in sys.modules.items() if known.startswith("batchseg.")]:
            if vars(module).get(name) is real:
                setattr(module, name, counted)
    config = load_job(job)
    with begin(config) as begun:
        run_job(config, begun, listeners=[], stop=lambda: None, replace=False)
    return calls


def objects(output: Path) -> dict[str, int]:
    """Files by folder below _batchseg, and of the region tables."""
    private = output / "_batchseg"
    counts = {
        str(folder.relative_to(output)): sum(1 for p in folder.rglob("*") if p.is_file())
        for folder in sorted(private.iterdir())
        if folder.is_dir()
    }
    return {**counts, "annotations": sum(1 for p in (output / "annotations").rglob("*.parquet"))}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scenes", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    given = parser.parse_args()
    if given.scenes < 2 * FOLDERS:
        parser.error(f"--scenes: at least {2 * FOLDERS}, as the run of few takes one folder of {FOLDERS}")
    folder, count = given.folder.resolve(), given.scenes
    make_scenes(folder / "in", count)
    few_job = job_of(folder, "out-few", "in/00/*.tif", given.workers)
    job = job_of(folder, "out", "in", given.workers)
    first_run(few_job, noted=False)  # graphs are derived and kept
    few, many = first_run(few_job, noted=True), first_run(job, noted=True)
    scenes = (len(list((folder / "in" / "00").glob("*.tif"))), count)
    print(f"first run, {count:,} scenes: {many.seconds:.1f} s, command to exit")
    print(f"  after start-up: {many.work_seconds:.1f} s, {count / many.work_seconds:.1f} scenes/s")
    print(f"first run, {scenes[0]:,} scenes: {few.seconds:.1f} s, command to exit")
    print(f"files: {objects(folder / 'out')}")
    again = run_again(job)
    print(f"second run, nothing to do: {again.seconds:.2f} s, command to exit, {again.cpu:.2f} s of CPU")
    print(f"calls of a run with nothing to do: {dict(count_listings(job))}")
    print(f"files: {objects(folder / 'out')}")
    show(few, many, scenes)


if __name__ == "__main__":
    main()

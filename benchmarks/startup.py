"""From the command to the first tile, inline and on a local Ray, each in an output of its own.

    python benchmarks/startup.py SCENE.tif MODEL [--rounds 5]

What is derived of the model is made before (a warm cache), and a run is counted from the start of its process
until a predictor begins with its first lease (`seconds_to_first_tile` of its summary). Beside it stand the
seconds in which the run's processes used a core: on a busy machine these tell more than the clock. Ray's
workers are not among them, as Ray does not ask how they ended.
"""

import argparse
import ctypes
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

PR_SET_CHILD_SUBREAPER = 36


def cpu_of_ended() -> float:
    """Of children that ended, and theirs; orphans are waited for here."""
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            break
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def one(scene: Path, model: Path, executor: str) -> tuple[float, float]:
    """Seconds until the first tile, and CPU seconds of the run."""
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder, "job.yaml")
        keys = {
            "inputs": str(scene.resolve()),
            "model": str(model.resolve()),
            "output": str(Path(folder, "out")),
            "executor": executor,
            "regions": False,
        }
        job.write_text(yaml.safe_dump(keys))
        before = cpu_of_ended()
        subprocess.run([sys.executable, "-m", "batchseg", "run", "--quiet", str(job)], check=True)
        used = cpu_of_ended() - before
        (summary,) = Path(folder, "out", "_batchseg", "runs").glob("*/summary.json")
        return float(json.loads(summary.read_text())["seconds_to_first_tile"]), used


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scene", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    for executor in ("inline", "ray"):
        one(given.scene, given.model, executor)
        found = [one(given.scene, given.model, executor) for _ in range(given.rounds)]
        until, used = (statistics.median(values) for values in zip(*found, strict=True))
        print(f"{executor}: first tile after {until:.1f} s, {used:.1f} CPU s (load {os.getloadavg()[0]:.1f})")


if __name__ == "__main__":
    main()

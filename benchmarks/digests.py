"""Whether two versions of batchseg give the same results: digests of what each makes of the same jobs.

    python -m benchmarks.digests make --tree OLD --data DATA --to A
    python -m benchmarks.digests make --tree NEW --data DATA --to B
    python -m benchmarks.digests compare A/digests.json B/digests.json
    python -m benchmarks.digests resume --begun-by OLD --tree NEW --data DATA --to C

A tree is a checkout. Its batchseg runs by the command line, in this interpreter; this script imports nothing
of it. `resume` kills runs of one version and lets another go on. Exit code 1: something differs.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from benchmarks.digest_jobs import BIG, LANDCOVER, PHOTOGRAPHS, Settings, find_models, make_jobs, with_model
from benchmarks.digest_output import Digest, differences, digest_output, files_below, sha256, summary
from benchmarks.record import LIBRARIES

SHOWN = 40
"""Differences of a job that are printed."""

MARK = "BATCHSEG_DIGESTS_MARK"
"""Of the environment: by its value the processes of a run are found."""

KILL_SECONDS = 300
"""Until a run that shall be killed must have committed enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A version of batchseg, and the folder in which it works."""

    path: Path
    work: Path

    def command(self, *arguments: object) -> list[str]:
        return [sys.executable, "-m", "batchseg", *map(str, arguments)]

    @property
    def environment(self) -> dict[str, str]:
        """Derived networks are made by each version anew."""
        return {**os.environ, "PYTHONPATH": str(self.path), "BATCHSEG_MODEL_CACHE": str(self.work / "cache")}

    def call(self, *arguments: object) -> int:
        """Run a command; its exit code. What it prints goes to the end of `work`/log.txt."""
        with (self.work / "log.txt").open("a") as log:
            print(f"\n$ batchseg {' '.join(map(str, arguments))}", file=log, flush=True)
            done = subprocess.run(
                self.command(*arguments),
                cwd=self.work,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                check=False,
            )
            print(f"exit code {done.returncode}", file=log)
        return done.returncode

    def check(self) -> None:
        """Raises SystemExit where another batchseg than the tree's would run."""
        script = "import batchseg; print(batchseg.__file__)"
        found = subprocess.run(
            [sys.executable, "-c", script],
            cwd=self.work,
            env=self.environment,
            capture_output=True,
            text=True,
        ).stdout.strip()
        if not Path(found or "/").is_relative_to(self.path):
            msg = f"{self.path} has no batchseg that this interpreter imports; it finds {found or 'none'}"
            raise SystemExit(msg)


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    code: int = given.function(given)
    return code


def make(given: argparse.Namespace) -> int:
    """Run the jobs and write digests.json; 1 where one ended without results, or with damaged ones."""
    work, data = _new_folder(given.to), given.data.resolve()
    tree = Tree(path=given.tree.resolve(), work=work)
    tree.check()
    models = find_models(work / "models", data)
    jobs = make_jobs(data, work, models)
    chosen = {name: job for name, job in jobs.items() if not given.jobs or name in given.jobs.split(",")}
    if not chosen:
        print(f"no job to run; there are {', '.join(jobs)}", file=sys.stderr)
        return 2
    document: dict[str, Any] = {"machine": _machine(), "models": _digest_models(models), "jobs": {}}
    for name, settings in chosen.items():
        document["jobs"][name] = _run_job(tree, name, settings, data)
    target = work / "digests.json"
    target.write_text(json.dumps(document, indent=1))
    print(target)
    return 0 if all(job["run"] in (0, 3) and job["verify"] == 0 for job in document["jobs"].values()) else 1


def _run_job(tree: Tree, name: str, settings: Settings, data: Path) -> Digest:
    output, began = tree.work / "outputs" / name, time.monotonic()
    job = _write_job(tree.work / f"{name}.yaml", settings | {"output": str(output)})
    codes = {"run": tree.call("run", job, "--quiet"), "verify": tree.call("verify", output)}
    digest = codes | digest_output(output, {str(tree.work): "{work}", str(data): "{data}"})
    seconds = time.monotonic() - began
    print(
        f"{name}: exit codes {codes['run']} and {codes['verify']}, {summary(digest)}, {seconds:.0f} s",
        flush=True,
    )
    return digest


def compare(given: argparse.Namespace) -> int:
    """Print what differs between two files of `make`."""
    before, after = (json.loads(path.read_text()) for path in (given.before, given.after))
    if before["machine"] != after["machine"]:
        print(f"not the same machine or libraries: {before['machine']} -> {after['machine']}")
    found = []
    if before["models"] != after["models"]:
        found.append(f"models: {before['models']} -> {after['models']}")
    for name in sorted({*before["jobs"], *after["jobs"]}):
        if name not in before["jobs"] or name not in after["jobs"]:
            found.append(f"{name}: only {'before' if name in before['jobs'] else 'after'}")
            continue
        found += _show(name, before["jobs"][name], after["jobs"][name])
    for line in found:
        print(line)
    print(f"{len(found)} differences in {len(after['jobs'])} jobs" if found else "no difference")
    return 1 if found else 0


def resume(given: argparse.Namespace) -> int:
    """Kill runs of one version and let another go on; 1 where that differs from undisturbed runs."""
    work, data = _new_folder(given.to), given.data.resolve()
    old, new = (Tree(path=path.resolve(), work=work) for path in (given.begun_by, given.tree))
    for tree in (old, new):
        tree.check()
    models = find_models(work / "models", data)
    found = []
    for name, case in RESUMES.items():
        found += _resume_case(name, case, old, new, data, models)
    for line in found:
        print(line)
    print(f"{len(found)} differences" if found else "no difference")
    return 1 if found else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """A job that is killed and resumed."""

    settings: Settings
    inputs: tuple[str, ...]
    """Globs below the data folder; they are copied, so that some can be removed."""
    removed: tuple[str, ...]
    """Globs of the copies that are removed before the second run."""
    status: str
    """Of the ledger's rows that are waited for before the kill."""
    commits: int
    """How many of them."""


RESUMES = {
    "scenes": Resume(
        settings=LANDCOVER | {"confidence": False, "shard_tiles": 2},
        inputs=(BIG, "derived/naip_[!bw]*.[tj][ip]*", "dubai-mbrsc/*/Tile [1-3]/images/*.jpg"),
        removed=("derived/naip_southup.tif", "dubai-mbrsc/*/Tile 2/images/*_004.jpg"),
        status="shard",
        commits=6,
    ),
    "photographs": Resume(
        settings={
            "model": "magnetic-tile",
            "fit": "tile",
            "tile_size": 640,
            "halo": 0,
            "regions": {"min_area": 13},
        }
        | {"confidence": True, "rules": [{"name": "any", "min_area": 40}]},
        inputs=tuple(PHOTOGRAPHS.values()),
        removed=("magnetic-tile/MT_Crack/Imgs/*_num_1*.jpg",),
        status="done",
        commits=30,
    ),
}


def _resume_case(
    name: str, case: Resume, old: Tree, new: Tree, data: Path, models: dict[str, Path]
) -> list[str]:
    """On both executors; the inputs are copied once, and all outputs see the same change of them."""
    archive = old.work / f"{name}-inputs"
    for glob in case.inputs:
        for path in data.glob(glob):
            target = archive / path.relative_to(data)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)
    outputs = {how: old.work / "outputs" / f"{name}-{how}" for how in ("undisturbed", "inline", "ray")}
    settings = with_model(case.settings, models) | {"inputs": str(archive)}
    jobs = {
        how: _write_job(
            old.work / f"{name}-{how}.yaml",
            settings | {"output": str(output), "executor": "ray" if how == "ray" else "inline"},
        )
        for how, output in outputs.items()
    }
    places = {str(old.work): "{work}"}
    codes = {"run of the old version": old.call("run", jobs["undisturbed"], "--quiet")}
    for how in ("inline", "ray"):
        there = _begin_and_kill(old, jobs[how], outputs[how], case)
        codes[f"{how}: resumed run"] = new.call("run", jobs[how], "--quiet")
        codes[f"{how}: verify"] = new.call("verify", outputs[how])
        print(f"{name}, {how}: killed with {there}, resumed", flush=True)
    whole = {how: digest_output(output, places) for how, output in outputs.items()}
    for glob in case.removed:
        for path in archive.glob(glob):
            path.unlink()
    for how, tree in (("undisturbed", old), ("inline", new), ("ray", new)):
        codes[f"{how}: run without the removed"] = tree.call("run", jobs[how], "--quiet")
        codes[f"{how}: prune"] = tree.call("prune", outputs[how])
        codes[f"{how}: verify of what is left"] = new.call("verify", outputs[how])
    pruned = {how: digest_output(output, places) for how, output in outputs.items()}
    print(f"{name}: {summary(whole['undisturbed'])}; pruned: {summary(pruned['undisturbed'])}", flush=True)
    found = [f"{name}, {step}: exit code {code}" for step, code in codes.items() if code]
    for how in ("inline", "ray"):
        found += _show(f"{name}, {how}, resumed", whole["undisturbed"], whole[how])
        found += _show(f"{name}, {how}, pruned", pruned["undisturbed"], pruned[how])
    return found


def _begin_and_kill(tree: Tree, job: Path, output: Path, case: Resume) -> str:
    """Start a run and kill all its processes as soon as it has committed enough; what the ledger has then."""
    environment = tree.environment | {MARK: uuid.uuid4().hex}
    with (tree.work / "log.txt").open("a") as log:
        run = subprocess.Popen(
            tree.command("run", job, "--quiet"), cwd=tree.work, env=environment, stdout=log, stderr=log
        )
        until = time.monotonic() + KILL_SECONDS
        while committed(output, case.status) < case.commits:
            if run.poll() is not None or time.monotonic() > until:
                msg = f"{job}: ended with {run.poll()} before {case.commits} rows said {case.status!r}"
                raise SystemExit(msg)
            time.sleep(0.05)
        run.kill()
        run.wait()
    for pid in marked(environment[MARK]):
        os.kill(pid, signal.SIGKILL)
    while marked(environment[MARK]):
        time.sleep(0.05)
    return ", ".join(f"{committed(output, status)} rows {status}" for status in ("shard", "done"))


def committed(output: Path, status: str) -> int:
    """Rows of a status in the ledger of a run that is under way."""
    count = 0
    for path in files_below(output / "_batchseg" / "ledger"):
        try:
            count += pq.read_table(path, columns=["status"]).column("status").to_pylist().count(status)
        except (OSError, pa.ArrowException):  # joined with others meanwhile, or not whole yet
            continue
    return count


def marked(mark: str) -> list[int]:
    """Processes whose environment has a mark."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and f"{MARK}={mark}".encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def _show(name: str, before: Digest, after: Digest) -> list[str]:
    """Differences of one job, the first of them."""
    lines = [
        f"exit code of {step}: {before[step]} -> {after[step]}"
        for step in ("run", "verify")
        if before.get(step) != after.get(step)
    ]
    lines += differences(before, after)
    rest = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return [f"{name}: {line}" for line in [*lines[:SHOWN], *rest]]


def _machine() -> dict[str, str]:
    """What pixels may depend on beside batchseg."""
    text = Path("/proc/cpuinfo").read_text()
    cpu = next((line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line), "")
    return {"cpu": cpu, "python": platform.python_version()} | {name: version(name) for name in LIBRARIES}


def _digest_models(models: dict[str, Path]) -> dict[str, dict[str, str]]:
    files = {name: files_below(path) if path.is_dir() else [path] for name, path in models.items()}
    return {name: {path.name: sha256(path) for path in paths} for name, paths in files.items()}


def _new_folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    if any(path.iterdir()):
        msg = f"{path} is not empty"
        raise SystemExit(msg)
    return path.resolve()


def _write_job(path: Path, settings: Settings) -> Path:
    path.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    return path


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmarks.digests", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(function: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(function.__name__, help=text, description=text)
        command.set_defaults(function=function)
        return command

    making = add(make, "run the jobs and write digests.json")
    making.add_argument("--jobs", default="", metavar="NAME,NAME", help="only these")
    resuming = add(resume, "let one version go on where another was killed")
    resuming.add_argument(
        "--begun-by", type=Path, required=True, metavar="DIR", help="the tree that is killed"
    )
    for command in (making, resuming):
        command.add_argument("--tree", type=Path, required=True, metavar="DIR", help="a checkout of batchseg")
        command.add_argument(
            "--data", type=Path, required=True, metavar="DIR", help="the folder with the inputs"
        )
        command.add_argument(
            "--to", type=Path, required=True, metavar="DIR", help="an empty folder, or a new one"
        )
    comparing = add(compare, "print what differs between two digests.json")
    for side in ("before", "after"):
        comparing.add_argument(side, type=Path)
    return parser


if __name__ == "__main__":
    sys.exit(main())

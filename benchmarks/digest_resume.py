"""Runs that one version of batchseg begins, that are killed, and that another version ends."""

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.digest_jobs import BIG, LANDCOVER, PHOTOGRAPHS, Settings, find_models, with_model
from benchmarks.digest_output import Digest, digest_output, files_below, shown, summary
from benchmarks.digest_tree import Tree, new_folder, write_job

MARK = "BATCHSEG_DIGESTS_MARK"
"""Of the environment: by its value the processes of a run are found."""

KILL_SECONDS = 300
"""Until a run that shall be killed must have committed enough."""


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
        settings={"model": "magnetic-tile", "fit": "tile", "tile_size": 640, "halo": 0, "confidence": True}
        | {"regions": {"min_area": 13}, "rules": [{"name": "any", "min_area": 40}]},
        inputs=tuple(PHOTOGRAPHS.values()),
        removed=("magnetic-tile/MT_Crack/Imgs/*_num_1*.jpg",),
        status="done",
        commits=30,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One output of a job, and who ends it."""

    how: str
    """`undisturbed`, or the executor of the run that is killed and of those that follow."""
    ended_by: Tree
    job: Path
    output: Path

    def digest(self) -> Digest:
        return digest_output(self.output, {str(self.ended_by.work): "{work}"})


def resume(given: argparse.Namespace) -> int:
    """Kill runs of one version and let another go on; 1 where that differs from undisturbed runs."""
    work, data = new_folder(given.to), given.data.resolve()
    old = Tree(path=given.begun_by.resolve(), work=work, name="old")
    new = Tree(path=given.tree.resolve(), work=work, name="new")
    old.check()
    new.check()
    models = find_models(work / "models", data)
    found = [line for name in RESUMES for line in _compared(name, old, new, data, models)]
    for line in found:
        print(line)
    print(f"{len(found)} differences" if found else "no difference")
    return 1 if found else 0


def _compared(name: str, old: Tree, new: Tree, data: Path, models: Mapping[str, Path]) -> list[str]:
    """What differs in one of RESUMES. All outputs are of the same inputs, and see the same change of them."""
    case, inputs = RESUMES[name], old.work / f"{name}-inputs"
    _copy(case.inputs, data, inputs)
    settings = with_model(case.settings, models) | {"inputs": str(inputs)}
    whole, *others = (
        _side(f"{name}-{how}", how, tree, settings)
        for how, tree in (("undisturbed", old), ("inline", new), ("ray", new))
    )
    codes = {"undisturbed run": old.call("run", whole.job, "--quiet")}
    for side in others:
        left = begin_and_kill(old, side, case)
        print(f"{name}, {side.how}: killed with {left} in the ledger", flush=True)
        codes[f"{side.how}: resumed run"] = new.call("run", side.job, "--quiet")
        codes[f"{side.how}: verify"] = new.call("verify", side.output)
    found = _differences(f"{name}, resumed", whole, others)
    for glob in case.removed:
        for path in inputs.glob(glob):
            path.unlink()
    for side in (whole, *others):
        codes[f"{side.how}: run without the removed"] = side.ended_by.call("run", side.job, "--quiet")
        codes[f"{side.how}: prune"] = side.ended_by.call("prune", side.output)
        codes[f"{side.how}: verify of what is left"] = new.call("verify", side.output)
    found += _differences(f"{name}, pruned", whole, others)
    return [f"{name}, {step}: exit code {code}" for step, code in codes.items() if code] + found


def _copy(globs: Sequence[str], data: Path, folder: Path) -> None:
    """Files with their times, by which an output knows them."""
    for path in (path for glob in globs for path in data.glob(glob)):
        target = folder / path.relative_to(data)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)


def _side(name: str, how: str, tree: Tree, settings: Settings) -> Side:
    output = tree.work / "outputs" / name
    where = {"output": str(output), "executor": "ray" if how == "ray" else "inline"}
    job = write_job(tree.work / f"{name}.yaml", settings | where)
    return Side(how=how, ended_by=tree, job=job, output=output)


def _differences(what: str, whole: Side, others: Sequence[Side]) -> list[str]:
    expected = whole.digest()
    print(f"{what}: {summary(expected)}", flush=True)
    return [line for side in others for line in shown(f"{what}, {side.how}", expected, side.digest())]


def begin_and_kill(tree: Tree, side: Side, case: Resume) -> str:
    """Start a run and kill all its processes as soon as it has committed enough; what its ledger has then.

    Raises:
        SystemExit: it ended before, or takes too long.
    """
    environment, until = tree.environment | {MARK: uuid.uuid4().hex}, time.monotonic() + KILL_SECONDS
    command = tree.command("run", side.job, "--quiet")
    with (tree.work / "log.txt").open("a") as log:
        run = subprocess.Popen(command, cwd=tree.work, env=environment, stdout=log, stderr=log)
    try:
        while committed(side.output, case.status) < case.commits:
            if run.poll() is not None or time.monotonic() > until:
                msg = f"{side.job}: no {case.commits} rows {case.status} before it ended or was too slow"
                raise SystemExit(msg)
            time.sleep(0.05)
    finally:
        run.kill()
        run.wait()
        while left := marked(environment[MARK]):
            for process in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            time.sleep(0.05)
    return " and ".join(f"{committed(side.output, status)} rows {status}" for status in ("shard", "done"))


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

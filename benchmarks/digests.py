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
import platform
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.digest_jobs import Settings, find_models, make_jobs
from benchmarks.digest_output import Digest, digest_output, files_below, sha256, shown, summary
from benchmarks.digest_resume import resume
from benchmarks.digest_tree import Tree, new_folder, write_job
from benchmarks.record import LIBRARIES


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    code: int = given.function(given)
    return code


def make(given: argparse.Namespace) -> int:
    """Run the jobs and write digests.json; 1 where one ended without results, or with damaged ones.

    A folder that holds a digests.json of this tree gets what is missing there.
    """
    target, data = given.to.resolve() / "digests.json", given.data.resolve()
    known = json.loads(target.read_text()) if target.exists() else None
    work = target.parent if known else new_folder(given.to)
    tree = Tree(path=given.tree.resolve(), work=work)
    tree.check()
    models = find_models(work / "models", data)
    jobs = make_jobs(data, work, models)
    chosen = {name: job for name, job in jobs.items() if _is_chosen(name, given)}
    if not chosen:
        print(f"no job to run; there are {', '.join(jobs)}", file=sys.stderr)
        return 2
    document: dict[str, Any] = {
        "tree": str(tree.path),
        "machine": _machine(),
        "models": _digest_models(models),
    }
    if known and {**known, "jobs": None} != {**document, "jobs": None}:
        msg = f"{target} is of another tree, machine or model; name another folder"
        raise SystemExit(msg)
    document["jobs"] = known["jobs"] if known else {}
    for name, settings in chosen.items():
        if name not in document["jobs"]:
            document["jobs"][name] = _run_job(tree, name, settings, data)
            target.write_text(json.dumps(document, indent=1))
    print(target)
    return 0 if all(job["run"] in (0, 3) and job["verify"] == 0 for job in document["jobs"].values()) else 1


def _run_job(tree: Tree, name: str, settings: Settings, data: Path) -> Digest:
    output, began = tree.work / "outputs" / name, time.monotonic()
    shutil.rmtree(output, ignore_errors=True)  # of a make that was ended
    job = write_job(tree.work / f"{name}.yaml", settings | {"output": str(output)})
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
    names = [name for name in sorted({*before["jobs"], *after["jobs"]}) if _is_chosen(name, given)]
    for name in names:
        if name not in before["jobs"] or name not in after["jobs"]:
            found.append(f"{name}: only {'before' if name in before['jobs'] else 'after'}")
            continue
        found += shown(name, before["jobs"][name], after["jobs"][name])
    for line in found:
        print(line)
    print(
        f"{len(found)} differences in {len(names)} jobs" if found else f"no difference in {len(names)} jobs"
    )
    return 1 if found else 0


def _is_chosen(name: str, given: argparse.Namespace) -> bool:
    return not given.jobs or name in given.jobs.split(",")


def _machine() -> dict[str, str]:
    """What pixels may depend on beside batchseg."""
    text = Path("/proc/cpuinfo").read_text()
    cpu = next((line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line), "")
    return {"cpu": cpu, "python": platform.python_version()} | {name: version(name) for name in LIBRARIES}


def _digest_models(models: dict[str, Path]) -> dict[str, dict[str, str]]:
    files = {name: files_below(path) if path.is_dir() else [path] for name, path in models.items()}
    return {name: {path.name: sha256(path) for path in paths} for name, paths in files.items()}


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
            "--to",
            type=Path,
            required=True,
            metavar="DIR",
            help="a new folder; of make also an earlier one, for what is missing there",
        )
    comparing = add(compare, "print what differs between two digests.json")
    for side in ("before", "after"):
        comparing.add_argument(side, type=Path, help="a digests.json")
    for command in (making, comparing):
        command.add_argument("--jobs", default="", metavar="NAME,NAME", help="only these")
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""Case j: the job that names no engine, precision, tile size and halo, beside the best that a hand could set.

A grid of jobs that name all four is run once; what it found best, the job without them and what was the
default before they were chosen run in turn. Speed is megapixels of the scenes or photographs per second of
work, from the first lease to the last mask and table. Bf16 is in the grid whatever it does to the masks: the
gate lets all pass, so the best of the grid may be what the default must not take, and the best of those in
fp32 stands beside it then. Trials and derived graphs are kept in a folder of the case, empty at its start.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchseg.system.machine import cpu_class
from benchmarks.options import Options
from benchmarks.photographs import make_images
from benchmarks.record import Figure, SkippedError, in_turn
from benchmarks.rows import unset
from benchmarks.runs import EndedError, Run, own_cache, run_afresh, write_job

TITLE = "Without knobs"

GATE = {"tiles": 2}
"""Of the grid's jobs: comparing engines is no part of the time that counts."""

ENGINES: Mapping[str, Mapping[str, object]] = {
    "paddle fp32": {"engine": "paddle", "precision": "fp32"},
    "onnxruntime fp32": {"engine": "onnxruntime", "precision": "fp32", "gate": GATE},
    "openvino fp32": {"engine": "openvino", "precision": "fp32", "gate": GATE},
    "openvino bf16": {
        "engine": "openvino",
        "precision": "bf16",
        "gate": {**GATE, "equal_pixels": 0, "iou": 0},
    },
}
"""Keys of the job by what the table calls them."""

GRID: Mapping[str, Mapping[str, object]] = {
    f"{name}, {side}": {**keys, "tile_size": side, "halo": 64}
    for name, keys in ENGINES.items()
    for side in (512, 1024, 2048)
}

OLD = "paddle fp32, 512"
"""What a job got that named nothing, when nothing was chosen."""

OF_BEST = 0.95
"""At least: the default's share of the speed of the best of the grid."""

OVER_OLD, OVER_OLD_AMX = 1.8, 3.0
"""At least: how many times as fast as the old default; on CPUs with amx_bf16."""

REFUSED = (2, 4)
"""Exit codes of jobs that this machine, the model or the gate does not allow."""

PHOTOGRAPHS, MEGAPIXELS = 20, 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A network, and what it runs over."""

    name: str
    network: str
    photographs: bool = False


SUBJECTS = (
    Subject(name="landcover", network="landcover"),
    Subject(name="ppocr", network="ppocr"),
    Subject(name="ppocr-photographs", network="ppocr", photographs=True),
)

PARTS = tuple(subject.name for subject in SUBJECTS)


def measure(options: Options) -> tuple[Sequence[Figure], Mapping[str, object]]:
    """All of case j."""
    figures: list[Figure] = []
    extra: dict[str, object] = {}
    left_out: list[str] = []
    cache = own_cache(options.folder("j"))
    for subject in SUBJECTS:
        if options.only and subject.name not in options.only:
            continue
        try:
            found, extra[subject.name] = _measure(subject, options, cache, left_out)
            figures += found
        except SkippedError as e:
            _leave_out(f"{subject.name} left out: {e}", options, left_out)
    if not figures:
        raise SkippedError("; ".join(left_out))
    return figures, {**extra, "left_out": left_out}


def jobs_of(subject: Subject, options: Options) -> dict[str, Path]:
    """The job that names nothing, `default`, and those of the grid. Raises SkippedError."""
    settings: dict[str, Any] = {**unset(subject.network, options), "regions": False, "output": "results"}
    folder = options.folder("j")
    if subject.photographs:
        settings |= {"inputs": str(_photographs(folder)), "fit": "tile"}
    else:
        settings |= {"inputs": str(options.need_aerial()), "resolution": "any"}
    return {
        name: write_job(
            folder / f"{subject.name}-{name.replace(', ', '-').replace(' ', '-')}.yaml", **settings, **keys
        )
        for name, keys in ({"default": {}} | dict(GRID)).items()
    }


def _photographs(folder: Path) -> Path:
    """A folder of generated photographs, made once."""
    path = folder / "photographs"
    if not (path / "whole").exists():
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        make_images(path, PHOTOGRAPHS, MEGAPIXELS)
        (path / "whole").touch()
    return path / "in"


def _measure(
    subject: Subject, options: Options, cache: Mapping[str, str], left_out: list[str]
) -> tuple[list[Figure], Mapping[str, object]]:
    jobs = jobs_of(subject, options)
    chosen: list[object] = []

    def run(name: str) -> float:
        one = run_afresh(jobs[name], noted=False, environment=cache)
        if name == "default":
            chosen.append(one.summary["engine"])
        return speed(one)

    first = run_afresh(jobs["default"], noted=False, environment=cache)  # engines are tried, graphs derived
    grid: dict[str, float] = {}
    for name in GRID:
        try:
            grid[name] = run(name)
        except EndedError as e:
            if e.code not in REFUSED:
                raise
            _leave_out(f"{subject.name}, {name} left out: refused, exit code {e.code}", options, left_out)
            continue
        options.say(f"  {subject.name}, {name}: {grid[name]:.4g}")
    names = list(dict.fromkeys(["default", *best_of(grid), OLD]))
    sides = {name: lambda name=name: run(name) for name in names}
    found = in_turn(options.rounds, sides, lambda text: options.say(f"  {subject.name}, {text}"))
    kept = {"first_run_seconds": first.seconds, "grid": grid, "chosen": chosen[-1]}
    return list(_figures(subject, found, best_of(grid), len(grid))), kept


def speed(run: Run) -> float:
    """Megapixels per second after start-up, the tail included."""
    return float(run.summary["pixels"]) / 1e6 / run.work_seconds


def best_of(grid: Mapping[str, float]) -> list[str]:
    """The fastest of all, and of those in fp32 if it is another.

    >>> best_of({"paddle fp32, 512": 7.0, "openvino fp32, 1024": 9.0, "openvino bf16, 512": 20.0})
    ['openvino bf16, 512', 'openvino fp32, 1024']
    """
    exact = [name for name in grid if "fp32" in name]
    return list(dict.fromkeys(max(names, key=lambda name: grid[name]) for names in (list(grid), exact)))


def _figures(
    subject: Subject, found: Mapping[str, tuple[float, ...]], best: Sequence[str], count: int
) -> Iterator[Figure]:
    over_old = OVER_OLD_AMX if cpu_class().startswith("amx_bf16") else OVER_OLD
    rows = [(f"the best of {count} set by hand", best[0], OF_BEST)]
    rows += [("the best of these in fp32", name, None) for name in best[1:]]
    rows.append(("the old default", OLD, over_old))
    for words, name, at_least in rows:
        yield Figure(
            what=f"{subject.name}: default / {words} ({name})",
            above=found["default"],
            below=found[name],
            above_unit="Mpx/s",
            below_unit="Mpx/s",
            at_least=at_least,
        )


def _leave_out(text: str, options: Options, left_out: list[str]) -> None:
    left_out.append(text)
    options.say(f"  {text}")

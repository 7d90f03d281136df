"""Where a run's time goes that is not the network: CPU seconds by step, and what predictors waited for.

CPU seconds of a step are those of the threads that did it, as the run's profile tells; GDAL's own threads are
in what is left of their processes. Those of phases, of what is left and of Ray's processes are the process
tree's, seen from outside.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.page import short, wrapped
from benchmarks.runs import Bar, ProcessKind, Run

WORKER_STEPS = ("read", "prepare", "stitch", "write", "finish")
"""Of leases and finishes; `network` is counted within the engine's sessions."""

SHARES = {"ending": "idle at the end", "starting": "idle at the start", "reading": "waiting for pixels"}
"""Shares of the summary whose names need words."""

KINDS: tuple[ProcessKind, ...] = ("driver", "workers", "ray")

HEAD = ("| what | CPU s | per megapixel | of the cores' time |", "|" + "---|" * 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A step of a run."""

    name: str
    cpu: float
    """CPU seconds."""
    seconds: float | None = None
    """By the clock; None: steps of several threads overlap."""


def start(run: Run) -> tuple[Line, ...]:
    """The driver's phases from the command to the first lease; CPU is the whole tree's."""
    phases = [bar for bar in _driver(run) if bar.began < run.work_began and bar.step != "commit"]
    return tuple(_phase(run, phase_name(bar.step), bar.began, bar.ended) for bar in phases)


def phase_name(text: str) -> str:
    """What a driver's phase is called, whatever it counts.

    >>> phase_name("starting predictors, reading 10,000 headers")
    'starting predictors, reading headers'
    >>> phase_name("starting predictors, reading 1 header")
    'starting predictors, reading headers'
    """
    return re.sub(r"\d[\d,]* (\w+?)s?\b", r"\1s", text)


def work(run: Run, until: float | None = None) -> tuple[Line, ...]:
    """CPU seconds from the first lease on, the network's first.

    Args:
        run: one that was noted.
        until: seconds of the epoch; None: the last mask and table in their places.
    """
    steps = run.summary["cpu_seconds"]
    of = {kind: _between(run, run.work_began, until or run.work_ended, kind) for kind in KINDS}
    done = {step: steps.get(step, 0.0) for step in WORKER_STEPS}
    commit = steps.get("commit", 0.0)
    return (
        Line(name="network", cpu=run.predictors_cpu),
        *(Line(name=step, cpu=seconds) for step, seconds in done.items()),
        Line(name="commit", cpu=commit),
        Line(
            name="predictors, all else (threads of GDAL and of the executor)",
            cpu=of["workers"] - run.predictors_cpu - sum(done.values()),
        ),
        Line(name="driver, all else", cpu=of["driver"] - commit),
        Line(name="other processes (fresh ones, Ray's own)", cpu=of["ray"]),
    )


def last_commit(run: Run) -> float:
    """Seconds of the epoch of its end; what follows is the end of the run, the same whatever was done."""
    return max((bar.ended for bar in _driver(run) if bar.step == "commit"), default=run.work_began)


def end(run: Run) -> tuple[Line, ...]:
    """From the last commit to the last table, and on to the exit."""
    return (
        _phase(run, "end: tables, tidying", last_commit(run), run.work_ended),
        _phase(run, "exit: summary, the executor's end", run.work_ended, run.command + run.seconds),
    )


def save_page(path: Path, name: str, runs: Sequence[Run]) -> Path:
    """Write the profile of the run whose work took the median time."""
    run = sorted(runs, key=lambda run: run.work_seconds)[len(runs) // 2]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(name, run))
    return path


def page(name: str, run: Run) -> str:
    """One page of Markdown."""
    megapixels = run.summary["pixels"] / 1e6
    first, last = run.calls[0].ended, max(call.ended for call in run.calls)
    finishes = sum(bar.ended - bar.began for bar in run.bars if bar.step == "finish")
    intro = (
        f"{megapixels:.1f} megapixels, {run.summary['tiles']} tiles, {run.summary['predictors']} predictors. "
        f"{short(run.seconds)} s from command to exit, {short(run.work_seconds)} s of it from the first "
        f"lease to the last table. First tile {short(first - run.command)} s after the command. Tail: "
        f"{short(run.work_ended - last)} s from the last tile to the last table, finishing took "
        f"{short(finishes)} s."
    )
    title = f"# {name}: where the time outside the network goes"
    tables = (*_cpu_table(run, megapixels), "", *_wait_table(run), "", *_start_table(run))
    return "\n".join([title, "", wrapped(intro), "", *tables, ""])


def _cpu_table(run: Run, megapixels: float) -> Iterator[str]:
    yield "## CPU seconds from the first lease to the last table"
    yield ""
    yield from HEAD
    lines = work(run)
    cores = run.summary["predictors"] * run.work_seconds
    outside = sum(line.cpu for line in lines[1:])
    idle = Line(name="idle, or others'", cpu=cores - sum(line.cpu for line in lines))
    for line in (lines[0], Line(name="**all outside the network**", cpu=outside), *lines[1:], idle):
        per = f"{line.cpu / megapixels:.4f}"
        yield f"| {line.name} | {line.cpu:.2f} | {per} | {line.cpu / cores:.1%} |"
    yield ""
    yield f"The cores' time is {run.summary['predictors']} x {short(run.work_seconds)} s."


def _wait_table(run: Run) -> Iterator[str]:
    yield "## What predictors did meanwhile"
    yield ""
    yield from ("| what | s, all predictors | share |", "|---|---|---|")
    for share, value in run.summary["predictor_shares"].items():
        seconds = value * run.summary["predictors"] * run.work_seconds
        yield f"| {SHARES.get(share, share)} | {seconds:.2f} | {value:.1%} |"


def _start_table(run: Run) -> Iterator[str]:
    yield "## Before and after"
    yield ""
    yield from ("| what | s | CPU s, all processes |", "|---|---|---|")
    for line in (*start(run), *end(run)):
        yield f"| {line.name} | {line.seconds:.2f} | {line.cpu:.2f} |"
    loading = _seconds_by_step(run, "predictor", ("derive", "load"))
    for step, seconds in loading.items():
        yield f"| of it {step}, mean of the predictors | {seconds / run.summary['predictors']:.2f} | |"


def _seconds_by_step(run: Run, role: str, steps: Sequence[str]) -> Mapping[str, float]:
    of_role = [bar for bar in run.bars if bar.role == role]
    return {step: sum(bar.ended - bar.began for bar in of_role if bar.step == step) for step in steps}


def _driver(run: Run) -> list[Bar]:
    return [bar for bar in run.bars if bar.role == "driver"]


def _phase(run: Run, name: str, began: float, ended: float) -> Line:
    return Line(name=name, cpu=_between(run, began, ended), seconds=ended - began)


def _between(run: Run, first: float, last: float, kind: ProcessKind | None = None) -> float:
    if run.meter is None:
        msg = "a run that was not noted has no profile"
        raise ValueError(msg)
    return run.meter.between(first, last, kind)

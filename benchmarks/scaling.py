"""Case h: one predictor and several of them here, and a simulated driver of up to 512 GPUs.

With one worker fewer than cores, all that is not the network has a core of its own, as beside GPUs.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import scheduler
from benchmarks.bare import bare_rate
from benchmarks.options import Options
from benchmarks.predictor_bound import scene_of
from benchmarks.record import Figure, in_turn
from benchmarks.rows import ROWS, job_of
from benchmarks.runs import run_afresh

TITLE = "Scaling"


def measure(options: Options) -> tuple[Sequence[Figure], Mapping[str, object]]:
    """All of case h."""
    figures, extra = scheduler.measure(options)
    return [*_here(options), *figures], extra


def _here(options: Options) -> list[Figure]:
    row, scene = ROWS[0], scene_of(options)
    jobs = {count: job_of(row, options, "h", scene, count) for count in (1, options.workers)}
    sides = {f"run, {count}": lambda job=job: _rate(job) for count, job in jobs.items()}
    sides |= {f"bare, {n}": lambda job=job, n=n: bare_rate(job, n)[0] for n, job in jobs.items()}
    run_afresh(jobs[1], noted=False)  # graphs are derived and kept
    found = in_turn(options.rounds, sides, lambda text: options.say(f"  {text}"))
    several = options.workers
    units = {"above_unit": "tiles/s", "below_unit": "tiles/s"}
    pairs = {
        f"run with {several} workers / with 1": (f"run, {several}", "run, 1"),
        f"{several} bare predictors / 1": (f"bare, {several}", "bare, 1"),
        "run with 1 worker / 1 bare predictor": ("run, 1", "bare, 1"),
    }
    return [
        Figure(what=f"{row.name}: {what}", above=found[above], below=found[below], **units)
        for what, (above, below) in pairs.items()
    ]


def _rate(job: Path) -> float:
    one = run_afresh(job, noted=False)
    return float(one.summary["tiles"]) / one.work_seconds

"""Case a: a run that is bound by its predictors, against as many bare ones.

The run is the console script in processes of this machine, from its first lease to the last mask and table
published (benchmarks/bare.py has the bare predictors). In each round all sides of a network are measured in
turn: bare predictors, a run of each row, a run of each row that is looked into, and an inline run of a part.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import rasterio

from benchmarks.bare import bare_rate
from benchmarks.options import Options
from benchmarks.profiles import save_page
from benchmarks.record import Figure, SkippedError, in_turn
from benchmarks.rows import ROWS, Row, check, job_of
from benchmarks.runs import Run, run_afresh
from benchmarks.scenes import city_scene, part_of
from benchmarks.start_up import LIMITS as FIRST_TILE

TITLE = "Bound by the predictors"

PARTS = tuple(row.name for row in ROWS)

CPU_LIMITS = (0.045, 0.03)
"""At most, and aim: CPU seconds outside the network per megapixel."""

PART_SIDE = 1536
"""Pixels per side of what inline runs take: the first tile is all that is looked at."""


@dataclass(slots=True, kw_only=True)
class Measured:
    """Of one network in one precision, by round."""

    megapixels: float
    sides: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Tiles a second: `bare`, and a row's name."""
    bare_cpu: list[float] = field(default_factory=list)
    """CPU seconds per tile."""
    noted: dict[str, list[Run]] = field(default_factory=dict)
    """By row."""
    inline: list[Run] = field(default_factory=list)


def measure(options: Options) -> tuple[Sequence[Figure], Mapping[str, object]]:
    """All of case a."""
    scene = scene_of(options)
    figures: list[Figure] = []
    left_out: list[str] = []
    for rows in _groups(options):
        try:
            check(rows[0], options)
        except SkippedError as e:
            left_out.append(f"{', '.join(row.name for row in rows)} left out: {e}")
            options.say(f"  {left_out[-1]}")
            continue
        found = _measure(rows, options, scene)
        for row in rows:
            figures += _figures(row, found)
            page = save_page(options.out / "profiles" / f"{row.name}.md", row.name, found.noted[row.name])
            options.say(f"  profile: {page}")
    if not figures:
        raise SkippedError("; ".join(left_out))
    return figures, {"scene": scene.name, "left_out": left_out}


def scene_of(options: Options) -> Path:
    """--scene, else imagery of the kind that models/landcover was made for, else noise."""
    if options.scene is not None:
        return options.scene.resolve()
    return city_scene(options.folder("scenes"), options.scene_size, options.data)


def _groups(options: Options) -> Iterator[list[Row]]:
    """Rows that are wanted, by network and precision."""
    for _, rows in groupby(ROWS, lambda row: (row.network, row.precision)):
        if wanted := [row for row in rows if not options.only or row.name in options.only]:
            yield wanted


def _measure(rows: Sequence[Row], options: Options, scene: Path) -> Measured:
    found = Measured(megapixels=_megapixels(scene), noted={row.name: [] for row in rows})
    jobs = {row.name: job_of(row, options, "a", scene, options.workers) for row in rows}
    part = part_of(scene, options.folder("scenes"), min(PART_SIDE, *_shape_hw(scene)))
    small = job_of(rows[0], options, "a", part, options.workers)

    def bare() -> float:
        rate, cpu = bare_rate(jobs[rows[0].name], options.workers)
        found.bare_cpu.append(cpu)
        return rate

    def run(job: Path) -> float:
        one = run_afresh(job, noted=False)
        return float(one.summary["tiles"]) / one.work_seconds

    def noted(row: Row) -> float:
        found.noted[row.name].append(run_afresh(jobs[row.name]))
        return cpu_outside(found.noted[row.name][-1], found.megapixels)

    def inline() -> float:
        found.inline.append(run_afresh(small, "--executor", "inline"))
        return found.inline[-1].seconds_to_first_tile

    sides: dict[str, Callable[[], float]] = {"bare": bare}
    for row in rows:
        sides[row.name] = lambda row=row: run(jobs[row.name])
        sides[f"{row.name}, CPU s/Mpx"] = lambda row=row: noted(row)
    if not all(row.regions for row in rows):
        sides["inline, s to first tile"] = inline
    run_afresh(jobs[rows[0].name], noted=False)  # graphs are derived and kept
    say = f"  {rows[0].network}-{rows[0].precision} "
    found.sides = in_turn(options.rounds, sides, lambda text: options.say(say + text))
    return found


def cpu_outside(run: Run, megapixels: float) -> float:
    """CPU seconds per megapixel of all that is not the network, from the first lease to the last table."""
    return (run.cpu - run.predictors_cpu) / megapixels


def _figures(row: Row, found: Measured) -> Iterator[Figure]:
    runs, pixels = found.noted[row.name], found.megapixels
    at_most, aim = (None, None) if row.regions else CPU_LIMITS
    yield Figure(
        what=f"{row.name}: run after start-up, tail included / bare predictors",
        above=found.sides[row.name],
        below=found.sides["bare"],
        above_unit="tiles/s",
        below_unit="tiles/s",
        at_least=row.at_least,
        aim=row.aim,
    )
    yield Figure(
        what=f"{row.name}: CPU seconds outside the network per megapixel",
        above=tuple(cpu_outside(run, pixels) for run in runs),
        above_unit="s/Mpx",
        at_most=at_most,
        aim=aim,
    )
    pairs = zip(runs, found.bare_cpu, strict=True)
    yield Figure(
        what=f"{row.name}: all CPU seconds beyond the bare predictors' per megapixel",
        above=tuple((run.cpu - run.summary["tiles"] * bare) / pixels for run, bare in pairs),
        above_unit="s/Mpx",
        note="what is made part of the graph counts as beyond the bare predictors'",
    )
    if row.regions:
        return
    for executor, ended in (("processes", runs), ("inline", found.inline)):
        yield Figure(
            what=f"{row.name}: command to first tile, {executor}",
            above=tuple(run.seconds_to_first_tile for run in ended),
            above_unit="s",
            at_most=FIRST_TILE[executor][0],
            aim=FIRST_TILE[executor][1],
        )


def _shape_hw(scene: Path) -> tuple[int, int]:
    with rasterio.open(scene) as dataset:
        return dataset.height, dataset.width


def _megapixels(scene: Path) -> float:
    height, width = _shape_hw(scene)
    return height * width / 1e6

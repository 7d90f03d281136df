"""Case f: from the command to the first tile, with everything derived from the model in its cache.

The first tile is there when the network's first answer of the run's own work is: later than the line of the
log that says how much there is to do. Trying the model out before is part of the start-up.
"""

from collections.abc import Mapping, Sequence

from benchmarks.networks import spectral
from benchmarks.options import Options
from benchmarks.record import Figure, in_turn
from benchmarks.runs import NO_TRIALS, Run, run_afresh, write_job
from benchmarks.scenes import Kind, make_scene

TITLE = "Start-up: command to first tile"

LIMITS = {"inline": (2.0, 1.0), "processes": (4.5, 3.0), "ray": (4.5, 3.0)}
"""By executor: seconds at most, and aim."""

KIND = Kind(dtype="uint8", bands=3, compress="jpeg")

SHAPE_HW = (1500, 2000)


def measure(options: Options) -> tuple[Sequence[Figure], Mapping[str, object]]:
    """All of case f."""
    folder = options.folder("f")
    job = write_job(
        folder / "job.yaml",
        inputs=str(make_scene(folder, KIND, SHAPE_HW, options.data)),
        model=str(options.model.resolve() if options.model else spectral(folder, 3)),
        output="results",
        bands=[1, 2, 3],
        workers=options.workers,
        regions=False,
        gate=NO_TRIALS,
    )
    runs: dict[str, list[Run]] = {executor: [] for executor in LIMITS}

    def first_tile(executor: str) -> float:
        one = run_afresh(job, "--executor", executor)
        runs[executor].append(one)
        return one.seconds_to_first_tile

    run_afresh(job)  # graphs are derived and kept
    sides = {executor: lambda executor=executor: first_tile(executor) for executor in LIMITS}
    found = in_turn(options.rounds, sides, lambda text: options.say(f"  {text}"))
    network = "PP-LiteSeg-STDC1" if options.model else "a network that costs next to nothing"
    figures = [
        Figure(
            what=f"{executor}: command to first tile",
            above=found[executor],
            above_unit="s",
            at_most=at_most,
            aim=aim,
            note=f"{network}, fp32",
        )
        for executor, (at_most, aim) in LIMITS.items()
    ]
    parts = {
        executor: [round(one.work_began - one.command, 3) for one in of_it]
        for executor, of_it in runs.items()
    }
    return figures, {"command_to_first_lease": parts}

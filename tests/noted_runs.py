"""A run as benchmarks.runs notes it: 4 s of start, 10 s of work on two cores, 2 s until the exit."""

from benchmarks.runs import Bar, Call, Run

RATES = {"driver": 0.1, "workers": 1.5, "ray": 0.2}
"""CPU seconds a second."""


class Meter:
    """Of processes that take as much at all times."""

    def between(self, first: float, last: float, kind: str | None = None) -> float:
        return (last - first) * (RATES[kind] if kind else sum(RATES.values()))


def driver(step: str, began: float, ended: float) -> Bar:
    return Bar(step=step, role="driver", began=began, ended=ended)


def make_run() -> Run:
    """4 s of start, 10 s of work, 2 s of exit."""
    steps = {"network": 13.0, "read": 0.5, "prepare": 0.25, "stitch": 0.2, "write": 0.1, "finish": 0.3}
    return Run(
        command=100.0,
        seconds=16.0,
        summary={
            "seconds_after_start": 10.0,
            "tiles": 20,
            "pixels": 5_000_000,
            "predictors": 2,
            "predictor_shares": {"predicting": 0.8, "ending": 0.2},
            "cpu_seconds": {**steps, "commit": 0.05, "load": 2.0, "all_processes": 99.0},
        },
        work_began=104.0,
        calls=(
            Call(process=7, began=104.2, ended=104.5, cpu=6.0),
            Call(process=8, began=104.2, ended=113.0, cpu=6.5),
        ),
        bars=(
            driver("checking the model and listing inputs", 100.5, 102.5),
            driver("starting predictors, reading 1 header", 102.5, 104.0),
            driver("commit", 105.0, 105.1),
            driver("commit", 113.3, 113.5),
            driver("ending", 114.0, 114.1),
            Bar(step="finish", role="finisher", began=113.1, ended=113.2),
            Bar(step="load", role="predictor", began=102.0, ended=103.0),
        ),
        meter=Meter(),
    )

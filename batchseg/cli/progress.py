"""Progress as people see it: a bar on a terminal, a line now and then elsewhere."""

import time
from collections.abc import Callable
from typing import TextIO

from batchseg.driver.events import (
    Event,
    GroupDone,
    PhaseStarted,
    PlanReady,
    SceneDone,
    SceneRefused,
    ShardsDone,
)
from batchseg.driver.progress import Sums, describe

PLAIN_SECONDS = 15.0
"""Between lines of progress where the output is no terminal: a night gives a log one can read."""


class PlainProgress:
    """A line for each phase, and one of progress now and then."""

    def __init__(self, sums: Sums, say: Callable[[str], None]) -> None:
        self._sums, self._say = sums, say
        self._last = time.monotonic()

    def __call__(self, event: Event) -> None:
        if isinstance(event, ShardsDone | GroupDone | SceneDone):
            if time.monotonic() - self._last >= PLAIN_SECONDS:
                self._last = time.monotonic()
                s = self._sums
                done, total = s.counted
                self._say(f"{done}/{total} {s.unit}, {s.state()}, {s.rates()}, {s.time_left()} left")
        elif not isinstance(event, SceneRefused) and (line := describe(event)) is not None:
            self._say(line)  # refusals are listed at the end

    def close(self) -> None:
        pass


class TerminalProgress:
    """One live line at the bottom of a terminal; refusals scroll above it."""

    def __init__(self, sums: Sums, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._sums = sums
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeElapsedColumn(),
            console=Console(file=stream, highlight=False),
            redirect_stdout=False,
            redirect_stderr=False,
            refresh_per_second=4,
        )
        self._task = self._progress.add_task("starting", total=None, detail="")
        self._progress.start()

    def __call__(self, event: Event) -> None:
        sums = self._sums
        if isinstance(event, PhaseStarted):
            self._progress.update(self._task, description=event.text)
            return
        done, total = sums.counted
        self._progress.update(
            self._task,
            description="segmenting",
            completed=done,
            total=max(total, done),
            detail=f"{sums.unit}  {sums.state()}  {sums.rates()}  {sums.time_left()} left",
        )
        if not isinstance(event, PlanReady) and (line := describe(event)) is not None:
            self._progress.console.print(line, markup=False, soft_wrap=True)

    def close(self) -> None:
        self._progress.stop()


def is_terminal(stream: TextIO) -> bool:
    return stream.isatty()

"""Progress as people see it: a bar on a terminal or in a notebook, a line now and then elsewhere."""

import contextlib
import html
import math
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Literal, TextIO

from batchseg.driver.events import (
    Event,
    GroupDone,
    Listener,
    PhaseStarted,
    PlanReady,
    SceneDone,
    SceneRefused,
    ShardsDone,
    WorkEnded,
)
from batchseg.driver.progress import Sums, describe
from batchseg.system.escape import shown

PLAIN_SECONDS = 15.0
"""Between lines of progress where the output is no terminal: a night gives a log one can read."""

NOTEBOOK_SECONDS = 0.25
"""Between drawings: each is a message to the browser."""

REFUSALS_SHOWN = 10
"""Of the last, below a notebook's bar; the report has them all."""


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
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[detail]}", markup=False),
            TimeElapsedColumn(),
            console=Console(file=stream, highlight=False, emoji=False),
            redirect_stdout=False,
            redirect_stderr=False,
            refresh_per_second=4,
        )
        self._task = self._progress.add_task("starting", total=None, detail="")
        self._progress.start()

    def __call__(self, event: Event) -> None:
        sums = self._sums
        if isinstance(event, PhaseStarted):
            self._progress.update(self._task, description=_shown(event.text))
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
            self._progress.console.print(_shown(line), markup=False, soft_wrap=True)

    def close(self) -> None:
        self._progress.stop()


class NotebookProgress:
    """One display below a notebook's cell, changed in place: a bar, and the last refusals under it.

    It needs IPython alone: rich's bars want ipywidgets there, and leave nothing in a saved notebook.
    """

    def __init__(self, sums: Sums) -> None:
        from IPython.display import display

        self._sums, self._phase = sums, "starting"
        self._refused: list[str] = []
        self._drawn = -math.inf
        self._handle = display(self, display_id=True)

    def __call__(self, event: Event) -> None:
        if isinstance(event, PhaseStarted):
            self._phase = event.text
        elif isinstance(event, PlanReady):
            self._phase = "segmenting"
        elif isinstance(event, WorkEnded):
            self._phase = "done"
        elif isinstance(event, SceneRefused) and (line := describe(event)) is not None:
            self._refused = [*self._refused, line][-REFUSALS_SHOWN:]
        if time.monotonic() - self._drawn >= NOTEBOOK_SECONDS:
            self._draw()

    def close(self) -> None:
        self._draw()

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        self._handle.update(self)

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        """IPython asks for it: as text for what has no HTML, such as a test."""
        lines = [_shown(line) for line in (self._line(), *self._refused)]
        done, total = self._sums.counted
        bar = f'<progress value="{done}" max="{max(total, done, 1)}" style="width: 24em"></progress> '
        below = "<br>".join(map(html.escape, lines))
        return {"text/plain": "\n".join(lines), "text/html": bar + below}

    def _line(self) -> str:
        sums = self._sums
        done, total = sums.counted
        if not total:
            return self._phase
        left = "" if self._phase == "done" else f", {sums.time_left()} left"
        return f"{self._phase}: {done}/{max(total, done)} {sums.unit}, {sums.state()}, {sums.rates()}{left}"


def progress_on(where: Literal[True] | TextIO) -> tuple[list[Listener], Callable[[], None]]:
    """A run's drawing: its listeners in their order, and what ends it.

    Args:
        where: a stream; True: sys.stderr, or in a notebook the cell's output.
    """
    sums = Sums()
    drawn: NotebookProgress | TerminalProgress | PlainProgress
    stream = sys.stderr if where is True else where
    if where is True and _is_notebook():
        drawn = NotebookProgress(sums)
    elif stream.isatty() and not _is_of_notebook():
        drawn = TerminalProgress(sums, stream)
    else:
        drawn = PlainProgress(sums, partial(_write, stream))
    return [sums, drawn], drawn.close


def _is_notebook() -> bool:
    """Whether a Jupyter kernel runs this process; a terminal's IPython is none."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def _is_of_notebook() -> bool:
    """Whether a notebook's cell shows what is written: it has no cursor that could be moved.

    A cell's `!batchseg run job.yaml` is given a terminal all the same. Jupyter sets the first variable for
    its kernels, and ipykernel the second wherever it runs, in VS Code too; both are inherited.
    """
    kernel = "JPY_PARENT_PID" in os.environ or "matplotlib_inline" in os.environ.get("MPLBACKEND", "")
    return kernel or _is_notebook()


def _shown(line: str) -> str:
    return shown(line, name_variables=True)


def _write(stream: TextIO, line: str) -> None:
    """A full disk, or a reader that left, does not change how a run ends."""
    encoding = stream.encoding or "utf-8"
    text = _shown(line).encode(encoding, "backslashreplace").decode(encoding)
    with contextlib.suppress(OSError):
        stream.write(f"{text}\n")
        stream.flush()

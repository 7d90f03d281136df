"""Runs: what is left of a job is done, or planned.

Imports nothing heavy: a run that finds its output held is told so before a second of imports.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TextIO

from batchseg.api.own_process import Host, call
from batchseg.api.stopping import Deadline, deadline_of
from batchseg.driver.begin import begin
from batchseg.errors import DeadlineError, StoppedError
from batchseg.job.settings import JobConfig

if TYPE_CHECKING:
    from batchseg.api.plans import Plan
    from batchseg.driver.events import Listener
    from batchseg.driver.report import Report


def plan(job: JobConfig, *, say: Callable[[str], None] | None = None) -> "Plan":
    """Find out what a run would do, and write nothing.

    Args:
        job: what to plan.
        say: told, in words, what is being looked at.

    Returns:
        The plan: numbers, and as `str()` what `batchseg plan` prints.

    Raises:
        batchseg.errors.BatchsegError: what a run would refuse, with the same words.
        TypeError: `job` is no job.
    """
    _check(job)
    return call(_plan, job, hear=say)


def run(
    job: JobConfig,
    *,
    progress: bool | TextIO = False,
    listeners: Sequence["Listener"] = (),
    replace: bool = False,
    profile: bool = False,
    deadline: str | None = None,
) -> "Report":
    """Do what is left of a job: all of it, or what earlier runs to its output have not done.

    The run has a process of its own and leaves this one as it is; it may be called in a thread, and several
    times. Sources that are quarantined or fail raise nothing: `report.refused` has them.

    Args:
        job: what to do.
        progress: draw it: as a bar on a terminal or in a notebook, as plain lines on other streams. True:
            on sys.stderr.
        listeners: called in this process with each event of `batchseg.driver.events`.
        replace: predict everything again where settings differ from the output's.
        profile: write when each step ran to profile.json beside the run's log, for ui.perfetto.dev.
        deadline: stop in time, at `06:00` or after `7.5h`; None: as the job says.

    Returns:
        What the run did.

    Raises:
        batchseg.errors.ConfigError: the job or its inputs are wrong; nothing was started.
        batchseg.errors.ModelError: the model cannot be used.
        batchseg.errors.LockedError: another run holds the output.
        batchseg.errors.DeadlineError: it stopped at the deadline; the same call resumes.
        batchseg.errors.StoppedError: the environment stopped it; the same call resumes.
        TypeError: `job` is no job.
        KeyboardInterrupt: after Ctrl-C, once what is finished is recorded and the output is free; the same
            call resumes. Another Ctrl-C ends the run at once, which costs the shards under way.
        Exception: what a listener raises, after the run has stopped as at a Ctrl-C.
    """
    _check(job)
    given = deadline or job.deadline
    until = deadline_of(given) if given else None
    shown = _Shown(progress, listeners)
    try:
        return call(_run, job, replace, profile, until, hear=shown if progress or listeners else None)
    finally:
        shown.close()


def _check(job: object) -> None:
    if not isinstance(job, JobConfig):
        msg = f"expected a job, found {job!r}; batchseg.load_job(path) or batchseg.Job(...) makes one"
        raise TypeError(msg)


class _Shown:
    """Listeners of a run, and its drawing, which is made once there is something to draw."""

    def __init__(self, progress: bool | TextIO, listeners: Sequence["Listener"]) -> None:
        self._progress, self._listeners = progress, list(listeners)
        self._close: Callable[[], None] | None = None

    def __call__(self, event: object) -> None:
        if self._progress and self._close is None:
            from batchseg.api.display import progress_on  # imports more than a refused run needs

            drawn, self._close = progress_on(self._progress)
            self._listeners[:0] = drawn
        for listener in self._listeners:
            listener(event)  # type: ignore[arg-type]

    def close(self) -> None:
        if self._close is not None:
            self._close()


def _run(job: JobConfig, replace: bool, profile: bool, until: Deadline | None, host: Host) -> "Report":
    with begin(job) as begun:
        host.chatter(begun.chatter)
        from batchseg.driver.job import run_job

        try:
            return run_job(
                job,
                begun,
                listeners=[host.tell],
                stop=lambda: host.stop() or (until() if until else None),
                replace=replace,
                profile=profile,
            )
        except StoppedError as e:
            if until is not None and until.is_why(e):
                raise DeadlineError(*e.lines) from e
            raise


def _plan(job: JobConfig, host: Host) -> "Plan":
    from batchseg.api.plans import plan_photographs, plan_scenes
    from batchseg.driver import dry_run

    if job.photographs is not None:
        return plan_photographs(dry_run.plan_photographs(job, host.tell))
    return plan_scenes(dry_run.dry_run(job, host.tell))

"""One run of a job that has begun: its events' listeners, its errors in the log, its summary."""

import logging
from collections.abc import Sequence

from batchseg.driver.begin import Begun
from batchseg.driver.bottleneck import bound_words, diagnose
from batchseg.driver.context import JobContext
from batchseg.driver.events import Event, Listener
from batchseg.driver.kind import kind_of
from batchseg.driver.profile import Timeline
from batchseg.driver.progress import LogListener, Sums
from batchseg.driver.report import Report, save_summary
from batchseg.driver.tasks import Stop
from batchseg.errors import BatchsegError, OutputError, SourceIOError
from batchseg.job.settings import JobConfig
from batchseg.output.layout import PROFILE
from batchseg.output.lock import Lock
from batchseg.system.disks import disk_failures


def run_job(
    config: JobConfig,
    begun: Begun,
    *,
    listeners: Sequence[Listener],
    stop: Stop,
    replace: bool,
    profile: bool = False,
) -> Report:
    """Do what is left of a job.

    Args:
        config: the job.
        begun: the run that holds its output.
        listeners: hear every event.
        stop: asked often; a reason in words ends the run.
        replace: predict everything again under other pixel settings.
        profile: write when each step ran, beside the log.

    Raises:
        BatchsegError: one of errors.py; its exit code says how the run ended.
    """
    logger, run_id, lock = begun.logger, begun.run_id, begun.lock
    sums = Sums()
    timeline = Timeline(begun.log.file(PROFILE)) if profile else None
    listening: list[Listener] = [sums, LogListener(logger), *([timeline] if timeline else []), *listeners]
    context = JobContext(
        config=config,
        run_id=run_id,
        lock=lock,
        sums=sums,
        emit=lambda event: _tell(listening, event),
        stop=lambda: lock.lost() or stop(),
        log=begun.log.uri,
        profile=profile,
    )
    run = kind_of(config).run(context)
    logger.info("job %s, output %s", config.path, config.output)
    try:
        with disk_failures("the run stopped"):
            report = run.go(replace=replace)
    except BatchsegError as e:
        for line in e.lines:
            logger.error("%s: %s", type(e).__name__, line)
        raise _cause(lock, e) from e
    except Exception as e:
        logger.exception("a defect of batchseg")
        raise _cause(lock, e) from e
    finally:
        if timeline is not None:
            timeline.close()
    logger.info("finished: %s", report.tally)
    _log_classes(logger, report)
    if sums.tiles:
        usage = sums.usage()
        found = diagnose(usage)
        logger.info("predictors: %s; %s%s", usage.in_words, bound_words(found.bound), found.advice)
    save_summary(config.output, run_id, report, timeline.cpu_seconds if timeline else None)
    return report


def _log_classes(logger: logging.Logger, report: Report) -> None:
    if report.classes.shares:
        logger.info("classes: %s", report.classes.in_words)
    if report.classes.warning:
        logger.warning("%s", report.classes.warning)


def _cause(lock: Lock, error: Exception) -> Exception:
    """Another run that took the output over removes what this one was making: then that is what happened."""
    try:
        lock.guard()
    except OutputError as e:
        return e
    except SourceIOError:
        pass
    return error


def _tell(listeners: Sequence[Listener], event: Event) -> None:
    for listener in listeners:
        listener(event)

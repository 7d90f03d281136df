"""What a run has before it does anything: the output held, a folder, a log.

Imports nothing heavy: a run that finds the output held is told so before a second of imports.
"""

import contextlib
import copy
import datetime as dt
import logging
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchseg.errors import BatchsegError, ConfigError, ModelError, OutputError
from batchseg.job.settings import JobConfig
from batchseg.output import layout, publish
from batchseg.output.lock import Lock, hold
from batchseg.system import rooted, storage
from batchseg.system.disks import disk_failures
from batchseg.system.escape import shown, shown_traceback
from batchseg.system.file_info import file_info
from batchseg.system.location import Location
from batchseg.system.redact import remember_variables
from batchseg.system.temp_folders import run_folder


class _Discreet(logging.Formatter):
    """One line per record, and nothing in it, nor in tracebacks, that a log must not hold."""

    def format(self, record: logging.LogRecord) -> str:
        record = copy.copy(record)
        record.exc_text = None  # another handler's words, which the record keeps
        return super().format(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's own name
        return shown(super().formatMessage(record), name_variables=True)

    def formatException(self, ei: Any) -> str:  # noqa: N802  logging's own name
        return shown_traceback(ei[1])


class _Lines(logging.FileHandler):
    """A full disk costs lines of the log, never the run, nor the way in which it ends."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's own name
        """Say nothing."""

    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()


class RunLog:
    """A run's log, as a file, and others beside it. On a bucket they are put again now and then, and at the
    run's end."""

    def __init__(self, output: str, run_id: str) -> None:
        self._output, self._run_id = output, run_id
        self._place = layout.run_file(output, run_id, layout.LOG)
        self._scratch = Path()
        self._files: dict[str, Path] = {}
        self._put: dict[str, int] = {}
        self._stack = contextlib.ExitStack()

    @property
    def uri(self) -> str:
        return self._place.uri

    @contextlib.contextmanager
    def opened(self, scratch: Path) -> Iterator[logging.Logger]:
        """The logger, whose every line carries the run id.

        Args:
            scratch: a local folder, for outputs that are not local.
        """
        self._scratch = scratch
        with self._stack:
            handler = _Lines(self.file(layout.LOG), encoding="utf-8")
            handler.setFormatter(_Discreet(f"%(asctime)s {self._run_id} %(levelname)s %(message)s"))
            logger = logging.getLogger("batchseg")
            logger.setLevel(logging.INFO)
            logger.propagate = False
            logger.addHandler(handler)
            try:
                yield logger
            finally:
                logger.removeHandler(handler)
                handler.close()
                self.publish()

    def file(self, name: str) -> Path:
        """A new file of the run, by a name that leads to it until the run ends, whatever is put in its place.

        Raises:
            OutputError: it cannot be written, or is there already.
        """
        if name not in self._files:
            place = layout.run_file(self._output, self._run_id, name)
            if not place.is_local:
                self._files[name] = self._scratch / name
                self._files[name].touch()
                return self._files[name]
            with publish.output_errors("write", place):
                found = rooted.open_file(place, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            self._stack.callback(os.close, found)
            self._files[name] = Path(f"/proc/self/fd/{found}")
        return self._files[name]

    def publish(self) -> None:
        """Put what is new of them. Raises OutputError."""
        if self._place.is_local:
            return
        for name, path in tuple(self._files.items()):
            size = path.stat().st_size
            if size != self._put.get(name, 0):
                publish.publish(layout.run_file(self._output, self._run_id, name), path.read_bytes())
                self._put[name] = size


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A run that holds its output."""

    run_id: str
    """Appears in the log and in the runs folder, never in a result."""
    lock: Lock
    log: RunLog
    logger: logging.Logger

    @property
    def chatter(self) -> str:
        """Path of a file for what libraries print."""
        return str(self.log.file(layout.LIBRARIES))


def new_run_id() -> str:
    return f"{dt.datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


@contextlib.contextmanager
def begin(config: JobConfig) -> Iterator[Begun]:
    """Hold a job's output for a new run.

    Raises:
        LockedError: another run holds it.
        ConfigError: the output cannot be written.
        StoppedError: a disk of this machine is full or failing.
    """
    storage.configure(config.storage)
    remember_variables(config.variables)
    run_id = new_run_id()
    log = RunLog(config.output, run_id)
    with (
        disk_failures("the run stopped"),
        run_folder() as folder,
        hold(config.output, run_id, also=log.publish) as lock,
        _unless_refused(config.output, lock),
        log.opened(folder) as logger,
    ):
        publish.clear_scratch(config.output)  # of runs that were killed, as nobody else works here
        yield Begun(run_id=run_id, lock=lock, log=log, logger=logger)
        with contextlib.suppress(OutputError):  # another run's by now
            lock.check()
            publish.clear_scratch(config.output)  # what its own processes left that were killed


@contextlib.contextmanager
def _unless_refused(output: str, lock: Lock) -> Iterator[None]:
    """A job that is refused leaves no folder behind that was not there before."""
    try:
        yield
    except (ConfigError, ModelError):
        if lock.is_first and not _is_recorded(output):
            lock.forget()
            with contextlib.suppress(BatchsegError):
                publish.remove_folder(layout.own_folder(output))
            if (path := Location.of(output).path) is not None:
                with contextlib.suppress(OSError):
                    path.rmdir()
        raise


def _is_recorded(output: str) -> bool:
    """Whether the run recorded how the output is made: its work has begun then."""
    return file_info(layout.state_file(output)) is not None

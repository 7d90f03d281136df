"""A run's own log, on any storage."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from batchseg.system import publish as publishing
from batchseg.system import storage
from batchseg.system.redact import hidden


class _Discreet(logging.Formatter):
    """Whatever is logged, tracebacks too, without credentials."""

    def format(self, record: logging.LogRecord) -> str:
        return hidden(super().format(record))


class _Lines(logging.FileHandler):
    """A full disk costs lines of the log, never the run, nor the way in which it ends."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's own name
        """Say nothing."""

    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()


class RunLog:
    """`_batchseg/runs/<run id>/log.txt`. On a bucket it is put again now and then, and at the run's end."""

    def __init__(self, output: str, run_id: str) -> None:
        self._run_id = run_id
        self._folder = storage.join(output, "_batchseg", "runs", run_id)
        self._put: dict[Path, int] = {}
        self.path = Path()
        """Where it is written; known once it is open."""

    @property
    def uri(self) -> str:
        return storage.join(self._folder, "log.txt")

    @contextlib.contextmanager
    def opened(self, scratch: Path) -> Iterator[logging.Logger]:
        """The logger, whose every line carries the run id.

        Args:
            scratch: a local folder, for outputs that are not local.
        """
        self.path = storage.local_path(self.uri) or scratch / "log.txt"
        with publishing.output_errors("write", str(self.path)):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.touch()
        handler = _Lines(self.path, encoding="utf-8")
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

    def publish(self) -> None:
        """Put what is new of it. Raises OutputError."""
        if self.path == Path() or storage.local_path(self.uri) is not None:
            return
        for path in (self.path, *(self.path.with_name(name) for name in ("libraries.txt", "profile.json"))):
            size = path.stat().st_size if path.exists() else 0
            if size != self._put.get(path, 0):
                publishing.publish(storage.join(self._folder, path.name), path.read_bytes())
                self._put[path] = size

"""Headers of a listing's rows, read ahead in a thread: what was read and not yet asked for is bounded."""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchseg.driver.plan import Read
from batchseg.inputs.scene_rows import to_sources
from batchseg.inputs.source import Refusal, Scene, Source
from batchseg.job.settings import JobConfig

ROWS = 256
"""Rows that become sources at once."""

AHEAD = 64
"""Headers that lie here; as many as one task reads lie in the executor beside those."""

WAIT_SECONDS = 0.2
"""Between looks whether nobody wants headers any more."""

Rows = NDArray[np.int64]


def all_rows(first: Rows, count: int) -> Iterator[Rows]:
    """The first ones, then all others in their order, some at a time."""
    if len(first):
        yield first
    for start in range(0, count, ROWS):
        rows = np.arange(start, min(start + ROWS, count))
        yield rows[~np.isin(rows, first)]


class HeaderFeed:
    """Reads headers from when it is made until it is closed.

    Args:
        read: gives headers of sources in any order, and takes sources as it can do with them.
        todo: LISTING rows.
        config: the job.
        rows: numbers of the rows that are wanted, in their order.
    """

    def __init__(
        self,
        read: Callable[[Iterator[Source]], Iterator[Scene | Refusal]],
        todo: pa.Table,
        config: JobConfig,
        rows: Iterable[Rows],
    ) -> None:
        self._read, self._todo, self._config, self._rows = read, todo, config, rows
        self._row_of: dict[str, int] = {}
        """Of those that were asked for."""
        self._answers: queue.Queue[Scene | Refusal | BaseException | None] = queue.Queue(AHEAD)
        self._closed = threading.Event()
        self.is_over = False
        """Whether all headers were taken."""
        threading.Thread(target=self._work, daemon=True).start()

    def take(self, most: int, seconds: float = 0.0) -> list[Read]:
        """Headers that are there, at most so many; waits so long for the first.

        Raises:
            BatchsegError: what reads headers cannot go on.
        """
        taken: list[Read] = []
        while len(taken) < most and not self.is_over:
            try:
                wait = seconds if not taken else 0.0
                answer = self._answers.get(timeout=wait) if wait else self._answers.get_nowait()
            except queue.Empty:
                break
            if isinstance(answer, BaseException):
                self.is_over = True
                raise answer
            if answer is None:
                self.is_over = True
            else:
                taken.append((self._row_of.pop(answer.source.source_id), answer))
        return taken

    def close(self) -> None:
        """Ask for no more; what is under way may still come, and is dropped."""
        self._closed.set()

    def _sources(self) -> Iterator[Source]:
        for rows in self._rows:
            for row, source in zip(rows, to_sources(_chosen(self._todo, rows), self._config), strict=True):
                if self._closed.is_set():
                    return
                self._row_of[source.source_id] = int(row)
                yield source

    def _work(self) -> None:
        try:
            for header in self._read(self._sources()):
                if not self._put(header):
                    return
            self._put(None)
        except BaseException as e:  # noqa: BLE001  it is raised where headers are taken
            self._put(e)

    def _put(self, answer: Scene | Refusal | BaseException | None) -> bool:
        """False where nobody wants it any more."""
        while not self._closed.is_set():
            try:
                self._answers.put(answer, timeout=WAIT_SECONDS)
            except queue.Full:
                continue
            return True
        return False


def _chosen(todo: pa.Table, rows: Rows) -> pa.Table:
    """Some rows; by slices, as `take` copies whole columns of a table in chunks."""
    if len(rows) and rows[-1] - rows[0] == len(rows) - 1:
        return todo.slice(int(rows[0]), len(rows))
    return pa.concat_tables([todo.slice(0, 0), *(todo.slice(int(row), 1) for row in rows)])

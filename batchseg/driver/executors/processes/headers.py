"""Headers of many files, and samples of a few, read by the predictors' processes while they load.

A file that is refused, or over which its process gives no answer or ends, is looked at again in a fresh
process, so that its neighbours are not blamed.
"""

import threading
import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from batchseg.driver.executors.processes.child import Child, ChildDiedError
from batchseg.driver.executors.processes.predictor import BATCHES_OF_HEADERS
from batchseg.driver.executors.processes.seats import Seats
from batchseg.errors import StoppedError
from batchseg.inputs.source import Refusal, Scene, Source
from batchseg.job.recipe import Recipe
from batchseg.pixels.header import read_headers_alone
from batchseg.pixels.value_samples import SAMPLE_SECONDS, sample_alone
from batchseg.pixels.values import ValueSample

HEADERS_PER_BATCH = 64

CHECK_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class _Batch:
    """Sources whose headers a process reads."""

    sources: list[Source]
    child: Child
    since: float = field(default_factory=time.monotonic)

    def is_late(self, timeout: float) -> bool:
        return time.monotonic() - self.since > timeout


class HeaderReader:
    """Reads headers in the seats' processes.

    Args:
        seats: of the run.
        timeout: seconds until a header that does not come is looked at alone.
        closing: once it is set, nothing is waited for any more.
    """

    def __init__(self, seats: Seats, timeout: float, closing: threading.Event) -> None:
        self._seats, self._timeout, self._closing = seats, timeout, closing

    def read(self, sources: Iterator[Source]) -> Iterator[Scene | Refusal]:
        """Headers in the order in which they come, refusals last; sources are taken as they can be read.

        Raises:
            StoppedError: the run is closing.
        """
        sources, running = iter(sources), dict[Future[Any], _Batch]()
        doubtful: list[Source] = []
        is_over = False
        while not is_over or running:
            while not is_over and len(running) < BATCHES_OF_HEADERS:
                part = list(islice(sources, HEADERS_PER_BATCH))
                is_over = len(part) < HEADERS_PER_BATCH
                if part:
                    child = self._seats.reader().child
                    running[child.ask("headers", part)] = _Batch(part, child)
            for future in self._ready(running):
                batch = running.pop(future)
                try:
                    answers = future.result()
                except ChildDiedError:
                    doubtful += batch.sources
                    continue
                # A refusal stands only if it recurs in a fresh process.
                doubtful += [a.source for a in answers if isinstance(a, Refusal)]
                yield from (a for a in answers if isinstance(a, Scene))
            late = [future for future, batch in running.items() if batch.is_late(self._timeout)]
            for future in late:  # a header that never comes: its batch is looked at one by one
                batch = running.pop(future)
                batch.child.kill()
                doubtful += batch.sources
        if doubtful:
            yield from read_headers_alone(doubtful, self._timeout)

    def samples(self, scenes: Sequence[Scene], recipe: Recipe) -> list[ValueSample]:
        """Pixels of a few scenes; none where their reader gives no answer.

        Raises:
            StoppedError: the run is closing.
        """
        child = self._seats.reader().child
        future = child.ask("samples", list(scenes), recipe)
        if not self._ready_in_time([future], min(self._timeout, SAMPLE_SECONDS)):
            child.kill()
            return []
        try:
            found: list[ValueSample] = future.result()
        except ChildDiedError:  # a scene ended it: its lease will tell which
            return sample_alone(scenes, recipe)
        return found

    def _ready_in_time(self, futures: Collection[Future[Any]], timeout: float) -> set[Future[Any]]:
        """Those that are ready; none when the time is over."""
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            if ready := self._ready(futures):
                return ready
        return set()

    def _ready(self, futures: Collection[Future[Any]]) -> set[Future[Any]]:
        """Those that are ready; waits a little for the first."""
        if self._closing.is_set():
            msg = "stopped while headers were read"
            raise StoppedError(msg)
        return wait(futures, timeout=CHECK_SECONDS, return_when=FIRST_COMPLETED).done if futures else set()

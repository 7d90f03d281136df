"""Headers of many files, and samples of a few, read by tasks of a Ray cluster.

Most are read by the batch. A file that is refused, or over which its reader gives no answer or ends, is
looked at again in a process of its own, so that its neighbours are not blamed.
"""

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import ray
from ray import exceptions as ray_errors

from batchseg.driver.executors.ray import tasks
from batchseg.driver.executors.ray.failures import cause_of, first_line
from batchseg.driver.executors.ray.hosts import Hosts
from batchseg.errors import StoppedError
from batchseg.inputs.source import Refusal, Scene, Source
from batchseg.job.recipe import Recipe
from batchseg.pixels.value_samples import SAMPLE_SECONDS, sample_alone
from batchseg.pixels.values import ValueSample
from batchseg.system.processes import START_SECONDS

HEADERS_PER_TASK = 64

TASKS_AT_ONCE = 4

LOST_LIMIT = 3
"""Times in a row that who reads doubtful headers ends without having read one."""


class _Batch:
    """Sources whose headers one task reads."""

    def __init__(self, sources: list[Source]) -> None:
        self.sources, self._since = sources, time.monotonic()

    def is_late(self, timeout: float) -> bool:
        return time.monotonic() - self._since > timeout


class _Doubtful:
    """Sources whose headers are read alone, one after the other, in a process of its own.

    Args:
        task: reads some, and gives one answer after the other.
        where: options of the storages.
        timeout: seconds until a header that does not come is refused.
    """

    def __init__(self, task: Any, where: tasks.Where, timeout: float) -> None:
        self._task, self._where, self._timeout = task, where, timeout
        self._waiting: list[Source] = []
        self._asked: deque[Source] = deque()
        """Of the task under way."""
        self._answers: Any = None
        self._heard = 0.0
        self._lost = 0
        """Tasks in a row that ended, or gave no answer, without one."""
        self._has_answered = False
        """Whether the task under way has."""

    def __bool__(self) -> bool:
        return bool(self._waiting or self._asked)

    def add(self, sources: Sequence[Source]) -> None:
        self._waiting += sources

    def references(self) -> list[Any]:
        """What is waited for."""
        if self._waiting and not self._asked:
            self._asked, self._waiting = deque(self._waiting), []
            self._answers = self._task.remote(self._where, list(self._asked), self._timeout)
            self._heard, self._has_answered = time.monotonic(), False
        return [self._answers] if self._asked else []

    def answers(self, ready: Sequence[Any]) -> Iterator[Scene | Refusal]:
        """The next one, where it is ready.

        Raises:
            StoppedError: of the reader's own, or it ends again and again.
        """
        if not self._asked:
            return
        # What hangs over a file is ended there; a process that does not do so is ended here.
        if self._answers not in ready:
            if time.monotonic() - self._heard > 2 * self._timeout + 2 * START_SECONDS:
                self._end("no answer in time")
            return
        try:
            answer = ray.get(next(self._answers))
        except StoppedError as e:
            raise StoppedError(str(cause_of(e))) from e  # Ray words it with a traceback
        except ray_errors.RayError as e:
            self._end(first_line(e))
            return
        self._asked.popleft()
        self._heard, self._has_answered = time.monotonic(), True
        yield answer

    def _end(self, reason: str) -> None:
        ray.cancel(self._answers, force=True)
        self._waiting, self._asked = [*self._asked, *self._waiting], deque()
        self._lost = 0 if self._has_answered else self._lost + 1
        if self._lost == LOST_LIMIT:
            msg = f"headers could not be read: {reason}"
            raise StoppedError(msg)


class HeaderReader:
    """Reads headers on the host that the run is on.

    Args:
        where: options of the storages.
        hosts: of the cluster.
        timeout: seconds until a header that does not come is looked at alone.
        closing: once it is set, nothing is waited for any more.
    """

    def __init__(self, where: tasks.Where, hosts: Hosts, timeout: float, closing: threading.Event) -> None:
        self._where, self._hosts, self._timeout, self._closing = where, hosts, timeout, closing
        self._waiting = threading.Lock()

    def read(self, sources: Iterator[Source]) -> Iterator[Scene | Refusal]:
        """Headers in the order in which they come.

        Raises:
            StoppedError: the run is closing, or what reads headers ends again and again.
        """
        sources, running = iter(sources), dict[Any, _Batch]()
        doubtful = _Doubtful(self._task(tasks.headers_alone), self._where, self._timeout)
        is_over = False
        while not is_over or running or doubtful:
            while not is_over and len(running) < TASKS_AT_ONCE:
                part = list(islice(sources, HEADERS_PER_TASK))
                is_over = len(part) < HEADERS_PER_TASK
                if part:
                    running[self._task(tasks.headers).remote(self._where, part)] = _Batch(part)
            if not (references := [*running, *doubtful.references()]):
                break
            ready = self._ready(references)
            for ref in [ref for ref in ready if ref in running]:
                part = running.pop(ref).sources
                try:
                    answers = ray.get(ref)
                except ray_errors.RayError:
                    doubtful.add(part)
                    continue
                # A refusal stands only if it recurs in a fresh process.
                doubtful.add([a.source for a in answers if isinstance(a, Refusal)])
                yield from (a for a in answers if isinstance(a, Scene))
            yield from doubtful.answers(ready)
            late = [ref for ref, batch in running.items() if batch.is_late(self._timeout)]
            for ref in late:  # a header that never comes: its batch is looked at one by one
                ray.cancel(ref, force=True)
                doubtful.add(running.pop(ref).sources)

    def samples(self, scenes: Sequence[Scene], recipe: Recipe) -> list[ValueSample]:
        """Pixels of a few scenes; none where their reader gives no answer.

        Raises:
            StoppedError: the run is closing.
        """
        reference = self._task(tasks.samples).remote(self._where, recipe, list(scenes))
        try:
            if self._ready_in_time([reference], min(self._timeout, SAMPLE_SECONDS)):
                found: list[ValueSample] = ray.get(reference)
                return found
            ray.cancel(reference, force=True)
        except ray_errors.RayError:  # a scene ended it: its lease will tell which
            return sample_alone(scenes, recipe)
        return []

    def _task(self, function: Any) -> Any:
        return function.options(**self._hosts.pinned_to(self._hosts.home))

    def _ready_in_time(self, refs: list[Any], timeout: float) -> list[Any]:
        """Those of some references that are ready; none when the time is over."""
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            if ready := self._ready(refs):
                return ready
        return []

    def _ready(self, refs: list[Any]) -> list[Any]:
        """Those of some references that are ready; waits a little for the first."""
        with self._waiting:
            if self._closing.is_set():
                msg = "stopped while headers were read"
                raise StoppedError(msg)
            ready, _ = ray.wait(refs, timeout=0.2)
        return list(ready)

    def close(self) -> None:
        """Return when no call of Ray is under way; `closing` is set."""
        with self._waiting:
            pass

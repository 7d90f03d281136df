"""Headers of many files, and samples of a few, read by tasks of a Ray cluster.

Most are read by the batch. A file that is refused, or over which its reader gives no answer or ends, is
looked at again in a process of its own, so that its neighbours are not blamed.
"""

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
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

    def read(self, sources: Sequence[Source]) -> Iterator[Scene | Refusal]:
        """Headers in the order in which they come.

        Raises:
            StoppedError: the run is closing, or what reads headers ends again and again.
        """
        parts = deque(
            list(sources[at : at + HEADERS_PER_TASK]) for at in range(0, len(sources), HEADERS_PER_TASK)
        )
        running: dict[Any, list[Source]] = {}
        doubtful: list[Source] = []
        while parts or running:
            while parts and len(running) < TASKS_AT_ONCE:
                part = parts.popleft()
                running[self._task(tasks.headers).remote(self._where, part)] = part
            ready = self._ready_in_time(list(running), self._timeout)
            if not ready:  # a header that never comes: its batch is looked at one by one
                for ref, part in running.items():
                    ray.cancel(ref, force=True)
                    doubtful += part
                running.clear()
            for ref in ready:
                part = running.pop(ref)
                try:
                    answers = ray.get(ref)
                except ray_errors.RayError:
                    doubtful += part
                    continue
                # A refusal stands only if it recurs in a fresh process.
                doubtful += [a.source for a in answers if isinstance(a, Refusal)]
                yield from (a for a in answers if isinstance(a, Scene))
        yield from self._read_alone(doubtful)

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

    def _read_alone(self, doubtful: list[Source]) -> Iterator[Scene | Refusal]:
        task, lost = self._task(tasks.headers_alone), 0
        while doubtful:
            before, reason = len(doubtful), "no answer in time"
            answers = task.remote(self._where, doubtful, self._timeout)
            try:
                # What hangs over a file is ended there; a process that does not do so is ended here.
                while doubtful and self._ready_in_time([answers], 2 * self._timeout + 2 * START_SECONDS):
                    yield ray.get(next(answers))
                    doubtful = doubtful[1:]
            except StoppedError as e:
                raise StoppedError(str(cause_of(e))) from e  # Ray words it with a traceback
            except ray_errors.RayError as e:
                reason = first_line(e)
            ray.cancel(answers, force=True)
            lost = lost + 1 if len(doubtful) == before else 0
            if lost == LOST_LIMIT:
                msg = f"headers could not be read: {reason}"
                raise StoppedError(msg)

    def _task(self, function: Any) -> Any:
        return function.options(**self._hosts.pinned_to(self._hosts.home))

    def _ready_in_time(self, refs: list[Any], timeout: float) -> list[Any]:
        """Those of some references that are ready; none when the time is over."""
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            with self._waiting:
                if self._closing.is_set():
                    msg = "stopped while headers were read"
                    raise StoppedError(msg)
                ready, _ = ray.wait(refs, timeout=0.2)
            if ready:
                return list(ready)
        return []

    def close(self) -> None:
        """Return when no call of Ray is under way; `closing` is set."""
        with self._waiting:
            pass

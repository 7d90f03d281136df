"""Processes that try something at the same time, as many as the run will have predictors.

They share the memory's bandwidth, as a run's predictors do: one alone would look too fast. They tell each
other what they found by files, so that all decide alike.
"""

import pickle
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from batchseg.system.machine import core_count
from batchseg.system.processes import call_in_fresh_process
from batchseg.system.temp_folders import cache_root

T = TypeVar("T")

MAX_PROCESSES = 16

WAIT_SECONDS = 600.0
"""For the others. One that fails is told of at once; a heavy network's squares take one process minutes, and
another, which has none, comes first."""

LEFT = "left"


class LeftAloneError(Exception):
    """Another of the processes failed; its own error tells why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Meeting:
    """Where the processes of one call tell each other what they found."""

    folder: str
    number: int
    """Of this process, from 0."""
    count: int

    def share(self, items: Any) -> Any:
        """This process's part of a sequence."""
        return items[self.number :: self.count]

    def exchange(self, name: str, found: Any) -> list[Any]:
        """What all of them found, in the order of their numbers; returns when the last has come.

        Raises:
            LeftAloneError: one of them failed, or did not come.
        """
        folder = Path(self.folder)
        place, making = folder / f"{name}-{self.number}", folder / f"{name}-{self.number}.making"
        making.write_bytes(pickle.dumps(found))
        making.rename(place)
        places = [folder / f"{name}-{number}" for number in range(self.count)]
        until = time.monotonic() + WAIT_SECONDS
        while not all(path.exists() for path in places):
            if (folder / LEFT).exists() or time.monotonic() > until:
                msg = f"another process did not come to {name}"
                raise LeftAloneError(msg)
            time.sleep(0.005)
        return [pickle.loads(path.read_bytes()) for path in places]  # noqa: S301  this call's own


def fleet_size(workers: int) -> int:
    """Processes that stand for so many predictors on this machine."""
    return min(workers, MAX_PROCESSES, core_count())


def together(function: Callable[..., T], *args: object, workers: int, timeout: float) -> list[T]:
    """Call `function(*args, meeting)` in as many fresh processes.

    Returns:
        Their answers in the order of the processes' numbers.

    Raises:
        ProcessDiedError: one of them crashed, or gave no answer in time.
        Exception: what the function raised in the first of them that failed.
    """
    count = fleet_size(workers)
    with (
        tempfile.TemporaryDirectory(prefix="fleet-", dir=cache_root()) as folder,
        ThreadPoolExecutor(count) as pool,
    ):
        meetings = [Meeting(folder=folder, number=number, count=count) for number in range(count)]
        calls = [pool.submit(_attended, function, args, meeting, timeout) for meeting in meetings]
        errors = [error for call in calls if (error := call.exception()) is not None]
        telling = [error for error in errors if not isinstance(error, LeftAloneError)]
        for error in (*telling, *errors):
            raise error
        return [call.result() for call in calls]


def _attended(function: Callable[..., T], args: tuple[object, ...], meeting: Meeting, timeout: float) -> T:
    """One call; where it fails the others need not wait for it."""
    try:
        return call_in_fresh_process(function, *args, meeting, timeout=timeout)
    except BaseException:
        (Path(meeting.folder) / LEFT).touch()
        raise

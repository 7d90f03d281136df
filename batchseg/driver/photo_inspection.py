"""Photographs looked at one by one in fresh processes: those whose group failed."""

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from batchseg.driver.given_up import MEMORY_LIMIT, GivenUpError
from batchseg.driver.photo_failures import names_of
from batchseg.driver.photo_queue import PhotoWork
from batchseg.driver.tasks import Executor, InspectionTask
from batchseg.inputs.source import Doubt
from batchseg.job.settings import MAX_PHOTO_MEMORY
from batchseg.pixels.usual_values import Usual
from batchseg.system.processes import START_SECONDS

LOST_INSPECTIONS = 5
"""Times that looking at the same photographs is lost before the environment is given up."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """Photographs under way to a fresh process each."""

    work: PhotoWork
    task: InspectionTask
    had_success: bool
    """Others of their group were done: what fails are single cases."""
    until: float
    """Of time.monotonic, when it is given up."""


class Inspections:
    """Those that wait, and those under way by the id of their task.

    Args:
        executor: where they run.
        timeout: seconds that one may take beside the start of its processes.
        ids: of tasks, unique among the executor's.
        memory: bytes that one photograph may take.
        usual: what the output's first photographs held.
    """

    def __init__(
        self,
        executor: Executor,
        timeout: float,
        ids: Iterator[int],
        memory: int = MAX_PHOTO_MEMORY,
        usual: tuple[Usual, ...] = (),
    ) -> None:
        self._executor, self._limit, self._ids = executor, timeout + START_SECONDS, ids
        self._memory, self._usual = memory, usual
        self._waiting: deque[tuple[PhotoWork, bool]] = deque()
        self._under_way: dict[int, Inspection] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting or self._under_way)

    def add(self, work: PhotoWork, *, had_success: bool) -> None:
        self._waiting.append((work, had_success))

    @property
    def is_alone_out(self) -> bool:
        """Whether one that takes very much memory is under way."""
        return any(inspection.work.alone for inspection in self._under_way.values())

    def start(self, most: int, *, alone: bool = True) -> None:
        """At most so many at a time: each takes a process, and all groups of a folder may be in doubt.

        Args:
            most: of them.
            alone: whether one that takes very much memory may begin.
        """
        for _ in range(len(self._waiting)):
            if len(self._under_way) >= most:
                return
            work, had_success = self._waiting.popleft()
            if work.alone and not alone:
                self._waiting.append((work, had_success))
                continue
            alone = alone and not work.alone
            number = next(self._ids)
            until = time.monotonic() + self._limit
            task = InspectionTask(group=work.group(number, memory=self._memory, usual=self._usual))
            self._under_way[number] = Inspection(work, task, had_success, until)
            self._executor.submit(task)

    def pop(self, number: int) -> Inspection | None:
        """One that came back; None where it was given up before."""
        return self._under_way.pop(number, None)

    def starved(self, lost: Inspection, reason: str) -> Doubt | None:
        """After one whose process ended for lack of memory its halves are looked at, down to the photograph
        that takes it. That is left to the next run, as the machine may have more memory then."""
        work = lost.work
        work.starved, work.alone = work.starved + 1, True
        if work.count > 1:
            half = work.count // 2
            for part in (work.slice(0, half), work.slice(half, work.count - half)):
                part.starved = 0
                self.add(part, had_success=lost.had_success)
        elif work.starved < MEMORY_LIMIT:
            self.add(work, had_success=lost.had_success)
        else:
            only = work.images["source_id"][0].as_py()
            return Doubt(source_id=only, reason=f"{reason} ({work.starved} times, alone)", transient=True)
        return None

    def add_again(self, lost: Inspection, reason: str) -> None:
        """One that gave no answer. Raises GivenUpError where that is so again and again."""
        lost.work.lost += 1
        if lost.work.lost > LOST_INSPECTIONS:
            names = names_of([lost.work])
            msg = f"looking at photographs alone ({names}) failed {lost.work.lost} times: {reason}"
            raise GivenUpError(msg, [lost.work], reason)
        self.add(lost.work, had_success=lost.had_success)

    def give_up_late(self) -> None:
        """One that hangs over a photograph ends by itself; these give no sign of life."""
        for number, inspection in list(self._under_way.items()):
            if time.monotonic() > inspection.until:
                del self._under_way[number]
                self._executor.abandon(inspection.task)
                self.add_again(inspection, f"no answer within {self._limit:.0f} s")

"""What the loops over scenes and over photographs share: how long they wait, and what they count."""

import time
from collections.abc import Callable, Iterable, Sequence, Sized
from dataclasses import dataclass
from typing import Any, Literal

from batchseg.driver.tasks import Failure, Outcome, SlotsChanged, Step
from batchseg.errors import StoppedError
from batchseg.output.record import Record

POLL_SECONDS = 0.2

DRAIN_SECONDS = 8.0
"""After a signal: what is under way may still end. Schedulers kill after 30 s, often after 10."""

LOST_LIMIT = 20
"""Times that the work on one scene or one group is lost (node, memory) before the environment is given up."""


class GivenUpError(StoppedError):
    """The environment is given up over some sources, of which none is blamed: the next run does them last.

    Args:
        message: in words.
        over: the scene or the groups that are to be left to the next run, if that was not done yet.
        reason: what became of them at last.
    """

    def __init__(self, message: str, over: Sequence[Any] = (), reason: str = "") -> None:
        super().__init__(message)
        self.over, self.reason = over, reason


@dataclass(slots=True)
class Tally:
    """What a run did."""

    done: int = 0
    quarantined: int = 0
    failed: int = 0
    shards: int = 0
    predicted: int = 0
    """Tiles that went through the model, repeats included."""
    repeated: int = 0
    """Tiles sent again after a failure; of photographs images."""

    def count_refused(self, records: Iterable[Record]) -> None:
        """Records of other kinds than quarantined and failed count for nothing."""
        for record in records:
            self.quarantined += record.status == "quarantined"
            self.failed += record.status == "failed"


def drain(
    in_flight: Sized, handle_some: Callable[[], None], clock: Callable[[], float] = time.monotonic
) -> None:
    """Wait a little for what is under way; `handle_some` polls once."""
    until = clock() + DRAIN_SECONDS
    while in_flight and clock() < until:
        handle_some()


def is_failure(outcome: Outcome) -> bool:
    """Sort outcomes by it to handle successes first: a failure may end the run."""
    return not isinstance(outcome, SlotsChanged) and isinstance(outcome.result, Failure)


def late(step: Step | Literal["lost"], reason: str) -> Failure:
    """Of work that was given up; with a host that gave no answer it is lost."""
    if step == "lost":
        return Failure(kind="lost", step="predict", reason=f"{reason}, nor from its host")
    return Failure(kind="timeout", step=step, reason=reason)

"""When a run ends over work that nobody is to blame for, and what a failure is called that nobody sent."""

from collections.abc import Sequence
from typing import Any, Literal

from batchseg.driver.tasks import Failure, Step
from batchseg.errors import StoppedError

MEMORY_LIMIT = 3
"""Processes with work on one scene or one group of photographs that are ended for lack of memory before that
is looked at alone, as after a crash."""

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


def late(step: Step | Literal["lost"], reason: str) -> Failure:
    """Of work that was given up; with a host that gave no answer it is lost."""
    if step == "lost":
        return Failure(kind="lost", step="predict", reason=f"{reason}, nor from its host")
    return Failure(kind="timeout", step=step, reason=reason)

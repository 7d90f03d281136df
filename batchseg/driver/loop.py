"""The loop that holds a run together, over scenes and over photographs alike: work out, records in.

It never sees pixels. What comes next, whose fault a failure is and what an answer means are its subclasses'.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from batchseg.driver.commit import Refusals
from batchseg.driver.given_up import GivenUpError
from batchseg.driver.tasks import Executor, Failure, Outcome, SlotsChanged
from batchseg.errors import StoppedError
from batchseg.output.record import Record

POLL_SECONDS = 0.2

DRAIN_SECONDS = 8.0
"""After a signal: what is under way may still end. Schedulers kill after 30 s, often after 10."""


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


class Loop(ABC):
    """Gives work to an executor and commits what comes back, until there is none.

    Args:
        executor: where work runs; its predictors are started.
        stop: asked often; a reason ends the run, which drains and raises StoppedError.
        refusals: those that are held back until it is known whose fault they are.
        clock: seconds.
    """

    def __init__(
        self,
        executor: Executor,
        stop: Callable[[], str | None],
        refusals: Refusals[Any],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._executor, self._stop, self._refusals, self._clock = executor, stop, refusals, clock
        self.tally = Tally()
        self._ends = False
        """Nothing is submitted any more that follows from what was done."""

    def _work_off(self) -> None:
        """Do all that is there.

        Raises:
            StoppedError: told to stop, or the environment fails; what was done is recorded.
            ModelError: the model gives what no mask can hold.
        """
        self._ends = False
        try:
            while True:
                if reason := self._stop():
                    self._drain()
                    raise StoppedError(reason)
                self._fill()
                self._poll()
                self._give_up_late()
                if self._is_commit_due:
                    self._commit()
                if not self._goes_on:
                    break
            self._refusals.flush()
        except GivenUpError as e:
            self._leave(e)
            raise
        finally:
            self._ends = True
            self._commit()

    def _poll(self) -> None:
        """Take what has come, successes first: a failure may end the run."""
        for outcome in sorted(self._executor.poll(POLL_SECONDS), key=_is_failure):
            self._take(outcome)

    def _drain(self) -> None:
        """Wait a little for what is under way."""
        self._ends = True
        until = self._clock() + DRAIN_SECONDS
        while self._is_under_way and self._clock() < until:
            try:
                self._poll()
            except GivenUpError as e:
                self._leave(e)  # the run ends for another reason
            except StoppedError:
                break  # no answers come any more
        self._refusals.flush()

    @abstractmethod
    def _fill(self) -> None:
        """Submit what comes next, as much as there is room for."""

    @abstractmethod
    def _take(self, outcome: Outcome) -> None:
        """What one answer changes; one to what was given up changes nothing."""

    @abstractmethod
    def _give_up_late(self) -> None:
        """Abandon what gave no answer in time."""

    @property
    @abstractmethod
    def _is_commit_due(self) -> bool:
        """Whether what was answered is to be recorded now."""

    @abstractmethod
    def _commit(self) -> None:
        """Record what was answered. Raises OutputError."""

    @property
    @abstractmethod
    def _is_under_way(self) -> bool:
        """Whether an answer is worth waiting for at the end."""

    @property
    @abstractmethod
    def _goes_on(self) -> bool:
        """Whether anything is left, waits or is under way."""

    @abstractmethod
    def _leave(self, given_up: GivenUpError) -> None:
        """Record what is left to the next run, as the environment failed over it."""


def _is_failure(outcome: Outcome) -> bool:
    return not isinstance(outcome, SlotsChanged) and isinstance(outcome.result, Failure)

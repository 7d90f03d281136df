"""Whose fault a failure over a scene is: its source's, nobody's, or the environment's.

A source is blamed only if the failure recurs with that source alone in a fresh process. Lost work (a host, a
neighbour's crash, memory) blames nobody and is done again, until so much is lost that the run ends. A step
that writes blames nobody either: the output is not the source's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from batchseg.driver.given_up import LOST_LIMIT, MEMORY_LIMIT, GivenUpError
from batchseg.driver.in_flight import LeaseInFlight, LotInFlight
from batchseg.driver.scene_queue import Retry, SceneWork
from batchseg.driver.tasks import Failure, Isolation
from batchseg.errors import StoppedError

DEATHS = 6
"""Predictors that one lease must end before its source is blamed, but for the first with no other lease at
work; and processes that a scene's finish must end before it is left to the next run. A kill from outside, by
the kernel's out-of-memory killer for one, looks the same: of seven random kills three hit one lease."""

LATE_LIMIT = 3
"""Writes and finishes in a row that hang before the output is taken not to answer; and times that one scene's
finish hangs before the scene is left to the next run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedFinish:
    """A finish that is left to the next run."""

    reason: str
    is_damaged: bool
    """The mask that was to be derived from is not the recorded one: results of earlier runs are not kept."""


class SceneFailures:
    """Judges failures.

    Args:
        output: root of the results, for the message of a run that it ends.
    """

    def __init__(self, output: str) -> None:
        self._output = output
        self._late_in_a_row = 0

    def note_success(self) -> None:
        """A lease or a finish came back: the output answers."""
        self._late_in_a_row = 0

    def of_lease(self, flight: LeaseInFlight, failure: Failure) -> Retry | None:
        """How the lease's shards are tried again; None: the source is to blame.

        Raises:
            GivenUpError: its work comes to nothing again and again.
            BatchsegError: the failure is about no source.
        """
        work = flight.work
        _raise_fatal([work], failure)
        lost = failure.kind == "lost" or failure.step == "write"
        if failure.memory:
            work.starved.add(failure.process or f"of lease {flight.lease.id}")
            lost = len(work.starved) < MEMORY_LIMIT
        if failure.kind == "timeout" and failure.step == "write":
            self.count_late(f"the writing of {work.source_id}")
        if lost:
            work.lost += 1
            if work.lost > LOST_LIMIT:
                msg = f"the work on {work.source_id} was lost {work.lost} times, lately: {failure.reason}"
                raise GivenUpError(msg, [work], failure.reason)
        isolation: Isolation = "predict" if failure.step == "predict" else "read"
        if lost:
            isolation = flight.isolation
        died = failure.kind == "crash" and failure.step == "predict"
        deaths = flight.deaths + died
        if not (lost or isolation not in flight.tried or (died and deaths < DEATHS)):
            return None
        # An attempt that was lost shows nothing, and one death little: neither counts as tried.
        return Retry(
            work=work,
            shards=flight.lease.shards,
            isolation=isolation,
            tried=flight.tried - {isolation},
            deaths=deaths,
        )

    def of_lot(self, lot: LotInFlight, failure: Failure) -> list[Retry]:
        """How scenes are tried again whose call came to nothing: one by one, as none of them is suspected.

        Raises:
            GivenUpError: over all of them, as it is not known which one hangs.
            BatchsegError: the failure is about no source.
        """
        _raise_fatal(lot.works, failure)
        return [
            Retry(work=part.work, shards=part.lease.shards, isolation="none", tried=frozenset(), deaths=0)
            for part in lot.parts
        ]

    def of_finish(self, work: SceneWork, failure: Failure) -> FailedFinish | None:
        """Why a scene is left to the next run; None: it is finished again.

        Raises:
            GivenUpError: it comes to nothing again and again.
            BatchsegError: the failure is about no source.
        """
        work.lost += 1
        _raise_fatal([work], failure)
        if failure.kind == "error":
            return FailedFinish(reason=failure.reason, is_damaged=not failure.memory)
        if failure.kind != "lost" and work.lost >= (LATE_LIMIT if failure.kind == "timeout" else DEATHS):
            reason = f"finishing it failed {work.lost} times: {failure.reason}"
            return FailedFinish(reason=reason, is_damaged=False)
        if work.lost > LOST_LIMIT:
            msg = f"finishing {work.source_id} failed {work.lost} times: {failure.reason}"
            raise GivenUpError(msg, [work], failure.reason)
        return None

    def count_late(self, what: str) -> None:
        """A write or a finish hung. Raises StoppedError where that is all that the output does."""
        self._late_in_a_row += 1
        if self._late_in_a_row > LATE_LIMIT:
            msg = (
                f"the output does not answer: {self._late_in_a_row} steps in a row that write to it hung, "
                f"the last one was {what}; check {self._output} and run again"
            )
            raise StoppedError(msg)


def _raise_fatal(works: Sequence[SceneWork], failure: Failure) -> None:
    if isinstance(failure.fatal, GivenUpError):
        raise GivenUpError(str(failure.fatal), works, failure.reason) from failure.fatal
    if failure.fatal is not None:
        raise failure.fatal

"""Whose fault it is that a group of photographs failed.

A group has many photographs, so its failure blames none of them. They are looked at one by one in fresh
processes (`photo_inspection`); what is sound there is tried again, halved if need be, and a photograph that
still ends its predictor when it is alone is to blame. Lost work (a host, a neighbour's crash) blames nobody;
processes that end for lack of memory over the same photographs again and again are taken for crashes.
Where group after group fails, nobody is at fault but the environment, and the run ends.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from batchseg.driver.given_up import LOST_LIMIT, MEMORY_LIMIT, GivenUpError
from batchseg.driver.photo_queue import PhotoWork
from batchseg.driver.tasks import Failure
from batchseg.inputs.source import Doubt, words
from batchseg.output.record import PhotoRecord

MOST_ATTEMPTS = 3
"""At a group that ends its predictor, before it is halved; a single photograph is then refused."""

FAILED_PER_SLOT = 5
"""Groups in a row that end or stop their predictors, of each predictor, before that is everybody's fault: one
image at fault in a group fails four times before another half of its group succeeds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NextStep:
    """What becomes of a group that failed: one of these."""

    again: tuple[PhotoWork, ...] = ()
    """As groups of their own."""
    inspect: PhotoWork | None = None
    """One by one."""
    underivable: PhotoWork | None = None
    """What is stored of them does not hold enough."""
    doubt: Doubt | None = None
    """The one photograph of the group is to blame."""


class PhotoFailures:
    """Judges failures.

    Args:
        stop_after: photographs in a row with the same error that end the run.
        slots: predictors at the run's start.
    """

    def __init__(self, stop_after: int, slots: int) -> None:
        self._in_a_row: list[PhotoWork] = []
        self._most_failed = max(stop_after, FAILED_PER_SLOT * slots)

    def note_success(self) -> None:
        """A group came back."""
        self._in_a_row = []

    def of_group(self, work: PhotoWork, failure: Failure) -> NextStep:
        """Raises GivenUpError where the environment is given up; other fatal failures as they are."""
        if isinstance(failure.fatal, GivenUpError):
            raise GivenUpError(str(failure.fatal), [work], failure.reason) from failure.fatal
        if failure.fatal is not None:
            raise failure.fatal
        work.starved += failure.memory
        if (
            work.starved >= MEMORY_LIMIT
        ):  # no other suspect beside it: what takes the memory may end neighbours
            work.starved, work.alone = 0, True
        elif failure.kind == "lost":
            work.lost += 1
            if work.lost > LOST_LIMIT:
                msg = f"the work on {names_of([work])} was lost {work.lost} times, lately: {failure.reason}"
                raise GivenUpError(msg, [work], failure.reason)
            return NextStep(again=(work,))
        self._in_a_row.append(work)
        if len(self._in_a_row) > self._most_failed:
            msg = (
                f"predictors died or hung over {len(self._in_a_row)} groups in a row, "
                f"{names_of(self._in_a_row)}, and none is quarantined. The last reason: {failure.reason}. "
                f"Check model, memory and output, and run again: the next run does them last"
            )
            raise GivenUpError(msg, self._in_a_row, failure.reason)
        work.attempts += 1
        if work.how == "derive" and failure.kind == "error":
            return NextStep(underivable=work)
        if work.attempts == 1 and work.how == "predict":
            return NextStep(inspect=work)
        if work.attempts < (MOST_ATTEMPTS if work.count == 1 else MOST_ATTEMPTS - 1):
            return NextStep(again=(work,))
        if work.count > 1:
            # Each was sound alone, together they fail again: halves with one attempt each, down to one image.
            half = work.count // 2
            parts = work.slice(0, half), work.slice(half, work.count - half)
            attempts = MOST_ATTEMPTS - 1
            return NextStep(again=tuple(replace(part, attempts=attempts, lost=0) for part in parts))
        only = work.images["source_id"][0].as_py()
        transient = failure.transient or failure.memory  # the machine may have more by the next run
        return NextStep(doubt=Doubt(source_id=only, reason=failure.reason, transient=transient))


def names_of(works: Sequence[PhotoWork]) -> str:
    """The first and the last by id, of groups that come in any order."""
    ids = sorted(name for work in works for name in words(work.images["source_id"]))
    return f"{ids[0]} to {ids[-1]}" if len(ids) > 1 else str(ids[0])


def refusal_records(work: PhotoWork, doubts: Iterable[Doubt]) -> Iterator[tuple[Doubt, PhotoRecord]]:
    """Photographs that cannot be done, as the ledger has them."""
    listed = {row["source_id"]: row for row in work.images.to_pylist()}
    for doubt in doubts:
        row = listed[doubt.source_id]
        yield (
            doubt,
            PhotoRecord(
                status="failed" if doubt.transient else "quarantined",
                source_id=doubt.source_id,
                tag=row["tag"],
                uri=row["uri"],
                attributes=row["attributes"],
                error=doubt.reason,
            ),
        )


def left_over(works: Iterable[PhotoWork], reason: str) -> Iterator[PhotoRecord]:
    """Records of photographs over which the environment is given up: the next run does them last."""
    ids: set[str] = set()
    for work in works:
        new = [name for name in words(work.images["source_id"]) if name not in ids]
        ids.update(new)
        doubts = (Doubt(source_id=name, reason=reason, transient=True) for name in new)
        yield from (record for _, record in refusal_records(work, doubts))

"""The loop over photographs: groups out, ledger rows in.

`photo_queue` knows what is left and how large a group is, `photo_failures` whose fault a failure is,
`photo_inspection` looks at photographs whose group failed.
"""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from batchseg.driver.commit import PhotoCommits, Refusals
from batchseg.driver.events import GroupDone, Listener, Retried
from batchseg.driver.given_up import GivenUpError, late
from batchseg.driver.loop import Loop
from batchseg.driver.photo_failures import PhotoFailures, left_over, refusal_records
from batchseg.driver.photo_inspection import Inspection, Inspections
from batchseg.driver.photo_queue import GROUP_SECONDS, GroupSizes, PhotoQueue, PhotoWork
from batchseg.driver.tasks import (
    Executor,
    Failure,
    GroupAnswer,
    GroupOutcome,
    GroupTask,
    InspectionOutcome,
    Outcome,
    Slot,
    SlotsChanged,
)
from batchseg.driver.unlike import Unlike
from batchseg.inputs.source import LISTING, Doubt, words
from batchseg.inputs.source import compute as pc
from batchseg.job.settings import MAX_PHOTO_MEMORY
from batchseg.output.ledger import Ledger
from batchseg.output.record import PhotoRecord
from batchseg.pixels.usual_values import Usual

PATIENCE = 2.0
"""Times GROUP_SECONDS that a group goes on with images that take longer than the last ones."""

GROUPS_PER_SLOT = 2
"""One that is done, one that waits."""


@dataclass(frozen=True, slots=True)
class _GroupInFlight:
    work: PhotoWork
    task: GroupTask
    submitted: float


class PhotoLoop(Loop):
    """Runs groups on an executor and commits what comes back.

    Args:
        output: root of the results.
        ledger: where to commit.
        executor: where groups run; its predictors are started.
        slots: its predictors.
        emit: hears of what happens.
        stop: asked often; a reason ends the run, which drains and raises StoppedError.
        lease_timeout: seconds until a group is given up.
        stop_after: photographs in a row with the same error that end the run, none of them quarantined.
        epoch: of the lock, which is looked at before results are published.
        superseded: paths below the output of masks of earlier versions, by id.
        memory: bytes that one photograph may take.
        profile: ask for the times of each step.
        usual: what the output's first photographs held.
    """

    def __init__(
        self,
        *,
        output: str,
        ledger: Ledger,
        executor: Executor,
        slots: Sequence[Slot],
        emit: Listener,
        stop: Callable[[], str | None],
        lease_timeout: float,
        stop_after: int,
        epoch: int,
        superseded: Mapping[str, Sequence[str]],
        memory: int = MAX_PHOTO_MEMORY,
        profile: bool = False,
        usual: tuple[Usual, ...] = (),
    ) -> None:
        self._commits = PhotoCommits(output, ledger, superseded, emit if profile else None)
        super().__init__(executor, stop, Refusals(stop_after, self._commits, emit))
        self._emit = emit
        self._slots, self._timeout, self._profile = list(slots), lease_timeout, profile
        self._memory, self._epoch, self._usual = memory, epoch, usual
        self._failures = PhotoFailures(stop_after, len(slots))
        self._sizes = GroupSizes()
        self._ids = itertools.count(1)
        self._inspections = Inspections(executor, lease_timeout, self._ids, memory, usual)
        self._queue = PhotoQueue(PhotoWork(images=LISTING.empty_table()))
        self._flights: dict[int, _GroupInFlight] = {}
        self._heard_of: dict[int, float] = {}
        """When each slot last answered."""
        self._hashes: list[pa.Table] = []
        self._some_are_there = False
        """Whether the listing found the files of some."""
        self.refused: list[PhotoRecord] = []
        """All that this run refused."""
        self.unlike = Unlike("photograph")
        self.turned = ""
        """Id of a photograph as `GroupAnswer.turned` has it."""
        self.underivable: list[str] = []
        """Ids of photographs whose stored results do not hold enough."""

    def predict(self, todo: pa.Table) -> None:
        """Do photographs (LISTING).

        Raises:
            StoppedError: told to stop, or the environment fails; what was done is recorded.
            ModelError: the network gives what no mask can hold.
        """
        self._some_are_there = bool(pc.any(pc.equal(todo["problem"], "")).as_py())
        self._run(PhotoWork(images=todo))

    def derive(self, images: pa.Table, results: pa.Table) -> None:
        """Make results of photographs (LISTING) from ledger rows aligned with them. Raises as `predict`."""
        self.underivable = []
        self._run(PhotoWork(images=images, how="derive", results=results))

    def contents(self, images: pa.Table) -> pa.Table:
        """Digests of files' bytes: source_id and content, of those that can be read. Raises StoppedError."""
        self._hashes = []
        self._run(PhotoWork(images=images, how="hash"))
        known = [table for table in self._hashes if table.num_rows]
        empty = pa.table({"source_id": pa.array([], pa.string()), "content": pa.array([], pa.string())})
        return pa.concat_tables(known) if known else empty

    def _run(self, work: PhotoWork) -> None:
        self._queue = PhotoQueue(work)
        self._work_off()

    @property
    def _is_under_way(self) -> bool:
        return bool(self._flights)

    @property
    def _goes_on(self) -> bool:
        return bool(self._queue or self._flights or self._inspections)

    @property
    def _is_commit_due(self) -> bool:
        return self._commits.is_due

    def _leave(self, given_up: GivenUpError) -> None:
        groups = (work for work in given_up.over if work.how != "derive")
        self._commits.add(*left_over(groups, given_up.reason))

    def _fill(self) -> None:
        self._give_groups()
        self._inspections.start(most=max(1, len(self._slots)), alone=self._may_be_alone)

    def _give_groups(self) -> None:
        """Give groups to predictors with room, one to each before any gets a second."""
        load = Counter(flight.task.slot.id for flight in self._flights.values())
        for depth in range(GROUPS_PER_SLOT):
            for slot in self._slots:
                if load[slot.id] > depth:
                    continue
                count = self._sizes.images(self._queue.left, len(self._slots))
                work = self._queue.take(count, alone=self._may_be_alone)
                if work is not None:
                    self._submit(work, slot)
                    load[slot.id] += 1

    def _submit(self, work: PhotoWork, slot: Slot) -> None:
        number, submitted = next(self._ids), self._clock()
        seconds = PATIENCE * GROUP_SECONDS if work.how == "predict" else math.inf
        group = work.group(
            number,
            seconds,
            epoch=self._epoch,
            memory=self._memory,
            profiled=self._profile,
            usual=self._usual,
        )
        task = GroupTask(group=group, slot=slot)
        self._flights[number] = _GroupInFlight(work, task, submitted)
        self._executor.submit(task)

    def _take(self, outcome: Outcome) -> None:
        if isinstance(outcome, SlotsChanged):
            self._slots = list(outcome.slots)
        elif isinstance(outcome, InspectionOutcome):
            self._on_inspected(outcome)
        elif isinstance(outcome, GroupOutcome):
            self._on_group(outcome)

    def _on_group(self, outcome: GroupOutcome) -> None:
        flight = self._flights.pop(outcome.group_id, None)
        if flight is None:
            return  # given up before
        self._heard_of[flight.task.slot.id] = self._clock()
        if isinstance(outcome.result, Failure):
            self._on_failure(flight.work, outcome.result)
        else:
            self._on_success(flight, outcome.result)

    def _on_success(self, flight: _GroupInFlight, answer: GroupAnswer) -> None:
        work = flight.work
        self._failures.note_success()
        if work.how == "hash":
            self._hashes.append(answer.rows)
            return
        done = answer.rows.num_rows
        self.turned = self.turned or answer.turned
        if not work.alone:
            self._sizes.learn(answer)
        if done:
            self._commits.add_rows(answer.rows)
            odd = answer.rows.filter(pc.not_equal(answer.rows["unlike"], ""))
            self.unlike.add(zip(words(odd["source_id"]), words(odd["unlike"]), strict=True))
            self._refusals.flush()
        self.tally.done += done
        self.tally.predicted += answer.tiles
        failed = done - (pc.sum(pc.is_in(answer.rows["verdict"], pa.array(["PASS", ""]))).as_py() or 0)
        self._emit(
            GroupDone(
                images=done,
                failed=failed,
                tiles=answer.tiles,
                pixels=answer.pixels,
                read_seconds=answer.read_seconds,
                predict_seconds=answer.predict_seconds,
                stitch_seconds=answer.stitch_seconds,
                write_seconds=answer.write_seconds,
                slot=flight.task.slot.id,
                stints=answer.stints,
            )
        )
        if answer.left:
            self._queue.add_again(work.pick(answer.left), first=True)
        if answer.large:
            self._queue.add_alone(work.pick(answer.large))
        if not answer.doubts:
            return
        doubtful = [doubt.source_id for doubt in answer.doubts]
        if work.how == "derive":
            self.underivable += doubtful
        else:
            self._inspections.add(work.pick(doubtful), had_success=done > 0)

    def _on_failure(self, work: PhotoWork, failure: Failure) -> None:
        """A group that does not come back."""
        step = self._failures.of_group(work, failure)
        first = work.images["source_id"][0].as_py()
        self._emit(Retried(source_id=f"{first} and {work.count - 1} more", reason=failure.reason))
        self.tally.repeated += work.count
        for part in step.again:
            self._queue.add_again(part)
        if step.inspect is not None:
            self._inspections.add(step.inspect, had_success=False)
        if step.underivable is not None:
            self.underivable += words(step.underivable.images["source_id"])
        if step.doubt is not None:
            self._refuse(work, [step.doubt], had_success=False)

    def _on_inspected(self, outcome: InspectionOutcome) -> None:
        inspection = self._inspections.pop(outcome.group_id)
        if inspection is None:
            return  # given up before
        work, had_success = inspection.work, inspection.had_success
        if isinstance(outcome.result, Failure):
            if outcome.result.fatal is not None:
                raise outcome.result.fatal
            self._on_lost_inspection(inspection, outcome.result)
            return
        found = outcome.result
        apart = {doubt.source_id for doubt in found.doubts} | set(found.left)
        sound = [name for name in words(work.images["source_id"]) if name not in apart]
        self._refuse(work, found.doubts, had_success=had_success)
        if found.left:
            self._inspections.add(work.pick(found.left), had_success=had_success)
        if sound:
            work.attempts = max(work.attempts, 1)
            self._queue.add_again(work.pick(sound))

    def _on_lost_inspection(self, inspection: Inspection, failure: Failure) -> None:
        if not failure.memory:
            self._inspections.add_again(inspection, failure.reason)
        elif (doubt := self._inspections.starved(inspection, failure.reason)) is not None:
            self._refuse(inspection.work, [doubt], had_success=inspection.had_success)

    def _refuse(self, work: PhotoWork, doubts: Iterable[Doubt], *, had_success: bool) -> None:
        unlisted = set(words(work.images.filter(pc.not_equal(work.images["problem"], ""))["source_id"]))
        for doubt, record in refusal_records(work, doubts):
            # That all rows of a list name nothing may be a mount's fault.
            is_own = self._some_are_there if doubt.source_id in unlisted else doubt.is_own
            self._refusals.add(record, is_single=had_success or is_own)

    def _give_up_late(self) -> None:
        now = self._clock()
        # Of a slot's groups the last one assigned stays in the dict, which from behind is the oldest.
        oldest = {flight.task.slot.id: (key, flight) for key, flight in reversed(self._flights.items())}
        for slot, (key, flight) in oldest.items():
            if now - max(flight.submitted, self._heard_of.get(slot, 0.0)) <= self._timeout:
                continue
            del self._flights[key]
            self._heard_of[slot] = now
            step = self._executor.abandon(flight.task)
            reason = f"no answer within lease_timeout ({self._timeout:.0f} s)"
            self._on_failure(flight.work, late(step, reason))
        self._inspections.give_up_late()

    def _commit(self) -> None:
        refused = self._commits.commit()
        self.refused += refused
        self.tally.count_refused(refused)

    @property
    def _may_be_alone(self) -> bool:
        """Whether no photograph that takes very much memory is with a predictor, or looked at."""
        return not (
            self._inspections.is_alone_out or any(flight.work.alone for flight in self._flights.values())
        )

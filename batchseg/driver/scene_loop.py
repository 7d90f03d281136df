"""The loop over scenes: leases and finishes out, records in.

`scene_queue` knows what is left, `scene_scheduler` who gets it, `scene_failures` whose fault a failure is,
`scene_finishes` what becomes of a scene that is predicted.
"""

import time
from collections.abc import Callable, Iterable, Sequence

from batchseg.driver.commit import Commits, Refusals, refusal_record
from batchseg.driver.events import Listener, Note, Retried, SceneDone, ShardsDone
from batchseg.driver.given_up import GivenUpError, late
from batchseg.driver.in_flight import Flight, LeaseInFlight, LeasesInFlight, LotInFlight
from batchseg.driver.intake import Later, Nothing
from batchseg.driver.loop import POLL_SECONDS, Loop
from batchseg.driver.plan import SceneJob
from batchseg.driver.progress import describe_damage
from batchseg.driver.scene_failures import SceneFailures
from batchseg.driver.scene_finishes import SceneFinishes
from batchseg.driver.scene_queue import SceneQueue, SceneWork
from batchseg.driver.scene_scheduler import LeaseScheduler
from batchseg.driver.scene_worker import LeaseResult
from batchseg.driver.tasks import (
    Executor,
    Failure,
    FinishOutcome,
    LeaseOutcome,
    LotOutcome,
    Outcome,
    Slot,
    SlotsChanged,
)
from batchseg.driver.unlike import SceneReaches
from batchseg.job.recipe import Recipe
from batchseg.output.ledger import Ledger
from batchseg.output.record import SceneRecord
from batchseg.pixels.grid import pixels_in
from batchseg.pixels.usual_values import Usual
from batchseg.system.timing import Stint

LOOK_SECONDS = 1.0
"""Between looks for leases and finishes that are late, or a tenth of the time that a lease has."""

SCENES_AHEAD, SCENES_AHEAD_PER_SLOT = 1024, 64
"""Scenes that wait at most, the second for each predictor, so that none waits for headers: some seconds of
work of the smallest scenes, which go out by the hundred."""


class SceneLoop(Loop):
    """Runs a plan's jobs on an executor and commits what comes back."""

    def __init__(
        self,
        *,
        output: str,
        recipe: Recipe,
        ledger: Ledger,
        executor: Executor,
        slots: Iterable[Slot],
        emit: Listener,
        stop: Callable[[], str | None],
        in_flight_bytes: int,
        lease_timeout: float,
        stop_after: int,
        epoch: int,
        profile: bool = False,
        usual: Sequence[Usual] = (),
        moved_share: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare a run.

        Args:
            output: root of the results.
            recipe: pixel settings.
            ledger: where to commit.
            executor: where steps run; its predictors are started.
            slots: its predictors.
            emit: hears of what happens.
            stop: asked often; a reason ends the run, which drains and raises StoppedError.
            in_flight_bytes: bound of pixels and masks between reading and writing.
            lease_timeout: seconds until a lease is given up and sent again.
            stop_after: sources in a row with the same error that end the run, none of them quarantined.
            epoch: of the lock, which is looked at before a mask is replaced.
            profile: ask for the times of each step.
            usual: what the output's first scenes held.
            moved_share: of tiles that are predicted again at other places.
            clock: seconds.
        """
        self._commits = Commits(output, ledger, clock, emit if profile else None)
        super().__init__(executor, stop, Refusals(stop_after, self._commits, emit), clock)
        self._emit, self._lease_timeout, self._profile = emit, lease_timeout, profile
        self.reaches = SceneReaches(usual)
        self.flights = LeasesInFlight(slots)
        self._queue = SceneQueue(recipe)
        self._failures = SceneFailures(output)
        self._to_refuse: list[SceneRecord] = []
        self._later: Later = Nothing()
        usual_class = self.flights.slots[0].cpu_class
        self._finishes = SceneFinishes(
            executor, recipe, epoch=epoch, usual_class=usual_class, timeout=lease_timeout, clock=clock
        )
        self._scheduler = LeaseScheduler(
            executor=executor,
            queue=self._queue,
            flights=self.flights,
            finishes=self._finishes,
            emit=emit,
            in_flight_bytes=in_flight_bytes,
            seconds_per_tile=recipe.facts.seconds_per_tile,
            clock=clock,
            profiled=profile,
            epoch=epoch,
            tally=self.tally,
            moved_share=moved_share,
        )
        self._looked_at = clock()

    def run(
        self,
        jobs: Iterable[SceneJob],
        refusals: Iterable[SceneRecord] = (),
        later: Later = Nothing(),  # noqa: B008  it holds nothing
    ) -> None:
        """Do all jobs.

        Args:
            jobs: the first, in the order in which they are to be started.
            refusals: sources whose header showed that they cannot be done.
            later: gives further ones while leases run.

        Raises:
            StoppedError: told to stop, or the environment fails; what was done is recorded.
            ModelError: the model gives what no mask can hold.
        """
        self._queue.add(jobs)
        self._queue.tiles_to_come = later.tiles
        self._to_refuse, self._later = list(refusals), later
        self._work_off()

    def _leave(self, given_up: GivenUpError) -> None:
        for work in given_up.over:
            self._refuse(work, given_up.reason, transient=True, is_single=True)

    @property
    def _is_under_way(self) -> bool:
        return bool(self.flights.awaited)

    @property
    def _goes_on(self) -> bool:
        return self._later.goes_on or self._is_busy

    @property
    def _is_commit_due(self) -> bool:
        waits = self._finishes.waits
        return self._commits.is_due(hurry=waits) or (waits and not self.flights.awaited)

    @property
    def _is_busy(self) -> bool:
        return bool(self._queue.waits or self._queue.begun or self.flights.awaited)

    def _fill(self) -> None:
        refused, self._to_refuse = self._to_refuse, []
        for record in refused:
            # A header that is wrong is that file's; a storage that gave none at all may be everybody's.
            self._refusals.add(record, is_single=record.status == "quarantined" or self._is_busy)
        self._take_more(self._later)
        self._scheduler.fill()

    def _take_more(self, later: Later) -> None:
        """Scenes whose headers have come, as many as are soon begun."""
        ahead = max(SCENES_AHEAD, SCENES_AHEAD_PER_SLOT * len(self.flights.slots))
        if not later.goes_on or self._queue.waits >= ahead:
            return
        taken = later.take(ahead - self._queue.waits, 0.0 if self._is_busy else POLL_SECONDS)
        for refusal in taken.refused:
            record = refusal_record(refusal.source, refusal.reason, transient=refusal.transient)
            # A storage that no longer gives headers gives no leases their pixels either, for all the others.
            self._refusals.add(record, is_single=record.status == "quarantined")
        if taken.jobs:
            self._refusals.flush()
        self._queue.add(taken.jobs)
        self._queue.tiles_to_come = later.tiles
        self._scheduler.allow(taken.in_flight_bytes)

    def close(self) -> None:
        """Wait until what recorded sources no longer need is removed: in a bucket that takes a while."""
        self._commits.close()

    def _take(self, outcome: Outcome) -> None:
        if isinstance(outcome, SlotsChanged):
            self._scheduler.change_slots(outcome.slots)
        elif isinstance(outcome, FinishOutcome):
            self._on_finish(outcome)
        elif isinstance(outcome, LeaseOutcome):
            self._on_lease(outcome)
        elif isinstance(outcome, LotOutcome):
            self._on_lot(outcome)

    def _on_lease(self, outcome: LeaseOutcome) -> None:
        flight = self.flights.pop(outcome.lease_id)
        if not isinstance(flight, LeaseInFlight):
            return  # given up before; its fragments, if any, hold the same bytes
        self._scheduler.note_answer(flight.slot, flight.lease.tiles)
        self._on_result(flight, outcome.result)

    def _on_lot(self, outcome: LotOutcome) -> None:
        lot = self.flights.pop(outcome.lot_id)
        if not isinstance(lot, LotInFlight):
            return
        self._scheduler.note_answer(lot.slot, sum(lease.tiles for lease in lot.task.leases))
        if isinstance(outcome.result, Failure):
            self._on_failed_lot(lot, outcome.result)
            return
        ended = zip(lot.parts, outcome.result, strict=True)
        for part, result in sorted(ended, key=lambda pair: isinstance(pair[1], Failure)):
            self._on_result(part, result)

    def _on_result(self, flight: LeaseInFlight, result: LeaseResult | Failure) -> None:
        if flight.work.over or flight.is_withdrawn:
            return
        if isinstance(result, Failure):
            self._on_failure(flight, result)
        else:
            self._on_success(flight, result)

    def _on_success(self, flight: LeaseInFlight, result: LeaseResult) -> None:
        work = flight.work
        predicted, shards = result.predicted, flight.lease.shards
        self._scheduler.note_speed(result)
        self.tally.predicted += predicted
        self.tally.shards += len(shards)
        self.reaches.add(work.source_id, result.reach)
        if result.done is None:
            work.records += result.records
            self._commits.add(*result.records)
        self._emit(
            ShardsDone(
                source_id=work.source_id,
                shards=len(shards),
                tiles=predicted,
                skipped=flight.lease.tiles - predicted,
                pixels=pixels_in(shards),
                read_seconds=result.read_seconds,
                predict_seconds=result.predict_seconds,
                stitch_seconds=result.stitch_seconds,
                write_seconds=result.write_seconds,
                lease=flight.lease.id,
                slot=flight.slot.id,
                submitted=flight.submitted,
                windows=tuple((s.core.row_off, s.core.col_off) for s in shards) if self._profile else (),
                stints=result.stints,
            )
        )
        work.lost = 0
        self._failures.note_success()
        self._queue.release(work)
        if result.done is None and (work.finishing or not work.is_predicted):
            return
        self.reaches.end(work.source_id)
        self._refusals.flush()  # a whole scene was read: those held back are single cases
        if result.done is None:
            self._finishes.add(work)
        else:
            self._end(work, result.done, result.finish_seconds)

    def _on_failure(self, flight: LeaseInFlight, failure: Failure) -> None:
        work, retry = flight.work, self._failures.of_lease(flight, failure)
        if retry is None:
            self._scheduler.withdraw(work)  # they would fail in the same way, one time limit after the other
            left = self._queue.end(work) + flight.lease.tiles
            # The machine may have more memory by the next run.
            transient = failure.transient or failure.memory
            self._refuse(work, failure.reason, transient=transient, is_single=failure.is_own, tiles=left)
            return
        self._queue.retries.add(retry)
        self._emit(Retried(source_id=work.source_id, reason=failure.reason))
        if failure.kind == "timeout":
            self._scheduler.take_back(work)

    def _on_failed_lot(self, lot: LotInFlight, failure: Failure) -> None:
        """Its scenes one by one."""
        retries = [retry for retry in self._failures.of_lot(lot, failure) if not retry.work.over]
        for retry in retries:
            self._queue.retries.add(retry)
        if retries:
            first, others = retries[0].work.source_id, len(retries) - 1
            reason = f"{failure.reason} (and {others} more scenes of its call)" if others else failure.reason
            self._emit(Retried(source_id=first, reason=reason))

    def _on_finish(self, outcome: FinishOutcome) -> None:
        work = self._finishes.pop(outcome.source_id)
        if work is None:
            return  # given up before
        if isinstance(outcome.result, Failure):
            self._on_failed_finish(work, outcome.result)
            return
        self._failures.note_success()
        self._end(work, *outcome.result, outcome.stints)

    def _end(
        self, work: SceneWork, record: SceneRecord, seconds: float, stints: tuple[Stint, ...] = ()
    ) -> None:
        """A scene is finished."""
        self._queue.end(work)
        self._commits.add(record)
        self.tally.done += 1
        self._emit(SceneDone(source_id=work.source_id, finish_seconds=seconds, stints=stints))
        if record.bad_pixels:
            self._emit(Note(text=f"{work.source_id}: {describe_damage(record)}"))

    def _on_failed_finish(self, work: SceneWork, failure: Failure) -> None:
        failed = self._failures.of_finish(work, failure)
        if failed is None:
            self._finishes.add(work)
            return
        self._queue.end(work)
        if failed.is_damaged:
            self._commits.mark_damaged(work.source_id)
        self._refuse(work, failed.reason, transient=True, is_single=failed.is_damaged)

    def _refuse(
        self, work: SceneWork, reason: str, *, transient: bool, is_single: bool = False, tiles: int = 0
    ) -> None:
        scene = work.job.scene.on_own_grid
        record = refusal_record(
            scene.source, reason, transient=transient, height=scene.height, width=scene.width
        )
        self._refusals.add(record, is_single=is_single, tiles=tiles)

    def _give_up_late(self) -> None:
        now = self._clock()
        if now - self._looked_at < min(LOOK_SECONDS, self._lease_timeout / 10):
            return
        self._looked_at = now
        for flight in self.flights.late(now, self._lease_timeout):
            self._give_up_lease(flight, now)
        for work in self._finishes.late(now):
            self._give_up_finish(work)

    def _give_up_lease(self, flight: Flight, now: float) -> None:
        if self.flights.pop(flight.id) is None:
            return  # its predictor was given up with another one
        self.flights.heard_of(flight.slot, now)
        step = self._executor.abandon(flight.task)
        failure = late(step, f"no answer within lease_timeout ({self._lease_timeout:.0f} s)")
        if isinstance(flight, LotInFlight):
            self._on_failed_lot(flight, failure)
        else:
            self._on_result(flight, failure)

    def _give_up_finish(self, work: SceneWork) -> None:
        self._finishes.give_up(work)
        self._failures.count_late(f"the finish of {work.source_id}")
        reason = f"no answer within {self._finishes.limit(work):.0f} s"
        self._on_failed_finish(work, Failure(kind="timeout", step="finish", reason=reason))

    def _commit(self) -> None:
        self.tally.count_refused(self._commits.commit())
        if not self._ends:
            self._finishes.start()

"""Leases out, records in: the loop that holds a run together. It never sees pixels."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from batchseg.driver.commit import Commits, Streak, describe_damage, refusal_record
from batchseg.driver.events import Committed, Listener, Note, Retried, SceneDone, SceneRefused, ShardsDone
from batchseg.driver.in_flight import Flight, Flights
from batchseg.driver.plan import SceneJob
from batchseg.driver.scene_queue import Agenda, Retry, SceneWork, outside_record
from batchseg.driver.scene_worker import Lease, LeaseResult
from batchseg.driver.tasks import (
    Executor,
    Failure,
    FinishOutcome,
    FinishTask,
    Isolation,
    LeaseOutcome,
    Outcome,
    Slot,
    SlotsChanged,
    finish_limit,
)
from batchseg.errors import StoppedError
from batchseg.job.recipe import Recipe
from batchseg.output.ledger import Ledger
from batchseg.output.record import SceneRecord
from batchseg.pixels.grid import Shard
from batchseg.system.timing import Stopwatch

LEASE_SECONDS, LEASES_PER_SECOND = 2.0, 32
"""Of work in a lease, or more where all predictors together would end more leases in a second: 16 s for 512.
A lease costs the driver 2 ms, half of them in Ray. What a kill costs grows with it: of a predictor its
leases, of the driver what all have begun, which they do again in as many seconds."""

REST = 1.5
"""A lease takes all that is left of a scene up to so many times its size: a small rest costs as much as a
whole lease."""

LOST_LIMIT = 20
"""Times that one scene's work is lost (node, memory) before the environment is given up."""

DEATHS = 6
"""Predictors that one lease must end before its source is blamed, but for the first with no other lease at
work; and processes that a scene's finish must end before it is left to the next run. A kill from outside, by
the kernel's out-of-memory killer for one, looks the same: of seven random kills three hit one lease."""

MEMORY_LIMIT = 3
"""Times that one scene's work is lost for lack of memory before it is looked at alone, as after a crash."""

LATE_LIMIT = 3
"""Writes and finishes in a row that hang before the output is taken not to answer; and times that one scene's
finish hangs before the scene is left to the next run."""

DRAIN_SECONDS = 8.0
"""After a signal: what is under way may still end. Schedulers kill after 30 s, often after 10."""

POLL_SECONDS = 0.2

LOOK_SECONDS = 1.0
"""Between looks for leases and finishes that are late, or a tenth of the time that a lease has."""

CLASS_SECONDS = 60.0
"""Without a predictor of a scene's class of CPU, before the scene begins again on another."""


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
    """Tiles sent again after a failure."""


class Driver:
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
            clock: seconds.
        """
        self._output, self._recipe, self._epoch, self._clock = output, recipe, epoch, clock
        self._profile = profile
        self._executor, self._emit, self._stop = executor, emit, stop
        self._flights = Flights(slots)
        self._usual_class = self._flights.slots[0].cpu_class
        self._class_seen: dict[str, float] = {}
        """When a class of CPU last lost a predictor."""
        self._in_flight_bytes, self._lease_timeout = in_flight_bytes, lease_timeout
        self._seconds_per_tile = recipe.facts.seconds_per_tile
        self._agenda = Agenda((), recipe)
        self._commits = Commits(output, ledger, clock)
        self._finishing: dict[str, tuple[SceneWork, float]] = {}
        """Scenes, and when their finish is given up."""
        self._late_in_a_row = 0
        self._looked_at = clock()
        self._to_finish: list[SceneWork] = []
        """Whole, and waiting for their last shards to be recorded."""
        self._next_lease = 0
        self._draining = False
        self._streak: Streak[SceneRecord] = Streak(stop_after)
        self.tally = Tally()

    def _refuse(self, record: SceneRecord, *, tiles: int = 0, content: bool = False) -> None:
        """Record a source as quarantined or failed, unless its error turns out to be everybody's.

        Args:
            record: the source with its error.
            tiles: of it that will not be predicted.
            content: the error is known to be in the file (its header says so): any number may have it.
        """
        self._commits.add(*([record] if content else self._streak.add(record)))
        self._emit(
            SceneRefused(
                source_id=record.source_id,
                reason=record.error,
                transient=record.status == "failed",
                tiles=tiles,
            )
        )

    def run(self, jobs: Iterable[SceneJob], refusals: Iterable[SceneRecord] = ()) -> None:
        """Do all jobs.

        Args:
            jobs: in the order in which they are to be started.
            refusals: sources whose header showed that they cannot be done.

        Raises:
            StoppedError: told to stop, or the environment fails; what was done is recorded.
            ModelError: the model gives what no mask can hold.
        """
        self._agenda = Agenda(jobs, self._recipe)
        try:
            for record in refusals:
                # A header that is wrong is that file's; a storage that fails may be everybody's.
                self._refuse(record, content=record.status == "quarantined")
            while True:
                if reason := self._stop():
                    self._drain()
                    raise StoppedError(reason)
                self._fill()
                self._handle(self._executor.poll(POLL_SECONDS))
                self._give_up_late()
                if self._commits.is_due(hurry=bool(self._to_finish)):
                    self._commit()
                if not (self._agenda.waits or self._agenda.begun or self._flights):
                    break
            self._commits.add(*self._streak.flush())
        finally:
            self._draining = True
            self._commit()

    def close(self) -> None:
        """Wait until what recorded sources no longer need is removed: in a bucket that takes a while."""
        self._commits.close()

    def _fill(self) -> None:
        """Give leases to predictors with room, the least loaded first, of started scenes before new ones."""
        stuck: set[str] = set()
        """Classes of CPU for whose predictors there is nothing, or no room in memory."""
        while (slot := self._flights.emptiest(stuck)) is not None:
            if self._give_lease(slot):
                continue
            if self._begin_again():
                stuck.clear()
            else:
                stuck.add(slot.cpu_class)

    def _give_lease(self, slot: Slot) -> bool:
        """Submit one lease to a slot; False where there is none for it, or no room in memory."""
        if (retry := self._agenda.next_retry(slot.cpu_class)) is not None:
            self.tally.repeated += sum(shard.count for shard in retry.shards)
            self._submit(retry, slot)
            return True
        work = self._scene_for(slot)
        shards = () if work is None else self._take(work)
        if work is None or not shards:
            return False
        self._agenda.assign(work, slot.cpu_class)
        self._submit(Retry(work=work, shards=shards, isolation="none", tried=frozenset(), deaths=0), slot)
        return True

    def _scene_for(self, slot: Slot) -> SceneWork | None:
        while (work := self._agenda.next_open(slot.cpu_class)) is None:
            # Scenes in progress hold fragments on the disk and a place in memory until they are finished.
            if not self._agenda.waits or self._agenda.begun > 4 * len(self._flights.slots):
                return None
            begun = self._agenda.begin()
            if not begun.open:
                self._finish(begun)
        return work

    def _begin_again(self) -> bool:
        """Open a scene whose class of CPU went with its hosts to others; False where there is none.

        What was recorded of it cannot be joined with another class's pixels.
        """
        now = self._clock()
        for work in self._agenda.stranded(self._flights.classes):
            if work.cpu_class is None or self._flights.of(work):
                continue
            if now - self._class_seen.setdefault(work.cpu_class, now) > CLASS_SECONDS:
                self._emit(Retried(source_id=work.source_id, reason=f"no {work.cpu_class} CPU is left"))
                self._agenda.begin_again(work)
                return True
        return False

    def _take(self, work: SceneWork) -> tuple[Shard, ...]:
        """Consecutive open shards worth a lease, fewer towards the end; none: no room in memory."""
        flights = self._flights
        share = self._agenda.tiles_left // flights.most
        limit = int(self._lease_seconds / max(self._seconds_per_tile, 1e-6))
        if work.tiles_open <= REST * limit:
            limit = work.tiles_open
        limit = max(1, min(share, limit))
        free, most = self._in_flight_bytes - flights.nbytes, self._in_flight_bytes // flights.most
        taken: list[Shard] = []
        tiles = nbytes = 0
        while work.open:
            shard = work.open[0]
            size = shard.read.size * work.bytes_per_pixel
            if taken and (tiles + shard.count > limit or nbytes + size > most):
                break
            # Where nothing is under way one shard goes out however large it is: else nothing ever would.
            if nbytes + size > free and (taken or flights):
                break
            taken.append(self._agenda.take(work))
            tiles, nbytes = tiles + shard.count, nbytes + size
        return tuple(taken)

    @property
    def _lease_seconds(self) -> float:
        return max(LEASE_SECONDS, len(self._flights.slots) / LEASES_PER_SECOND)

    def _submit(self, wanted: Retry, slot: Slot) -> None:
        work, shards = wanted.work, wanted.shards
        lease = Lease(
            id=self._next_lease,
            scene=work.job.scene,
            grid=work.job.grid_name,
            cpu_class=slot.cpu_class,
            shards=shards,
            profiled=self._profile,
        )
        self._next_lease += 1
        flight = Flight(
            work=work,
            lease=lease,
            slot=slot,
            nbytes=sum(shard.read.size for shard in shards) * work.bytes_per_pixel,
            submitted=self._clock(),
            isolation=wanted.isolation,
            tried=wanted.tried | {wanted.isolation},
            deaths=wanted.deaths,
        )
        self._flights.add(flight)
        self._executor.submit(lease, slot, wanted.isolation)

    def _handle(self, outcomes: Iterable[Outcome]) -> None:
        """Successes first: a failure may end the run."""
        for outcome in sorted(outcomes, key=is_failure):
            if isinstance(outcome, SlotsChanged):
                self._class_seen |= dict.fromkeys(self._flights.classes, self._clock())
                self._flights.change_slots(outcome.slots)
            if isinstance(outcome, FinishOutcome):
                self._on_finish(outcome)
                continue
            if not isinstance(outcome, LeaseOutcome):
                continue  # groups are photographs'
            flight = self._flights.pop(outcome.lease_id)
            if flight is None:
                continue  # given up before; its fragments, if any, hold the same bytes
            self._flights.heard_of(flight.slot, self._clock())
            if flight.work.over:
                continue
            if isinstance(outcome.result, Failure):
                self._on_failure(flight, outcome.result)
            else:
                self._on_success(flight, outcome.result)

    def _on_success(self, flight: Flight, result: LeaseResult) -> None:
        work = flight.work
        predicted = sum(record.predicted for record in result.records)
        if predicted:
            latest = (result.predict_seconds + result.stitch_seconds) / predicted
            # A moving average: the probe's tile says little of a machine with all predictors at work.
            self._seconds_per_tile += 0.3 * (latest - self._seconds_per_tile)
        self.tally.predicted += predicted
        self.tally.shards += len(result.records)
        work.records += result.records
        self._commits.add(*result.records)
        self._emit(
            ShardsDone(
                source_id=work.source_id,
                shards=len(result.records),
                tiles=predicted,
                skipped=flight.lease.tiles - predicted,
                pixels=sum(shard.pixels for shard in flight.lease.shards),
                read_seconds=result.read_seconds,
                predict_seconds=result.predict_seconds,
                stitch_seconds=result.stitch_seconds,
                write_seconds=result.write_seconds,
                lease=flight.lease.id,
                slot=flight.slot.id,
                submitted=flight.submitted,
                windows=tuple((shard.core.row_off, shard.core.col_off) for shard in flight.lease.shards),
                stints=result.stints,
            )
        )
        work.lost, self._late_in_a_row = 0, 0
        self._agenda.release(work)
        if not work.finishing and work.is_predicted:
            # A whole scene was read: those held back are single cases.
            self._commits.add(*self._streak.flush())
            self._finish(work)

    def _finish(self, work: SceneWork) -> None:
        if not self._draining:
            work.finishing = True
            self._to_finish.append(work)

    def _on_finish(self, outcome: FinishOutcome) -> None:
        if outcome.source_id not in self._finishing:
            return  # given up before
        work, _ = self._finishing.pop(outcome.source_id)
        if isinstance(outcome.result, Failure):
            self._on_failed_finish(work, outcome.result)
            return
        record, seconds = outcome.result
        self._late_in_a_row = 0
        self._agenda.end(work)
        self._commits.add(record)
        self.tally.done += 1
        self._emit(SceneDone(source_id=work.source_id, finish_seconds=seconds, stints=outcome.stints))
        if record.bad_pixels:
            self._emit(Note(text=f"{work.source_id}: {describe_damage(record)}"))

    def _on_failed_finish(self, work: SceneWork, failure: Failure) -> None:
        """Lost ones are done again; one that fails again and again is left to the next run."""
        work.lost += 1
        if failure.fatal is not None:
            raise failure.fatal
        if failure.kind == "error":  # its mask, which was to be derived from, is damaged
            self._agenda.end(work)
            self._commits.mark_damaged(work.source_id)
            self._refuse(refusal_record(work.job, failure.reason, transient=True), content=True)
        elif failure.kind != "lost" and work.lost >= (LATE_LIMIT if failure.kind == "timeout" else DEATHS):
            self._agenda.end(work)
            reason = f"finishing it failed {work.lost} times: {failure.reason}"
            self._refuse(refusal_record(work.job, reason, transient=True))
        elif work.lost > LOST_LIMIT:
            msg = f"finishing {work.source_id} failed {work.lost} times: {failure.reason}"
            raise StoppedError(msg)
        else:
            self._finish(work)

    def _count_late(self, what: str) -> None:
        """A write or a finish hung. Raises StoppedError where that is all that the output does."""
        self._late_in_a_row += 1
        if self._late_in_a_row > LATE_LIMIT:
            msg = (
                f"the output does not answer: {self._late_in_a_row} steps in a row that write to it hung, "
                f"the last one was {what}; check {self._output} and run again"
            )
            raise StoppedError(msg)

    def _on_failure(self, flight: Flight, failure: Failure) -> None:
        """Whose fault is it? A source's only if it recurs with that source alone in a fresh process."""
        work = flight.work
        if failure.fatal is not None:
            raise failure.fatal
        lost = failure.kind == "lost" or failure.step == "write"
        if failure.memory:
            work.starved += 1
            lost = work.starved < MEMORY_LIMIT
        if failure.kind == "timeout" and failure.step == "write":
            self._count_late(f"the writing of {work.source_id}")
        if lost:
            work.lost += 1
            if work.lost > LOST_LIMIT:
                msg = f"the work on {work.source_id} was lost {work.lost} times, lately: {failure.reason}"
                raise StoppedError(msg)
        isolation: Isolation = "predict" if failure.step == "predict" else "read"
        if lost:
            isolation = flight.isolation
        died = failure.kind == "crash" and failure.step == "predict"
        deaths = flight.deaths + died
        if lost or isolation not in flight.tried or (died and deaths < DEATHS):
            # An attempt that was lost shows nothing, and one death little: neither counts as tried.
            tried = flight.tried - {isolation}
            shards = flight.lease.shards
            self._agenda.try_again(
                Retry(work=work, shards=shards, isolation=isolation, tried=tried, deaths=deaths)
            )
            self._emit(Retried(source_id=work.source_id, reason=failure.reason))
            if failure.kind == "timeout":
                self._hold(work)
            return
        left = self._agenda.end(work) + flight.lease.tiles
        self._refuse(refusal_record(work.job, failure.reason, transient=failure.transient), tiles=left)

    def _hold(self, work: SceneWork) -> None:
        """Take back a scene's other leases until one of its own has come through: they may hang as well."""
        work.held = True
        for flight in self._flights.of(work):
            self._flights.pop(flight.lease.id)
            self._executor.abandon(flight.lease.id)
            self._agenda.put_back(work, flight.lease.shards)

    def _give_up_late(self) -> None:
        now = self._clock()
        if now - self._looked_at < min(LOOK_SECONDS, self._lease_timeout / 10):
            return
        self._looked_at = now
        for flight in self._flights.late(now, self._lease_timeout):
            self._give_up_lease(flight, now)
        for source_id, (work, until) in list(self._finishing.items()):
            if now > until:
                self._give_up_finish(source_id, work)

    def _give_up_lease(self, flight: Flight, now: float) -> None:
        if self._flights.pop(flight.lease.id) is None:
            return  # taken back with another one of its scene
        self._flights.heard_of(flight.slot, now)
        step = self._executor.abandon(flight.lease.id)
        if not flight.work.over:
            reason = f"no answer within lease_timeout ({self._lease_timeout:.0f} s)"
            self._on_failure(flight, late(step, reason))

    def _give_up_finish(self, source_id: str, work: SceneWork) -> None:
        del self._finishing[source_id]
        self._executor.abandon_finish(source_id)
        self._count_late(f"the finish of {source_id}")
        reason = f"no answer within {finish_limit(work.job.scene, self._lease_timeout):.0f} s"
        self._on_failed_finish(work, Failure(kind="timeout", step="finish", reason=reason))

    def _commit(self) -> None:
        watch = Stopwatch("driver", profiled=True)
        with watch.step("commit"):
            records = self._commits.commit()
        if records and self._profile:
            self._emit(Committed(records=len(records), stint=watch.stint("commit")))
        for record in records:
            self.tally.quarantined += record.status == "quarantined"
            self.tally.failed += record.status == "failed"
        # A mask is never made of fragments that the ledger does not know.
        ready, self._to_finish = self._to_finish, []
        for work in ready if not self._draining else ():
            limit = finish_limit(work.job.scene, self._lease_timeout)
            self._finishing[work.source_id] = work, self._clock() + limit
            cpu_class = work.cpu_class or self._usual_class
            outside = [outside_record(work.job, shard, self._recipe, cpu_class) for shard in work.outside]
            ordered = tuple(sorted([*work.records, *outside], key=lambda record: record.window))
            self._executor.finish(FinishTask(scene=work.job.scene, shards=ordered, epoch=self._epoch))

    def _drain(self) -> None:
        """Wait a little for what is under way, then record it."""
        self._draining = True
        until = self._clock() + DRAIN_SECONDS
        while self._flights and self._clock() < until:
            self._handle(self._executor.poll(POLL_SECONDS))
        self._commits.add(*self._streak.flush())


def is_failure(outcome: Outcome) -> bool:
    return not isinstance(outcome, SlotsChanged) and isinstance(outcome.result, Failure)


def late(step: Literal["read", "predict", "write", "group", "lost"], reason: str) -> Failure:
    """Of work that was given up; with a host that gave no answer it is lost."""
    if step == "lost":
        return Failure(kind="lost", step="predict", reason=f"{reason}, nor from its host")
    return Failure(kind="timeout", step=step, reason=reason)

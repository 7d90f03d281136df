"""Leases out, records in: the loop that holds a run together. It never sees pixels."""

import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal

from batchseg import publishing, storage
from batchseg.errors import OutputError, StoppedError
from batchseg.events import Committed, Listener, Note, Retried, SceneDone, SceneRefused, ShardsDone
from batchseg.executors import (
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
from batchseg.finish import discard_fragments
from batchseg.grid import Shard
from batchseg.ledger import Ledger, Record
from batchseg.plan import LEASES_PER_WORKER, SceneJob, shard_bytes
from batchseg.recipe import Recipe
from batchseg.refusals import Streak, describe_damage, refusal_record
from batchseg.spans import Stopwatch
from batchseg.steps import Lease, LeaseResult
from batchseg.write import outside_record

LEASE_SECONDS = 2.0
COMMIT_SECONDS, HURRY_SECONDS = 1.0, 0.1
"""At most this long after its end a shard is recorded, and a scene's last one. A segment takes 2 ms on a
disk and a request on a bucket, and thousands of small scenes must not make one each."""

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

CLASS_SECONDS = 60.0
"""Without a predictor of a scene's class of CPU, before the scene begins again on another."""


@dataclass(slots=True)
class _SceneWork:
    """One scene in progress."""

    job: SceneJob
    records: list[Record]
    open: deque[Shard]
    outside: list[Shard]
    """Outside the area of interest: not leased, empty in the mask."""
    cpu_class: str | None
    tiles_open: int
    lost: int = 0
    starved: int = 0
    """Times that it was lost for lack of memory."""
    over: bool = False
    """Refused or finished: later answers are dropped."""
    finishing: bool = False
    held: bool = False
    """One of its leases timed out: only that one is tried again for now."""

    @property
    def source_id(self) -> str:
        return self.job.scene.source.source_id

    def is_open_to(self, slot: Slot) -> bool:
        """Whether there are shards left that this slot may predict."""
        return bool(self.open) and not self.held and self.cpu_class in (None, slot.cpu_class)


@dataclass(slots=True)
class _InFlight:
    work: _SceneWork
    lease: Lease
    slot: Slot
    nbytes: int
    submitted: float
    isolation: Isolation
    tried: frozenset[Isolation]
    """Steps that were isolated in earlier attempts at these shards."""
    deaths: int
    """Predictors that died over them."""


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


@dataclass(slots=True)
class _Retry:
    work: _SceneWork
    shards: tuple[Shard, ...]
    isolation: Isolation
    tried: frozenset[Isolation]
    deaths: int


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
        """
        self._profile = profile
        self._output, self._recipe, self._ledger, self._epoch = output, recipe, ledger, epoch
        self._executor, self._emit, self._stop = executor, emit, stop
        self._slots = list(slots)
        self._usual_class = self._slots[0].cpu_class
        self._class_seen: dict[str, float] = {}
        """When a class of CPU last lost a predictor."""
        self._in_flight_bytes, self._lease_timeout = in_flight_bytes, lease_timeout
        self._seconds_per_tile = recipe.facts.seconds_per_tile
        self._flights: dict[int, _InFlight] = {}
        self._finishing: dict[str, tuple[_SceneWork, float]] = {}
        """Scenes, and when their finish is given up."""
        self._late_in_a_row = 0
        self._to_finish: list[_SceneWork] = []
        """Whole, and waiting for their last shards to be recorded."""
        self._damaged: set[str] = set()
        """Sources whose old results are not what was recorded."""
        self._sweeper = ThreadPoolExecutor(4, thread_name_prefix="sweeper")
        self._retries: deque[_Retry] = deque()
        self._next_lease = 0
        self._heard_of: dict[int, float] = {}
        """When each slot last answered: what waits behind a slow lease is not late itself."""
        self._draining = False
        self._uncommitted: list[Record] = []
        self._committed_at = time.monotonic()
        self._streak = Streak(stop_after)
        self.tally = Tally()

    def _refuse(self, record: Record, *, tiles: int = 0, content: bool = False) -> None:
        """Record a source as quarantined or failed, unless its error turns out to be everybody's.

        Args:
            record: the source with its error.
            tiles: of it that will not be predicted.
            content: the error is known to be in the file (its header says so): any number may have it.
        """
        self._uncommitted += [record] if content else self._streak.add(record)
        self._emit(
            SceneRefused(
                source_id=record.source_id,
                reason=record.error,
                transient=record.status == "failed",
                tiles=tiles,
            )
        )

    def run(self, jobs: Iterable[SceneJob], refusals: Iterable[Record] = ()) -> None:
        """Do all jobs.

        Args:
            jobs: in the order in which they are to be started.
            refusals: sources whose header showed that they cannot be done.

        Raises:
            StoppedError: told to stop, or the environment fails; what was done is recorded.
            ModelError: the model gives what no mask can hold.
        """
        waiting = deque(jobs)
        started: list[_SceneWork] = []
        try:
            for record in refusals:
                # A header that is wrong is that file's; a storage that fails may be everybody's.
                self._refuse(record, content=record.status == "quarantined")
            while True:
                if reason := self._stop():
                    self._drain()
                    raise StoppedError(reason)
                self._fill(waiting, started)
                self._handle(self._executor.poll(POLL_SECONDS))
                self._give_up_late_leases()
                self._give_up_late_finishes()
                started = [work for work in started if not work.over]
                if self._commit_is_due():
                    self._commit()
                if not (waiting or started or self._flights or self._finishing or self._retries):
                    break
            self._uncommitted += self._streak.flush()
        finally:
            self._draining = True
            try:
                self._commit()
            finally:
                self._sweeper.shutdown()

    def _commit_is_due(self) -> bool:
        waited = time.monotonic() - self._committed_at
        return waited >= COMMIT_SECONDS or (bool(self._to_finish) and waited >= HURRY_SECONDS)

    def _fill(self, waiting: deque[SceneJob], started: list[_SceneWork]) -> None:
        """Give leases to predictors with room, of started scenes before new ones."""
        while any(self._give_lease(slot, waiting, started) for slot in self._slots_with_room()):
            pass

    def _slots_with_room(self) -> list[Slot]:
        """The least loaded first."""
        load = Counter(flight.slot.id for flight in self._flights.values())
        free = [slot for slot in self._slots if load[slot.id] < LEASES_PER_WORKER]
        return sorted(free, key=lambda slot: load[slot.id])

    def _give_lease(self, slot: Slot, waiting: deque[SceneJob], started: list[_SceneWork]) -> bool:
        """Submit one lease to a slot; False where there is none for it, or no room in memory."""
        self._retries = deque(retry for retry in self._retries if not retry.work.over)
        for retry in self._retries:
            if retry.work.cpu_class == slot.cpu_class:
                self._retries.remove(retry)
                self.tally.repeated += sum(len(shard.tiles) for shard in retry.shards)
                self._submit(retry.work, slot, retry.shards, retry.isolation, retry.tried, retry.deaths)
                return True
        fitting = (w for w in started if w.is_open_to(slot))
        while (work := next(fitting, None)) is None:
            if not waiting or len(started) > 4 * len(self._slots):
                return self._begin_again(started)
            started.append(self._start(waiting.popleft()))
            fitting = (w for w in started[-1:] if w.is_open_to(slot))
        shards = self._take(work, sum(w.tiles_open for w in started) + len(waiting))
        if shards is None:
            return False
        work.cpu_class = slot.cpu_class
        self._submit(work, slot, shards, "none", frozenset())
        return True

    def _start(self, job: SceneJob) -> _SceneWork:
        shards = job.open_shards()
        work = _SceneWork(
            job=job,
            records=list(job.committed),
            open=deque(shards),
            outside=job.outside_shards(),
            cpu_class=job.committed[0].cpu_class if job.committed else None,
            tiles_open=sum(len(shard.tiles) for shard in shards),
        )
        if job.encoded is not None:
            work.records = [job.encoded]
        if not work.open:
            self._finish(work)
        return work

    def _begin_again(self, started: list[_SceneWork]) -> bool:
        """Open scenes whose class of CPU went with its hosts to others; False where there is none.

        What was recorded of them cannot be joined with another class's pixels.
        """
        now, classes = time.monotonic(), {slot.cpu_class for slot in self._slots}
        busy = {id(flight.work) for flight in self._flights.values()}
        for work in started:
            if work.cpu_class is None or work.cpu_class in classes:
                continue
            if work.over or work.finishing or id(work) in busy:
                continue
            if now - self._class_seen.setdefault(work.cpu_class, now) > CLASS_SECONDS:
                self._retries = deque(retry for retry in self._retries if retry.work is not work)
                self._emit(Retried(source_id=work.source_id, reason=f"no {work.cpu_class} CPU is left"))
                work.job, work.cpu_class, work.held = replace(work.job, committed=()), None, False
                work.records, work.outside = [], work.job.outside_shards()
                work.open = deque(work.job.open_shards())
                work.tiles_open = sum(len(shard.tiles) for shard in work.open)
                return True
        return False

    def _take(self, work: _SceneWork, tiles_left: int) -> tuple[Shard, ...] | None:
        """Consecutive open shards worth LEASE_SECONDS, fewer towards the end; None: no room in memory."""
        share = tiles_left // (LEASES_PER_WORKER * len(self._slots))
        limit = max(1, min(share, int(LEASE_SECONDS / max(self._seconds_per_tile, 1e-6))))
        free = self._in_flight_bytes - sum(flight.nbytes for flight in self._flights.values())
        most = self._in_flight_bytes // (LEASES_PER_WORKER * len(self._slots))
        taken: list[Shard] = []
        tiles = nbytes = 0
        while work.open:
            shard = work.open[0]
            size = shard_bytes(shard.read, work.job.scene, self._recipe)
            if taken and (tiles + len(shard.tiles) > limit or nbytes + size > most):
                break
            if nbytes + size > free and (taken or self._flights):
                break
            taken.append(work.open.popleft())
            tiles, nbytes = tiles + len(shard.tiles), nbytes + size
        work.tiles_open -= tiles
        return tuple(taken) or None

    def _submit(
        self,
        work: _SceneWork,
        slot: Slot,
        shards: tuple[Shard, ...],
        isolation: Isolation,
        tried: frozenset[Isolation],
        deaths: int = 0,
    ) -> None:
        lease = Lease(
            id=self._next_lease,
            scene=work.job.scene,
            grid=work.job.grid_name,
            cpu_class=slot.cpu_class,
            shards=shards,
            profiled=self._profile,
        )
        self._next_lease += 1
        nbytes = sum(shard_bytes(shard.read, work.job.scene, self._recipe) for shard in shards)
        self._flights[lease.id] = _InFlight(
            work=work,
            lease=lease,
            slot=slot,
            nbytes=nbytes,
            submitted=time.monotonic(),
            isolation=isolation,
            tried=tried | {isolation},
            deaths=deaths,
        )
        self._executor.submit(lease, slot, isolation)

    def _handle(self, outcomes: Iterable[Outcome]) -> None:
        """Successes first: a failure may end the run."""
        for outcome in sorted(outcomes, key=is_failure):
            if isinstance(outcome, SlotsChanged):
                self._class_seen |= {slot.cpu_class: time.monotonic() for slot in self._slots}
                self._slots = list(outcome.slots)
            if isinstance(outcome, FinishOutcome):
                self._on_finish(outcome)
                continue
            if not isinstance(outcome, LeaseOutcome):
                continue  # groups are photographs'
            flight = self._flights.pop(outcome.lease_id, None)
            if flight is None:
                continue  # given up before; its fragments, if any, hold the same bytes
            self._heard_of[flight.slot.id] = time.monotonic()
            if flight.work.over:
                continue
            if isinstance(outcome.result, Failure):
                self._on_failure(flight, outcome.result)
            else:
                self._on_success(flight, outcome.result)

    def _on_success(self, flight: _InFlight, result: LeaseResult) -> None:
        work = flight.work
        predicted = sum(record.predicted for record in result.records)
        if predicted:
            latest = (result.predict_seconds + result.stitch_seconds) / predicted
            self._seconds_per_tile += 0.3 * (latest - self._seconds_per_tile)
        self.tally.predicted += predicted
        self.tally.shards += len(result.records)
        work.records += result.records
        self._uncommitted += result.records
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
        work.lost, work.held, self._late_in_a_row = 0, False, 0
        if not work.finishing and len(work.records) + len(work.outside) == work.job.grid.count:
            # A whole scene was read: those held back are single cases.
            self._uncommitted += self._streak.flush()
            self._finish(work)

    def _finish(self, work: _SceneWork) -> None:
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
        work.over, self._late_in_a_row = True, 0
        self._uncommitted.append(record)
        self.tally.done += 1
        self._emit(SceneDone(source_id=work.source_id, finish_seconds=seconds, stints=outcome.stints))
        if record.bad_pixels:
            self._emit(Note(text=f"{work.source_id}: {describe_damage(record)}"))

    def _on_failed_finish(self, work: _SceneWork, failure: Failure) -> None:
        """Lost ones are done again; one that fails again and again is left to the next run."""
        work.lost += 1
        if failure.fatal is not None:
            raise failure.fatal
        if failure.kind == "error":  # its mask, which was to be derived from, is damaged
            work.over = True
            self._damaged.add(work.source_id)
            self._refuse(refusal_record(work.job, failure.reason, transient=True), content=True)
        elif failure.kind != "lost" and work.lost >= (LATE_LIMIT if failure.kind == "timeout" else DEATHS):
            work.over = True
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
                f"lately {what}; look at {self._output} and run again"
            )
            raise StoppedError(msg)

    def _on_failure(self, flight: _InFlight, failure: Failure) -> None:
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
            tried = flight.tried - {isolation}
            shards = flight.lease.shards
            self._retries.append(
                _Retry(work=work, shards=shards, isolation=isolation, tried=tried, deaths=deaths)
            )
            self._emit(Retried(source_id=work.source_id, reason=failure.reason))
            if failure.kind == "timeout":
                self._hold(work)
            return
        work.over = True
        left = work.tiles_open + flight.lease.tiles
        work.open.clear()
        work.tiles_open = 0
        self._refuse(refusal_record(work.job, failure.reason, transient=failure.transient), tiles=left)

    def _hold(self, work: _SceneWork) -> None:
        """Take back a scene's other leases until one of its own has come through: they may hang as well."""
        work.held = True
        for flight in [flight for flight in self._flights.values() if flight.work is work]:
            del self._flights[flight.lease.id]
            self._executor.abandon(flight.lease.id)
            work.open.extendleft(reversed(flight.lease.shards))
            work.tiles_open += flight.lease.tiles

    def _give_up_late_leases(self) -> None:
        """One lease per predictor at most: the others only waited behind it."""
        now = time.monotonic()
        for slot in {flight.slot.id for flight in self._flights.values()}:
            queue = [flight for flight in self._flights.values() if flight.slot.id == slot]
            flight = self._late_flight(queue, self._heard_of.get(slot, 0.0), now)
            if flight is None:
                continue
            del self._flights[flight.lease.id]
            self._heard_of[slot] = now
            step = self._executor.abandon(flight.lease.id)
            if not flight.work.over:
                reason = f"no answer within lease_timeout ({self._lease_timeout:.0f} s)"
                self._on_failure(flight, late(step, reason))

    def _late_flight(self, queue: list[_InFlight], heard_of: float, now: float) -> _InFlight | None:
        """The first of a slot's flights waits for nobody, nor does one with a predictor of its own."""
        for flight in queue:
            alone = flight.isolation == "predict"
            since = flight.submitted if alone else max(flight.submitted, heard_of)
            if (alone or flight is queue[0]) and now - since > self._lease_timeout:
                return flight
        return None

    def _give_up_late_finishes(self) -> None:
        now = time.monotonic()
        for source_id, (work, until) in list(self._finishing.items()):
            if now > until:
                del self._finishing[source_id]
                self._executor.abandon_finish(source_id)
                self._count_late(f"the finish of {source_id}")
                reason = f"no answer within {finish_limit(work.job.scene, self._lease_timeout):.0f} s"
                self._on_failed_finish(work, Failure(kind="timeout", step="finish", reason=reason))

    def _commit(self) -> None:
        records, self._uncommitted = [self._with_outputs(r) for r in self._uncommitted], []
        for record in records:
            self.tally.quarantined += record.status == "quarantined"
            self.tally.failed += record.status == "failed"
        stale = self._outputs_of_quarantined(records)
        watch = Stopwatch("driver", profiled=True)
        with watch.step("commit"):
            self._ledger.append(records)
        if records and self._profile:
            self._emit(Committed(records=len(records), stint=watch.stint("commit")))
        self._committed_at = time.monotonic()
        for record in records:
            if record.status in ("done", "quarantined"):
                self._sweeper.submit(self._sweep, record.source_id, stale.get(record.source_id, ()))
        # A mask is never made of fragments that the ledger does not know.
        ready, self._to_finish = self._to_finish, []
        for work in ready if not self._draining else ():
            limit = finish_limit(work.job.scene, self._lease_timeout)
            self._finishing[work.source_id] = work, time.monotonic() + limit
            cpu_class = work.cpu_class or self._usual_class
            outside = [outside_record(work.job, shard, self._recipe, cpu_class) for shard in work.outside]
            ordered = tuple(sorted([*work.records, *outside], key=lambda record: record.window))
            self._executor.finish(FinishTask(scene=work.job.scene, shards=ordered, epoch=self._epoch))

    def _with_outputs(self, record: Record) -> Record:
        """A failure may pass: what an earlier version of the source left stays until a new one is done."""
        before = self._ledger.source(record.source_id)
        if record.status != "failed" or before is None or record.source_id in self._damaged:
            return record
        return replace(record, outputs=before.outputs, region_count=before.region_count)

    def _outputs_of_quarantined(self, records: list[Record]) -> dict[str, tuple[str, ...]]:
        """Files that show earlier versions of sources that cannot be segmented as they are now."""
        stale = {}
        for record in records:
            before = self._ledger.source(record.source_id)
            if record.status == "quarantined" and before is not None:
                # Its rows in region tables, which others may share, go at the run's end.
                own = (made.path for made in before.outputs if made.path != before.regions_part)
                stale[record.source_id] = tuple(storage.join(self._output, path) for path in own)
        return stale

    def _sweep(self, source_id: str, stale: tuple[str, ...]) -> None:
        """Remove a source's fragments and old results; what stays behind goes at a later run's end."""
        with contextlib.suppress(OutputError):
            discard_fragments(self._output, source_id)
            publishing.remove_files(stale)

    def _drain(self) -> None:
        """Wait a little for what is under way, then record it."""
        self._draining = True
        until = time.monotonic() + DRAIN_SECONDS
        while self._flights and time.monotonic() < until:
            self._handle(self._executor.poll(POLL_SECONDS))
        self._uncommitted += self._streak.flush()


def is_failure(outcome: Outcome) -> bool:
    return not isinstance(outcome, SlotsChanged) and isinstance(outcome.result, Failure)


def late(step: Literal["read", "predict", "write", "group", "lost"], reason: str) -> Failure:
    """Of work that was given up; with a host that gave no answer it is lost."""
    if step == "lost":
        return Failure(kind="lost", step="predict", reason=f"{reason}, nor from its host")
    return Failure(kind="timeout", step=step, reason=reason)

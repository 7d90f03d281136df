"""Groups out, ledger rows in: the loop that holds a run over photographs together."""

import contextlib
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from batchseg.driver.commit import COMMIT_SECONDS, Streak
from batchseg.driver.events import Committed, GroupDone, Listener, Retried, SceneRefused
from batchseg.driver.photo_queue import Batch, Waiting, group_of
from batchseg.driver.scene_loop import DRAIN_SECONDS, LOST_LIMIT, POLL_SECONDS, Tally, is_failure, late
from batchseg.driver.tasks import (
    Executor,
    Failure,
    GroupAnswer,
    GroupOutcome,
    Outcome,
    SiftOutcome,
    Slot,
    SlotsChanged,
)
from batchseg.errors import OutputError, StoppedError
from batchseg.inputs.source import Doubt, words
from batchseg.inputs.source import compute as pc
from batchseg.output import publish
from batchseg.output.ledger import Ledger
from batchseg.output.record import PhotoRecord
from batchseg.system.location import join
from batchseg.system.processes import START_SECONDS
from batchseg.system.timing import Stopwatch

GROUP_SECONDS = 2.0
"""Aim of a group: what a kill can cost, and how often the driver is asked."""

PATIENCE = 2.0
"""Times that long a group goes on with images that take longer than the last ones."""

FIRST_IMAGES, MOST_IMAGES = 32, 2048
"""Of a group, before anything is known of the speed, and at most."""

GROUPS_PER_SLOT = 2
"""One that is done, one that waits."""

MOST_ATTEMPTS = 3
"""At a group that ends its predictor, before it is halved; a single photograph is then refused."""


@dataclass(slots=True)
class _InFlight:
    batch: Batch
    slot: Slot
    submitted: float


SIFTS_LOST_LIMIT = 5
"""Times that looking at photographs alone is lost before the environment is given up."""

FAILED_PER_SLOT = 5
"""Groups in a row that end or stop their predictors, of each predictor, before that is everybody's fault: one
image at fault in a group fails four times before another half of its group succeeds."""


@dataclass(slots=True)
class _Sifting:
    batch: Batch
    had_success: bool
    """Others of its group were done: what fails are single cases."""
    until: float
    """Of time.monotonic, when it is given up."""


class PhotoDriver:
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
        superseded: paths below the output of masks of earlier versions, by id.
        profile: ask for the times of each step.
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
        superseded: Mapping[str, Sequence[str]],
        profile: bool = False,
    ) -> None:
        self._profile = profile
        self._output, self._ledger, self._executor, self._slots = output, ledger, executor, list(slots)
        self._emit, self._stop, self._timeout = emit, stop, lease_timeout
        self._superseded = superseded
        self._streak: Streak[PhotoRecord] = Streak(stop_after)
        self._seconds_per_image: float | None = None
        self._again: deque[Batch] = deque()
        self._flights: dict[int, _InFlight] = {}
        self._sifting: dict[int, _Sifting] = {}
        self._to_sift: deque[tuple[Batch, bool]] = deque()
        self._heard_of: dict[int, float] = {}
        self._failed_in_a_row = 0
        self._most_failed = max(stop_after, FAILED_PER_SLOT * len(slots))
        self._next_id = 0
        self._rows: list[pa.Table] = []
        self._refused: list[PhotoRecord] = []
        self._committed_at = time.monotonic()
        self._hashes: list[pa.Table] = []
        self.tally = Tally()
        self.refused: list[PhotoRecord] = []
        """All that this run refused."""
        self.underivable: list[str] = []
        """Ids of photographs whose stored results do not hold enough."""

    def predict(self, todo: pa.Table) -> None:
        """Do photographs (LISTING).

        Raises:
            StoppedError: told to stop, or the environment fails; what was done is recorded.
            ModelError: the network gives what no mask can hold.
        """
        self._run(Batch(images=todo))

    def derive(self, images: pa.Table, results: pa.Table) -> None:
        """Make results of photographs (LISTING) from ledger rows aligned with them. Raises as `predict`."""
        self.underivable = []
        self._run(Batch(images=images, work="derive", results=results))

    def contents(self, images: pa.Table) -> pa.Table:
        """Digests of files' bytes: source_id and content, of those that can be read. Raises StoppedError."""
        self._hashes = []
        self._run(Batch(images=images, work="hash"))
        known = [table for table in self._hashes if table.num_rows]
        empty = pa.table({"source_id": pa.array([], pa.string()), "content": pa.array([], pa.string())})
        return pa.concat_tables(known) if known else empty

    def _run(self, batch: Batch) -> None:
        waiting = Waiting(batch)
        try:
            while True:
                if reason := self._stop():
                    self._drain()
                    raise StoppedError(reason)
                self._fill(waiting)
                self._start_sifts()
                self._handle(self._executor.poll(POLL_SECONDS))
                self._give_up_late()
                self._give_up_late_sifts()
                if time.monotonic() - self._committed_at >= COMMIT_SECONDS:
                    self._commit()
                if not (waiting or self._again or self._flights or self._sifting or self._to_sift):
                    break
            self._refused += self._streak.flush()
        finally:
            self._commit()

    def _fill(self, waiting: Waiting) -> None:
        load = Counter(flight.slot.id for flight in self._flights.values())
        for depth in range(GROUPS_PER_SLOT):
            for slot in self._slots:
                if load[slot.id] <= depth and (batch := self._next_batch(waiting)) is not None:
                    self._submit(batch, slot)
                    load[slot.id] += 1

    def _next_batch(self, waiting: Waiting) -> Batch | None:
        if self._again:
            return self._again.popleft()
        return waiting.take(self._images_per_group(waiting.left))

    def _images_per_group(self, left: int) -> int:
        """About two seconds of work; towards the end less, so that predictors end at the same time."""
        if self._seconds_per_image is None:
            return FIRST_IMAGES
        count = int(GROUP_SECONDS / self._seconds_per_image)
        even = -(-left // (2 * max(1, len(self._slots))))
        return max(1, min(count, MOST_IMAGES, max(even, FIRST_IMAGES)))

    def _submit(self, batch: Batch, slot: Slot) -> None:
        self._next_id += 1
        self._flights[self._next_id] = _InFlight(batch=batch, slot=slot, submitted=time.monotonic())
        seconds = PATIENCE * GROUP_SECONDS if batch.work == "predict" else math.inf
        group = replace(group_of(self._next_id, batch, seconds), profiled=self._profile)
        self._executor.submit_group(group, slot)

    def _handle(self, outcomes: Iterable[Outcome]) -> None:
        """Successes first: a failure may end the run."""
        for outcome in sorted(outcomes, key=is_failure):
            if isinstance(outcome, SlotsChanged):
                self._slots = list(outcome.slots)
            elif isinstance(outcome, SiftOutcome):
                self._on_sifted(outcome)
            elif isinstance(outcome, GroupOutcome):
                flight = self._flights.pop(outcome.group_id, None)
                if flight is None:
                    continue
                self._heard_of[flight.slot.id] = time.monotonic()
                if isinstance(outcome.result, Failure):
                    self._on_failure(flight.batch, outcome.result)
                else:
                    self._on_success(flight, outcome.result)

    def _on_success(self, flight: _InFlight, answer: GroupAnswer) -> None:
        self._failed_in_a_row = 0
        if flight.batch.work == "hash":
            self._hashes.append(answer.rows)
            return
        done = answer.rows.num_rows
        if done:
            seconds = (
                answer.read_seconds + answer.predict_seconds + answer.stitch_seconds + answer.write_seconds
            ) / done
            known = self._seconds_per_image
            self._seconds_per_image = seconds if known is None else known + 0.3 * (seconds - known)
            self._rows.append(answer.rows)
            self._refused += self._streak.flush()
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
                slot=flight.slot.id,
                stints=answer.stints,
            )
        )
        if answer.left:
            self._again.appendleft(flight.batch.pick(answer.left))
        if answer.doubts:
            doubtful = flight.batch.pick([doubt.source_id for doubt in answer.doubts])
            if flight.batch.work == "derive":
                self.underivable += [doubt.source_id for doubt in answer.doubts]
            else:
                self._sift(doubtful, had_success=done > 0)

    def _on_failure(self, batch: Batch, failure: Failure) -> None:
        """A group that does not come back: whose fault it is shows when each is looked at alone."""
        if failure.fatal is not None:
            raise failure.fatal
        first = batch.images["source_id"][0].as_py()
        self._emit(Retried(source_id=f"{first} and {batch.images.num_rows - 1} more", reason=failure.reason))
        self.tally.repeated += batch.images.num_rows
        if failure.kind == "lost":
            batch.lost += 1
            if batch.lost > LOST_LIMIT:
                msg = f"a group of photographs was lost {batch.lost} times, lately: {failure.reason}"
                raise StoppedError(msg)
            self._again.append(batch)
            return
        self._failed_in_a_row += 1
        if self._failed_in_a_row > self._most_failed:
            msg = (
                f"predictors died or hung over {self._failed_in_a_row} groups in a row; no photograph is "
                f"quarantined for it. The last reason: {failure.reason}. Check model, memory and output"
            )
            raise StoppedError(msg)
        batch.attempts += 1
        count = batch.images.num_rows
        if batch.work == "derive" and failure.kind == "error":
            self.underivable += words(batch.images["source_id"])
        elif batch.attempts == 1 and batch.work == "predict":
            self._sift(batch, had_success=False)
        elif batch.attempts < (MOST_ATTEMPTS if count == 1 else MOST_ATTEMPTS - 1):
            self._again.append(batch)
        elif count > 1:
            # Each was sound alone, together they fail again: halves with one attempt each, down to one image.
            half = count // 2
            for part in (batch.slice(0, half), batch.slice(half, count - half)):
                self._again.append(replace(part, attempts=MOST_ATTEMPTS - 1))
        else:
            self._refuse(
                batch, [_doubt(first, failure.reason, transient=failure.transient)], had_success=False
            )

    def _sift(self, batch: Batch, *, had_success: bool) -> None:
        self._to_sift.append((batch, had_success))

    def _start_sifts(self) -> None:
        """One per predictor at most: each takes a process, and all groups of a folder may be in doubt."""
        while self._to_sift and len(self._sifting) < max(1, len(self._slots)):
            batch, had_success = self._to_sift.popleft()
            self._next_id += 1
            until = time.monotonic() + self._timeout + START_SECONDS
            self._sifting[self._next_id] = _Sifting(batch=batch, had_success=had_success, until=until)
            self._executor.sift(group_of(self._next_id, batch))

    def _on_sifted(self, outcome: SiftOutcome) -> None:
        sifting = self._sifting.pop(outcome.group_id, None)
        if sifting is None:
            return  # given up before
        batch = sifting.batch
        if isinstance(outcome.result, Failure):
            if outcome.result.fatal is not None:
                raise outcome.result.fatal
            self._sift_again(sifting, outcome.result.reason)
            return
        sifted = outcome.result
        apart = {doubt.source_id for doubt in sifted.doubts} | set(sifted.left)
        sound = [name for name in words(batch.images["source_id"]) if name not in apart]
        self._refuse(batch, sifted.doubts, had_success=sifting.had_success)
        if sifted.left:
            self._sift(batch.pick(sifted.left), had_success=sifting.had_success)
        if sound:
            batch.attempts = max(batch.attempts, 1)
            self._again.append(batch.pick(sound))

    def _sift_again(self, sifting: _Sifting, reason: str) -> None:
        batch = sifting.batch
        batch.lost += 1
        if batch.lost > SIFTS_LOST_LIMIT:
            msg = f"looking at photographs alone failed {batch.lost} times: {reason}"
            raise StoppedError(msg)
        self._sift(batch, had_success=sifting.had_success)

    def _refuse(self, batch: Batch, doubts: Iterable[Doubt], *, had_success: bool) -> None:
        """Record photographs as quarantined or failed, unless their error turns out to be everybody's."""
        listed = {row["source_id"]: row for row in batch.images.to_pylist()}
        for doubt in doubts:
            row = listed[doubt.source_id]
            record = PhotoRecord(
                status="failed" if doubt.transient else "quarantined",
                source_id=doubt.source_id,
                tag=row["tag"],
                uri=row["uri"],
                attributes=row["attributes"],
                error=doubt.reason,
            )
            single = had_success or doubt.is_no_image
            self._refused += [record] if single else self._streak.add(record)
            self._emit(
                SceneRefused(
                    source_id=record.source_id, reason=record.error, transient=doubt.transient, tiles=0
                )
            )

    def _give_up_late(self) -> None:
        now = time.monotonic()
        # Of a slot's groups the last one assigned stays in the dict, which from behind is the oldest.
        oldest = {flight.slot.id: (key, flight) for key, flight in reversed(self._flights.items())}
        for slot, (key, flight) in oldest.items():
            if now - max(flight.submitted, self._heard_of.get(slot, 0.0)) <= self._timeout:
                continue
            del self._flights[key]
            self._heard_of[slot] = now
            step = self._executor.abandon_group(key)
            self._on_failure(
                flight.batch, late(step, f"no answer within lease_timeout ({self._timeout:.0f} s)")
            )

    def _give_up_late_sifts(self) -> None:
        """One that hangs over a photograph ends by itself; this one gives no sign of life."""
        for key, sifting in list(self._sifting.items()):
            if time.monotonic() > sifting.until:
                del self._sifting[key]
                self._executor.abandon_sift(key)
                self._sift_again(sifting, f"no answer within {self._timeout + START_SECONDS:.0f} s")

    def _commit(self) -> None:
        now = int(time.time())
        rows, self._rows = [_recorded(table, now) for table in self._rows], []
        refused = [replace(self._with_outputs(record), recorded=now) for record in self._refused]
        self._refused = []
        self.refused += refused
        self.tally.quarantined += sum(record.status == "quarantined" for record in refused)
        self.tally.failed += sum(record.status == "failed" for record in refused)
        watch = Stopwatch("driver", profiled=True)
        with watch.step("commit"):
            if rows:
                self._ledger.append_table(pa.concat_tables(rows))
            self._ledger.append(refused)
        if self._profile and (rows or refused):
            count = sum(table.num_rows for table in rows) + len(refused)
            self._emit(Committed(records=count, stint=watch.stint("commit")))
        self._committed_at = time.monotonic()
        self._remove_superseded(rows, refused)

    def _with_outputs(self, record: PhotoRecord) -> PhotoRecord:
        """A failure may pass: what an earlier version left stays until a new one is done."""
        before = self._ledger.source(record.source_id) if record.status == "failed" else None
        if before is None:
            return record
        record = replace(record, outputs=before.outputs, region_count=before.region_count)
        if isinstance(before, PhotoRecord):
            record = replace(record, verdict=before.verdict, rule=before.rule)
        return record

    def _remove_superseded(self, rows: list[pa.Table], refused: list[PhotoRecord]) -> None:
        """Masks of earlier versions that the new ones did not replace by name."""
        if not self._superseded:
            return
        stale: list[str] = []
        for table in rows:
            for name, made in zip(words(table["source_id"]), words(table["outputs"]), strict=True):
                new = {item["path"] for item in made}
                stale += [path for path in self._superseded.get(name, ()) if path not in new]
        for record in refused:
            if record.status == "quarantined":
                stale += self._superseded.get(record.source_id, ())
        with contextlib.suppress(OutputError):
            publish.remove_files([join(self._output, path) for path in stale])

    def _drain(self) -> None:
        """Wait a little for what is under way, then record it."""
        until = time.monotonic() + DRAIN_SECONDS
        while self._flights and time.monotonic() < until:
            with contextlib.suppress(StoppedError):
                self._handle(self._executor.poll(POLL_SECONDS))
        self._refused += self._streak.flush()


def _recorded(rows: pa.Table, now: int) -> pa.Table:
    """Ledger rows, and when they were committed; those that were derived keep when they were made."""
    number = rows.schema.get_field_index("recorded")
    when = pc.if_else(pc.equal(rows["recorded"], 0), now, rows["recorded"])
    return rows.set_column(number, rows.schema.field(number), when)


def _doubt(source_id: str, reason: str, *, transient: bool) -> Doubt:
    return Doubt(source_id=source_id, reason=reason, transient=transient)

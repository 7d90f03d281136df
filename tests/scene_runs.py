"""A loop over scenes with an executor that only answers, and what it should answer."""

import dataclasses
import random
import time
from collections import Counter

import pytest
from factories import make_facts, make_product, make_recipe, make_scene, make_shard_record, make_source
from hypothesis import settings
from hypothesis import strategies as st
from strategies import sizes

from batchseg.driver.plan import SceneJob, shard_bytes
from batchseg.driver.scene_loop import SceneLoop
from batchseg.driver.scene_worker import LeaseResult
from batchseg.driver.tasks import (
    Failure,
    FinishOutcome,
    FinishTask,
    LeaseOutcome,
    LotOutcome,
    LotTask,
    Slot,
    SlotsChanged,
    id_of,
)
from batchseg.errors import StoppedError
from batchseg.output.ledger import Ledger
from batchseg.output.record import SceneRecord, ShardRecord
from batchseg.pixels.fit import tile_grid
from batchseg.pixels.grid import ShardGrid

properties = settings(deadline=None, max_examples=20)


SILENCE = "no answer"


PLENTY = 2**30


def failure(kind="error", step="read", **changes) -> Failure:
    return Failure(kind=kind, step=step, reason="block 7 is broken", **changes)


class FakeExecutor:
    """Steps that do nothing, in memory, and what they would answer.

    `answer(lease, isolation, times)` gives a Failure, SILENCE, or None for success; `times` counts the
    submissions of the lease's first shard, this one included. Outcomes come one at a time and in any order.
    """

    def __init__(self, output, recipe, answer=lambda *_: None, finish_answer=lambda *_: None, seed=None):
        self.output, self.recipe = output, recipe
        self.answer, self.finish_answer = answer, finish_answer
        self.random = random.Random(seed) if seed is not None else None
        self.submissions, self.abandoned, self.finished = [], [], []
        self.waiting, self.in_flight, self.lots, self.polls = [], {}, [], 0
        self.lot_answer = lambda task: None
        """A Failure of a whole lot."""
        self.most_bytes = 0
        self.hangs_in = "predict"
        self.finishes_leases = False
        self.withdrawn = []
        """Whether it finishes scenes in the leases that hold all of them, as real ones do."""

    def submit(self, task):
        if isinstance(task, FinishTask):
            self.finish(task)
        elif isinstance(task, LotTask):
            self.lots.append(task)
            self.in_flight[task.id] = max(self.bytes_of(lease) for lease in task.leases)
            answers = tuple(self.answered(lease, task.slot, "none") for lease in task.leases)
            if SILENCE not in answers:
                self.waiting.append(LotOutcome(lot_id=task.id, result=self.lot_answer(task) or answers))
        else:
            self.in_flight[task.lease.id] = self.bytes_of(task.lease)
            if (answer := self.answered(task.lease, task.slot, task.isolation)) != SILENCE:
                self.waiting.append(LeaseOutcome(lease_id=task.lease.id, result=answer))
        self.most_bytes = max(self.most_bytes, sum(self.in_flight.values()))

    def bytes_of(self, lease):
        return sum(shard_bytes(s.read, lease.scene, self.recipe) for s in lease.shards)

    def answered(self, lease, slot, isolation):
        self.submissions.append((lease, slot, isolation))
        times = sum(lease.shards[0] in other.shards for other, _, _ in self.submissions_of(lease.scene))
        answer = self.answer(lease, isolation, times)
        if answer is None:
            records = [
                make_shard_record(lease.scene, self.recipe, shard, lease.grid, cpu_class=lease.cpu_class)
                for shard in lease.shards
            ]
            answer = LeaseResult(
                records=records,
                read_seconds=0.1,
                predict_seconds=0.1,
                stitch_seconds=0.1,
                write_seconds=0.1,
                pixel_bytes=1,
                done=done(lease.scene.source) if lease.is_whole and self.finishes_leases else None,
            )
        return answer

    def submissions_of(self, scene):
        return [entry for entry in self.submissions if entry[0].scene == scene]

    def finish(self, task):
        scene = task.scene
        recorded = Ledger(self.output)
        self.finished.append((task, recorded.shards(scene.source.source_id)))
        answer = self.finish_answer(task, len(self.finished))
        record = SceneRecord(
            status="done",
            source_id=scene.source.source_id,
            tag=scene.source.tag,
            height=scene.height,
            width=scene.width,
        )
        result = answer or (record, 0.1)
        if answer != SILENCE:
            self.waiting.append(FinishOutcome(source_id=scene.source.source_id, result=result))

    def abandon(self, task):
        if isinstance(task, FinishTask):
            self.abandoned.append(task.scene.source.source_id)
            return "finish"
        return self.abandon_lease(id_of(task))

    def withdraw(self, task):
        """What hangs goes on so; else its outcome comes."""
        self.withdrawn.append(task.lease.id)

    def abandon_lease(self, lease_id):
        self.abandoned.append(lease_id)
        self.in_flight.pop(lease_id)
        self.waiting = [o for o in self.waiting if id_of_outcome(o) != lease_id]
        return self.hangs_in

    def poll(self, timeout):
        self.polls += 1
        if not self.waiting:
            return []
        at = self.random.randrange(len(self.waiting)) if self.random else 0
        outcome = self.waiting.pop(at)
        self.in_flight.pop(id_of_outcome(outcome), None)
        return [outcome]

    def shards(self, isolation=None) -> Counter:
        """How often each shard was submitted."""
        return Counter(
            (lease.scene.source.source_id, shard.core)
            for lease, _, how in self.submissions
            for shard in lease.shards
            if isolation in (None, how)
        )


def id_of_outcome(outcome):
    return getattr(outcome, "lease_id", getattr(outcome, "lot_id", None))


class Run:
    """A loop with a fake executor and a real ledger."""

    def __init__(self, folder, jobs, **changes):
        self.output, self.jobs, self.events = str(folder), jobs, []
        # Predicted by the fake in no time, so that leases are cut by the shares of a second.
        self.recipe = make_recipe(facts=make_facts(seconds_per_tile=0.1))
        fake = {key: changes.pop(key) for key in ("answer", "finish_answer", "seed") if key in changes}
        self.executor = FakeExecutor(self.output, self.recipe, **fake)
        self.ledger = Ledger(self.output)
        self.until = time.monotonic() + 60
        arguments = {
            "slots": [Slot(id=0, cpu_class="avx2"), Slot(id=1, cpu_class="avx2")],
            "in_flight_bytes": PLENTY,
            "lease_timeout": 60.0,
            "stop_after": 3,
            "stop": lambda: None,
        }
        arguments |= changes
        asked = arguments["stop"]
        arguments["stop"] = lambda: asked() or ("hung" if time.monotonic() > self.until else None)
        self.loop = SceneLoop(
            output=self.output,
            recipe=self.recipe,
            ledger=self.ledger,
            executor=self.executor,
            emit=self.events.append,
            epoch=1,
            **arguments,
        )

    def go(self) -> "Run":
        self.loop.run(self.jobs)
        return self

    def stopped(self, match) -> "Run":
        with pytest.raises(StoppedError, match=match):
            self.go()
        return self

    def statuses(self) -> dict[str, str]:
        return {record.source_id: record.status for record in Ledger(self.output).sources()}

    def events_of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]


def job(name="a.tif", height=27, width=43, tiles_hw=(1, 2), committed=()) -> SceneJob:
    scene = make_scene(height, width, source=make_source(name))
    grid = ShardGrid(tiles=tile_grid(make_recipe(), height, width), tiles_hw=tiles_hw)
    return SceneJob(scene=scene, grid=grid, committed=tuple(committed), encoded=None)


def record_of(some_job, index, **changes) -> ShardRecord:
    recipe = make_recipe(facts=make_facts(seconds_per_tile=0.1))
    return make_shard_record(
        some_job.scene, recipe, some_job.grid.shard(index), some_job.grid_name, **changes
    )


def first_time(*failures):
    """Answers that fail each shard's first submissions."""
    return lambda lease, isolation, times: failures[times - 1] if times <= len(failures) else None


some_jobs = st.lists(
    st.tuples(sizes(most=60), st.tuples(st.integers(1, 3), st.integers(1, 3))), min_size=1, max_size=4
).map(lambda drawn: [job(f"{n}.tif", *size, tiles_hw) for n, (size, tiles_hw) in enumerate(drawn)])


slots = st.integers(1, 3).map(lambda count: [Slot(id=n, cpu_class="avx2") for n in range(count)])


bounds = st.sampled_from([1, 2_000, 5_000, 50_000, PLENTY])


def bound_for(jobs, asked) -> int:
    recipe = make_recipe()
    return max([asked, *(shard_bytes(s.read, j.scene, recipe) for j in jobs for s in j.grid)])


MIXED = [Slot(id=0, cpu_class="avx2"), Slot(id=1, cpu_class="avx512")]


AVX2 = [Slot(id=number, cpu_class="avx2") for number in range(3)]


def hosts_change(run, changes):
    """Slots by the number of leases submitted before; the work of those that went comes back as lost."""
    poll, told = run.executor.poll, []

    def poll_hosts(timeout):
        due = [slots for count, slots in changes.items() if len(run.executor.submissions) >= count]
        if len(due) == len(told):
            return poll(timeout)
        told.append(None)
        slots = due[len(told) - 1]
        ids = {slot.id for slot in slots}
        gone = {lease.id for lease, slot, _ in run.executor.submissions if slot.id not in ids}
        gone &= set(run.executor.in_flight)
        for lease_id in gone:
            run.executor.abandon_lease(lease_id)
        lots, why = {task.id for task in run.executor.lots}, failure("lost", "predict")
        lost = [
            LotOutcome(lot_id=n, result=why) if n in lots else LeaseOutcome(lease_id=n, result=why)
            for n in sorted(gone)
        ]
        return [*lost, SlotsChanged(slots=tuple(slots))]

    run.executor.poll = poll_hosts
    return run


class Brief(FakeExecutor):
    """Answers one lease or finish after the other, and looks at nothing."""

    def submissions_of(self, scene):
        return []

    def finish(self, task):
        source = task.scene.source
        record = SceneRecord(status="done", source_id=source.source_id, tag=source.tag)
        self.waiting.append(FinishOutcome(source_id=source.source_id, result=(record, 0.1)))


PIXEL, PRODUCT = make_recipe().digest, make_product().digest


def done(source, **changes) -> SceneRecord:
    record = SceneRecord(
        status="done",
        source_id=source.source_id,
        tag=source.tag,
        pixel=PIXEL,
        product=PRODUCT,
        cpu_class="avx2",
        grid="1x2",
        height=27,
        width=43,
    )
    return dataclasses.replace(record, **changes)

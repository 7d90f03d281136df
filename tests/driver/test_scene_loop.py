import dataclasses
import itertools
import random
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from factories import make_facts, make_recipe, make_scene, make_shard_record, make_source
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import sizes

from batchseg.driver import in_flight, scene_queue
from batchseg.driver import scene_loop as driver_module
from batchseg.driver.commit import Streak
from batchseg.driver.events import Retried, SceneDone, SceneRefused, ShardsDone
from batchseg.driver.plan import SceneJob, shard_bytes
from batchseg.driver.scene_loop import Driver
from batchseg.driver.scene_worker import LeaseResult
from batchseg.driver.tasks import Failure, FinishOutcome, LeaseOutcome, Slot, SlotsChanged
from batchseg.errors import ModelError, OutputError, StoppedError
from batchseg.output.fragments import fragment_folder
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
        self.waiting, self.in_flight = [], {}
        self.most_bytes = 0
        self.hangs_in = "predict"

    def submit(self, lease, slot, isolation):
        self.submissions.append((lease, slot, isolation))
        self.in_flight[lease.id] = sum(shard_bytes(s.read, lease.scene, self.recipe) for s in lease.shards)
        self.most_bytes = max(self.most_bytes, sum(self.in_flight.values()))
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
            )
        if answer != SILENCE:
            self.waiting.append(LeaseOutcome(lease_id=lease.id, result=answer))

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

    def abandon(self, lease_id):
        self.abandoned.append(lease_id)
        self.in_flight.pop(lease_id)
        self.waiting = [o for o in self.waiting if getattr(o, "lease_id", None) != lease_id]
        return self.hangs_in

    def abandon_finish(self, source_id):
        self.abandoned.append(source_id)

    def poll(self, timeout):
        if not self.waiting:
            return []
        at = self.random.randrange(len(self.waiting)) if self.random else 0
        outcome = self.waiting.pop(at)
        if isinstance(outcome, LeaseOutcome):
            self.in_flight.pop(outcome.lease_id, None)
        return [outcome]

    def shards(self, isolation=None) -> Counter:
        """How often each shard was submitted."""
        return Counter(
            (lease.scene.source.source_id, shard.core)
            for lease, _, how in self.submissions
            for shard in lease.shards
            if isolation in (None, how)
        )


class Run:
    """A driver with a fake executor and a real ledger."""

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
        self.driver = Driver(
            output=self.output,
            recipe=self.recipe,
            ledger=self.ledger,
            executor=self.executor,
            emit=self.events.append,
            epoch=1,
            **arguments,
        )

    def go(self) -> "Run":
        self.driver.run(self.jobs)
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


@properties
@given(some_jobs, slots, bounds, st.integers(0, 10**6))
def test_all_goes_well(tmp_path_factory, jobs, slots, asked, seed):
    """Each shard once, memory bounded, and a scene finished only of shards that are on the disk."""
    bound = bound_for(jobs, asked)
    run = Run(tmp_path_factory.mktemp("out"), jobs, slots=slots, in_flight_bytes=bound, seed=seed).go()
    everything = {(j.scene.source.source_id, s.core) for j in jobs for s in j.grid}
    assert run.executor.shards() == Counter(everything)
    assert run.executor.most_bytes <= bound
    assert set(run.statuses().values()) == {"done"}
    assert len(run.executor.finished) == len(jobs) == run.driver.tally.done
    for task, recorded in run.executor.finished:
        assert list(task.shards) == recorded
    assert run.driver.tally.shards == len(everything)
    assert len(run.events_of(SceneDone)) == len(jobs)
    assert sum(event.shards for event in run.events_of(ShardsDone)) == len(everything)


FIRST_FAILURES = st.sampled_from(
    [
        None,
        failure(),
        failure(transient=True),
        failure(step="predict"),
        failure("crash"),
        failure("crash", "predict"),
        failure("lost", "predict"),
        failure(step="write"),
    ]
)


@properties
@given(some_jobs, slots, bounds, st.lists(FIRST_FAILURES, min_size=8, max_size=8), st.integers(0, 10**6))
def test_failures_that_do_not_recur_count_against_nobody(
    tmp_path_factory, jobs, slots, asked, failures, seed
):
    def answer(lease, isolation, times):
        return failures[lease.id % len(failures)] if times == 1 else None

    bound = bound_for(jobs, asked)
    changes = {"slots": slots, "in_flight_bytes": bound, "seed": seed, "answer": answer}
    run = Run(tmp_path_factory.mktemp("out"), jobs, **changes).go()
    assert set(run.statuses().values()) == {"done"}
    assert run.executor.most_bytes <= bound
    assert max(run.executor.shards().values()) <= 2
    for task, recorded in run.executor.finished:
        assert list(task.shards) == recorded
    assert run.events_of(SceneRefused) == []


@pytest.mark.parametrize(
    ("first", "isolation"),
    [
        (failure(), "read"),
        (failure("crash", "read"), "read"),
        (failure("error", "predict"), "predict"),
        (failure("crash", "predict"), "predict"),
    ],
)
def test_a_failure_is_tried_again_alone(tmp_path, first, isolation):
    run = Run(tmp_path, [job()], answer=first_time(first)).go()
    retried = run.executor.shards(isolation)
    assert retried == Counter(dict.fromkeys(run.executor.shards(), 1))
    assert run.driver.tally.repeated == run.jobs[0].grid.tiles.count
    assert len(run.events_of(Retried)) > 0


@pytest.mark.parametrize(
    ("last", "status"), [(failure(), "quarantined"), (failure(transient=True), "failed")]
)
@pytest.mark.parametrize("first", [failure(), failure("crash", "read")])
def test_a_failure_that_recurs_alone_refuses_the_source_and_no_other(tmp_path, first, last, status):
    def answer(lease, isolation, times):
        if lease.scene.source.source_id == "b.tif":
            return last if isolation == "read" else first
        return None

    run = Run(tmp_path, [job("a.tif"), job("b.tif"), job("c.tif")], answer=answer).go()
    assert run.statuses() == {"a.tif": "done", "b.tif": status, "c.tif": "done"}
    assert Ledger(run.output).source("b.tif").error == last.reason
    (event,) = run.events_of(SceneRefused)
    assert (event.source_id, event.transient) == ("b.tif", status == "failed")
    assert (run.driver.tally.quarantined, run.driver.tally.failed) == (status != "failed", status == "failed")


def test_a_refused_scene_gets_no_more_work(tmp_path):
    big = job(height=200, width=300, tiles_hw=(1, 1))
    run = Run(tmp_path, [big], answer=lambda *_: failure()).go()
    assert run.statuses() == {"a.tif": "quarantined"}
    assert sum(run.executor.shards().values()) < big.grid.count
    assert run.executor.finished == []


def test_the_tiles_that_a_refusal_leaves_out_are_told(tmp_path):
    some_job = job(height=27, width=143, tiles_hw=(1, 1))

    def answer(lease, isolation, times):
        return failure() if some_job.grid.shard(0) in lease.shards else None

    run = Run(tmp_path, [some_job], answer=answer).go()
    done = sum(event.tiles for event in run.events_of(ShardsDone))
    (refused,) = run.events_of(SceneRefused)
    submitted = {shard.core for lease, _, _ in run.executor.submissions for shard in lease.shards}
    assert done + refused.tiles <= some_job.grid.tiles.count
    assert refused.tiles >= some_job.grid.tiles.count - len(submitted)


@pytest.mark.parametrize(("deaths", "status"), [(5, "done"), (6, "quarantined")])
def test_predictors_that_are_killed_over_a_lease_count_against_nobody(tmp_path, deaths, status):
    run = Run(tmp_path, [job()], answer=first_time(*[failure("crash", "predict")] * deaths)).go()
    assert run.statuses() == {"a.tif": status}
    alone = run.executor.shards("predict")
    assert set(alone.values()) == {5}


def test_a_failure_of_another_step_is_tried_alone_too(tmp_path):
    def answer(lease, isolation, times):
        return {"none": failure(), "read": failure("crash", "predict"), "predict": None}[isolation]

    assert Run(tmp_path, [job()], answer=answer).go().statuses() == {"a.tif": "done"}


@pytest.mark.parametrize("lost", [failure("lost", "read"), failure("lost", "predict"), failure(step="write")])
def test_lost_work_is_sent_again_and_never_counts(tmp_path, lost):
    run = Run(tmp_path, [job(tiles_hw=(3, 5))], answer=first_time(*[lost] * 10)).go()
    assert run.statuses() == {"a.tif": "done"}
    assert set(run.executor.shards().values()) == {11}
    assert run.executor.shards() == run.executor.shards("none")


def test_work_lost_in_isolation_is_sent_again_in_isolation(tmp_path):
    run = Run(tmp_path, [job()], answer=first_time(failure(), failure("lost"), failure("lost"))).go()
    assert run.statuses() == {"a.tif": "done"}
    assert set(run.executor.shards("read").values()) == {3}


def test_an_environment_that_loses_all_work_ends_the_run(tmp_path):
    run = Run(tmp_path, [job()], answer=lambda *_: failure("lost")).stopped("was lost 21 times")
    assert run.statuses() == {}


def test_a_lease_without_answer_is_given_up_and_tried_alone(tmp_path):
    run = Run(tmp_path, [job(tiles_hw=(3, 5))], answer=first_time(SILENCE), lease_timeout=0.05).go()
    assert run.executor.abandoned == [0]
    assert [isolation for _, _, isolation in run.executor.submissions] == ["none", "predict"]
    assert run.statuses() == {"a.tif": "done"}


def test_a_lease_that_never_answers_refuses_its_source(tmp_path):
    jobs = [job("a.tif", tiles_hw=(3, 5)), job("b.tif", tiles_hw=(3, 5))]
    run = Run(
        tmp_path,
        jobs,
        answer=lambda lease, *_: SILENCE if lease.scene == jobs[0].scene else None,
        lease_timeout=0.05,
    ).go()
    assert run.statuses() == {"a.tif": "quarantined", "b.tif": "done"}
    assert "lease_timeout" in Ledger(run.output).source("a.tif").error
    assert len(run.executor.abandoned) == 2


def test_waiting_behind_other_leases_counts_against_nobody(tmp_path):
    one_slot = [Slot(id=0, cpu_class="avx2")]
    run = Run(tmp_path, [job(tiles_hw=(3, 2))], slots=one_slot, lease_timeout=0.05)
    poll = run.executor.poll

    def work_on_one(timeout):
        time.sleep(0.06)
        return poll(timeout)

    run.executor.poll = work_on_one
    assert run.go().statuses() == {"a.tif": "done"}


def test_a_late_answer_of_a_lease_given_up_is_dropped(tmp_path):
    run = Run(tmp_path, [job(tiles_hw=(3, 5))], answer=first_time(SILENCE), lease_timeout=0.05)
    abandon = run.executor.abandon

    def answer_late(lease_id):
        abandon(lease_id)
        run.executor.waiting.append(LeaseOutcome(lease_id=lease_id, result=failure()))

    run.executor.abandon = answer_late
    run.go()
    assert run.statuses() == {"a.tif": "done"}
    assert run.driver.tally.shards == run.jobs[0].grid.count


def test_one_error_on_source_after_source_ends_the_run_and_quarantines_none(tmp_path):
    jobs = [job(f"{n}.tif", tiles_hw=(3, 5)) for n in range(8)]
    run = Run(tmp_path, jobs, answer=lambda *_: failure()).stopped("3 sources in a row failed alike")
    assert run.statuses() == {}


def test_what_is_done_in_between_ends_a_row_of_errors(tmp_path):
    jobs = [job(f"{n}.tif", tiles_hw=(3, 5)) for n in range(8)]

    def answer(lease, isolation, times):
        return failure() if int(lease.scene.source.source_id[0]) % 2 else None

    one_slot = [Slot(id=0, cpu_class="avx2")]
    run = Run(tmp_path, jobs, answer=answer, slots=one_slot, stop_after=4).go()
    assert Counter(run.statuses().values()) == {"done": 4, "quarantined": 4}


def test_known_faults_of_content_are_recorded_however_many_there_are(tmp_path):
    run = Run(tmp_path, [job()])
    for number in range(9):
        record = SceneRecord(
            status="quarantined", source_id=f"bad-{number}.tif", tag="t", error="the file is empty"
        )
        run.driver._refuse(record, content=True)
    run.go()
    assert Counter(run.statuses().values()) == {"quarantined": 9, "done": 1}


def test_a_reason_to_stop_drains_records_and_ends_the_run(tmp_path):
    answered = []
    some_job = job(height=200, width=300, tiles_hw=(1, 1))
    run = Run(tmp_path, [some_job], answer=lambda lease, *_: answered.append(lease))
    run.driver._stop = lambda: "stopped by SIGTERM" if len(run.events_of(ShardsDone)) >= 3 else None
    run.stopped("stopped by SIGTERM")
    recorded = {record.window for record in Ledger(run.output).shards("a.tif")}
    assert recorded == {shard.core for lease in answered for shard in lease.shards}
    assert 3 < len(recorded) < some_job.grid.count
    assert run.executor.in_flight == {}


def test_what_is_drained_is_counted_like_the_rest(tmp_path):
    run = Run(tmp_path, [job(height=200, width=300, tiles_hw=(1, 1))])
    run.driver._stop = lambda: "stopped" if run.events_of(ShardsDone) else None
    run.stopped("stopped")
    recorded = Ledger(run.output).shards("a.tif")
    assert run.driver.tally.shards == len(recorded)
    assert sum(event.shards for event in run.events_of(ShardsDone)) == len(recorded)


def test_draining_does_not_wait_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(driver_module, "DRAIN_SECONDS", 0.05)
    run = Run(tmp_path, [job()], answer=lambda *_: SILENCE)
    run.driver._stop = lambda: "stopped" if run.executor.submissions else None
    started = time.monotonic()
    run.stopped("stopped")
    assert time.monotonic() - started < 2


def test_a_stopped_run_goes_on_where_it_was(tmp_path):
    some_job = job(height=200, width=300, tiles_hw=(1, 1))
    first = Run(tmp_path, [some_job])
    first.driver._stop = lambda: "stopped" if len(first.events_of(ShardsDone)) >= 3 else None
    first.stopped("stopped")
    committed = tuple(Ledger(first.output).shards("a.tif"))
    second = Run(tmp_path, [dataclasses.replace(some_job, committed=committed)]).go()
    assert second.statuses() == {"a.tif": "done"}
    both = first.executor.shards() + second.executor.shards()
    assert both == Counter(("a.tif", shard.core) for shard in some_job.grid)


def test_a_scene_finished_while_draining_leaves_no_fragments(tmp_path):
    jobs = [job("a.tif", tiles_hw=(3, 5)), job("b.tif", tiles_hw=(3, 5))]
    recipe = make_recipe()
    fragments = Path(fragment_folder(str(tmp_path), "a.tif", "t", recipe.digest, "3x5", "avx2"))
    fragments.mkdir(parents=True)
    run = Run(tmp_path, jobs, slots=[Slot(id=0, cpu_class="avx2")])
    poll = run.executor.poll

    def finish_first(timeout):
        run.executor.waiting.sort(key=lambda outcome: not isinstance(outcome, FinishOutcome))
        return poll(timeout)

    run.executor.poll = finish_first
    run.driver._stop = lambda: "stopped" if run.executor.finished else None
    run.stopped("stopped")
    assert fragments.parent.exists() == (run.statuses().get("a.tif") != "done")


@pytest.mark.parametrize("error", [ModelError("no such class"), OutputError("disk full")])
def test_a_fatal_error_ends_the_run_and_what_was_done_is_recorded(tmp_path, error):
    def answer(lease, isolation, times):
        return failure(step="predict", fatal=error) if lease.id == 2 else None

    run = Run(tmp_path, [job(height=200, width=300, tiles_hw=(1, 1))], answer=answer)
    with pytest.raises(type(error), match=str(error)):
        run.go()
    assert len(Ledger(run.output).shards("a.tif")) == run.driver.tally.shards > 0
    assert run.statuses() == {}


def test_what_came_with_a_fatal_error_is_recorded_too(tmp_path):
    fatal = failure(step="predict", fatal=ModelError("no such class"))
    run = Run(tmp_path, [job()], answer=lambda lease, *_: fatal if lease.id == 0 else None)

    def poll_all(timeout):
        outcomes, run.executor.waiting = run.executor.waiting, []
        return outcomes

    run.executor.poll = poll_all
    with pytest.raises(ModelError):
        run.go()
    answered = sum(len(lease.shards) for lease, _, _ in run.executor.submissions if lease.id != 0)
    assert len(Ledger(run.output).shards("a.tif")) == answered > 0


def test_a_failed_finish_is_done_again(tmp_path):
    def finish_answer(task, times):
        return failure("lost", "finish") if times <= 2 else None

    run = Run(tmp_path, [job()], finish_answer=finish_answer).go()
    assert run.statuses() == {"a.tif": "done"}
    assert len(run.executor.finished) == 3
    assert max(run.executor.shards().values()) == 1


def test_a_finish_that_is_always_lost_ends_the_run(tmp_path):
    run = Run(tmp_path, [job()], finish_answer=lambda *_: failure("lost", "finish"))
    run.stopped(r"finishing a\.tif failed")
    assert len(Ledger(run.output).shards("a.tif")) == run.jobs[0].grid.count


@pytest.mark.parametrize("answer", [failure("crash", "finish"), SILENCE])
def test_a_finish_that_always_crashes_or_hangs_is_left_to_the_next_run(tmp_path, answer):
    """The other scene is done, and what was predicted of this one is kept."""
    jobs = [job("a.tif"), job("b.tif")]
    run = Run(
        tmp_path,
        jobs,
        finish_answer=lambda task, _: answer if task.scene == jobs[0].scene else None,
        lease_timeout=0.05,
    ).go()
    assert run.statuses() == {"a.tif": "failed", "b.tif": "done"}
    again = Ledger(run.output)
    times = 3 if answer is SILENCE else 6
    assert f"finishing it failed {times} times" in again.source("a.tif").error
    assert len(again.shards("a.tif")) == jobs[0].grid.count


def test_an_output_that_never_answers_ends_the_run_and_blames_nobody(tmp_path):
    jobs = [job(f"{n}.tif") for n in range(6)]
    run = Run(tmp_path, jobs, finish_answer=lambda *_: SILENCE, lease_timeout=0.05)
    run.stopped("the output does not answer: 4 steps in a row")
    assert run.statuses() == {}


def test_writes_that_never_answer_end_the_run_and_blame_nobody(tmp_path):
    run = Run(tmp_path, [job()], answer=lambda *_: SILENCE, lease_timeout=0.05)
    run.executor.hangs_in = "write"
    run.stopped("the output does not answer: 4 steps in a row")
    assert run.statuses() == {}


def test_memory_that_runs_out_over_one_source_is_looked_at_alone(tmp_path):
    def answer(lease, isolation, times):
        if lease.scene != jobs[0].scene:
            return None
        return failure("lost", memory=True) if isolation == "none" else failure("crash")

    jobs = [job("a.tif", tiles_hw=(3, 5)), job("b.tif", tiles_hw=(3, 5))]
    run = Run(tmp_path, jobs, answer=answer).go()
    assert run.statuses() == {"a.tif": "quarantined", "b.tif": "done"}
    assert len(run.executor.submissions_of(jobs[0].scene)) == 4


def test_a_predictor_of_its_own_is_late_whatever_the_others_do(tmp_path):
    """Others that answer all the while are no sign of life of the one that is looked at alone."""

    def answer(lease, isolation, times):
        if lease.scene != jobs[0].scene:
            return None
        return failure("crash", "predict") if isolation == "none" else SILENCE

    jobs = [job("a.tif", tiles_hw=(3, 5)), job("b.tif", height=300, width=400, tiles_hw=(1, 1))]
    run = Run(tmp_path, jobs, answer=answer, slots=[Slot(id=0, cpu_class="avx2")], lease_timeout=0.05)
    poll = run.executor.poll

    def slowly(timeout):
        time.sleep(0.01)
        return poll(timeout)

    run.executor.poll = slowly
    run.go()
    assert run.statuses() == {"a.tif": "quarantined", "b.tif": "done"}
    refused = next(n for n, event in enumerate(run.events) if isinstance(event, SceneRefused))
    assert any(isinstance(event, ShardsDone) for event in run.events[refused:])


def test_a_scene_whose_shards_are_all_committed_is_only_finished(tmp_path):
    plain = job()
    records = [record_of(plain, n) for n in range(plain.grid.count)]
    Ledger(str(tmp_path)).append(records)
    run = Run(tmp_path, [dataclasses.replace(plain, committed=tuple(reversed(records)))]).go()
    assert run.executor.submissions == []
    ((task, _),) = run.executor.finished
    assert list(task.shards) == sorted(records, key=lambda record: record.window)
    assert run.statuses() == {"a.tif": "done"}


def test_a_scene_to_be_encoded_again_is_only_finished(tmp_path):
    done = SceneRecord(status="done", source_id="a.tif", tag="tag-1", height=27, width=43)
    run = Run(tmp_path, [dataclasses.replace(job(), encoded=done)]).go()
    assert run.executor.submissions == []
    assert [task.shards for task, _ in run.executor.finished] == [(done,)]


MIXED = [Slot(id=0, cpu_class="avx2"), Slot(id=1, cpu_class="avx512")]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("fail", [False, True], ids=["well", "retried"])
@pytest.mark.parametrize("slots", [MIXED, MIXED[::-1]], ids=["first", "last"])
def test_a_scene_is_predicted_by_one_class_of_cpu(tmp_path, slots, fail, seed):
    jobs = [job(f"{n}.tif", 57, 143, (1, 1)) for n in range(3)]

    def answer(lease, isolation, times):
        return failure("lost", "predict") if fail and lease.id % 7 == 0 else None

    run = Run(tmp_path, jobs, slots=slots, seed=seed, answer=answer)
    run.until = time.monotonic() + 60
    run.go()
    for some_job in jobs:
        assert len({lease.cpu_class for lease, _, _ in run.executor.submissions_of(some_job.scene)}) == 1
    for task, recorded in run.executor.finished:
        assert list(task.shards) == recorded
    assert all(lease.cpu_class == slot.cpu_class for lease, slot, _ in run.executor.submissions)


@pytest.mark.parametrize("slots", [MIXED, MIXED[::-1]], ids=["first", "last"])
def test_a_resumed_scene_waits_for_no_slot_of_another_class(tmp_path, slots):
    plain = job(tiles_hw=(1, 1))
    record = record_of(plain, 0, cpu_class="avx2")
    Ledger(str(tmp_path)).append([record])
    run = Run(tmp_path, [dataclasses.replace(plain, committed=(record,))], slots=slots)
    run.until = time.monotonic() + 60
    assert run.go().statuses() == {"a.tif": "done"}


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
            run.executor.abandon(lease_id)
        lost = [LeaseOutcome(lease_id=n, result=failure("lost", "predict")) for n in sorted(gone)]
        return [*lost, SlotsChanged(slots=tuple(slots))]

    run.executor.poll = poll_hosts
    return run


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_hosts_that_come_are_used_and_those_that_go_cost_their_leases_only(tmp_path, seed):
    jobs = [job(f"{n}.tif", 100, 200, (1, 1)) for n in range(2)]
    run = Run(tmp_path, jobs, slots=AVX2[:2], seed=seed)
    hosts_change(run, {10: AVX2[1:], 20: AVX2[:1]}).go()
    assert set(run.statuses().values()) == {"done"}
    slots_used = [slot.id for _, slot, _ in run.executor.submissions]
    assert set(slots_used[:10]) == {0, 1}
    assert set(slots_used[12:20]) == {1, 2}
    assert set(slots_used[22:]) == {0}
    repeated = sum(count - 1 for count in run.executor.shards("none").values())
    assert 0 < repeated <= sum(len(run.executor.submissions[n][0].shards) for n in run.executor.abandoned)


def test_a_run_without_any_predictor_waits_for_one(tmp_path):
    run = Run(tmp_path, [job(height=200, width=300, tiles_hw=(1, 1))], slots=AVX2[:1])
    waits = iter(range(20))
    hosts_change(run, {5: []})
    poll = run.executor.poll

    def poll_until_one_comes(timeout):
        if not run.driver._flights.slots and next(waits) == 19:
            return [SlotsChanged(slots=(AVX2[2],))]
        return poll(timeout)

    run.executor.poll = poll_until_one_comes
    assert run.go().statuses() == {"a.tif": "done"}


def test_a_lease_whose_host_gives_no_answer_is_lost_and_counts_against_nobody(tmp_path):
    run = Run(tmp_path, [job(tiles_hw=(3, 5))], answer=first_time(*[SILENCE] * 4), lease_timeout=0.02)
    abandon = run.executor.abandon
    run.executor.abandon = lambda lease_id: abandon(lease_id) and "lost"
    assert run.go().statuses() == {"a.tif": "done"}
    assert {isolation for _, _, isolation in run.executor.submissions} == {"none"}
    assert len(run.executor.abandoned) == 4


def test_late_leases_of_a_slot_that_is_gone_are_given_up(tmp_path):
    run = Run(tmp_path, [job()], answer=first_time(SILENCE), slots=AVX2[:1], lease_timeout=0.02)
    poll, told = run.executor.poll, iter([[SlotsChanged(slots=(AVX2[1],))]])
    run.executor.poll = lambda timeout: next(told, None) or poll(timeout)
    assert run.go().statuses() == {"a.tif": "done"}


@pytest.mark.parametrize("lost", [False, True])
def test_a_scene_whose_class_of_cpu_is_gone_begins_again_on_another(tmp_path, monkeypatch, lost):
    monkeypatch.setattr(driver_module, "CLASS_SECONDS", 0.05)
    some_job = job(height=100, width=200, tiles_hw=(1, 1))
    record = record_of(some_job, 0, cpu_class="avx2")
    resumed = dataclasses.replace(some_job, committed=(record,))
    answer = first_time(failure("lost", "predict")) if lost else lambda *_: None
    run = Run(tmp_path, [resumed], slots=MIXED[:1], answer=answer)
    hosts_change(run, {4: MIXED[1:]}).go()
    assert run.statuses() == {"a.tif": "done"}
    ((task, _),) = run.executor.finished
    assert {shard.cpu_class for shard in task.shards} == {"avx512"}
    assert len(task.shards) == some_job.grid.count
    assert run.executor.shards()["a.tif", record.window] >= 1


class Brief(FakeExecutor):
    """Answers one lease or finish after the other, and looks at nothing."""

    def submissions_of(self, scene):
        return []

    def finish(self, task):
        source = task.scene.source
        record = SceneRecord(status="done", source_id=source.source_id, tag=source.tag)
        self.waiting.append(FinishOutcome(source_id=source.source_id, result=(record, 0.1)))


def lines_per_lease(folder, count) -> float:
    """Lines of the modules that a driver is made of which run per lease, with so many predictors."""
    jobs = [job(f"{number}.tif") for number in range(4 * count)]
    slots = [Slot(id=number, cpu_class="avx2") for number in range(count)]
    ticks = itertools.count(0, 1e-4)
    run = Run(folder, jobs, slots=slots, clock=lambda: next(ticks))
    run.executor.__class__ = Brief
    names = {module.__file__ for module in (driver_module, scene_queue, in_flight)}
    lines = 0

    def trace(frame, event, argument):
        nonlocal lines
        lines += event == "line"
        return trace if frame.f_code.co_filename in names else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run.go()
    finally:
        sys.settrace(before)
    assert set(run.statuses().values()) == {"done"}
    return lines / len(run.executor.submissions)


def test_what_a_lease_costs_does_not_grow_with_the_number_of_predictors(tmp_path):
    assert lines_per_lease(tmp_path / "many", 160) < 1.3 * lines_per_lease(tmp_path / "few", 10)


@pytest.mark.parametrize(("count", "seconds"), [(2, 2.0), (128, 4.0)])
def test_leases_are_longer_in_large_fleets(tmp_path, monkeypatch, count, seconds):
    """Though most scenes wait, and nobody began them."""
    monkeypatch.setattr(driver_module, "DRAIN_SECONDS", 0.0)
    jobs = [job(f"{number}.tif", 400, 500, (1, 5)) for number in range(12)]
    slots = [Slot(id=number, cpu_class="avx2") for number in range(count)]
    run = Run(tmp_path, jobs, slots=slots, answer=lambda *_: SILENCE)
    run.executor.__class__ = Brief
    run.driver._stop = lambda: "enough" if run.executor.submissions else None
    run.stopped("enough")
    assert run.executor.submissions[0][0].tiles * 0.1 == seconds


def refusal(name, error, status="quarantined") -> SceneRecord:
    return SceneRecord(status=status, source_id=name, tag="t", error=error, uri=f"/archive/{name}")


def test_a_streak_holds_back_what_is_alike_but_for_names_and_numbers():
    streak = Streak(3)
    assert streak.add(refusal("a.tif", "cannot read a.tif: block 7 at /archive/a.tif")) == []
    assert streak.add(refusal("b2.tif", "cannot read b2.tif: block 12 at /archive/b2.tif")) == []
    with pytest.raises(StoppedError, match="3 sources in a row failed alike"):
        streak.add(refusal("c.tif", "cannot read c.tif: block 3 at /archive/c.tif"))


def test_a_streak_is_broken_by_another_error():
    streak, first, second = Streak(3), refusal("a.tif", "cut off"), refusal("b.tif", "cut off")
    other = refusal("c.tif", "no bands")
    assert streak.add(first) == streak.add(second) == []
    assert streak.add(other) == [first, second]
    assert streak.add(first) == [other]
    assert streak.flush() == [first]
    assert streak.flush() == []


def test_a_flush_begins_a_new_streak():
    streak = Streak(3)
    for _ in range(4):
        streak.add(refusal("a.tif", "cut off"))
        streak.add(refusal("b.tif", "cut off"))
        assert len(streak.flush()) == 2


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(["cut off", "no bands", None]), max_size=12), st.integers(2, 4))
def test_no_refusal_is_lost_or_doubled_by_a_streak(errors, limit):
    streak, released, row = Streak(limit), [], 0
    for number, error in enumerate(errors):
        if error is None:
            released += streak.flush()
            row = 0
            continue
        row = row + 1 if number and errors[number - 1] == error else 1
        if row == limit:
            with pytest.raises(StoppedError):
                streak.add(refusal(f"{number}.tif", error))
            return
        released += streak.add(refusal(f"{number}.tif", error))
    released += streak.flush()
    assert [record.source_id for record in released] == [f"{n}.tif" for n, e in enumerate(errors) if e]

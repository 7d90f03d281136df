"""Whose fault it is: failures that recur, that do not, and that are everybody's."""

import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scene_runs import SILENCE, Run, bound_for, bounds, failure, first_time, job, properties, slots, some_jobs

from batchseg.driver.events import Retried, SceneRefused, ShardsDone
from batchseg.driver.given_up import MEMORY_LIMIT
from batchseg.output.ledger import Ledger

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
    assert run.loop.tally.repeated == run.jobs[0].grid.tiles.count
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
    assert (run.loop.tally.quarantined, run.loop.tally.failed) == (status != "failed", status == "failed")


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
    assert run.statuses() == {"a.tif": "failed"}  # blamed for nothing, and the next run does it last


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


def test_what_hangs_beside_a_lease_that_was_late_is_given_up_in_its_turn(tmp_path):
    def answer(lease, isolation, times):
        return SILENCE if isolation == "none" else None

    run = Run(tmp_path, [job("a.tif", tiles_hw=(1, 4))], answer=answer, lease_timeout=0.05).go()
    assert run.statuses() == {"a.tif": "done"}
    assert run.executor.withdrawn
    assert set(run.executor.withdrawn) <= set(run.executor.abandoned)
    assert not run.loop.flights.awaited


def test_nobody_waits_for_what_hangs_of_a_scene_that_is_refused(tmp_path):
    broken = job("a.tif", tiles_hw=(1, 4))

    def answer(lease, isolation, times):
        if lease.scene != broken.scene:
            return None
        return failure() if lease.shards[0] == broken.grid.shard(0) else SILENCE

    started = time.monotonic()
    run = Run(tmp_path, [broken, job("b.tif")], answer=answer, lease_timeout=60).go()
    assert run.statuses() == {"a.tif": "quarantined", "b.tif": "done"}
    assert run.executor.withdrawn
    assert time.monotonic() - started < 30


def test_leases_that_one_kill_took_along_count_once(tmp_path):
    def answer(lease, isolation, times):
        if isolation == "none" and times <= 2:
            return failure("lost", memory=True, process=f"process {times}")
        return None

    run = Run(tmp_path, [job("a.tif", tiles_hw=(1, 4))], answer=answer).go()
    assert run.statuses() == {"a.tif": "done"}
    assert {isolation for *_, isolation in run.executor.submissions} == {"none"}
    assert len(run.executor.submissions) > MEMORY_LIMIT


def test_memory_that_runs_out_over_one_source_is_looked_at_alone(tmp_path):
    def answer(lease, isolation, times):
        if lease.scene != jobs[0].scene:
            return None
        return failure("lost", memory=True) if isolation == "none" else failure("crash")

    jobs = [job("a.tif", tiles_hw=(3, 5)), job("b.tif", tiles_hw=(3, 5))]
    run = Run(tmp_path, jobs, answer=answer).go()
    assert run.statuses() == {"a.tif": "quarantined", "b.tif": "done"}
    assert len(run.executor.submissions_of(jobs[0].scene)) == 4


def test_a_scene_that_is_never_given_memory_is_left_to_the_next_run(tmp_path):
    """Nobody knows whether it takes it, or something else on the machine does."""

    def answer(lease, isolation, times):
        if lease.scene != jobs[0].scene:
            return None
        return failure("lost", memory=True, process=f"process {times}, {isolation}")

    jobs = [job("a.tif", tiles_hw=(3, 5)), job("b.tif", tiles_hw=(3, 5))]
    run = Run(tmp_path, jobs, answer=answer).go()
    assert run.statuses() == {"a.tif": "failed", "b.tif": "done"}
    isolated = [isolation for _, _, isolation in run.executor.submissions_of(jobs[0].scene)]
    assert isolated[MEMORY_LIMIT:], "it was tried alone"

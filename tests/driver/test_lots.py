"""Small scenes that go out by the dozen: each is done once, and a call that comes to nothing blames none."""

import dataclasses
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scene_runs import (
    AVX2,
    PLENTY,
    SILENCE,
    Run,
    bound_for,
    bounds,
    failure,
    hosts_change,
    job,
    properties,
    record_of,
    slots,
    some_jobs,
)

from batchseg.driver.events import Retried, SceneDone, ShardsDone
from batchseg.driver.given_up import GivenUpError
from batchseg.driver.tasks import Slot
from batchseg.errors import StoppedError
from batchseg.output.ledger import Ledger

TICK = 0.05
"""Seconds from poll to poll: some ten answers until a pace is known, of 100 tiles and more a second."""


class Night(Run):
    """A run whose clock goes on with each poll, so that it gets to know its pace."""

    def __init__(self, folder, jobs, **changes):
        super().__init__(folder, jobs, clock=lambda: TICK * self.executor.polls, **changes)
        self.executor.finishes_leases = True

    @property
    def in_lots(self):
        return [lease.scene.source.source_id for task in self.executor.lots for lease in task.leases]


def many(count, height=20, width=30):
    return [job(f"{number:03d}.tif", height, width, (1, 1)) for number in range(count)]


def ids(jobs):
    return [some.scene.source.source_id for some in jobs]


@properties
@given(some_jobs, st.integers(0, 60), slots, bounds, st.integers(0, 10**6))
def test_all_goes_well(tmp_path_factory, large, count, slots, asked, seed):
    jobs = [*many(count), *large]
    bound = bound_for(jobs, asked)
    run = Night(tmp_path_factory.mktemp("out"), jobs, slots=slots, in_flight_bytes=bound, seed=seed).go()
    everything = {(some.scene.source.source_id, shard.core) for some in jobs for shard in some.grid}
    assert run.executor.shards() == Counter(everything)
    assert run.executor.most_bytes <= bound
    assert set(run.statuses()) == set(ids(jobs))
    assert set(run.statuses().values()) == {"done"}
    assert run.loop.tally.done == len(run.events_of(SceneDone)) == len(jobs)
    assert sum(event.shards for event in run.events_of(ShardsDone)) == len(everything)
    assert all(lease.is_whole for task in run.executor.lots for lease in task.leases)
    assert all(len(task.leases) > 1 for task in run.executor.lots)


def test_small_scenes_go_out_together_and_fewer_towards_the_end(tmp_path):
    run = Night(tmp_path, many(300)).go()
    sizes = [len(task.leases) for task in run.executor.lots]
    assert sum(sizes) > 200
    assert len(run.executor.lots) < 60
    assert max(sizes) > 8, "more than may be in progress with fragments"
    assert sizes[-1] < max(sizes)


def test_a_scene_that_was_begun_is_in_no_lot(tmp_path):
    jobs = many(40)
    committed = record_of(jobs[30], 0)
    Ledger(str(tmp_path)).append([committed])
    jobs[30] = dataclasses.replace(jobs[30], committed=(committed,))
    run = Night(tmp_path, jobs).go()
    assert run.in_lots
    assert ids(jobs)[30] not in run.in_lots
    assert set(run.statuses().values()) == {"done"}


def test_a_scene_worth_a_call_of_its_own_is_in_no_lot(tmp_path):
    jobs = many(40)
    jobs.insert(20, job("large.tif", 400, 600, (2, 2)))
    run = Night(tmp_path, jobs).go()
    assert run.in_lots
    assert "large.tif" not in run.in_lots
    assert set(run.statuses().values()) == {"done"}


@pytest.mark.parametrize("kind", ["crash", "lost", "timeout"])
def test_scenes_of_a_call_that_comes_to_nothing_are_done_one_by_one(tmp_path, kind):
    run = Night(tmp_path, many(60), slots=[Slot(id=0, cpu_class="avx2")], lease_timeout=1000.0)
    run.executor.lot_answer = lambda task: failure(kind, "predict") if task is run.executor.lots[0] else None
    run.go()
    of_it = {lease.scene.source.source_id for lease in run.executor.lots[0].leases}
    assert set(run.statuses().values()) == {"done"}
    again = Counter(run.in_lots)
    assert all(again[name] == 1 for name in of_it), "what was in a call that failed comes alone"
    assert {isolation for _, _, isolation in run.executor.submissions} == {"none"}
    (told,) = run.events_of(Retried)
    assert told.source_id in of_it
    assert f"{len(of_it) - 1} more scenes" in told.reason


@pytest.mark.parametrize("is_whole_call", [False, True], ids=["its own error", "a call that crashes"])
def test_the_guilty_one_of_a_call_is_found_and_no_other(tmp_path, is_whole_call):
    jobs = many(60)
    guilty = jobs[40].scene

    def answer(lease, isolation, times):
        return failure("crash" if is_whole_call else "error") if lease.scene == guilty else None

    run = Night(tmp_path, jobs, answer=answer, lease_timeout=1000.0)
    if is_whole_call:
        run.executor.lot_answer = lambda task: (
            failure("crash", "predict") if any(lease.scene == guilty for lease in task.leases) else None
        )
    run.go()
    assert ids(jobs)[40] in run.in_lots
    refused = {name for name, status in run.statuses().items() if status == "quarantined"}
    assert refused == {ids(jobs)[40]}
    alone = [lease.scene for lease, _, isolation in run.executor.submissions if isolation == "read"]
    assert set(alone) == {guilty}


def test_a_call_without_answer_is_given_up_and_its_scenes_come_alone(tmp_path):
    jobs = many(60)

    def answer(lease, isolation, times):
        return SILENCE if lease.scene == jobs[40].scene and times == 1 else None

    run = Night(tmp_path, jobs, answer=answer, lease_timeout=10.0).go()
    (lot,) = (task for task in run.executor.lots if task.id in run.executor.abandoned)
    assert jobs[40].scene in [lease.scene for lease in lot.leases]
    assert set(run.statuses().values()) == {"done"}
    assert {isolation for _, _, isolation in run.executor.submissions} == {"none"}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_predictors_that_come_and_go_cost_no_scene(tmp_path, seed):
    run = Night(tmp_path, many(120), slots=AVX2[:2], seed=seed, lease_timeout=1000.0)
    hosts_change(run, {30: AVX2[1:], 90: AVX2[:1]}).go()
    assert run.in_lots
    assert set(run.statuses().values()) == {"done"}


def test_what_ends_the_run_ends_it_in_a_lot_too_and_what_came_before_is_recorded(tmp_path):
    run = Night(tmp_path, many(60), slots=[Slot(id=0, cpu_class="avx2")])
    fatal = dataclasses.replace(failure("lost", "predict"), fatal=StoppedError("the disk is full"))
    run.executor.lot_answer = lambda task: fatal if len(run.executor.lots) == 2 else None
    run.stopped("the disk is full")
    assert 1 <= len(run.statuses()) < 60


def test_memory_holds_one_scene_of_a_lot_at_a_time(tmp_path):
    run = Night(tmp_path, many(60), in_flight_bytes=PLENTY).go()
    one = max(run.executor.bytes_of(lease) for task in run.executor.lots for lease in task.leases)
    assert run.executor.most_bytes <= one * run.loop.flights.most


def test_all_of_a_call_over_which_the_run_is_given_up_are_left_to_the_next_run(tmp_path):
    """The one that hangs is among them: done last, it holds up nothing of the next night."""
    run = Night(tmp_path, many(60), slots=[Slot(id=0, cpu_class="avx2")])
    fatal = dataclasses.replace(failure("timeout", "predict"), fatal=GivenUpError("the network hangs"))
    run.executor.lot_answer = lambda task: fatal if task is run.executor.lots[0] else None
    run.stopped("the network hangs")
    left = {name for name, status in run.statuses().items() if status == "failed"}
    assert left == {lease.scene.source.source_id for lease in run.executor.lots[0].leases}

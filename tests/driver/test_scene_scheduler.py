"""Which predictor gets which shards, while predictors come and go."""

import dataclasses
import itertools
import sys
import time

import pytest
from scene_runs import AVX2, MIXED, SILENCE, Brief, Run, failure, first_time, hosts_change, job, record_of

from batchseg.driver import (
    in_flight,
    loop,
    open_shards,
    scene_failures,
    scene_finishes,
    scene_loop,
    scene_queue,
    scene_scheduler,
)
from batchseg.driver.tasks import Slot, SlotsChanged
from batchseg.output.ledger import Ledger


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
        if not run.loop.flights.slots and next(waits) == 19:
            return [SlotsChanged(slots=(AVX2[2],))]
        return poll(timeout)

    run.executor.poll = poll_until_one_comes
    assert run.go().statuses() == {"a.tif": "done"}


@pytest.mark.parametrize("lost", [False, True])
def test_a_scene_whose_class_of_cpu_is_gone_begins_again_on_another(tmp_path, monkeypatch, lost):
    monkeypatch.setattr(scene_scheduler, "CLASS_SECONDS", 0.05)
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


DRIVER_MODULES = (
    loop,
    scene_loop,
    scene_queue,
    open_shards,
    scene_scheduler,
    scene_finishes,
    scene_failures,
    in_flight,
)


def lines_per_lease(folder, count) -> float:
    """Lines of the modules that a driver is made of which run per lease, with so many predictors."""
    jobs = [job(f"{number}.tif") for number in range(4 * count)]
    slots = [Slot(id=number, cpu_class="avx2") for number in range(count)]
    ticks = itertools.count(0, 1e-4)
    run = Run(folder, jobs, slots=slots, clock=lambda: next(ticks))
    run.executor.__class__ = Brief
    names = {module.__file__ for module in DRIVER_MODULES}
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
    monkeypatch.setattr(loop, "DRAIN_SECONDS", 0.0)
    jobs = [job(f"{number}.tif", 400, 500, (1, 5)) for number in range(12)]
    slots = [Slot(id=number, cpu_class="avx2") for number in range(count)]
    run = Run(tmp_path, jobs, slots=slots, answer=lambda *_: SILENCE)
    run.executor.__class__ = Brief
    run.loop._stop = lambda: "enough" if run.executor.submissions else None
    run.stopped("enough")
    sizes = [lease.tiles for lease, *_ in run.executor.submissions]
    assert sizes[:count] == [5] * count  # something to predict first
    assert sizes[count] * 0.1 == seconds

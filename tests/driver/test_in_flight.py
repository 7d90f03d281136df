"""Leases that give no answer, and those that only wait behind them."""

import time

from scene_runs import AVX2, SILENCE, Run, failure, first_time, job

from batchseg.driver.events import SceneRefused, ShardsDone
from batchseg.driver.tasks import LeaseOutcome, Slot, SlotsChanged


def test_a_lease_without_answer_is_given_up_and_tried_alone(tmp_path):
    run = Run(tmp_path, [job(tiles_hw=(3, 5))], answer=first_time(SILENCE), lease_timeout=0.05).go()
    assert run.executor.abandoned == [0]
    assert [isolation for _, _, isolation in run.executor.submissions] == ["none", "predict"]
    assert run.statuses() == {"a.tif": "done"}


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

    def answer_late(task):
        abandon(task)
        run.executor.waiting.append(LeaseOutcome(lease_id=task.lease.id, result=failure()))

    run.executor.abandon = answer_late
    run.go()
    assert run.statuses() == {"a.tif": "done"}
    assert run.loop.tally.shards == run.jobs[0].grid.count


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


def test_a_lease_whose_host_gives_no_answer_is_lost_and_counts_against_nobody(tmp_path):
    run = Run(tmp_path, [job(tiles_hw=(3, 5))], answer=first_time(*[SILENCE] * 4), lease_timeout=0.02)
    abandon = run.executor.abandon
    run.executor.abandon = lambda task: abandon(task) and "lost"
    assert run.go().statuses() == {"a.tif": "done"}
    assert {isolation for _, _, isolation in run.executor.submissions} == {"none"}
    assert len(run.executor.abandoned) == 4


def test_late_leases_of_a_slot_that_is_gone_are_given_up(tmp_path):
    run = Run(tmp_path, [job()], answer=first_time(SILENCE), slots=AVX2[:1], lease_timeout=0.02)
    poll, told = run.executor.poll, iter([[SlotsChanged(slots=(AVX2[1],))]])
    run.executor.poll = lambda timeout: next(told, None) or poll(timeout)
    assert run.go().statuses() == {"a.tif": "done"}

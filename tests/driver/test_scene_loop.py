import dataclasses
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scene_runs import Run, bound_for, bounds, failure, job, properties, record_of, slots, some_jobs

from batchseg.driver.events import SceneDone, ShardsDone
from batchseg.driver.tasks import Slot
from batchseg.errors import ModelError, OutputError, StoppedError
from batchseg.output.ledger import Ledger
from batchseg.output.record import SceneRecord


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
    assert len(run.executor.finished) == len(jobs) == run.loop.tally.done
    for task, recorded in run.executor.finished:
        assert list(task.shards) == recorded
    assert run.loop.tally.shards == len(everything)
    assert len(run.events_of(SceneDone)) == len(jobs)
    assert sum(event.shards for event in run.events_of(ShardsDone)) == len(everything)


@properties
@given(some_jobs, slots, bounds, st.integers(0, 10**6))
def test_a_scene_of_one_lease_is_done_with_it(tmp_path_factory, jobs, slots, asked, seed):
    """Its shards are not recorded, as they never were fragments; no other scene is taken for whole."""
    run = Run(
        tmp_path_factory.mktemp("out"), jobs, slots=slots, in_flight_bytes=bound_for(jobs, asked), seed=seed
    )
    run.executor.finishes_leases = True
    run.go()
    leased = [lease for lease, _, _ in run.executor.submissions]
    leases = Counter(lease.scene.source.source_id for lease in leased)
    assert {lease.scene.source.source_id for lease in leased if lease.is_whole} == {
        name for name, count in leases.items() if count == 1
    }
    finished = {task.scene.source.source_id for task, _ in run.executor.finished}
    assert finished == {name for name, count in leases.items() if count > 1}
    assert set(run.statuses().values()) == {"done"}
    assert len(run.events_of(SceneDone)) == len(jobs) == run.loop.tally.done
    assert sum(event.shards for event in run.events_of(ShardsDone)) == sum(some.grid.count for some in jobs)


def test_the_rest_of_a_scene_is_no_whole_one(tmp_path):
    some_job = job(tiles_hw=(3, 5))
    committed = (record_of(some_job, 0),)
    run = Run(tmp_path, [dataclasses.replace(some_job, committed=committed)])
    run.executor.finishes_leases = True
    run.go()
    assert not any(lease.is_whole for lease, _, _ in run.executor.submissions)
    assert len(run.executor.finished) == 1


def test_one_error_on_source_after_source_ends_the_run_and_quarantines_none(tmp_path):
    jobs = [job(f"{n}.tif", tiles_hw=(3, 5)) for n in range(8)]
    words = r"3 sources in a row failed alike, from 0\.tif to 2\.tif"
    run = Run(tmp_path, jobs, answer=lambda *_: failure()).stopped(words)
    assert run.statuses() == dict.fromkeys(["0.tif", "1.tif", "2.tif"], "failed")


def test_faults_of_content_end_no_run_however_many_there_are(tmp_path):
    jobs = [job(f"{n}.tif", tiles_hw=(3, 5)) for n in range(8)]

    def answer(lease, *_):
        return failure(is_own=True) if int(lease.scene.source.source_id[0]) < 6 else None

    run = Run(tmp_path, jobs, answer=answer).go()
    assert list(run.statuses().values()) == ["quarantined"] * 6 + ["done"] * 2


@pytest.mark.parametrize("good", [0, 1])
def test_headers_that_no_storage_gives_end_a_run_unless_it_gave_others(tmp_path, good):
    run = Run(tmp_path, [job("9.tif")][:good])
    refused = [
        SceneRecord(status="failed", source_id=f"{n}.tif", tag="t", error="no answer") for n in range(6)
    ]
    if good:
        run.loop.run(run.jobs, refused)
        assert Counter(run.statuses().values()) == {"failed": 6, "done": 1}
        return
    with pytest.raises(StoppedError, match=r"from 0\.tif to 2\.tif"):
        run.loop.run(run.jobs, refused)
    assert Counter(run.statuses().values()) == {"failed": 3}


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
        run.loop._refusals.add(record, is_single=True)
    run.go()
    assert Counter(run.statuses().values()) == {"quarantined": 9, "done": 1}


def test_a_reason_to_stop_drains_records_and_ends_the_run(tmp_path):
    answered = []
    some_job = job(height=200, width=300, tiles_hw=(1, 1))
    run = Run(tmp_path, [some_job], answer=lambda lease, *_: answered.append(lease))
    run.loop._stop = lambda: "stopped by SIGTERM" if len(run.events_of(ShardsDone)) >= 3 else None
    run.stopped("stopped by SIGTERM")
    recorded = {record.window for record in Ledger(run.output).shards("a.tif")}
    assert recorded == {shard.core for lease in answered for shard in lease.shards}
    assert 3 < len(recorded) < some_job.grid.count
    assert run.executor.in_flight == {}


def test_what_is_drained_is_counted_like_the_rest(tmp_path):
    run = Run(tmp_path, [job(height=200, width=300, tiles_hw=(1, 1))])
    run.loop._stop = lambda: "stopped" if run.events_of(ShardsDone) else None
    run.stopped("stopped")
    recorded = Ledger(run.output).shards("a.tif")
    assert run.loop.tally.shards == len(recorded)
    assert sum(event.shards for event in run.events_of(ShardsDone)) == len(recorded)


def test_a_stopped_run_goes_on_where_it_was(tmp_path):
    some_job = job(height=200, width=300, tiles_hw=(1, 1))
    first = Run(tmp_path, [some_job])
    first.loop._stop = lambda: "stopped" if len(first.events_of(ShardsDone)) >= 3 else None
    first.stopped("stopped")
    committed = tuple(Ledger(first.output).shards("a.tif"))
    second = Run(tmp_path, [dataclasses.replace(some_job, committed=committed)]).go()
    assert second.statuses() == {"a.tif": "done"}
    both = first.executor.shards() + second.executor.shards()
    assert both == Counter(("a.tif", shard.core) for shard in some_job.grid)


@pytest.mark.parametrize("error", [ModelError("no such class"), OutputError("disk full")])
def test_a_fatal_error_ends_the_run_and_what_was_done_is_recorded(tmp_path, error):
    def answer(lease, isolation, times):
        return failure(step="predict", fatal=error) if lease.id == 2 else None

    run = Run(tmp_path, [job(height=200, width=300, tiles_hw=(1, 1))], answer=answer)
    with pytest.raises(type(error), match=str(error)):
        run.go()
    assert len(Ledger(run.output).shards("a.tif")) == run.loop.tally.shards > 0
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

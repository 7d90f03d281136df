"""Scenes that are predicted: when they are finished, and of what."""

import dataclasses

from factories import make_recipe
from scene_runs import Run, job, record_of

from batchseg.driver.tasks import FinishOutcome, Slot
from batchseg.output.fragments import fragment_folder
from batchseg.output.ledger import Ledger
from batchseg.output.record import SceneRecord


def test_a_scene_finished_while_draining_leaves_no_fragments(tmp_path):
    jobs = [job("a.tif", tiles_hw=(3, 5)), job("b.tif", tiles_hw=(3, 5))]
    recipe = make_recipe()
    fragments = fragment_folder(str(tmp_path), "a.tif", "t", recipe.digest, "3x5", "avx2").path
    fragments.mkdir(parents=True)
    run = Run(tmp_path, jobs, slots=[Slot(id=0, cpu_class="avx2")])
    poll = run.executor.poll

    def finish_first(timeout):
        run.executor.waiting.sort(key=lambda outcome: not isinstance(outcome, FinishOutcome))
        return poll(timeout)

    run.executor.poll = finish_first
    run.loop._stop = lambda: "stopped" if run.executor.finished else None
    run.stopped("stopped")
    assert fragments.parent.exists() == (run.statuses().get("a.tif") != "done")


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

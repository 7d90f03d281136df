"""Errors of steps, what each is called, and who does groups of photographs."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
from factories import make_recipe
from photographs import network_of, product_of
from ray_fakes import make_task

from batchseg.driver import lease_worker
from batchseg.driver.executors import steps as module
from batchseg.driver.executors.steps import Steps
from batchseg.driver.photo_worker import GroupWorker
from batchseg.driver.tasks import FinishOutcome, FinishTask, Group, GroupTask, InspectionTask, Slot, to_stream


@pytest.fixture
def said():
    """Reasons to stop."""
    return []


@pytest.fixture
def steps(monkeypatch, said):
    monkeypatch.setattr(module, "cpu_class", lambda: "avx2")
    monkeypatch.setattr(module, "load_predictor", lambda *_, **__: SimpleNamespace(is_busy=False))
    for step in ("read_lease", "predict_lease", "write_lease"):
        monkeypatch.setattr(lease_worker, step, lambda *_, step=step: step)
    product = SimpleNamespace(photographs=None)
    return Steps(
        "out",
        make_recipe(),
        product,
        threads=1,
        readers=1,
        batch_size=1,
        timeout=60.0,
        stop=lambda: bool(said),
    )


def raising(error):
    def step(*_):
        raise error

    return step


def test_a_lease_is_the_workers_and_says_at_which_step_it_is(steps):
    def worker(lease, isolation):
        return lease.id, isolation

    worker.step_of = lambda lease_id: {4: "waits", 5: "write"}[lease_id]
    steps._leases = worker
    outcome = steps.of(make_task(4, isolation="read"))()
    assert (outcome.lease_id, outcome.result) == (4, (4, "read"))
    assert [steps.doing_for(make_task(number)) for number in (4, 5)] == ["read", "write"]


def test_a_lease_that_was_left_leaves_its_worker(steps):
    before = steps._leases
    steps.leave_lease()
    assert steps._leases is not before


def test_a_group_that_was_left_leaves_its_worker(steps, monkeypatch):
    made = iter([raising(MemoryError()), lambda group: "done"])
    monkeypatch.setattr(steps, "_new_worker", lambda: next(made))
    task = GroupTask(
        group=Group(id=1, work="predict", images=b"", count=1), slot=Slot(id=0, cpu_class="avx2")
    )
    steps.leave_group()
    assert steps.of(task)().result.kind == "error"
    steps.leave_group()
    assert steps.of(task)().result == "done"
    assert steps.doing_for(task) == "group"


def test_finishes_and_inspected_photographs_have_their_answers(steps, monkeypatch):
    from batchseg.driver import photo_worker

    answer = FinishOutcome(source_id="scene.tif", result=(None, 0.1))
    monkeypatch.setattr(module, "finished", lambda *_: answer)

    def looked_at(rows, recipe, timeout, **limits):
        assert limits == {"memory": 2 * 2**30, "alone": False, "usual": ()}
        return len(rows), timeout

    monkeypatch.setattr(photo_worker, "inspect_photos", looked_at)
    finish = FinishTask(scene=make_task(0).lease.scene, shards=(), epoch=1)
    assert (steps.of(finish)(), steps.doing_for(finish)) == (answer, "finish")
    images = to_stream(pa.table({"source_id": ["a.png", "b.png"]}))
    inspect = InspectionTask(group=Group(id=2, work="predict", images=images, count=2))
    outcome = steps.of(inspect)()
    assert (outcome.group_id, outcome.result, steps.doing_for(inspect)) == (2, (2, 48.0), "inspect")


@pytest.mark.parametrize("with_photographs", [False, True])
def test_only_photographs_have_a_worker(models: Path, monkeypatch, with_photographs: bool) -> None:
    recipe, predictor = network_of(models)
    monkeypatch.setattr(module, "load_predictor", lambda *_, **__: predictor)
    product = product_of() if with_photographs else SimpleNamespace(photographs=None)
    steps = Steps("out", recipe, product, readers=1, batch_size=2, timeout=60.0)
    assert isinstance(steps._worker, GroupWorker) == with_photographs


@pytest.mark.parametrize("executor", ["inline", "processes.predictor", "ray.predictors"])
def test_executors_load_no_decoder_of_photographs(executor: str) -> None:
    code = (
        f"import sys, batchseg.driver.executors.{executor}; "
        "print([name for name in sys.modules if 'photo_worker' in name or name == 'simplejpeg'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

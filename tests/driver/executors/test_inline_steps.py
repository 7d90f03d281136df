"""Errors of steps, and what each is called: without a network."""

from types import SimpleNamespace

import pyarrow as pa
import pytest
from factories import make_recipe
from ray_fakes import make_task

from batchseg.driver.executors import inline_steps
from batchseg.driver.executors.inline_steps import Steps
from batchseg.driver.tasks import FinishOutcome, FinishTask, Group, GroupTask, InspectionTask, Slot, to_stream
from batchseg.errors import ModelError, OutputError, SourceIOError, StoppedError
from batchseg.system.processes import ProcessDiedError


@pytest.fixture
def said():
    """Reasons to stop."""
    return []


@pytest.fixture
def steps(monkeypatch, said):
    monkeypatch.setattr(inline_steps, "cpu_class", lambda: "avx2")
    monkeypatch.setattr(inline_steps, "load_predictor", lambda *_, **__: SimpleNamespace(is_busy=False))
    for step in ("read_lease", "predict_lease", "write_lease"):
        monkeypatch.setattr(inline_steps, step, lambda *_, step=step: step)
    product = SimpleNamespace(photographs=None)
    return Steps(
        "out", make_recipe(), product, threads=1, batch_size=1, timeout=60.0, stop=lambda: bool(said)
    )


def raising(error):
    def step(*_):
        raise error

    return step


def test_a_lease_goes_through_its_steps_and_says_at_which_it_is(steps, monkeypatch):
    seen = []
    for step in ("read_lease", "predict_lease", "write_lease"):
        monkeypatch.setattr(inline_steps, step, lambda *_: seen.append(steps.doing))
    assert steps.of(make_task(4))().lease_id == 4
    assert seen == ["read", "predict", "write"]


@pytest.mark.parametrize(
    ("step", "error", "kind", "at"),
    [
        ("read_lease", SourceIOError("gone"), "error", "read"),
        ("read_lease", ProcessDiedError("was ended by SIGSEGV"), "crash", "read"),
        ("read_lease", ZeroDivisionError(), "error", "read"),
        ("predict_lease", RuntimeError("no kernel"), "error", "predict"),
        ("predict_lease", ModelError("class 300"), "error", "predict"),
        ("write_lease", OutputError("no space left"), "error", "write"),
    ],
)
def test_an_error_is_a_failure_of_its_step(steps, monkeypatch, step, error, kind, at):
    monkeypatch.setattr(inline_steps, step, raising(error))
    failure = steps.of(make_task(0))().result
    assert (failure.kind, failure.step) == (kind, at)
    assert (failure.fatal is error) == isinstance(error, ModelError | OutputError)


def test_a_lease_that_a_stop_ends_is_nobodys_fault(steps, said, monkeypatch):
    monkeypatch.setattr(inline_steps, "predict_lease", raising(StoppedError("told to stop")))
    said.append("SIGTERM")
    failure = steps.of(make_task(0))().result
    assert (failure.kind, failure.fatal) == ("lost", None)


def test_a_lease_is_read_alone_in_less_than_the_executor_waits(steps, monkeypatch):
    seconds = []
    monkeypatch.setattr(inline_steps, "read_lease_alone", lambda *arguments: seconds.append(arguments[-1]))
    steps.of(make_task(0, isolation="read"))()
    assert seconds == [48.0]


def test_nothing_follows_a_reading_that_was_left(steps, monkeypatch):
    monkeypatch.setattr(inline_steps, "predict_lease", raising(AssertionError))
    steps.leave_read(3)
    assert steps.of(make_task(3))().result.kind == "lost"


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
    assert steps.doing == "group"


def test_finishes_and_inspected_photographs_have_their_answers(steps, monkeypatch):
    from batchseg.driver import photo_worker

    answer = FinishOutcome(source_id="scene.tif", result=(None, 0.1))
    monkeypatch.setattr(inline_steps, "finished", lambda *_: answer)

    def looked_at(rows, recipe, timeout, **limits):
        assert limits == {"memory": 2 * 2**30, "alone": False}
        return len(rows), timeout

    monkeypatch.setattr(photo_worker, "inspect_photos", looked_at)
    finish = steps.of(FinishTask(scene=make_task(0).lease.scene, shards=(), epoch=1))
    assert (finish(), steps.doing) == (answer, "finish")
    images = to_stream(pa.table({"source_id": ["a.png", "b.png"]}))
    inspect = steps.of(InspectionTask(group=Group(id=2, work="predict", images=images, count=2)))
    outcome = inspect()
    assert (outcome.group_id, outcome.result, steps.doing) == (2, (2, 48.0), "inspect")

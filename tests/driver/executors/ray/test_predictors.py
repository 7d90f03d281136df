"""What a predictor makes of failures and errors, and what it reserves. No actor is started."""

from types import SimpleNamespace

import pytest
from factories import make_recipe
from ray_fakes import CONTEXT, make_task

from batchseg.driver.executors import steps
from batchseg.driver.executors.ray import predictors
from batchseg.driver.executors.ray.predictors import PredictorActor, PredictorMaker
from batchseg.driver.tasks import Group
from batchseg.errors import SourceIOError, StoppedError

SCENES = SimpleNamespace(photographs=None)


@pytest.fixture
def actor(monkeypatch):
    monkeypatch.setattr(steps, "load_predictor", lambda *_, **__: "network")
    here = SimpleNamespace(get_node_id=lambda: "here")
    monkeypatch.setattr(predictors.ray, "get_runtime_context", lambda: here)  # which would start Ray
    return PredictorActor(make_recipe(), 4, "out", SCENES, 2, 60.0)


def raising(error):
    def step(*_):
        raise error

    return step


def test_a_lease_is_the_workers(actor, monkeypatch):
    lease = make_task(0).lease
    monkeypatch.setattr(actor._steps, "_leases", lambda *given: given)
    assert actor.do_lease({}, lease, "read") == (lease, "read")
    monkeypatch.setattr(predictors.storage, "adopt", raising(StoppedError("another charset")))
    failure = actor.do_lease({}, lease, "none")
    assert isinstance(failure.fatal, StoppedError)


def test_it_says_what_it_is_at_while_it_works(actor, monkeypatch):
    monkeypatch.setattr(actor._steps, "_leases", SimpleNamespace(step_of=lambda lease_id: f"read {lease_id}"))
    assert actor.step_of(3) == "read 3"


@pytest.mark.parametrize(("readers", "leases"), [(1, 3), (2, 4), (6, 8), (32, 8)])
def test_as_many_leases_are_read_as_there_are_threads_for(readers, leases):
    assert predictors.leases_at_once(readers) == leases
    assert predictors.CONCURRENCY["leases"] >= leases


def test_a_group_is_the_workers(actor, monkeypatch):
    group = Group(id=1, work="predict", images=b"", count=1)
    monkeypatch.setattr(actor._steps, "_worker", lambda group: f"group {group.id}")
    assert actor.do_group({}, group) == "group 1"
    monkeypatch.setattr(actor._steps, "_worker", raising(SourceIOError("gone")))
    failure = actor.do_group({}, group)
    assert (failure.step, failure.transient, failure.fatal) == ("group", True, None)
    monkeypatch.setattr(actor._steps, "_worker", raising(MemoryError()))
    assert actor.do_group({}, group).kind == "error"


@pytest.mark.parametrize(
    ("device", "reserved"),
    [("cpu", {"num_gpus": 0, "num_cpus": 1}), ("gpu", {"num_gpus": 0.5, "num_cpus": 1})],
)
def test_only_the_predictors_of_slots_reserve_something(monkeypatch, device, reserved):
    made = []

    def options(**options):
        return SimpleNamespace(remote=lambda *arguments: made.append((options, arguments)))

    monkeypatch.setattr(predictors, "remote_predictor", SimpleNamespace(options=options))
    maker = PredictorMaker(context=CONTEXT, device=device, gpus=0.5, batch_size=4, readers=2)
    maker.make()
    maker.make_beside(node="b")
    arguments = ("recipe", 4, "out", "product", 2, 60.0)
    assert made == [(reserved, arguments), ({"num_gpus": 0, "num_cpus": 0, "node": "b"}, arguments)]

"""What a predictor makes of failures and errors, and what it reserves. No actor is started."""

from types import SimpleNamespace

import pytest
from factories import make_recipe
from ray_fakes import CONTEXT

from batchseg.driver.executors.ray import predictors
from batchseg.driver.executors.ray.predictors import PredictorActor, PredictorMaker
from batchseg.driver.tasks import Failure, Group
from batchseg.errors import ModelError, SourceIOError

LOST = Failure(kind="lost", step="read", reason="its host went away")
SCENES = SimpleNamespace(photographs=None)


@pytest.fixture
def actor(monkeypatch):
    monkeypatch.setattr(predictors, "load_predictor", lambda *_, **__: "network")
    return PredictorActor(make_recipe(), 4, "out", SCENES, 2)


def raising(error):
    def step(*_):
        raise error

    return step


def test_what_was_not_read_is_passed_on(actor):
    assert actor.predict(LOST) is LOST


def test_pixels_go_through_the_network(actor, monkeypatch):
    monkeypatch.setattr(predictors, "predict_lease", lambda *arguments: arguments)
    assert actor.predict("pixels") == ("network", make_recipe(), "pixels", 4)


def test_an_error_of_the_network_is_the_leases_and_one_of_the_model_everybodys(actor, monkeypatch):
    monkeypatch.setattr(predictors, "predict_lease", raising(RuntimeError("\nno kernel")))
    failure = actor.predict("pixels")
    assert (failure.kind, failure.step, failure.fatal) == ("error", "predict", None)
    assert "no kernel" in failure.reason
    monkeypatch.setattr(predictors, "predict_lease", raising(ModelError("class 300")))
    assert isinstance(actor.predict("pixels").fatal, ModelError)


def test_a_group_is_the_workers(actor, monkeypatch):
    group = Group(id=1, work="predict", images=b"", count=1)
    monkeypatch.setattr(actor, "_worker", lambda group: f"group {group.id}")
    assert actor.do_group({}, group) == "group 1"
    monkeypatch.setattr(actor, "_worker", raising(SourceIOError("gone")))
    failure = actor.do_group({}, group)
    assert (failure.step, failure.transient, failure.fatal) == ("group", True, None)
    monkeypatch.setattr(actor, "_worker", raising(MemoryError()))
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
    arguments = ("recipe", 4, "out", "product", 2)
    assert made == [(reserved, arguments), ({"num_gpus": 0, "num_cpus": 0, "node": "b"}, arguments)]

"""An engine that a job names must be as right as the model's own."""

import dataclasses
import json

import pytest
from factories import make_config, make_facts, make_package, make_source

from batchseg.errors import ModelError
from batchseg.job.resolve import make_recipe as recipe_of
from batchseg.job.settings import Gate
from batchseg.predict import named_engine as named_module
from batchseg.predict.choice import as_document, from_document
from batchseg.predict.engine_choice import choose
from batchseg.predict.gate import Agreement, shortfall
from batchseg.predict.trial import Bench, Occasion, Trial

HERE = Occasion(sources=[make_source()], count=1, workers=1)
NOWHERE = Occasion(sources=(), count=0, workers=1)
EQUAL = Agreement(pixels=1000, equal=1000, iou=((0, 1.0),))
OFF = Agreement(pixels=10000, equal=9817, sure=9900, sure_differ=100, iou=((0, 0.99), (3, 0.9398)))


def quiet(line: str) -> None:
    pass


def never(line: str) -> None:
    raise AssertionError(line)


def named(monkeypatch: pytest.MonkeyPatch, agreement: Agreement | None, reason: str | None = None, **job):
    """A config that names ONNX Runtime for a Paddle network, and what comparing it gives."""
    keys = {"engine": "onnxruntime", "precision": "fp32", "tile_size": 64, "halo": 8, "normalize": "none"}
    config = make_config(**(keys | job), bake=False)
    trial = Trial(engine="onnxruntime", precision="fp32", agreement=agreement, reason=reason)
    bench = Bench(
        trials=(trial,), chosen=trial, tiles=1, workers=1, class_count=4, classes_seen=4, tile_size=64, halo=8
    )
    monkeypatch.setattr(named_module, "sample_crops", lambda recipe, sources: None)
    monkeypatch.setattr(named_module, "compare", lambda recipe, samples, scope, say: bench)
    monkeypatch.setattr(named_module, "try_out", lambda recipe: None)
    return config, recipe_of(config, make_package(), make_facts(class_count=4), "cpu")


def test_a_named_engine_is_compared_once_and_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    config, recipe = named(monkeypatch, EQUAL)
    _, choice = choose(config, recipe, None, HERE, say=quiet)
    assert choice is not None
    assert (choice.compared, choice.trials[0]["equal"]) == (True, 1)
    assert choice.proof == "100.000% of pixels equal when tried"
    kept = from_document(json.loads(json.dumps(as_document(choice))))
    assert choose(config, recipe, kept, HERE, say=never)[1] == choice


def test_a_named_engine_that_answers_otherwise_is_refused_with_what_to_do(monkeypatch) -> None:
    config, recipe = named(monkeypatch, OFF, "1.0101% of the pixels ...")
    with pytest.raises(ModelError) as caught:
        choose(config, recipe, None, HERE, say=quiet)
    assert caught.value.lines == (
        "model: onnxruntime fp32 answers otherwise than paddle, the model's own engine: "
        "1.0101% of the pixels ...",
        "use the model's own, engine: paddle, or engine: auto, which takes another only if it agrees",
        "or, if that is near enough for you, gate: {equal_pixels: 0.9898, iou: 0.939}",
    )
    assert shortfall(OFF, Gate(equal_pixels=0.9898, iou=0.939)) is None


def test_a_named_engine_that_met_no_source_is_compared_by_the_next_run(monkeypatch) -> None:
    config, recipe = named(monkeypatch, OFF, "1.0101% of the pixels ...")
    _, choice = choose(config, recipe, None, NOWHERE, say=never)
    assert choice is not None
    assert choice.compared is False
    with pytest.raises(ModelError, match="answers otherwise"):
        choose(config, recipe, choice, HERE, say=quiet)


def test_a_plan_compares_nothing_and_says_that_the_run_will(monkeypatch) -> None:
    config, recipe = named(monkeypatch, None)
    monkeypatch.delattr(named_module, "compare")
    said: list[str] = []
    choose(config, recipe, None, dataclasses.replace(HERE, tries=False), say=said.append)
    assert said == ["the first run compares onnxruntime with paddle on its own tiles"]


def test_a_named_engine_is_compared_also_where_nothing_may_be_tried(monkeypatch) -> None:
    """`gate: {budget: 0}` spares trials of speed, not of what is right."""
    config, recipe = named(monkeypatch, OFF, "1.0101% of the pixels ...", precision="auto")
    assert config.gate.budget == 0
    with pytest.raises(ModelError, match="answers otherwise"):
        choose(config, recipe, None, HERE, say=quiet)

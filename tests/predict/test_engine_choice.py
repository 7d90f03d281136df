"""Engines chosen by a run, kept by the next ones."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import JobWriter, batchseg, read_mask, write_raster
from factories import make_config, make_facts, make_package, make_source

from batchseg.engines.graphs.to_onnx import to_onnx
from batchseg.errors import ModelError
from batchseg.job.resolve import make_recipe as recipe_of
from batchseg.job.settings import Gate
from batchseg.models.reading import read_model
from batchseg.predict import engine_choice as choice_module
from batchseg.predict.engine_choice import (
    Choice,
    as_document,
    asked_for,
    choose,
    describe_trial,
    from_document,
    is_open,
)
from batchseg.predict.engine_trials import Bench, Trial
from batchseg.predict.gate import Agreement, shortfall

KEPT = Choice(
    engine="onnxruntime",
    precision="fp32",
    device="cpu",
    baked=True,
    asked={"engine": "auto", "precision": None, "bake": True},
    trials=({"engine": "onnxruntime", "precision": "fp32", "tiles_per_second": 9.0},),
    notes=("not baked: ...",),
)


def never(line: str) -> None:
    raise AssertionError(line)


def test_a_choice_survives_json() -> None:
    assert from_document(json.loads(json.dumps(as_document(KEPT)))) == KEPT
    assert from_document(None) is None


@pytest.mark.parametrize(
    ("job", "kept", "expected"),
    [
        ({}, None, False),
        ({"engine": "auto"}, None, True),
        ({"precision": "auto"}, None, True),
        ({"engine": "auto"}, KEPT, False),
        ({"engine": "auto", "precision": "bf16"}, KEPT, False),
    ],
)
def test_engines_are_tried_where_the_job_leaves_them_open_and_no_run_has_chosen(job, kept, expected):
    assert is_open(make_config(**job), kept) is expected


def test_a_kept_choice_is_taken_without_looking_at_any_source():
    config = make_config(engine="auto", tile_size=64)
    recipe = recipe_of(config, make_package(), make_facts(class_count=4), "cpu")
    assert asked_for(config) == KEPT.asked
    chosen, choice = choose(config, recipe, KEPT, (), workers=1, say=never)
    assert (chosen.engine, chosen.precision, chosen.bake) == ("onnxruntime", "fp32", recipe.bake)
    assert choice == KEPT


def test_a_kept_engine_that_this_machine_lacks_is_refused_with_a_way_out():
    config = make_config(engine="auto", tile_size=64)
    recipe = recipe_of(config, make_package(), make_facts(class_count=4), "cpu")
    kept = Choice(
        engine="paddle-tensorrt", precision="fp16", device="gpu", baked=False, asked=asked_for(config)
    )
    with pytest.raises(
        ModelError, match=r"masks were made by paddle-tensorrt in fp16 on gpu\. Use another output"
    ):
        choose(config, recipe, kept, (), workers=1, say=never)


@pytest.mark.parametrize(
    ("job", "word"),
    [
        ({"engine": "onnxruntime", "precision": "int8"}, "not quantised"),
        ({"engine": "paddle", "precision": "fp16"}, "fp16 is for GPUs"),
        ({"engine": "paddle-tensorrt"}, "TensorRT needs a GPU"),
    ],
)
def test_what_this_machine_cannot_do_is_refused_by_name(job, word, models):
    config = make_config(tile_size=64, halo=8, normalize="none", bake=False, **job)
    recipe = recipe_of(config, make_package(), make_facts(), "cpu")
    with pytest.raises(ModelError, match=word):
        choose(config, recipe, None, (), workers=1, say=lambda line: None)


def test_a_trial_is_one_line() -> None:
    found = Agreement(pixels=1000, equal=999, iou=((0, 1.0), (2, 0.95)), confidence_difference=0.25)
    trial = Trial(engine="openvino", precision="bf16", tiles_per_second=12.34, agreement=found, reason="lies")
    assert describe_trial(trial) == (
        "openvino bf16: 12.3 tiles/s, 99.9000% equal, worst IoU 0.9500 (class 2), "
        "confidence off by 0.250 at most, out: lies"
    )


@pytest.mark.slow
def test_the_first_run_chooses_and_the_second_keeps(
    tmp_path: Path, write_job: JobWriter, models: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 150, 190), dtype=np.uint8)
    write_raster(tmp_path / "in" / "a.tif", pixels)
    keys = {"model": str(models / "conv"), "bands": None, "classes": ["a", "b", "c"], "scale": {"divide": 1}}
    job = write_job(
        **keys, engine="auto", precision="fp32", executor="inline", gate={"tiles": 2, "seconds": 0.1}
    )
    first = batchseg("run", job)
    assert first.returncode == 0, first.stderr
    assert "trying onnxruntime fp32" in first.stderr
    state = json.loads((tmp_path / "out" / "_batchseg" / "output.json").read_text())
    tried = {(trial["engine"], trial["precision"]): trial for trial in state["choice"]["trials"]}
    assert tried["paddle", "fp32"]["equal"] == tried["openvino", "fp32"]["equal"] == 1
    assert tried["paddle", "fp32"]["tiles_per_second"] > 0
    (summary,) = (tmp_path / "out").glob("_batchseg/runs/*/summary.json")
    assert json.loads(summary.read_text())["engine"] == state["choice"]
    assert f"engine: {state['choice']['engine']} in fp32" in first.stdout
    (log,) = (tmp_path / "out").glob("_batchseg/runs/*/log.txt")
    assert f"chosen: {state['choice']['engine']} in fp32" in log.read_text()

    write_raster(tmp_path / "in" / "b.tif", pixels)
    second = batchseg("run", job)
    assert second.returncode == 0, second.stderr
    assert "trying" not in second.stderr
    np.testing.assert_array_equal(read_mask(tmp_path / "out", "a.tif"), read_mask(tmp_path / "out", "b.tif"))

    other = "openvino" if state["choice"]["engine"] != "openvino" else "paddle"
    third = batchseg("run", job, "--set", f"engine={other}")
    assert third.returncode == 2
    assert f'engine: "{state["choice"]["engine"]}" -> "{other}"' in third.stderr


def job_with_onnx_beside(weights: str, tmp_path: Path, write_job: JobWriter, models: Path) -> Path:
    """A job of the network `conv` on ONNX Runtime, beside it the ONNX file of another, or of itself."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, 100, 130), dtype=np.uint8)
    write_raster(tmp_path / "in" / "a.tif", pixels)
    shutil.copytree(models / "conv", tmp_path / "model")
    to_onnx(read_model(str(models / weights)), tmp_path / "model" / "model.onnx")
    keys = {"model": "model", "bands": None, "classes": None, "scale": {"divide": 1}, "executor": "inline"}
    return write_job(**keys, engine="onnxruntime", gate={"tiles": 2, "seconds": 0.1})


@pytest.mark.slow
def test_an_onnx_file_beside_the_network_must_pass_the_gate_even_where_the_job_names_the_engine(
    tmp_path: Path, write_job: JobWriter, models: Path
) -> None:
    job = job_with_onnx_beside("other", tmp_path, write_job, models)
    refused = batchseg("run", job)
    assert refused.returncode == 4
    assert re.search(
        r"otherwise than paddle, the model's own engine: \d+\.\d+% of the pixels", refused.stderr
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_an_onnx_file_that_is_exchanged_after_it_was_chosen_is_refused(
    tmp_path: Path, write_job: JobWriter, models: Path
) -> None:
    job = job_with_onnx_beside("conv", tmp_path, write_job, models)
    assert batchseg("run", job).returncode == 0
    to_onnx(read_model(str(models / "other")), tmp_path / "model" / "model.onnx")
    shutil.copy(tmp_path / "in" / "a.tif", tmp_path / "in" / "b.tif")
    changed = batchseg("run", job)
    assert (changed.returncode, "is not the one that this output was made with" in changed.stderr) == (
        4,
        True,
    )


def named(monkeypatch: pytest.MonkeyPatch, agreement: Agreement | None, reason: str | None = None):
    """A config that names ONNX Runtime for a Paddle network, and what comparing it gives."""
    config = make_config(engine="onnxruntime", tile_size=64, halo=8, normalize="none", bake=False)
    trial = Trial(engine="onnxruntime", precision="fp32", agreement=agreement, reason=reason)
    bench = Bench(trials=(trial,), chosen=trial, tiles=1, workers=1, class_count=4, classes_seen=4)
    monkeypatch.setattr(choice_module, "sample_tiles", lambda recipe, sources, count: [])
    monkeypatch.setattr(choice_module, "compare", lambda recipe, samples, **options: bench)
    return config, recipe_of(config, make_package(), make_facts(class_count=4), "cpu")


EQUAL = Agreement(pixels=1000, equal=1000, iou=((0, 1.0),), confidence_difference=None)
OFF = Agreement(pixels=10000, equal=9817, iou=((0, 0.99), (3, 0.9398)), confidence_difference=None)


def test_a_named_engine_is_compared_once_and_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    config, recipe = named(monkeypatch, EQUAL)
    _, choice = choose(config, recipe, None, [make_source()], workers=1, say=lambda line: None)
    assert (choice.compared, choice.trials[0]["equal"]) == (True, 1)
    assert choice.proof == "100.000% of pixels equal when tried"
    kept = from_document(json.loads(json.dumps(as_document(choice))))
    assert choose(config, recipe, kept, [make_source()], workers=1, say=never)[1] == choice


def test_a_named_engine_that_answers_otherwise_is_refused_with_what_to_do(monkeypatch) -> None:
    config, recipe = named(monkeypatch, OFF, "98.1700% of the pixels agree, 99.90% are asked for")
    with pytest.raises(ModelError) as caught:
        choose(config, recipe, None, [make_source()], workers=1, say=lambda line: None)
    assert caught.value.lines == (
        "model: onnxruntime fp32 answers otherwise than paddle, the model's own engine: "
        "98.1700% of the pixels agree, 99.90% are asked for",
        "use the model's own, engine: paddle, or engine: auto, which takes another only if it agrees",
        "or, if that is near enough for you, gate: {equal_pixels: 0.981, iou: 0.939}",
    )
    assert shortfall(OFF, Gate(equal_pixels=0.981, iou=0.939)) is None


def test_a_named_engine_that_met_no_source_is_compared_by_the_next_run(monkeypatch) -> None:
    config, recipe = named(monkeypatch, OFF, "98.1700% of the pixels agree, 99.90% are asked for")
    monkeypatch.setattr(choice_module, "try_out", lambda recipe: None)
    _, choice = choose(config, recipe, None, (), workers=1, say=never)
    assert choice.compared is False
    with pytest.raises(ModelError, match="answers otherwise"):
        choose(config, recipe, choice, [make_source()], workers=1, say=lambda line: None)


def test_an_output_that_trusted_a_named_engine_goes_on_and_says_so(monkeypatch) -> None:
    config, recipe = named(monkeypatch, OFF, "98.1700% of the pixels agree, 99.90% are asked for")
    kept = Choice(engine="onnxruntime", precision="fp32", device="cpu", baked=False, asked=asked_for(config))
    said: list[str] = []
    _, choice = choose(config, recipe, kept, [make_source()], workers=1, say=said.append)
    assert choice == kept
    assert "never compared with paddle, the model's own engine: `batchseg model bench" in said[0]


def test_a_plan_compares_nothing_and_says_that_the_run_will(monkeypatch) -> None:
    config, recipe = named(monkeypatch, None)
    monkeypatch.setattr(choice_module, "try_out", lambda recipe: None)
    monkeypatch.delattr(choice_module, "compare")
    said: list[str] = []
    choose(config, recipe, None, None, workers=1, say=said.append)
    assert said == ["the first run compares onnxruntime with paddle on its own tiles"]

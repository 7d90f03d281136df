"""Engines tried on real tiles: who agrees, who lies, who crashes."""

import os
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from factories import make_config, make_facts

from batchseg.engines.graphs.to_onnx import to_onnx
from batchseg.errors import ModelError
from batchseg.job.recipe import Recipe
from batchseg.job.resolve import make_recipe as recipe_of
from batchseg.job.settings import Gate
from batchseg.models.reading import read_model
from batchseg.predict import engine_trials as bench_module
from batchseg.predict.engine_trials import Trial, bench, compare
from batchseg.predict.predictor import with_engine
from batchseg.predict.samples import Sample

GATE = Gate(seconds=0.1)


def conv_recipe(models: Path, **job) -> Recipe:
    config = make_config(tile_size=64, halo=8, normalize="none", **job)
    facts = make_facts(class_count=3)
    return recipe_of(config, read_model(str(models / "conv")), facts, "cpu")


def noise(recipe: Recipe, count: int = 2) -> list[Sample]:
    random = np.random.default_rng(0)
    tiles = random.integers(0, 256, (count, 3, 64, 64), dtype=np.uint8)
    return [Sample(pixels=tile, scale=recipe.scale) for tile in tiles]


@pytest.mark.slow
def test_engines_are_compared_with_the_bare_network(models: Path) -> None:
    recipe = conv_recipe(models)
    found = bench(
        recipe,
        noise(recipe),
        workers=2,
        gate=GATE,
        engines=("paddle", "onnxruntime"),
        precisions=("fp32",),
    )
    assert [trial.name for trial in found.trials] == ["paddle fp32", "onnxruntime fp32"]
    for trial in found.trials:
        assert trial.reason is None
        assert trial.agreement is not None
        assert trial.agreement.equal_share >= 0.999
        assert trial.agreement.confidence_difference is not None
        assert trial.tiles_per_second is not None
    assert found.chosen in found.trials


@pytest.mark.slow
def test_an_onnx_file_of_other_weights_offered_as_the_converted_one_is_out(
    models: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "conv"
    shutil.copytree(models / "conv", folder)
    to_onnx(read_model(str(models / "other")), folder / "model.onnx")
    recipe = conv_recipe(folder.parent)
    assert recipe.model.conversion == str(folder / "model.onnx")
    engines = ("paddle", "onnxruntime")
    found = bench(recipe, noise(recipe), workers=1, gate=GATE, engines=engines, precisions=("fp32",))
    assert found.chosen.name == "paddle fp32"
    assert re.search(r"% of the pixels agree", found.trials[1].reason or "")
    (folder / "model.onnx").replace(folder / "other.onnx")
    to_onnx(read_model(str(models / "conv")), folder / "model.onnx")
    found = bench(recipe, noise(recipe), workers=1, gate=GATE, engines=engines, precisions=("fp32",))
    assert found.trials[1].reason is None


@pytest.mark.parametrize("what", ["dies", "crawls"])
def test_an_engine_that_dies_or_crawls_is_out_and_not_the_run(what, models, monkeypatch):
    recipe = conv_recipe(models)
    real = bench_module._labels
    monkeypatch.setattr(bench_module, "START_SECONDS", 2.0)
    monkeypatch.setattr(bench_module, "_labels", {"dies": dies, "crawls": crawls}[what])
    monkeypatch.setattr(bench_module, "_reference", lambda base, path: real(base, path))
    found = bench(recipe, noise(recipe), workers=1, gate=GATE, engines=("paddle",), precisions=("fp32",))
    assert re.search("was ended by SIGABRT|gave no answer", found.trials[0].reason or "")
    assert found.chosen.bare


def dies(*args: object) -> None:
    os.abort()


def crawls(*args: object) -> None:
    time.sleep(600)


def trial(name: str, speed: float | None, reason: str | None = None) -> Trial:
    engine, precision = name.split()
    return Trial(engine=engine, precision=precision, tiles_per_second=speed, reason=reason)


@pytest.mark.parametrize(
    ("trials", "chosen"),
    [
        ([trial("paddle fp32", 10), trial("openvino bf16", 20)], "openvino bf16"),
        ([trial("paddle fp32", 10), trial("openvino bf16", 20, "lies")], "paddle fp32"),
        ([trial("paddle fp32", 10), trial("openvino fp32", 10.4)], "paddle fp32"),
        ([trial("paddle fp32", 10, "lies"), trial("openvino fp32", 2)], "openvino fp32"),
    ],
)
def test_the_fastest_that_passed_is_chosen_unless_it_is_only_noise(trials, chosen):
    assert bench_module._choose(trials).name == chosen


def test_where_nothing_agrees_the_bare_network_itself_is_taken(models: Path) -> None:
    recipe = conv_recipe(models)
    never = Gate(equal_pixels=1.1, seconds=0.1)
    found = bench(recipe, noise(recipe, 1), workers=1, gate=never, engines=("paddle",), precisions=("fp32",))
    assert (found.chosen.name, found.chosen.bare) == ("paddle fp32", True)
    assert "of the pixels agree" in (found.trials[0].reason or "")


def test_where_none_passes_every_reason_is_said():
    with pytest.raises(ModelError, match=r"paddle fp32: lies\n  openvino bf16: crawls"):
        bench_module._choose([trial("paddle fp32", 10, "lies"), trial("openvino bf16", None, "crawls")])


def test_an_engine_is_compared_without_being_timed(models: Path) -> None:
    recipe = with_engine(conv_recipe(models), "onnxruntime", "fp32")
    (trial,) = compare(recipe, noise(recipe, 1), gate=GATE).trials
    assert (trial.name, trial.reason, trial.tiles_per_second) == ("onnxruntime fp32", None, None)
    assert trial.agreement is not None
    assert trial.agreement.equal_share >= 0.999

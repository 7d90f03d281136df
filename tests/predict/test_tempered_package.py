"""A temperature in a network's graph: the same classes, softer or sharper probabilities."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from factories import make_package, make_recipe
from onnx import TensorProto, helper, numpy_helper
from packages import onnx_package
from probed import write_conv

from batchseg.errors import ConfigError, ModelError
from batchseg.job.recipe import Recipe
from batchseg.models.package import ModelPackage
from batchseg.models.reading import read_model
from batchseg.predict.label_counts import LabelCounts
from batchseg.predict.predictor import load_predictor
from batchseg.predict.probe import probe
from batchseg.predict.temperature import Calibration, Reliability
from batchseg.predict.tempered_package import check_temperable, write_tempered

EMPTY = Reliability(counts=(1,), said=(0.9,), right=(0.8,))
FOUND = Calibration(
    temperature=2.5,
    before=EMPTY,
    after=EMPTY,
    fitted=3,
    judged=2,
    labels=LabelCounts(classes=(1, 1), others=()),
)


def recipe_of(package: ModelPackage) -> Recipe:
    facts, _ = probe(package, channels=3, tile_size=64, device="cpu")
    engine = "paddle" if package.format == "pir" else "onnxruntime"
    return make_recipe(
        model=package, facts=facts, tile_size=64, halo=0, normalize=None, engine=engine, class_count=None
    )


def scores(recipe: Recipe) -> np.ndarray:
    pixels = np.random.default_rng(0).random((1, 3, 64, 64), dtype=np.float32)
    (answer,) = load_predictor(recipe).run(pixels)
    return answer.output


def test_a_paddle_networks_scores_are_divided(models: Path, tmp_path: Path) -> None:
    recipe = recipe_of(read_model(str(models / "conv")))
    again = recipe_of(write_tempered(recipe, FOUND, tmp_path / "new"))
    np.testing.assert_allclose(scores(again), scores(recipe) / 2.5, rtol=1e-5, atol=1e-4)
    assert again.model.normalize == recipe.model.normalize


def test_an_onnx_networks_too(tmp_path: Path) -> None:
    recipe = recipe_of(onnx_package(write_conv(tmp_path / "a.onnx", 2, gain=4.0), bands=3))
    (tmp_path / "item.json").write_text(json.dumps({"type": "Feature"}))
    again = recipe_of(write_tempered(recipe, FOUND, tmp_path / "new"))
    np.testing.assert_allclose(scores(again), scores(recipe) / 2.5, rtol=1e-5, atol=1e-5)
    assert (tmp_path / "new" / "item.json").exists()
    with pytest.raises(ConfigError, match="name a folder that does not exist"):
        write_tempered(recipe, FOUND, tmp_path / "new")


def write_head(path: Path, operator: str, bands: int) -> Path:
    """A network whose scores are its first bands, through Softmax or Sigmoid."""
    numbers = (("from", 0), ("to", bands), ("axis", 1))
    cut = [numpy_helper.from_array(np.array([value], np.int64), name) for name, value in numbers]
    more = {"axis": 1} if operator == "Softmax" else {}
    nodes = [
        helper.make_node("Slice", ["x", "from", "to", "axis"], ["y"]),
        helper.make_node(operator, ["y"], ["p"], **more),
    ]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", count, "h", "w"])
        for name, count in (("x", 3), ("p", bands))
    ]
    graph = helper.make_graph(nodes, "net", values[:1], values[1:], cut)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), str(path))
    return path


@pytest.mark.parametrize(("operator", "bands"), [("Softmax", 3), ("Sigmoid", 1)])
def test_probabilities_are_as_if_the_scores_before_them_were_divided(operator, bands, tmp_path: Path) -> None:
    recipe = recipe_of(onnx_package(write_head(tmp_path / "a.onnx", operator, bands), bands=3))
    assert recipe.facts.output == ("sigmoid" if bands == 1 else "probabilities")
    again = recipe_of(write_tempered(recipe, FOUND, tmp_path / "new"))
    assert again.facts.output == recipe.facts.output
    raw = np.random.default_rng(0).random((1, 3, 64, 64), dtype=np.float32)[0, :bands] / 2.5
    powers = np.exp(raw)
    expected = 1 / (1 + np.exp(-raw)) if bands == 1 else powers / powers.sum(axis=0)
    np.testing.assert_allclose(scores(again), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"encrypted": True}, "calibrate first, then encrypt"),
        ({"origin": "baked"}, "gives classes and no scores"),
        ({"output": "classes"}, "gives classes and no scores"),
        ({"format": "pdmodel"}, "export it with Paddle 3"),
    ],
)
def test_what_has_no_scores_or_cannot_be_written_is_refused(changed, words) -> None:
    with pytest.raises(ModelError, match=words):
        check_temperable(make_package(**changed))

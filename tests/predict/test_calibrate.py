"""A network in int8 from tiles to predictors, by way of an output."""

import dataclasses
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from factories import make_config, make_facts

from batchseg.errors import ModelError, OutputError
from batchseg.job.recipe import Quantized, Recipe
from batchseg.job.resolve import make_recipe as recipe_of
from batchseg.models.reading import read_model
from batchseg.output.quantized import store
from batchseg.predict.calibrate import calibrate
from batchseg.predict.predictor import Preparation, load_predictor, network_for, with_engine
from batchseg.predict.samples import Sample
from batchseg.predict.scores import reference_recipe
from batchseg.system.location import Location

SIDE = 64


@pytest.fixture(autouse=True)
def _as_on_machines_that_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchseg.engines.openvino.has_fast_int8", lambda: True)


def conv_recipe(models: Path) -> Recipe:
    config = make_config(tile_size=SIDE, halo=8, normalize="none")
    recipe = recipe_of(config, read_model(str(models / "conv")), make_facts(class_count=3), "cpu")
    return with_engine(recipe, "openvino", "fp32")


def tiles(recipe: Recipe, count: int = 4) -> list[Sample]:
    rows, cols = np.mgrid[0:SIDE, 0:SIDE]
    waves = [[np.sin(rows / (4 + n + b)) * np.cos(cols / (7 - b)) for b in range(3)] for n in range(count)]
    pixels = (127 + 120 * np.array(waves)).astype(np.uint8)
    return [Sample(pixels=tile, scale=recipe.scale) for tile in pixels]


@pytest.fixture(scope="module")
def made(models: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Quantized]:
    """The recipe in fp32, and its network in int8 where it was made."""
    pytest.importorskip("nncf")
    recipe = conv_recipe(models)
    return recipe, calibrate(recipe, tiles(recipe), tmp_path_factory.mktemp("int8"))


def in_int8(recipe: Recipe, quantized: Quantized) -> Recipe:
    return dataclasses.replace(with_engine(recipe, "openvino", "int8"), quantized=quantized)


def ids(recipe: Recipe) -> np.ndarray:
    predictor, preparation = load_predictor(recipe), Preparation(recipe)
    batch = preparation.buffer(4)
    for number, sample in enumerate(tiles(recipe)):
        preparation(sample.pixels, batch[number])
    return np.stack([answer.output for answer in predictor.run(batch)])


def test_a_network_is_tried_where_it_was_made(made: tuple[Recipe, Quantized]) -> None:
    recipe, quantized = made
    exact, rounded = ids(recipe), ids(in_int8(recipe, quantized))
    assert exact.shape == rounded.shape == (4, SIDE - 16, SIDE - 16)
    assert 0.95 < np.mean(exact == rounded) < 1


def test_the_same_tiles_give_the_same_network(made: tuple[Recipe, Quantized], tmp_path: Path) -> None:
    recipe, quantized = made
    again = calibrate(recipe, tiles(recipe), tmp_path)
    assert again.digest == quantized.digest
    assert again.root == str(tmp_path)


def test_one_network_serves_confidences_too(made: tuple[Recipe, Quantized]) -> None:
    recipe = in_int8(*made)
    assert recipe.bake is not None
    assert not recipe.bake.confidence
    asked = dataclasses.replace(
        recipe, confidence=True, bake=dataclasses.replace(recipe.bake, confidence=True)
    )
    preparation = Preparation(asked)
    batch = preparation.buffer(1)
    preparation(tiles(asked)[0].pixels, batch[0])
    (answer,) = load_predictor(asked).run(batch)
    assert answer.confidence is not None
    np.testing.assert_array_equal(answer.output, ids(recipe)[0])


@pytest.mark.parametrize("where", ["local", "memory", "bucket"])
def test_every_host_takes_it_from_the_output(
    where: str,
    made: tuple[Recipe, Quantized],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    recipe, quantized = made
    output = request.getfixturevalue("bucket") if where == "bucket" else f"{where}://int8"
    output = str(tmp_path / "out") if where == "local" else f"{output}/out"
    kept = store(output, copied(quantized, tmp_path))
    assert store(output, copied(quantized, tmp_path)) == kept
    assert kept.path == f"_batchseg/networks/{quantized.digest}.zip"
    sent = pickle.loads(pickle.dumps(in_int8(recipe, kept)))
    monkeypatch.setenv("BATCHSEG_MODEL_CACHE", str(tmp_path / "another-host"))
    network = network_for(sent)
    assert (network.format, network.quantized) == ("openvino", True)
    assert network.path.startswith(str(tmp_path / "another-host"))
    if where == "local":
        np.testing.assert_array_equal(ids(sent), ids(in_int8(recipe, quantized)))
        shutil.rmtree(output)
        assert network_for(sent) == network  # from the cache


def copied(quantized: Quantized, folder: Path) -> Quantized:
    """To be moved; the module's own stays."""
    place = Location.of(quantized.root).below(quantized.path).path
    assert place is not None
    (folder / "made").mkdir(exist_ok=True)
    shutil.copy(place, folder / "made" / quantized.path)
    return dataclasses.replace(quantized, root=str(folder / "made"))


def test_another_file_in_its_place_is_refused(models: Path, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "network.zip").write_bytes(b"a network")
    digest = "17d2f7bf2ef9fdb6a1e9a2fc1ce5c0b1f6c1ac7f3a4f1e0a0f6f4a3f5b1c2d3e"
    made = Quantized(root=str(tmp_path / "made"), path="network.zip", digest=digest)
    kept = store(str(tmp_path / "out"), made)
    recipe = in_int8(conv_recipe(models), kept)
    file = tmp_path / "out" / kept.path
    with pytest.raises(ModelError, match="is not the network in int8 that this output is made with"):
        network_for(recipe)
    file.unlink()
    with pytest.raises(OutputError, match=r"cannot read .*networks/17d2.* No such file"):
        network_for(recipe)
    file.symlink_to("/etc/hostname")
    with pytest.raises(OutputError, match="cannot read"):
        network_for(recipe)


def test_the_network_decides_pixels_and_is_no_other_engines(models: Path) -> None:
    quantized = Quantized(root="out", path="_batchseg/networks/ab.zip", digest="ab")
    recipe = conv_recipe(models)
    assert "quantized" not in recipe.settings()
    other = in_int8(recipe, quantized)
    assert other.settings() == {**recipe.settings(), "precision": "int8", "quantized": "ab"}
    moved = in_int8(recipe, dataclasses.replace(quantized, root="elsewhere"))
    assert moved.digest == other.digest
    assert with_engine(other, "openvino", "int8").quantized == quantized
    assert with_engine(other, "openvino", "bf16").quantized is None
    assert with_engine(other, "onnxruntime", "int8").quantized is None
    assert reference_recipe(other).quantized is None


def test_a_network_that_cannot_be_quantised_is_the_models_fault(models: Path, tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    recipe = conv_recipe(models)
    broken = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, encrypted=True))
    with pytest.raises(ModelError, match="encrypted"):
        calibrate(broken, tiles(recipe), tmp_path)
    assert list(tmp_path.iterdir()) == []

"""What one process of a trial does."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from factories import make_config, make_facts
from probed import noise, write_conv

from batchseg.job.recipe import Recipe
from batchseg.job.resolve import make_recipe as recipe_of
from batchseg.models.reading import read_model
from batchseg.predict import attempt as attempt_module
from batchseg.predict.attempt import attempt
from batchseg.predict.crop_tiles import cut, save_crops, tiles_of
from batchseg.predict.fleet import Meeting
from batchseg.predict.predictor import with_engine
from batchseg.predict.scores import Scorer


@pytest.fixture(autouse=True)
def _heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of its own would fall silent."""
    monkeypatch.setattr(attempt_module, "silence_stdout", lambda: None)


def recipe_for(folder: Path, **job) -> Recipe:
    config = make_config(tile_size=64, halo=8, normalize="none", **job)
    package = read_model(str(write_conv(folder / "a.onnx", 3, gain=8.0)))
    recipe = recipe_of(config, package, make_facts(stride=1, class_count=None), "cpu")
    return with_engine(recipe, "onnxruntime", "fp32")


@pytest.mark.parametrize("job", [{}, {"bake": False}, {"confidence": True}], ids=str)
def test_answers_have_the_references_classes_and_confidences_whatever_is_baked(job, tmp_path: Path) -> None:
    """Also where the network that runs gives no confidences: then the same one with them does."""
    recipe = recipe_for(tmp_path, **job)
    assert (recipe.bake is None) is (job == {"bake": False})
    crops = [noise(recipe, 100), noise(recipe, 80, seed=1)]
    tiles = tiles_of(crops, 64, 8)
    (tmp_path / "crops").mkdir()
    folder = save_crops(crops, tmp_path / "crops")
    part = attempt(recipe, folder, tiles, 0.0, Meeting(folder=str(tmp_path), number=0, count=1))
    assert [at for at, _ in part.labels] == tiles
    scorer = Scorer(recipe)
    for at, labels in part.labels:
        expected = scorer.labels(cut(crops[at.crop], at, 64, 8), crops[at.crop], 8)
        np.testing.assert_array_equal(labels.classes, expected.classes)
        assert labels.confidence is not None
        assert np.abs(labels.confidence.astype(int) - expected.confidence).max() <= 1
    assert part.tiles_per_second == 0  # it was not asked for
    assert part.memory > 2**20


def test_each_process_has_its_share_and_those_without_any_are_timed_all_the_same(tmp_path, monkeypatch):
    recipe = recipe_for(tmp_path)
    crops = [noise(recipe, 100)]
    tiles = tiles_of(crops, 64, 8)[:2]
    (tmp_path / "crops").mkdir()
    folder = save_crops(crops, tmp_path / "crops")
    monkeypatch.setattr(Meeting, "exchange", lambda self, name, found: [found])
    parts = [
        attempt(recipe, folder, tiles, 0.05, Meeting(folder=str(tmp_path), number=number, count=3))
        for number in range(3)
    ]
    assert [[at for at, _ in part.labels] for part in parts] == [[tiles[0]], [tiles[1]], []]
    assert all(part.tiles_per_second > 0 for part in parts)


def test_a_network_that_gives_ids_alone_has_no_confidences(tmp_path: Path, models: Path) -> None:
    config = make_config(tile_size=64, halo=8, normalize="none", bands=None)
    facts = make_facts(output="classes", channels=1, class_count=None)
    recipe = recipe_of(config, read_model(str(models / "ids")), facts, "cpu")
    grey = dataclasses.replace(noise(recipe, 64), pixels=noise(recipe, 64).pixels[:1] // 2)
    (tmp_path / "crops").mkdir()
    folder = save_crops([grey], tmp_path / "crops")
    tiles = tiles_of([grey], 64, 8)[:1]
    part = attempt(recipe, folder, tiles, 0.0, Meeting(folder=str(tmp_path), number=0, count=1))
    ((_, labels),) = part.labels
    assert labels.confidence is None

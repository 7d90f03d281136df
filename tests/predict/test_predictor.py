"""The guards around a session, and real networks through them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spectral
from factories import make_config, make_facts, make_package, make_recipe
from hypothesis import given, settings
from hypothesis import strategies as st

from batchseg.errors import StoppedError
from batchseg.job.resolve import make_recipe as recipe_of
from batchseg.job.settings import Scale
from batchseg.models.package import Normalize
from batchseg.models.reading import read_model
from batchseg.predict.predictor import Predictor, Preparation, load_predictor, usual_batch
from batchseg.predict.stitch import classify, winning_probability

KEPT = (slice(3, -3), slice(3, -3))
"""Of a tile with the factories' halo."""


class Sums:
    """A session that gives the sum of a tile's bands, and has memory for so many tiles."""

    def __init__(self, room: int = 1000, error: type[Exception] = MemoryError) -> None:
        self.room, self.error = room, error
        self.sizes: list[int] = []

    def run(self, batch: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
        assert len(batch) > 0
        assert batch.flags.c_contiguous
        if len(batch) > self.room:
            msg = "ResourceExhaustedError: Out of memory error on GPU 0. Cannot allocate 98.000244MB"
            raise self.error(msg)
        self.sizes.append(len(batch))
        return [batch.sum(axis=1, keepdims=True).repeat(2, axis=1)]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 9), st.integers(1, 8), st.integers(1, 8), st.sampled_from([MemoryError, RuntimeError]))
def test_what_memory_refuses_is_halved_and_every_tile_answered_once(count, batch_size, room, error):
    session = Sums(room, error)
    predictor = Predictor(make_recipe(class_count=2), session, batch_size)
    batch = np.random.default_rng(0).random((count, 3, 16, 16), dtype=np.float32)
    answers = predictor.run(batch)
    assert len(answers) == count
    for tile, answer in zip(batch, answers, strict=True):
        assert np.array_equal(answer.output, tile.sum(axis=0, keepdims=True).repeat(2, axis=0)[:, *KEPT])
    session.sizes.clear()
    predictor.run(batch)
    assert all(size <= room for size in session.sizes)  # it is remembered what fits


def test_a_tile_that_does_not_fit_alone_is_nobody_s_fault():
    with pytest.raises(
        StoppedError, match=r"no memory for 1 tile .*Out of memory error on GPU 0.*`tile_size`"
    ):
        Predictor(make_recipe(), Sums(room=0), 4).run(np.zeros((3, 3, 16, 16), np.float32))


def test_other_errors_are_not_taken_for_lack_of_memory():
    class Broken(Sums):
        def run(self, batch):
            self.sizes.append(len(batch))
            raise RuntimeError("kernel not found")

    session = Broken()
    with pytest.raises(RuntimeError, match="kernel not found"):
        Predictor(make_recipe(), session, 4).run(np.zeros((3, 3, 16, 16), np.float32))
    assert session.sizes == [3]


@pytest.mark.parametrize(("engine", "sizes"), [("paddle", [4, 2]), ("onnxruntime", [1] * 6)])
def test_a_tiles_answer_never_depends_on_its_neighbours_in_a_batch(engine, sizes):
    session = Sums()
    Predictor(make_recipe(engine=engine), session, 4).run(np.ones((6, 3, 16, 16), np.float32))
    assert session.sizes == sizes


@pytest.mark.parametrize("recipe", [{"device": "gpu"}, {"model": make_package(batch=4)}])
def test_where_a_new_shape_costs_a_new_plan_batches_are_filled_up(recipe):
    session = Sums()
    answers = Predictor(make_recipe(**recipe), session, 4).run(np.ones((6, 3, 16, 16), np.float32))
    assert (len(answers), session.sizes) == (6, [4, 4])


def test_scores_with_the_classes_last_are_turned():
    class Last(Sums):
        def run(self, batch):
            return [np.moveaxis(batch, 1, -1)]

    batch = np.random.default_rng(1).random((2, 3, 16, 16), dtype=np.float32)
    recipe = make_recipe(facts=make_facts(output_layout="NHWC"))
    for tile, answer in zip(batch, Predictor(recipe, Last()).run(batch), strict=True):
        assert np.array_equal(answer.output, tile[:, *KEPT])


def spectral_recipe(models: Path, **job: Any):
    config = make_config(
        tile_size=64, scale=Scale(kind="divide", low=(0.0,), high=(1.0,)), normalize="none", **job
    )
    package = read_model(str(models / "spectral"))
    return recipe_of(config, package, make_facts(channels=4, class_count=4), "cpu")


def test_a_tile_has_the_same_answer_alone_and_in_any_batch(models: Path) -> None:
    predictor = load_predictor(spectral_recipe(models, bake=False), batch_size=5)
    tiles = np.random.default_rng(0).random((5, 4, 64, 64), dtype=np.float32)
    for tile, answer in zip(tiles, predictor.run(tiles), strict=True):
        np.testing.assert_array_equal(predictor.run(tile[None])[0].output, answer.output)
        np.testing.assert_array_equal(answer.output, spectral.scores(tile)[:, *KEPT])


@pytest.mark.parametrize("confidence", [False, True])
def test_a_baked_network_gives_the_ids_of_the_bare_one(models: Path, confidence: bool) -> None:
    recipe = spectral_recipe(models, confidence=confidence)
    assert recipe.bake is not None
    tile = np.random.default_rng(0).random((1, 4, 64, 64), dtype=np.float32)
    (answer,) = load_predictor(recipe).run(tile)
    (bare,) = load_predictor(replace(recipe, bake=None)).run(tile)
    assert np.array_equal(answer.output, bare.output.argmax(axis=0))
    assert (answer.confidence is not None) == confidence


def test_a_baked_sigmoid_band_has_its_threshold_and_its_winners_probability(models: Path) -> None:
    package = replace(read_model(str(models / "glow")), threshold=0.3)
    config = make_config(tile_size=64, confidence=True, normalize=Normalize(mean=(0.1,), std=(0.9,)))
    recipe = recipe_of(config, package, make_facts(output="sigmoid", class_count=2), "cpu")
    tile = np.random.default_rng(0).integers(0, 256, (3, 64, 64), dtype=np.uint8)
    answers = []
    for variant in (recipe, replace(recipe, bake=None)):
        preparation = Preparation(variant)
        buffer = preparation.buffer(1)
        preparation(tile, buffer[0])
        answers += load_predictor(variant).run(buffer)
    baked, bare = answers
    assert set(np.unique(baked.output)) == {0, 1}
    assert np.array_equal(baked.output, classify(bare.output, recipe=replace(recipe, bake=None)))
    confidence = winning_probability(bare.output, replace(recipe, bake=None))
    assert np.abs(baked.confidence.astype(int) - confidence).max() <= 1


def test_an_empty_batch_never_reaches_the_engine(models: Path) -> None:
    predictor = load_predictor(spectral_recipe(models))
    assert predictor.run(np.empty((0, 4, 64, 64), dtype=np.float32)) == []


def test_usual_batches_of_scenes_are_of_two_tiles_in_bf16():
    sizes = [
        usual_batch(make_recipe(precision=precision, tile_size=side))
        for precision in ("fp32", "bf16")
        for side in (512, 1024)
    ]
    assert sizes == [1, 1, 2, 1]

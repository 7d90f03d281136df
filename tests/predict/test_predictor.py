"""The guards around a session, and real networks through them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spectral
from factories import make_config, make_facts, make_package, make_recipe, prepared
from hypothesis import given, settings
from hypothesis import strategies as st

from batchseg.errors import StoppedError
from batchseg.job.resolve import make_recipe as recipe_of
from batchseg.job.settings import Scale
from batchseg.models.package import Bake, Normalize
from batchseg.models.reading import read_model
from batchseg.predict.answer import classify, winning_probability
from batchseg.predict.predictor import Predictor, Preparation, load_predictor, usual_batch

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


IMAGENET = Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


STRETCH = Scale(kind="stretch", low=(100.0, 0.0, 50.0), high=(3000.0, 4000.0, 5000.0))


def per_band(values) -> np.ndarray:
    return np.array(values, dtype=np.float32)[:, None, None]


@pytest.mark.parametrize("normalize", [IMAGENET, make_recipe().normalize], ids=["imagenet", "default"])
def test_preparation_is_paddlesegs_formula(normalize):
    tile = np.random.default_rng(1).permutation(256).astype(np.uint8).reshape(1, 8, 32).repeat(3, axis=0)
    answer = prepared(make_recipe(normalize=normalize), tile)
    assert answer.dtype == np.float32
    in_float32 = (tile.astype(np.float32) / np.float32(255) - per_band(normalize.mean)) / per_band(
        normalize.std
    )
    assert np.array_equal(answer, in_float32)
    # PaddleSeg's own lines keep mean and std in float64, which may move the last bit.
    own = tile.astype(np.float32, copy=False) / 255.0
    own -= np.array(normalize.mean)[:, None, None]
    own /= np.array(normalize.std)[:, None, None]
    np.testing.assert_allclose(answer, own, rtol=0, atol=5e-7)


numbers = st.floats(-1000, 1000, width=32)


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(["uint8", "uint16", "int16", "float32"]),
    st.sampled_from(["divide", "stretch"]),
    st.tuples(numbers, st.floats(0.5, 20_000, width=32)),
    st.one_of(st.none(), st.tuples(st.floats(-2, 2), st.floats(0.01, 10))),
    st.integers(0, 2**32 - 1),
)
def test_preparation_scales_clips_and_normalises_in_float32(dtype, kind, reach, normal, seed):
    low, high = (0.0, reach[1]) if kind == "divide" else (reach[0], reach[0] + reach[1])
    normalize = None if normal is None else Normalize(mean=(normal[0],) * 3, std=(normal[1],) * 3)
    recipe = make_recipe(scale=Scale(kind=kind, low=(low,), high=(high,)), normalize=normalize)
    tile = (np.random.default_rng(seed).random((3, 5, 7)) * 200).astype(dtype)
    expected = (tile.astype(np.float32) - np.float32(low)) / np.float32(np.float64(high) - np.float64(low))
    if kind == "stretch":
        expected = np.clip(expected, 0, 1)
    if normal is not None:
        expected = (expected - np.float32(normal[0])) / np.float32(normal[1])
    assert expected.dtype == np.float32
    assert np.array_equal(prepared(recipe, tile), expected)


def test_bands_are_prepared_each_by_its_own_values():
    tile = np.arange(3 * 4 * 5, dtype=np.uint16).reshape(3, 4, 5) * 70
    whole = prepared(make_recipe(scale=STRETCH, normalize=IMAGENET), tile)
    for band in range(3):
        scale = Scale(kind="stretch", low=(STRETCH.low[band],), high=(STRETCH.high[band],))
        normalize = Normalize(mean=(IMAGENET.mean[band],), std=(IMAGENET.std[band],))
        alone = make_recipe(bands=(1,), scale=scale, normalize=normalize)
        assert np.array_equal(prepared(alone, tile[band : band + 1])[0], whole[band])


BAKE = Bake(
    pixels="uint8",
    mean=(0.5,) * 3,
    std=(0.5,) * 3,
    output="logits",
    output_layout="NCHW",
    threshold=0.5,
    confidence=False,
)


def test_a_graph_that_normalises_gets_raw_pixels_channels_last():
    preparation = Preparation(make_recipe(bake=BAKE))
    tile = np.random.default_rng(2).integers(0, 256, (3, 16, 16), dtype=np.uint8)
    buffer = preparation.buffer(2)
    assert (buffer.shape, buffer.dtype) == ((2, 16, 16, 3), np.uint8)
    preparation(tile, buffer[1])
    assert np.array_equal(buffer[1], tile.transpose(1, 2, 0))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_network_with_channels_last_gets_the_same_values(dtype):
    tile = np.random.default_rng(3).integers(0, 256, (3, 16, 16), dtype=np.uint8)
    expected = prepared(make_recipe(normalize=IMAGENET), tile)
    recipe = make_recipe(normalize=IMAGENET, model=make_package(layout="NHWC", dtype=dtype))
    preparation = Preparation(recipe)
    buffer = preparation.buffer(1)
    preparation(tile, buffer[0])
    assert np.array_equal(buffer[0], expected.transpose(1, 2, 0).astype(dtype))


def test_a_network_of_uint8_gets_raw_pixels():
    recipe = recipe_of(
        make_config(normalize="none"), make_package(dtype="uint8", layout="NHWC"), make_facts(), "cpu"
    )
    tile = np.random.default_rng(4).integers(0, 256, (3, 16, 16), dtype=np.uint8)
    preparation = Preparation(recipe)
    buffer = preparation.buffer(1)
    preparation(tile, buffer[0])
    assert buffer.dtype == np.uint8
    assert np.array_equal(buffer[0], tile.transpose(1, 2, 0))

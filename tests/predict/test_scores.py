"""The reference: what the bare network says of tiles of any side."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from factories import make_facts, make_recipe
from probed import RAW, bare, noise, write_conv

from batchseg.engines.base import engine
from batchseg.job.recipe import Quantized
from batchseg.models.package import Bake
from batchseg.predict import scores
from batchseg.predict.answer import winning_probability
from batchseg.predict.scores import Scorer, centre, mosaic, reference_recipe


def test_the_reference_is_the_models_own_engine_and_nothing_else() -> None:
    bake = Bake(
        pixels="uint8",
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
        output="logits",
        output_layout="NCHW",
        threshold=0.5,
        confidence=True,
    )
    recipe = make_recipe(
        engine="openvino",
        precision="int8",
        device="cpu",
        facts=make_facts(device="cpu"),
        bake=bake,
        confidence=True,
        quantized=Quantized(root="a", path="b", digest="c"),
    )
    assert reference_recipe(recipe) == dataclasses.replace(
        recipe, engine="paddle", precision="fp32", bake=None, confidence=False, quantized=None
    )


def test_labels_are_of_a_tile_less_its_halo(tmp_path: Path) -> None:
    recipe = bare(write_conv(tmp_path / "a.onnx", 3, gain=8.0))
    scorer, sample = Scorer(recipe), noise(recipe, side=40)
    found, whole = (scorer.labels(sample.pixels, sample, halo) for halo in (5, 0))
    for field in ("classes", "confidence", "margin"):
        inside = getattr(whole, field)[5:-5, 5:-5]
        assert inside.shape == (30, 30)
        np.testing.assert_array_equal(getattr(found, field), inside)
    output = scorer.output(sample.pixels, sample)
    np.testing.assert_array_equal(whole.classes, output.argmax(axis=0))
    np.testing.assert_array_equal(whole.confidence, winning_probability(output, recipe))


class _Narrowing:
    """A session as Paddle's is of some networks: behind a large tile it fails on a small one."""

    loaded = 0

    def __init__(self, session) -> None:
        type(self).loaded += 1
        self._session, self._largest = session, 0

    def run(self, batch):
        if batch.shape[-1] < self._largest:
            msg = "std::exception"
            raise RuntimeError(msg)
        self._largest = batch.shape[-1]
        return self._session.run(batch)


class _Engine:
    @staticmethod
    def load(*args, **options):
        return _Narrowing(engine("onnxruntime").load(*args, **options))


def test_where_a_session_fails_on_another_side_a_fresh_one_is_asked(tmp_path: Path, monkeypatch) -> None:
    recipe = bare(write_conv(tmp_path / "a.onnx", 3))
    expected = {side: Scorer(recipe).output(one.pixels, one) for side, one in samples_of(recipe)}
    monkeypatch.setattr(scores, "engine", lambda name: _Engine)
    monkeypatch.setattr(_Narrowing, "loaded", 0)
    scorer = Scorer(recipe)
    for side, one in samples_of(recipe):
        np.testing.assert_array_equal(scorer.output(one.pixels, one), expected[side])
    assert _Narrowing.loaded == 2
    with pytest.raises(ValueError, match="broadcast"):  # what fails in a fresh one as well is raised
        scorer.output(np.zeros((5, 20, 20), np.uint8), noise(recipe, side=20))


def samples_of(recipe):
    return [(side, noise(recipe, side=side)) for side in (64, 20, 33)]


def test_one_session_answers_tiles_of_all_sides(tmp_path: Path) -> None:
    recipe = bare(write_conv(tmp_path / "a.onnx", 3))
    scorer = Scorer(recipe)
    assert scorer.largest == 0
    for side in (20, 64, 33):
        sample = noise(recipe, side=side)
        assert scorer.output(sample.pixels, sample).shape == (3, side, side)
    assert scorer.largest == 64
    assert len(scorer._sessions) == 1


@pytest.mark.parametrize(("halo", "is_equal"), [(3, True), (5, True), (2, False)])
@pytest.mark.parametrize("side", [100, 96, 40])
def test_tiles_with_enough_halo_are_the_whole_to_the_bit(halo, is_equal, side, tmp_path: Path) -> None:
    recipe = bare(write_conv(tmp_path / "a.onnx", 3), scale=RAW, class_count=3)
    scorer, sample = Scorer(recipe), noise(recipe, side=131)
    whole = scorer.labels(centre(sample.pixels, side), sample, halo).classes
    tiled = mosaic(scorer, sample, side, 32, halo)
    assert tiled.shape == (side - 2 * halo, side - 2 * halo)
    assert np.array_equal(tiled, whole) is is_equal


def test_what_is_smaller_than_a_square_is_reflected_around_its_middle() -> None:
    pixels = np.arange(3 * 5 * 8).reshape(3, 5, 8)
    assert np.array_equal(centre(pixels, 4), pixels[:, 0:4, 2:6])
    square = centre(pixels, 8)
    assert np.array_equal(square[:, 1:6], pixels)
    assert np.array_equal(square[:, 0], pixels[:, 1])
    assert np.array_equal(square[:, 6:], pixels[:, [3, 2]])

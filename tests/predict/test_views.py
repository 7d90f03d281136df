import numpy as np
import pytest
from factories import make_facts, make_recipe

from batchseg.job.averaging import VIEW_COUNT
from batchseg.predict.answer import classify, winning_probability
from batchseg.predict.predictor import Predictor
from batchseg.predict.views import VIEWS, View, mean_of

TILE = np.arange(2 * 3 * 6 * 6, dtype=np.uint8).reshape(2, 3, 6, 6)


@pytest.mark.parametrize("view", VIEWS["d4"])
@pytest.mark.parametrize(("layout", "axes"), [("NCHW", (2, 3)), ("NHWC", (1, 2))])
def test_what_is_said_of_a_view_lies_as_the_tile_does(view, layout, axes):
    tiles = TILE if layout == "NCHW" else np.moveaxis(TILE, 1, -1)
    seen = view.of(tiles, axes)
    said = seen if layout == "NCHW" else np.moveaxis(seen, -1, 1)
    assert np.array_equal(view.back(said), TILE)


def test_the_views_differ_and_are_all_there_are():
    seen = {View.of(view, TILE, (2, 3)).tobytes() for view in VIEWS["d4"]}
    assert len(seen) == 8
    flips = {view.of(TILE, (2, 3)).tobytes() for view in VIEWS["flips"]}
    assert flips == {np.flip(TILE, a).tobytes() for a in ((), (2,), (3,), (2, 3))}
    assert flips < seen


def test_plans_count_as_many_views_as_there_are():
    assert {name: len(views) for name, views in VIEWS.items()} == VIEW_COUNT


def test_the_mean_is_rounded_half_up_and_exact():
    sums = np.array([[[3, 4, 1020]]], np.uint16)
    exact, shares = mean_of(sums, 4)
    assert shares.tolist() == [[[1, 1, 255]]]
    np.testing.assert_allclose(exact, sums / 1020, rtol=1e-6)


class Leaning:
    """A network that sees a gradient: its scores depend on where in its input a pixel lies."""

    def run(self, batch):
        assert batch.flags.c_contiguous
        side = batch.shape[-1]
        rows = np.linspace(-1, 1, side, dtype=np.float32)[:, None] * np.ones(side, np.float32)
        light = batch.mean(axis=1) / 255
        return [np.stack([light + rows, light * 0, 2 * light * rows.T], axis=1)]


@pytest.mark.parametrize("tta", ["none", "flips", "d4"])
def test_answers_are_the_mean_of_softmaxes_over_all_views(tta):
    """Against rotations of whole tiles by numpy, in float64."""
    recipe = make_recipe(tile_size=10, halo=2, tta=tta, confidence=True, facts=make_facts(class_count=3))
    batch = np.random.default_rng(1).uniform(0, 255, (2, 3, 10, 10)).astype(np.float32)
    answers = Predictor(recipe, Leaning()).run(batch)
    views = {"none": [(0, 0)], "flips": [(0, 0), (0, 2), (1, 0), (1, 2)]}
    for number, answer in enumerate(answers):
        sums = np.zeros((3, 6, 6))
        which = views.get(tta, [(m, q) for m in (0, 1) for q in range(4)])
        for mirrored, quarters in which:
            tile = batch[number : number + 1]
            tile = np.rot90(tile[..., ::-1] if mirrored else tile, quarters, (2, 3))
            scores = Leaning().run(np.ascontiguousarray(tile))[0][0].astype(np.float64)
            shares = np.exp(scores) / np.exp(scores).sum(axis=0)
            shares = np.rot90(shares, -quarters, (1, 2))
            sums += (shares[..., ::-1] if mirrored else shares)[:, 2:-2, 2:-2]
        expected = sums / len(which)
        if tta == "none":
            assert np.array_equal(classify(answer.output, recipe), expected.argmax(axis=0))
            continue
        np.testing.assert_allclose(answer.output, expected, atol=0.5 / 255 + 1e-6)
        best = np.sort(expected, axis=0)
        sure = best[-1] - best[-2] > 1 / 255
        assert np.array_equal(classify(answer.output, recipe)[sure], expected.argmax(axis=0)[sure])
        assert (abs(winning_probability(answer.output, recipe) / 255 - expected.max(axis=0)) <= 1 / 255).all()
        assert np.abs(answer.probabilities / 255 - expected).max() <= 1 / 255


def test_one_band_keeps_its_threshold():
    class Constant:
        def run(self, batch):
            return [np.full((len(batch), 1, 10, 10), 0.4, np.float32)]

    recipe = make_recipe(output="sigmoid", class_count=2, tile_size=10, halo=2, tta="d4")
    (answer,) = Predictor(recipe, Constant()).run(np.zeros((1, 3, 10, 10), np.float32))
    assert answer.output.shape == answer.probabilities.shape == (1, 6, 6)
    assert set(answer.probabilities.flat) == {102}
    assert not classify(answer.output, recipe).any()

import numpy as np
import pytest
from factories import make_package, make_recipe
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import shard_grids

from batchseg.errors import ModelError
from batchseg.pixels.fit import tile_grid
from batchseg.pixels.grid import ShardGrid
from batchseg.predict.answer import Answer, classify, margin, probabilities, winning_probability
from batchseg.predict.stitch import Stitcher

properties = settings(deadline=None, max_examples=40)


@properties
@given(st.integers(2, 20), st.integers(0, 2**32 - 1), st.booleans())
def test_classify_is_argmax_also_of_equal_scores(count, seed, tied):
    random = np.random.default_rng(seed)
    scores = random.integers(-2, 2, (count, 5, 9)) if tied else random.normal(size=(count, 5, 9))
    for output in ("logits", "probabilities"):
        recipe = make_recipe(output=output, class_count=count)
        classes = classify(scores.astype(np.float32), recipe)
        assert classes.dtype == np.uint8
        assert np.array_equal(classes, scores.astype(np.float32).argmax(axis=0))


def test_classify_is_argmax_of_more_than_255_classes():
    scores = np.random.default_rng(3).normal(size=(400, 4, 7)).astype(np.float32)
    classes = classify(scores, make_recipe(class_count=400))
    assert classes.dtype == np.uint16
    assert np.array_equal(classes, scores.argmax(axis=0))


def test_classify_does_not_change_its_input():
    scores = np.random.default_rng(4).normal(size=(3, 4, 7)).astype(np.float32)
    before = scores.copy()
    classify(scores, make_recipe())
    assert np.array_equal(scores, before)


@pytest.mark.parametrize("leading", [(), (1,)])
@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8"])
def test_ids_are_taken_as_they_are(leading, dtype):
    ids = np.arange(4 * 7, dtype=dtype).reshape(4, 7)
    classes = classify(ids.reshape(*leading, 4, 7), make_recipe(output="classes", class_count=None))
    assert classes.dtype == np.uint8
    assert np.array_equal(classes, ids)


@pytest.mark.parametrize(
    ("count", "wrong", "last"), [(None, 255, 254), (None, 700, 254), (300, 65535, 65534)]
)
def test_an_id_that_collides_with_nodata_or_does_not_fit_is_refused(count, wrong, last):
    recipe = make_recipe(output="classes", class_count=count)
    ids = np.full((4, 7), last, dtype=np.int32)
    assert classify(ids, recipe).max() == last
    ids[2, 3] = wrong
    with pytest.raises(ModelError, match=f"class id {wrong}.*num_classes: {wrong + 1}"):
        classify(ids, recipe)


def test_a_negative_id_is_refused():
    with pytest.raises(ModelError, match="class id -1"):
        classify(np.full((4, 7), -1, dtype=np.int32), make_recipe(output="classes"))


def test_a_sigmoid_divides_at_one_half():
    output = np.array([[[0.0, 0.5, 0.5001, 1.0]]], dtype=np.float32)
    recipe = make_recipe(output="sigmoid", class_count=2)
    assert classify(output, recipe).tolist() == [[0, 0, 1, 1]]
    assert winning_probability(output, recipe).tolist() == [[255, 128, 128, 255]]


def test_another_threshold_divides_there_and_the_winner_keeps_its_probability():
    output = np.array([[[0.2, 0.3, 0.4, 0.9]]], dtype=np.float32)
    recipe = make_recipe(output="sigmoid", class_count=2, model=make_package(threshold=0.3))
    assert classify(output, recipe).tolist() == [[0, 0, 1, 1]]
    assert winning_probability(output, recipe).tolist() == [[204, 178, 102, 230]]


def test_ids_and_confidence_of_a_graph_are_taken_as_they_are():
    grid = ShardGrid(tiles=tile_grid(make_recipe(), 27, 43), tiles_hw=(1, 1))
    shard = grid.shard(0)
    random = np.random.default_rng(5)
    ids = random.integers(0, 4, (10, 10), dtype=np.uint8)
    confidence = random.integers(0, 256, (10, 10), dtype=np.uint8)
    stitcher = Stitcher(make_recipe(output="classes", confidence=True), shard)
    stitcher.place(shard.tiles[0], Answer(output=ids, confidence=confidence), None)
    mask = stitcher.finished()
    assert np.array_equal(mask.classes, ids)
    assert np.array_equal(mask.confidence, np.maximum(confidence, 1))  # 0 is for invalid pixels


@properties
@given(st.integers(2, 9), st.integers(0, 2**32 - 1))
def test_confidence_is_the_probability_of_the_winner(count, seed):
    logits = np.random.default_rng(seed).normal(0, 4, (count, 5, 9)).astype(np.float32)
    softmax = np.exp(logits.astype(np.float64))
    softmax /= softmax.sum(axis=0)
    expected = np.clip(np.rint(softmax.max(axis=0) * 255), 1, 255)
    for output, given_scores in (("logits", logits), ("probabilities", softmax.astype(np.float32))):
        answer = winning_probability(given_scores, make_recipe(output=output, class_count=count))
        assert answer.dtype == np.uint8
        assert np.abs(answer.astype(int) - expected).max() <= 1


def test_confidence_does_not_overflow():
    logits = np.array([1000.0, -1000.0], dtype=np.float32)[:, None, None] * np.ones((1, 2, 3), np.float32)
    assert (winning_probability(logits, make_recipe(class_count=2)) == 255).all()


@pytest.mark.parametrize("kind", ["logits", "probabilities", "sigmoid"])
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(2, 7), threshold=st.sampled_from([0.2, 0.5, 0.9]))
@properties
def test_the_margin_is_what_lies_between_the_two_best_probabilities(kind, seed, count, threshold):
    random = np.random.default_rng(seed)
    scores = random.normal(0, 3, (count, 9, 11)).astype(np.float32)
    if kind == "probabilities":
        scores = np.exp(scores) / np.exp(scores).sum(axis=0)
    if kind == "sigmoid":
        scores = random.random((1, 9, 11)).astype(np.float32)
    recipe = make_recipe(output=kind, model=make_package(threshold=threshold))
    found = margin(scores, recipe)
    for row, col in np.ndindex(9, 11):
        values = [float(value) for value in scores[:, row, col]]
        if kind == "sigmoid":
            expected = 2 * abs(values[0] - threshold)
        else:
            if kind == "logits":
                powers = [np.exp(value) for value in values]
                values = [power / sum(powers) for power in powers]
            best, second = sorted(values, reverse=True)[:2]
            expected = best - second
        assert found[row, col] == pytest.approx(expected, abs=1e-5)


def test_ids_have_no_margin_and_large_logits_do_not_overflow() -> None:
    assert margin(np.zeros((4, 5), np.int64), make_recipe(output="classes")) is None
    large = np.array([[[1e4]], [[-1e4]], [[1e4 - 1]]], np.float32)
    assert margin(large, make_recipe())[0, 0] == pytest.approx(np.tanh(0.5), abs=1e-5)


@pytest.mark.parametrize("kind", ["logits", "probabilities", "sigmoid"])
@given(seed=st.integers(0, 2**32 - 1))
@properties
def test_probabilities_are_of_every_class_and_agree_with_the_rest(kind, seed):
    random = np.random.default_rng(seed)
    scores = random.normal(0, 3, (4, 9, 11)).astype(np.float32)
    if kind == "probabilities":
        scores = np.exp(scores) / np.exp(scores).sum(axis=0)
    if kind == "sigmoid":
        scores = random.random((1, 9, 11)).astype(np.float32)
    recipe = make_recipe(output=kind)
    found = probabilities(scores, recipe)
    assert len(found) == (2 if kind == "sigmoid" else 4)
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-5)
    np.testing.assert_array_equal(found.argmax(axis=0), classify(scores, recipe))
    best = np.sort(found, axis=0)
    np.testing.assert_allclose(best[-1] - best[-2], margin(scores, recipe), atol=1e-5)
    shown = winning_probability(scores, recipe).astype(int)
    assert np.abs(shown - np.clip(np.rint(best[-1] * 255), 1, 255)).max() <= 1


def test_ids_have_no_probabilities() -> None:
    assert probabilities(np.zeros((4, 5), np.int64), make_recipe(output="classes")) is None


@properties
@given(shard_grids(), st.integers(0, 2**32 - 1), st.booleans())
def test_a_stitched_raster_is_the_classes_of_the_whole_where_it_is_valid(grid, seed, masked):
    random = np.random.default_rng(seed)
    tiles, halo = grid.tiles, grid.tiles.halo
    shape = (tiles.height, tiles.width)
    scores = random.normal(size=(4, *shape)).astype(np.float32)
    valid = random.random(shape) < 0.7 if masked else np.ones(shape, dtype=bool)
    recipe = make_recipe(tile_size=tiles.tile_size, halo=halo, confidence=True)
    # Whatever lies beyond a core must not matter.
    padded = np.full((4, shape[0] + tiles.tile_size, shape[1] + tiles.tile_size), 99, np.float32)
    padded[:, : shape[0], : shape[1]] = scores
    classes, confidence = np.empty(shape, np.uint8), np.empty(shape, np.uint8)
    for shard in grid:
        stitcher = Stitcher(recipe, shard)
        for tile in shard.tiles:
            row, col, size = tile.core.row_off, tile.core.col_off, tiles.core_size
            core_valid = valid[row : tile.core.row_stop, col : tile.core.col_stop]
            if core_valid.any():
                output = padded[:, row : row + size, col : col + size]
                stitcher.place(tile, Answer(output=output), core_valid if masked else None)
        mask = stitcher.finished()
        at = slice(shard.core.row_off, shard.core.row_stop), slice(shard.core.col_off, shard.core.col_stop)
        assert (mask.classes is None) == (not valid[at].any())
        classes[at] = 255 if mask.classes is None else mask.classes
        confidence[at] = 0 if mask.confidence is None else mask.confidence
    assert np.array_equal(classes, np.where(valid, scores.argmax(axis=0), 255))
    assert np.array_equal(confidence, np.where(valid, winning_probability(scores, recipe), 0))


def test_a_shard_without_predicted_tile_has_no_pixels():
    grid = ShardGrid(tiles=tile_grid(make_recipe(), 27, 43), tiles_hw=(2, 2))
    mask = Stitcher(make_recipe(), grid.shard(0)).finished()
    assert (mask.classes, mask.confidence, mask.predicted) == (None, None, 0)


def test_confidence_is_given_only_on_demand():
    grid = ShardGrid(tiles=tile_grid(make_recipe(), 27, 43), tiles_hw=(1, 1))
    shard = grid.shard(0)
    stitcher = Stitcher(make_recipe(), shard)
    stitcher.place(shard.tiles[0], Answer(output=np.zeros((4, 10, 10), np.float32)), None)
    mask = stitcher.finished()
    assert (mask.confidence, mask.predicted) == (None, 1)

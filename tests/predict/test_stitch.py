import numpy as np
import pytest
from factories import make_package, make_recipe
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import shard_grids

from batchseg.errors import ModelError
from batchseg.pixels.fit import tile_grid
from batchseg.pixels.grid import ShardGrid
from batchseg.predict.predictor import Answer
from batchseg.predict.stitch import Stitcher, classify, winning_probability

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

"""Masks of photographs against numpy on whole images, and against the way that scenes go."""

import tracemalloc
from dataclasses import replace

import cv2
import numpy as np
import pytest
from factories import make_package, make_recipe, scene_of, write_raster
from hypothesis import example, given, settings
from hypothesis import strategies as st
from photographs import masked, network_of, picture_of, recipe_of, spots_mask, spots_scores, spotted
from strategies import sizes

from batchseg.errors import MismatchError, ModelError
from batchseg.job.settings import Scale
from batchseg.pixels.fit import tile_grid
from batchseg.pixels.grid import ShardGrid, cut_tile
from batchseg.pixels.photo.decode import decode
from batchseg.pixels.read import read_shards
from batchseg.predict import photo
from batchseg.predict.answer import Answer, classify, winning_probability
from batchseg.predict.photo import Fitting, answer_bytes, census, restore
from batchseg.predict.predictor import Preparation
from batchseg.predict.stitch import Stitcher

properties = settings(deadline=None, max_examples=25)
SIZES = st.one_of(
    sizes(), st.tuples(st.just(1), st.integers(2, 40)), st.tuples(st.integers(2, 40), st.just(1))
)


@properties
@given(shape=SIZES, seed=st.integers(0, 99), transparent=st.sampled_from([0.0, 0.3, 0.95, 1.0]))
def test_in_tiles_the_mask_is_that_of_the_whole_image(models, shape, seed, transparent):
    recipe, predictor = network_of(models, bake=False)
    pixels = spotted(*shape, seed)
    valid = np.random.default_rng(seed).random(shape) >= transparent
    mask = masked(picture_of(pixels, valid), recipe, predictor)
    assert np.array_equal(mask.classes, np.where(valid, spots_mask(pixels), 255))
    assert mask.classes.dtype == np.uint8 and mask.confidence is None
    assert (mask.tiles == 0) == (not valid.any())


def test_tiles_without_a_valid_core_pixel_are_not_predicted(models):
    valid = np.zeros((25, 45), bool)
    valid[12, 33] = True
    mask = masked(picture_of(spotted(25, 45), valid), *network_of(models, bake=False))
    assert (mask.tiles, np.count_nonzero(mask.classes != 255)) == (1, 1)


def scene_mask(path, recipe, predictor):
    """Class ids and confidence of a scene in one shard, by the functions that scenes go through."""
    scene = scene_of(path)
    grid = tile_grid(recipe, scene.height, scene.width)
    ((held,), _) = read_shards(scene, recipe, tuple(ShardGrid(tiles=grid, tiles_hw=grid.shape_hw)))
    stitcher, preparation = Stitcher(recipe, held.shard), Preparation(recipe)
    for tile in held.shard.tiles:
        buffer = preparation.buffer(1)
        preparation(cut_tile(held.pixels, held.shard.read, tile), buffer[0])
        valid = None if held.valid is None else held.valid[tile.core.slices_within(held.shard.read)]
        stitcher.place(tile, predictor.run(buffer)[0], valid)
    done = stitcher.finished()
    return done.classes, done.confidence


@pytest.mark.parametrize("bake", [False, True])
@pytest.mark.parametrize("nodata", ["source", "none", 77])
@pytest.mark.parametrize("shape", [(37, 53), (5, 9)])
def test_in_tiles_the_mask_is_that_of_a_scene(models, tmp_path, bake, nodata, shape):
    """With a network that sees beyond its pixels, and alpha."""
    pixels = np.random.default_rng(0).integers(0, 256, (4, *shape), dtype=np.uint8)
    pixels[3] *= pixels[3] > 60
    pixels[:3, : shape[0] // 2, :3] = 77
    path = write_raster(tmp_path / "a.tif", pixels, photometric="RGB", alpha="non-premultiplied")
    recipe, predictor = network_of(models, "conv", classes=3, bake=bake, confidence=True)
    recipe = replace(recipe, nodata=nodata)
    mask = masked(decode(path.read_bytes(), "a.tif"), recipe, predictor)
    classes, confidence = scene_mask(path, recipe, predictor)
    assert np.array_equal(mask.classes, classes)
    assert np.array_equal(mask.confidence, confidence)
    assert (255 in classes) == (nodata != "none")


def test_not_a_number_is_invalid_whatever_the_job_says(models):
    pixels = np.full((5, 9, 3), 7, np.float32)
    pixels[2, 3, 1] = np.nan
    recipe, predictor = network_of(models, bake=False)
    for nodata in ("none", "source", float("nan")):
        mask = masked(picture_of(pixels), replace(recipe, nodata=nodata), predictor)
        assert np.argwhere(mask.classes == 255).tolist() == [[2, 3]]


def resized_mask(pixels, side):
    """Class ids, and the winners' probabilities, written out."""
    height, width = pixels.shape[:2]
    scores = spots_scores(cv2.resize(pixels, (side, side)))
    large = np.stack([cv2.resize(plane, (width, height)) for plane in scores])
    shares = np.exp(large - large.max(axis=0))
    return large.argmax(axis=0), 255 / shares.sum(axis=0)


@properties
@given(
    shape=st.one_of(SIZES, st.just((16, 16))), seed=st.integers(0, 99), sure=st.booleans(), part=st.booleans()
)
def test_resized_the_scores_come_back_bilinearly(models, shape, seed, sure, part):
    recipe, predictor = network_of(models, fit="resize", confidence=sure)
    pixels = spotted(*shape, seed, spots=7)
    valid = np.random.default_rng(seed).random(shape) < 0.7 if part else None
    filled = pixels if valid is None else np.where(valid[..., None], pixels, 0).astype(np.uint8)
    expected, confidence = resized_mask(filled, 16)
    usable = np.ones(shape, bool) if valid is None else valid
    mask = masked(picture_of(pixels, valid), recipe, predictor)
    assert np.array_equal(mask.classes, np.where(usable, expected, 255))
    assert (mask.confidence is not None) == sure
    if sure:
        assert np.abs(mask.confidence - np.where(usable, confidence, 0)).max() <= 0.5 + 1e-3
    assert mask.tiles == usable.any()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize(
    ("channels", "bands"),
    [(3, (1, 2, 3)), (3, (3, 2, 1)), (3, (2, 2, 3)), (1, (1, 2, 3)), (6, (1, 2, 4, 5, 6))],
)
def test_whatever_the_bands_a_resized_picture_is_opencvs(dtype, channels, bands):
    pixels = np.random.default_rng(1).integers(0, 256, (23, 31, channels)).astype(dtype)
    named = channels > 1
    recipe = make_recipe(
        bands=bands, all_bands=not named, fit="resize", scale=Scale(kind="divide", low=(0.0,), high=(1.0,))
    )
    tile = Fitting(picture_of(pixels), recipe).tile(0)
    planes = [pixels[..., band - 1 if named else 0] for band in bands]
    expected = np.stack([cv2.resize(np.ascontiguousarray(plane), (16, 16)) for plane in planes])
    assert tile.dtype == dtype
    assert np.array_equal(tile, expected)


@properties
@given(
    sizes(),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2),
    st.sampled_from(["logits", "sigmoid"]),
    st.booleans(),
)
@example((30, 40), 0, 1, "logits", True)
@example((30, 40), 0, 2, "logits", True)
def test_one_class_everywhere_needs_no_interpolation(shape, seed, winner, output, tied):
    random = np.random.default_rng(seed)
    recipe = make_recipe(output=output, fit="resize", model=make_package(threshold=0.4))
    scores = random.normal(size=(3, 16, 16)).astype(np.float32)
    if output == "sigmoid":
        scores = np.float32(0.4) + abs(scores[:1]) * (1 if winner else -1) * np.float32(0.1)
        assert len(np.unique(classify(scores, recipe))) == 1
    else:
        more = random.random((16, 16), dtype=np.float32)
        if tied:  # in some pixels, where the first of equal classes wins
            scores, more = np.rint(scores), np.float32(more < 0.7)
            more[0, 0] = 1
        scores[winner] = np.delete(scores, winner, axis=0).max(axis=0) + more
    small = Answer(output=scores)
    large = np.stack([cv2.resize(plane, shape[::-1]) for plane in scores])
    classes, _ = restore(small, shape, recipe)
    assert np.array_equal(classes, classify(large, recipe)) and classes.dtype == np.uint8
    classes, confidence = restore(small, shape, replace(recipe, confidence=True))
    assert np.array_equal(classes, classify(large, recipe))
    assert np.array_equal(confidence, winning_probability(large, recipe))


@pytest.mark.parametrize("output", ["logits", "probabilities", "sigmoid"])
@pytest.mark.parametrize("confidence", [True, False])
def test_an_answer_takes_what_is_said(output, confidence):
    recipe = make_recipe(output=output, confidence=confidence, fit="resize", class_count=4)
    scores = np.random.default_rng(0).random((4, 64, 64), np.float32)
    scores = scores[:1] if output == "sigmoid" else scores
    shape = (900, 1100)
    restore(Answer(output=scores, confidence=None), shape, recipe)
    tracemalloc.start()
    try:
        classes, _ = restore(Answer(output=scores, confidence=None), shape, recipe)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert classes.any()
    assert peak <= classes.size * answer_bytes(recipe) + 100_000
    assert peak * 1.6 >= classes.size * answer_bytes(recipe)


@properties
@given(sizes(), st.integers(0, 99), st.booleans())
def test_ids_come_back_by_nearest_neighbour(shape, seed, sure):
    ids = np.random.default_rng(seed).integers(0, 9, (16, 16)).astype(np.int32)
    answer = Answer(output=ids, confidence=ids.astype(np.uint8) if sure else None)
    classes, confidence = restore(answer, shape, make_recipe(output="classes", fit="resize", confidence=sure))
    rows, cols = (np.arange(side) * 16 // side for side in shape)
    assert np.array_equal(classes, ids[rows[:, None], cols]) and classes.dtype == np.uint8
    assert confidence is None if not sure else np.array_equal(confidence, np.maximum(classes, 1))


def test_an_id_that_no_mask_can_hold_is_the_models_fault():
    recipe = make_recipe(output="classes", fit="resize")
    item = Fitting(picture_of(spotted(9, 7)), recipe)
    item.place(0, Answer(output=np.full((16, 16), 255)))
    with pytest.raises(ModelError, match="class id 255"):
        item.mask()


@pytest.mark.parametrize("pixels", [np.zeros((5, 9, 4), np.uint8), np.zeros((5, 9, 3), np.uint16)])
@pytest.mark.parametrize("fit", ["tile", "resize"])
def test_what_the_model_does_not_take_is_a_mismatch(pixels, fit):
    with pytest.raises(MismatchError, match="the model"):
        Fitting(picture_of(pixels), make_recipe(fit=fit))


def test_a_resized_network_is_not_baked(models):
    assert recipe_of(models, fit="resize").bake is None
    assert recipe_of(models, fit="tile").bake is not None


@properties
@given(sizes(), st.integers(0, 99), st.sampled_from([255, 65535]), st.sampled_from([1, 50, 2**20]))
def test_a_census_counts_pixels(monkeypatch_module, shape, seed, nodata, chunk):
    monkeypatch_module.setattr(photo, "CENSUS_PIXELS", chunk)
    random = np.random.default_rng(seed)
    ids = random.choice([0, 0, 0, 0, 1, 7, nodata - 1, nodata], (shape[0], 1)) * (random.random(shape) < 0.5)
    ids = ids.astype(np.uint8 if nodata == 255 else np.uint16)
    known, counts = np.unique(ids[ids != nodata], return_counts=True)
    assert census(ids, nodata) == (known.tolist(), counts.tolist())


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        yield patch

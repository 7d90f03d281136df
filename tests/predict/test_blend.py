"""Blending against a plain accumulation of the whole scene in float64."""

import numpy as np
import pytest
from factories import make_package, make_recipe
from hypothesis import given, settings
from hypothesis import strategies as st

from batchseg.job.recipe import Recipe
from batchseg.pixels.fit import tile_grid
from batchseg.pixels.grid import ShardGrid, Tile, TileGrid, Window
from batchseg.predict.answer import Answer, decide, shares_of
from batchseg.predict.blend import FULL, close, ramp_of
from batchseg.predict.stitch import ShardMask, Stitcher

properties = settings(deadline=None, max_examples=60)


def recipe_of(*, halo: int, rim: int, core: int, output: str = "logits", **more) -> Recipe:
    classes = 2 if output == "sigmoid" else 4
    return make_recipe(
        output=output,
        class_count=classes,
        tile_size=core + 2 * (halo + rim),
        halo=halo + rim,
        rim=rim,
        blend=more.pop("blend", "hann"),
        confidence=True,
        **more,
    )


def scores_of(tile: Tile, recipe: Recipe, seed: int) -> Answer:
    """What a network says that sees nothing of its image: noise of its own for every tile."""
    random = np.random.default_rng([seed, tile.core.row_off, tile.core.col_off])
    side = recipe.tile_size - 2 * (recipe.halo - recipe.rim)
    if recipe.facts.output == "sigmoid":
        return Answer(output=random.uniform(size=(1, side, side)).astype(np.float32))
    return Answer(output=random.normal(0, 3, (4, side, side)).astype(np.float32))


def kept_of(tile: Tile, recipe: Recipe, answer: np.ndarray) -> np.ndarray:
    rim, kept = recipe.rim, tile.kept
    top, left = kept.row_off - (tile.core.row_off - rim), kept.col_off - (tile.core.col_off - rim)
    return answer[:, top : top + kept.height, left : left + kept.width]


def plain_weights(start: int, stop: int, core: tuple[int, int], length: int, recipe: Recipe) -> np.ndarray:
    """Of pixels start..stop along one axis, pixel by pixel as the docs say it."""
    rim, weights = recipe.rim, []
    for pixel in range(start, stop):
        weight = 1.0
        for border, sign in ((core[0], 1), (core[1], -1)):
            if 0 < border < length and abs(pixel + 0.5 - border) < rim:
                t = (pixel + 0.5 - border + rim) / (2 * rim)
                rising = np.sin(np.pi / 2 * t) ** 2 if recipe.blend == "hann" else t
                rising = np.rint(256 * rising) / 256
                weight = rising if sign > 0 else 1 - rising
        weights.append(weight)
    return np.array(weights)


def whole(grid: TileGrid, recipe: Recipe, valid: np.ndarray, seed: int) -> np.ndarray:
    """Probabilities (K, H, W) of the whole scene, float64."""
    sums = np.zeros((recipe.class_count, grid.height, grid.width))
    rows, cols = grid.shape_hw
    for tile in (grid.tile(row, col) for row in range(rows) for col in range(cols)):
        kept, core = tile.kept, tile.core
        at = kept.slices_within(Window(row_off=0, col_off=0, height=grid.height, width=grid.width))
        if not valid[at].any():
            continue
        scores = kept_of(tile, recipe, scores_of(tile, recipe, seed).output).astype(np.float64)
        if recipe.facts.output == "sigmoid":
            shares = np.concatenate((1 - scores, scores))
        else:
            powers = np.exp(scores - scores.max(axis=0))
            shares = powers / powers.sum(axis=0)
        down = plain_weights(kept.row_off, kept.row_stop, (core.row_off, core.row_stop), grid.height, recipe)
        across = plain_weights(kept.col_off, kept.col_stop, (core.col_off, core.col_stop), grid.width, recipe)
        sums[(slice(None), *at)] += shares * down[:, None] * across
    return sums


def stitched(grid: ShardGrid, recipe: Recipe, valid: np.ndarray, seed: int) -> list[ShardMask]:
    """What each shard alone makes of its tiles."""
    masks = []
    scene = Window(row_off=0, col_off=0, height=grid.tiles.height, width=grid.tiles.width)
    for shard in grid:
        stitcher = Stitcher(recipe, shard)
        for tile in shard.tiles:
            seen = valid[tile.kept.slices_within(scene)]
            if seen.any():
                stitcher.place(tile, scores_of(tile, recipe, seed), None if seen.all() else seen)
        masks.append(stitcher.finished())
    return masks


def joined(masks: list[ShardMask], grid: TileGrid, recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """The shards side by side, and over them the zones of columns, then those of rows."""
    scene = Window(row_off=0, col_off=0, height=grid.height, width=grid.width)
    classes = np.full((grid.height, grid.width), recipe.mask_nodata, recipe.mask_dtype)
    confidence = np.zeros((grid.height, grid.width), np.uint8)
    for mask in masks:
        if mask.classes is not None:
            classes[mask.shard.core.slices_within(scene)] = mask.classes
            confidence[mask.shard.core.slices_within(scene)] = mask.confidence
    strips = [strip for mask in masks for strip in mask.strips]
    planes = recipe.class_count
    for axis in ("cols", "rows"):
        along = [strip for strip in strips if strip.axis == axis]
        for first in {s.window.row_off if axis == "rows" else s.window.col_off for s in along}:
            mine = [s for s in along if first == (s.window.row_off if axis == "rows" else s.window.col_off)]
            width = max((s.window.height if axis == "rows" else s.window.width) for s in mine)
            window = (
                Window(row_off=first, col_off=0, height=width, width=grid.width)
                if axis == "rows"
                else Window(row_off=0, col_off=first, height=grid.height, width=width)
            )
            sums = close(mine, window, planes, blend=recipe.blend, overlap=2 * recipe.rim)
            found = decide(sums, FULL**2, recipe)
            classes[window.slices_within(scene)] = found.classes
            confidence[window.slices_within(scene)] = found.confidence
    return classes, confidence


@st.composite
def cases(draw):
    rim = draw(st.integers(1, 4))
    core = draw(st.integers(2 * rim, 12))
    recipe = recipe_of(
        halo=draw(st.integers(0, 3)),
        rim=rim,
        core=core,
        blend=draw(st.sampled_from(["linear", "hann"])),
        output=draw(st.sampled_from(["logits", "sigmoid"])),
    )
    grid = tile_grid(recipe, draw(st.integers(1, 40)), draw(st.integers(1, 40)))
    shards = ShardGrid(tiles=grid, tiles_hw=(draw(st.integers(1, 4)), draw(st.integers(1, 4))))
    seed = draw(st.integers(0, 2**31))
    valid = np.ones((grid.height, grid.width), bool)
    if draw(st.booleans()):
        blobs = np.random.default_rng(seed).uniform(size=(-(-grid.height // 7), -(-grid.width // 7))) < 0.4
        valid = np.kron(blobs, np.ones((7, 7), bool))[: grid.height, : grid.width]
    return recipe, shards, valid, seed


@properties
@given(cases())
def test_shards_give_what_an_accumulation_of_the_whole_scene_gives(case):
    recipe, shards, valid, seed = case
    classes, confidence = joined(stitched(shards, recipe, valid, seed), shards.tiles, recipe)
    expected = whole(shards.tiles, recipe, valid, seed)
    np.testing.assert_allclose(expected.sum(axis=0)[valid], 1)
    assert (classes[~valid] == recipe.mask_nodata).all()
    assert not confidence[~valid].any()
    assert (classes[valid] < recipe.class_count).all()
    own = np.take_along_axis(expected, np.minimum(classes, recipe.class_count - 1)[None].astype(int), 0)[0]
    # Bytes are off by half a step, before and after they are weighted.
    assert (np.abs(own - confidence / 255) <= 1 / 255 + 1e-9)[valid & (confidence > 1)].all()
    best = expected.max(axis=0)
    near_tie = best - own <= 1 / 255 + 1e-9
    assert near_tie[valid].all()


@properties
@given(cases(), st.integers(1, 4), st.integers(1, 4))
def test_bytes_do_not_depend_on_the_shards(case, down, across):
    recipe, shards, valid, seed = case
    others = ShardGrid(tiles=shards.tiles, tiles_hw=(down, across))
    one, other = (joined(stitched(s, recipe, valid, seed), s.tiles, recipe) for s in (shards, others))
    assert np.array_equal(one[0], other[0])
    assert np.array_equal(one[1], other[1])


@properties
@given(st.integers(1, 200), st.sampled_from(["linear", "hann"]))
def test_a_ramp_and_its_mirror_add_up_to_the_full_weight(rim, blend):
    ramp = ramp_of(blend, 2 * rim).astype(int)
    assert (np.diff(ramp) >= 0).all()
    assert (ramp + ramp[::-1] == 256).all()
    assert ramp[0] < 256 // 2 <= ramp[-1]


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 1.0])
def test_a_constant_stays_constant_to_the_last_bit(share):
    """Also where tiles end, at corners, at the raster's sides and beside no data."""
    recipe = recipe_of(halo=2, rim=3, core=8, output="sigmoid", model=make_package(threshold=0.3))
    grid = ShardGrid(tiles=tile_grid(recipe, 37, 45), tiles_hw=(2, 1))
    valid = np.ones((37, 45), bool)
    valid[10:20, 5:33] = False
    side = recipe.tile_size - 2 * (recipe.halo - recipe.rim)
    answer = Answer(output=np.full((1, side, side), share, np.float32))
    masks = []
    scene = Window(row_off=0, col_off=0, height=37, width=45)
    for shard in grid:
        stitcher = Stitcher(recipe, shard)
        for tile in shard.tiles:
            seen = valid[tile.kept.slices_within(scene)]
            if seen.any():
                stitcher.place(tile, answer, seen)
        masks.append(stitcher.finished())
    classes, confidence = joined(masks, grid.tiles, recipe)
    alone = max(1, round(255 * (share if share > 0.3 else 1 - share)))
    assert set(confidence[valid].tolist()) == {alone}
    assert set(classes[valid].tolist()) == {int(share > 0.3)}
    assert set(classes[~valid].tolist()) == {recipe.mask_nodata}


def test_a_graphs_own_bytes_are_taken_and_one_band_gets_its_other_side():
    band = np.array([[[0, 100, 255]]], np.uint8)
    answer = Answer(output=np.zeros((1, 3), np.uint8), probabilities=band)
    recipe = recipe_of(halo=0, rim=1, core=2, output="sigmoid")
    assert shares_of(answer, recipe).tolist() == [[[255, 155, 0]], [[0, 100, 255]]]

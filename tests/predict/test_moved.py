"""Tiles at other places, against what a network does by construction."""

import numpy as np
import pytest
from factories import make_recipe
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from batchseg.pixels.fit import tile_grid
from batchseg.pixels.grid import ShardGrid, cut_tile
from batchseg.pixels.read import ShardPixels
from batchseg.predict.answer import Answer
from batchseg.predict.moved import moved_parts, seam_samples, share_to_move
from batchseg.predict.stitch import Stitcher

properties = settings(deadline=None, max_examples=60)


def read(grid: ShardGrid, scene: np.ndarray, valid: np.ndarray | None) -> list[ShardPixels]:
    """What a lease of all shards reads of a scene (1, H, W)."""
    parts = []
    for shard in grid:
        rows, cols = shard.read.slices_within(shard.grid.cores(0, 10**6, 0, 10**6))
        seen = None if valid is None else valid[rows, cols]
        parts.append(ShardPixels(shard=shard, pixels=scene[:, rows, cols], valid=seen))
    return parts


def stitched(recipe, part: ShardPixels, network):
    """A shard's mask; the network says something of each tile (S, S) less what is dropped."""
    stitcher, cut = Stitcher(recipe, part.shard), recipe.dropped
    for tile in part.shard.tiles:
        side = recipe.tile_size - cut
        answer = network(cut_tile(part.pixels, part.shard.read, tile)[0])[..., cut:side, cut:side]
        seen = None if part.valid is None else part.valid[tile.kept.slices_within(part.shard.read)]
        if seen is None or seen.any():
            stitcher.place(tile, Answer(output=answer), seen)
    return stitcher.finished()


def samples_of(recipe, parts, network, share):
    masks = [stitched(recipe, part, network) for part in parts]
    found = []
    for moved in moved_parts(recipe, "a.tif", parts, share):
        again = stitched(recipe, moved.part, network)
        found += seam_samples(moved, again, masks, recipe.mask_nodata)
    return found


def pixelwise(tile: np.ndarray) -> np.ndarray:
    """A network that sees one pixel: its class is the pixel's value."""
    return tile


def scored(tile: np.ndarray) -> np.ndarray:
    """The same as scores."""
    return np.eye(4, dtype=np.float32)[tile].transpose(2, 0, 1) * 5


@st.composite
def scenes(draw):
    rim = draw(st.sampled_from([0, 0, 1, 2]))
    output = "logits" if rim else "classes"
    recipe = make_recipe(output=output, tile_size=12 + 2 * rim, halo=2 + rim, rim=rim, blend="hann")
    height, width = draw(st.integers(1, 60)), draw(st.integers(1, 60))
    grid = ShardGrid(
        tiles=tile_grid(recipe, height, width), tiles_hw=draw(st.tuples(*[st.integers(1, 4)] * 2))
    )
    random = np.random.default_rng(draw(st.integers(0, 2**31)))
    scene = random.integers(0, 4, (1, height, width), dtype=np.uint8)
    valid = random.uniform(size=(height, width)) < 0.7 if draw(st.booleans()) else None
    return recipe, grid, scene, valid


@properties
@given(scenes())
def test_a_network_that_sees_a_pixel_alone_depends_on_no_place(case):
    """So the moved tiles see the right pixels, and are compared with the right ones."""
    recipe, grid, scene, valid = case
    network = scored if recipe.rim else pixelwise
    found = samples_of(recipe, read(grid, scene, valid), network, 1.0)
    assert sum(sample.changed for sample in found) == 0
    for sample in found:
        rows = slice(sample.row_off, sample.row_off + sample.height)
        cols = slice(sample.col_off, sample.col_off + sample.width)
        known = True if valid is None else valid[rows, cols]
        held = np.count_nonzero((scene[0, rows, cols] == sample.class_id) & known)
        assert sample.pixels == held if not recipe.rim else sample.pixels <= held


@properties
@given(scenes())
def test_something_is_compared_wherever_there_is_a_border(case):
    recipe, grid, scene, _ = case
    assume(grid.tiles.count > 1)
    network, share = (scored, 4.0) if recipe.rim else (pixelwise, 1.0)  # four tiles blend one place
    found = samples_of(recipe, read(grid, scene, None), network, share)
    assert sum(sample.pixels for sample in found) > 0


def test_what_a_network_makes_of_its_tiles_place_is_counted_exactly():
    """Classes that follow the row in the tile: what changes is known of each pixel."""
    recipe = make_recipe(output="classes", tile_size=12, halo=2)
    grid = ShardGrid(tiles=tile_grid(recipe, 40, 48), tiles_hw=(2, 3))
    scene = np.zeros((1, 40, 48), np.uint8)
    step = 4

    def network(tile):
        rows = np.arange(12, dtype=np.uint8)[:, None] % 3
        return np.broadcast_to(rows, (12, 12))

    for sample in samples_of(recipe, read(grid, scene, None), network, 0.5):
        rows = np.arange(sample.row_off, sample.row_off + sample.height)
        down = 0 if sample.row_off % 8 == 0 else step
        first, second = (rows % 8 + 2) % 3, ((rows - down) % 8 + 2) % 3
        mine = first == sample.class_id
        assert sample.pixels == np.count_nonzero(mine) * sample.width
        assert sample.changed == np.count_nonzero(mine & (first != second)) * sample.width


def test_a_blended_place_is_blended_again():
    """A network that adds noise of its own to each tile: fewer pixels change where tiles fade."""
    random = np.random.default_rng(7)
    scene = random.integers(0, 4, (1, 200, 200), dtype=np.uint8)

    def network(tile):
        noise = np.random.default_rng(int(tile.sum()) + 1000 * int(tile[3, 3])).normal(0, 1, (4, 1, 1))
        return (scored(tile // 4) + noise).astype(np.float32)

    shares = {}
    for rim in (0, 4):
        recipe = make_recipe(tile_size=28 + 2 * rim, halo=2 + rim, rim=rim, blend="hann")
        grid = ShardGrid(tiles=tile_grid(recipe, 200, 200), tiles_hw=(3, 3))
        found = samples_of(recipe, read(grid, scene, None), network, 1.0)
        assert len(found) > 4
        shares[rim] = sum(s.changed for s in found) / sum(s.pixels for s in found)
    assert 0 <= shares[4] <= shares[0]


def test_places_are_the_same_in_every_run_and_others_for_another_scene():
    recipe = make_recipe(output="classes")
    grid = ShardGrid(tiles=tile_grid(recipe, 300, 300), tiles_hw=(5, 5))
    parts = read(grid, np.zeros((1, 300, 300), np.uint8), None)

    def places(name):
        return [moved.part.shard.core for moved in moved_parts(recipe, name, parts, 0.02)]

    assert places("a.tif") == places("a.tif") != places("b.tif")
    assert 18 <= len(places("a.tif")) <= 19


def test_places_of_a_scene_are_spread_over_it():
    recipe = make_recipe(output="classes")
    grid = ShardGrid(tiles=tile_grid(recipe, 400, 400), tiles_hw=(5, 5))
    parts = read(grid, np.zeros((1, 400, 400), np.uint8), None)
    cores = [moved.part.shard.core for moved in moved_parts(recipe, "a.tif", parts, 0.02)]
    quarters = {(core.row_off // 200, core.col_off // 200) for core in cores}
    assert len(quarters) == 4


@pytest.mark.parametrize("name", ["a.tif", "b.tif", "d.tif", "k23.tif"])
def test_a_scene_of_fifty_tiles_has_a_place_also_where_it_is_blended(name):
    recipe = make_recipe(tile_size=14, halo=3, rim=1, blend="hann")
    grid = ShardGrid(tiles=tile_grid(recipe, 80, 80), tiles_hw=(10, 10))
    parts = read(grid, np.zeros((1, 80, 80), np.uint8), None)
    assert len(moved_parts(recipe, name, parts, share_to_move(100))) >= 1


def test_nothing_is_moved_where_nobody_asks_or_there_is_no_border():
    recipe = make_recipe(output="classes")
    one = ShardGrid(tiles=tile_grid(recipe, 10, 10), tiles_hw=(1, 1))
    assert moved_parts(recipe, "a.tif", read(one, np.zeros((1, 10, 10), np.uint8), None), 1.0) == ()
    many = ShardGrid(tiles=tile_grid(recipe, 50, 50), tiles_hw=(2, 2))
    assert moved_parts(recipe, "a.tif", read(many, np.zeros((1, 50, 50), np.uint8), None), 0.0) == ()
    assert moved_parts(recipe, "a.tif", [], 1.0) == ()


@pytest.mark.parametrize("tiles", [1, 2, 49, 50, 3200, 10**7])
def test_a_share_gives_a_tile_at_least_and_costs_little(tiles):
    share = share_to_move(tiles)
    assert share * tiles >= 1 - 1e-9
    assert share <= max(0.02, 1 / tiles)

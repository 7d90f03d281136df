"""Zones between shards in parts, and what is asked of the shards for them."""

from functools import partial

import numpy as np
import pytest
import rasterio
from factories import make_facts, make_recipe, make_scene

from batchseg.output import seams
from batchseg.output.seams import ShardStrips, seam_pieces
from batchseg.pixels.fit import tile_grid
from batchseg.pixels.grid import ShardGrid
from batchseg.predict.answer import Answer
from batchseg.predict.stitch import ShardMask, Stitcher

HEIGHT, WIDTH = 61, 47


def masks_of(recipe, tiles_hw) -> list[ShardMask]:
    grid = ShardGrid(tiles=tile_grid(recipe, HEIGHT, WIDTH), tiles_hw=tiles_hw)
    side, found = recipe.tile_size - 2 * recipe.dropped, []
    for shard in grid:
        stitcher = Stitcher(recipe, shard)
        for tile in shard.tiles:
            random = np.random.default_rng([tile.core.row_off, tile.core.col_off])
            scores = random.normal(0, 2, (3, side, side)).astype(np.float32)
            stitcher.place(tile, Answer(output=scores), None)
        found.append(stitcher.finished())
    return found


def laid(masks, recipe, folder) -> np.ndarray:
    folder.mkdir()
    scene, reads = make_scene(HEIGHT, WIDTH), []

    def read(mask: ShardMask, axis, is_before):
        reads.append(mask.shard.core)
        return [strip for strip in mask.strips if (strip.axis, strip.is_before) == (axis, is_before)]

    shards = [ShardStrips(core=m.shard.core, read=partial(read, m)) for m in masks]
    whole = np.full((HEIGHT, WIDTH), 255, np.uint8)
    for mask in masks:
        core = mask.shard.core
        whole[core.row_off : core.row_stop, core.col_off : core.col_stop] = mask.classes
    for piece in seam_pieces(scene, recipe, shards, folder)["mask"]:
        at = piece.window
        with rasterio.open(piece.path) as raster:
            whole[at.row_off : at.row_stop, at.col_off : at.col_stop] = raster.read(1)
    return whole


@pytest.mark.parametrize("part", [1, 200, 2**25])
@pytest.mark.parametrize("tiles_hw", [(1, 1), (2, 1), (1, 3)])
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_in_parts_of_any_size_zones_are_those_of_one_shard(tmp_path, monkeypatch, tiles_hw, part):
    monkeypatch.setattr(seams, "SUM_BYTES", part)
    recipe = make_recipe(
        class_count=3, facts=make_facts(class_count=3), tile_size=20, halo=5, rim=3, blend="hann"
    )
    (alone,) = masks_of(recipe, (99, 99))
    assert not alone.strips
    assert np.array_equal(laid(masks_of(recipe, tiles_hw), recipe, tmp_path / "seams"), alone.classes)

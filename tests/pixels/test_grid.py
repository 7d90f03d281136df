import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import shard_grids, sizes, tile_grids

from batchseg.pixels.grid import (
    AllShards,
    ShardGrid,
    TileGrid,
    Window,
    cut_tile,
    pixels_in,
    pixels_read,
    tiles_in,
)

properties = settings(deadline=None, max_examples=60)


def raster_of(grid: TileGrid) -> np.ndarray:
    """Two bands whose values name their pixels."""
    band = np.arange(grid.height * grid.width).reshape(grid.height, grid.width)
    return np.stack([band, -band])


def whole(grid: TileGrid) -> Window:
    return Window(row_off=0, col_off=0, height=grid.height, width=grid.width)


def tiles_of(grid: TileGrid):
    rows, cols = grid.shape_hw
    return [grid.tile(row, col) for row in range(rows) for col in range(cols)]


@properties
@given(tile_grids())
def test_cores_partition_the_raster(grid):
    seen = np.zeros((grid.height, grid.width), dtype=int)
    for tile in tiles_of(grid):
        seen[tile.core.slices_within(whole(grid))] += 1
    assert (seen == 1).all()
    assert sum(tile.core.size for tile in tiles_of(grid)) == grid.height * grid.width
    assert len(tiles_of(grid)) == grid.count


@properties
@given(tile_grids())
def test_a_tile_is_its_core_and_the_halo_around_it(grid):
    for tile in tiles_of(grid):
        core, window = tile.core, tile.window
        assert (window.height, window.width) == (grid.tile_size, grid.tile_size)
        assert (core.row_off - window.row_off, core.col_off - window.col_off) == (grid.halo, grid.halo)
        assert window.row_stop - core.row_stop >= grid.halo
        assert window.col_stop - core.col_stop >= grid.halo


@properties
@given(shard_grids())
def test_shards_hold_every_tile_once_and_partition_the_raster(grid):
    shards = list(grid)
    assert len(shards) == grid.count
    tiles = [tile for shard in shards for tile in shard.tiles]
    assert sorted(tiles, key=lambda t: t.core) == sorted(tiles_of(grid.tiles), key=lambda t: t.core)
    seen = np.zeros((grid.tiles.height, grid.tiles.width), dtype=int)
    for shard in shards:
        seen[shard.core.slices_within(whole(grid.tiles))] += 1
        own = np.zeros_like(seen)
        for tile in shard.tiles:
            own[tile.core.slices_within(whole(grid.tiles))] += 1
        assert (own[shard.core.slices_within(whole(grid.tiles))] == 1).all()
        assert own.sum() == shard.core.size
    assert (seen == 1).all()


@properties
@given(shard_grids())
def test_a_shard_reads_its_core_and_a_halo_and_nothing_beyond_the_raster(grid):
    halo = grid.tiles.halo
    for shard in grid:
        read, core = shard.read, shard.core
        assert read.row_off == max(core.row_off - halo, 0)
        assert read.col_off == max(core.col_off - halo, 0)
        assert read.row_stop == min(core.row_stop + halo, grid.tiles.height)
        assert read.col_stop == min(core.col_stop + halo, grid.tiles.width)
    sizes = [shard.read.size for shard in grid]
    assert grid.reads() == (sum(sizes), max(sizes))


@properties
@given(tile_grids())
def test_within_the_halo_a_tile_sees_the_reflected_raster(grid):
    raster, halo = raster_of(grid), grid.halo
    padded = np.pad(raster, ((0, 0), (halo, halo), (halo, halo)), mode="reflect")
    for tile in tiles_of(grid):
        height, width = tile.core.height + 2 * halo, tile.core.width + 2 * halo
        row, col = tile.core.row_off, tile.core.col_off
        cut = cut_tile(raster, whole(grid), tile)
        assert cut.shape == (2, grid.tile_size, grid.tile_size)
        assert np.array_equal(cut[:, :height, :width], padded[:, row : row + height, col : col + width])


@properties
@given(shard_grids())
def test_a_tile_does_not_depend_on_its_shard(grid):
    raster = raster_of(grid.tiles)
    for shard in grid:
        held = raster[(..., *shard.read.slices_within(whole(grid.tiles)))]
        for tile in shard.tiles:
            expected = cut_tile(raster, whole(grid.tiles), tile)
            assert np.array_equal(cut_tile(held, shard.read, tile), expected)


@pytest.mark.parametrize(("height", "width"), [(1, 9), (9, 1), (2, 30), (1, 1)])
def test_rasters_narrower_than_the_halo_are_reflected_as_often_as_needed(height, width):
    grid = TileGrid(height=height, width=width, tile_size=16, halo=6)
    raster = raster_of(grid)
    padded = np.pad(raster, ((0, 0), (6, 6), (6, 6)), mode="reflect")
    for tile in tiles_of(grid):
        rows, cols = tile.core.height + 12, tile.core.width + 12
        expected = padded[:, tile.core.row_off :, tile.core.col_off :][:, :rows, :cols]
        assert np.array_equal(cut_tile(raster, whole(grid), tile)[:, :rows, :cols], expected)


def test_a_tile_inside_is_a_view():
    grid = TileGrid(height=40, width=60, tile_size=16, halo=3)
    raster = raster_of(grid)
    assert np.shares_memory(cut_tile(raster, whole(grid), grid.tile(1, 2)), raster)


def mirrored(index, length):
    """Where a walk of `index` steps from 0 ends that turns round before each border."""
    at, step = 0, 1 if index >= 0 else -1
    for _ in range(abs(index) if length > 1 else 0):
        step = -step if not 0 <= at + step < length else step
        at += step
    return at


@properties
@given(tile_grids())
def test_beyond_the_raster_a_tile_is_mirrored_at_its_borders(grid):
    raster = raster_of(grid)
    for tile in tiles_of(grid):
        window, cut = tile.window, cut_tile(raster, whole(grid), tile)
        rows = range(max(window.row_off, 0), min(window.row_stop, grid.height))
        cols = range(max(window.col_off, 0), min(window.col_stop, grid.width))
        at_rows = [rows[mirrored(row - rows[0], len(rows))] for row in range(window.row_off, window.row_stop)]
        at_cols = [cols[mirrored(col - cols[0], len(cols))] for col in range(window.col_off, window.col_stop)]
        assert np.array_equal(cut, raster[:, at_rows][:, :, at_cols])


@pytest.mark.parametrize(("tile_size", "halo"), [(16, 8), (16, 9), (1, 1)])
def test_a_halo_that_leaves_no_core_is_refused(tile_size, halo):
    with pytest.raises(ValueError, match=f"halo {halo} leaves no core in tile_size {tile_size}"):
        TileGrid(height=5, width=7, tile_size=tile_size, halo=halo)


def test_shards_are_numbered_row_by_row():
    grid = ShardGrid(tiles=TileGrid(height=25, width=45, tile_size=16, halo=3), tiles_hw=(2, 2))
    cores = [(shard.core.row_off, shard.core.col_off) for shard in grid]
    assert cores == [(0, 0), (0, 20), (0, 40), (20, 0), (20, 20), (20, 40)]


@properties
@given(shard_grids())
def test_a_shard_arrives_in_other_processes_as_it_was(grid):
    for shard in grid:
        arrived = pickle.loads(pickle.dumps(shard))
        assert (arrived, arrived.tiles) == (shard, shard.tiles)
        assert shard.count == len(shard.tiles)
        assert shard.pixels == sum(tile.core.size for tile in shard.tiles)


def test_a_shard_is_sent_without_its_tiles():
    tiles = TileGrid(height=9000, width=11000, tile_size=512, halo=64)
    one, many = (pickle.dumps(ShardGrid(tiles=tiles, tiles_hw=hw).shard(0)) for hw in ((1, 1), (20, 20)))
    assert len(many) < len(one) + 20


@properties
@given(sizes(most=90), st.tuples(st.integers(1, 4), st.integers(1, 4)), st.integers(0, 3))
def test_all_shards_are_those_of_the_grid_however_they_are_counted(size, tiles_hw, halo):
    tiles = TileGrid(height=size[0], width=size[1], tile_size=16, halo=halo)
    grid = ShardGrid(tiles=tiles, tiles_hw=tiles_hw)
    lazily, made = AllShards(grid), tuple(grid)
    assert tuple(lazily) == made == lazily[:]
    assert (lazily[0], lazily[-1], len(lazily)) == (made[0], made[-1], len(made))
    for count in (tiles_in, pixels_in, pixels_read):
        assert count(lazily) == count(made), count.__name__
    with pytest.raises(IndexError):
        lazily[len(made)]

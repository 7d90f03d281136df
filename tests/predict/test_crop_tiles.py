"""Crops on their way to other processes, the tiles in them, and those that are chosen."""

from collections import Counter

import numpy as np
from factories import UINT8_SCALE
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import sizes

from batchseg.pixels.grid import TileGrid
from batchseg.predict import crop_tiles
from batchseg.predict.crop_tiles import (
    TileAt,
    choose_tiles,
    core_of,
    cut,
    in_time,
    known_tiles,
    load_crops,
    save_crops,
    tiles_of,
)
from batchseg.predict.gate import CLASS_PIXELS
from batchseg.predict.samples import Sample

properties = settings(deadline=None, max_examples=40)


def crops_of(shapes) -> list[Sample]:
    random = np.random.default_rng(0)
    return [
        Sample(pixels=random.integers(0, 256, (3, *shape), dtype=np.uint8), scale=UINT8_SCALE)
        for shape in shapes
    ]


@properties
@given(st.lists(sizes(50), min_size=1, max_size=4), st.integers(0, 4), st.integers(3, 20))
def test_all_tiles_of_the_crops_are_there_once_and_the_fullest_of_each_come_first(shapes, halo, core):
    crops, side = crops_of(shapes), core + 2 * halo
    found = tiles_of(crops, side, halo)
    grids = [TileGrid(height=h, width=w, tile_size=side, halo=halo) for h, w in shapes]
    assert Counter(found) == {
        TileAt(number, row, col): 1
        for number, grid in enumerate(grids)
        for row in range(grid.shape_hw[0])
        for col in range(grid.shape_hw[1])
    }
    assert [at.crop for at in found[: len(crops)]] == list(range(len(crops)))
    for number, grid in enumerate(grids):
        mine = [at for at in found if at.crop == number]
        held = [grid.tile(at.row, at.col).window.clip(grid.height, grid.width).size for at in mine]
        assert held == sorted(held, reverse=True)


@properties
@given(sizes(50), st.integers(0, 4), st.integers(5, 20), st.randoms())
def test_a_tile_is_its_crops_pixels_around_its_core(shape, halo, core, random):
    (crop,) = crops_of([shape])
    side = core + 2 * halo
    at = random.choice(tiles_of([crop], side, halo))
    tile, window = cut(crop, at, side, halo), core_of(crop, at, side, halo)
    assert tile.shape == (3, side, side)
    inside = tile[:, halo : halo + window.height, halo : halo + window.width]
    rows = slice(window.row_off, window.row_stop)
    assert np.array_equal(inside, crop.pixels[:, rows, window.col_off : window.col_stop])


def test_crops_are_read_as_they_were_saved(tmp_path) -> None:
    crops = crops_of([(20, 30), (7, 9)])
    loaded = load_crops(save_crops(crops, tmp_path))
    assert [one.scale for one in loaded] == [one.scale for one in crops]
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(loaded, crops, strict=True))


def test_known_crops_lie_behind_the_jobs_own() -> None:
    crops = crops_of([(20, 30), (16, 16), (40, 16)])
    assert {at.crop for at in known_tiles(crops, 1, 16, 0)} == {1, 2}
    assert len(known_tiles(crops_of([(900, 900)]), 0, 16, 0)) == crop_tiles.KNOWN


def test_a_rare_class_is_found_wherever_it_lies() -> None:
    """One tile of forty shows it, and that less than any other class."""
    tiles = [TileAt(number % 5, number // 5, 0) for number in range(40)]
    for odd in tiles:
        counts = {at: {0: 30_000, 1: 20_000} for at in tiles}
        counts[odd] = {0: 49_990, 7: 10}
        assert odd in choose_tiles(tiles, counts, 2)


@properties
@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_chosen_tiles_show_what_can_be_shown(seed, count):
    random = np.random.default_rng(seed)
    tiles = [TileAt(int(random.integers(3)), number, 0) for number in range(12)]
    owner = {at: int(random.integers(4)) for at in tiles}
    counts = {at: {owner[at]: CLASS_PIXELS} for at in tiles}
    chosen = choose_tiles(tiles, counts, count)
    assert len(set(chosen)) == len(chosen) == count
    shown = {owner[at] for at in chosen}
    assert len(shown) == min(count, len(set(owner.values())))


def test_of_tiles_that_show_alike_those_of_other_crops_are_taken() -> None:
    tiles = [TileAt(crop, row, 0) for crop in range(3) for row in range(4)]
    chosen = choose_tiles(tiles, {at: {0: 5000} for at in tiles}, 6)
    assert Counter(at.crop for at in chosen) == {0: 2, 1: 2, 2: 2}
    assert choose_tiles(tiles, {at: {0: 5000} for at in tiles}, 99) != []


def test_what_there_is_no_time_for_is_left_but_for_the_least() -> None:
    assert list(in_time(range(5), 0.0, at_least=2)) == [0, 1]
    assert list(in_time(range(5), 60.0)) == [0, 1, 2, 3, 4]
    assert list(in_time([], 0.0)) == []

"""Resampling against fractions, GDAL, and itself in other windows."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.enums import Resampling as Method
from rasterio.io import MemoryFile

from batchseg.pixels import resample
from batchseg.pixels.grid import Window
from batchseg.pixels.resample import Resampling, nearest

properties = settings(deadline=None, max_examples=60)

sides = st.tuples(st.integers(1, 24), st.integers(1, 24))


def whole(hw: tuple[int, int]) -> Window:
    return Window(row_off=0, col_off=0, height=hw[0], width=hw[1])


def raster(hw: tuple[int, int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Three bands of floats with NaN or far too much where nothing is valid, and validity."""
    rng = np.random.default_rng(seed)
    pixels = rng.uniform(1, 100, (3, *hw)).astype(np.float32)
    valid = rng.random(hw) < 0.7
    pixels[:, ~valid] = np.array([np.nan, 1e9, -np.inf], np.float32)[:, None]
    return pixels, valid


def overlaps(source: int, target: int) -> list[list[Fraction]]:
    """Per target the share of it that each of the source's pixels is."""
    step = Fraction(source, target)
    return [
        [max(Fraction(0), min(step * (o + 1), k + 1) - max(step * o, k)) / step for k in range(source)]
        for o in range(target)
    ]


def taken(source: int, target: int) -> np.ndarray:
    """Weights by fractions: shares where pixels grow, bilinear between centres where they shrink."""
    if source > target:
        return np.array(overlaps(source, target), dtype=float)
    weights = np.zeros((target, source))
    for o in range(target):
        at = Fraction(source, target) * (o + Fraction(1, 2)) - Fraction(1, 2)
        below = at.numerator // at.denominator
        for k, weight in ((below, 1 - (at - below)), (below + 1, at - below)):
            weights[o, min(max(k, 0), source - 1)] += float(weight)
    return weights


@properties
@given(sides, sides, st.integers(0, 99))
def test_pixels_are_the_weighted_mean_of_valid_ones_alone(source_hw, target_hw, seed):
    pixels, valid = raster(source_hw, seed)
    way = Resampling(source_hw, target_hw)
    rows, cols = (taken(s, t) for s, t in zip(source_hw, target_hw, strict=True))
    total = rows @ np.where(valid, pixels, 0).astype(float) @ cols.T
    weight = rows @ valid.astype(float) @ cols.T
    at = way.needs(whole(target_hw)).slices_within(whole(source_hw))
    made = way.pixels(whole(target_hw), pixels[:, *at], valid[at])
    known = weight > 1e-6
    np.testing.assert_allclose(made[:, known], (total / np.where(known, weight, 1))[:, known], rtol=1e-4)
    enough = way.mostly(whole(target_hw), valid[at])
    assert (weight[enough] > 0).all()  # what is valid has a value


@properties
@given(sides, sides, st.integers(0, 99))
def test_half_of_the_area_is_enough_and_less_is_not(source_hw, target_hw, seed):
    _, valid = raster(source_hw, seed)
    way = Resampling(source_hw, target_hw)
    at = way.needs(whole(target_hw)).slices_within(whole(source_hw))
    rows, cols = (overlaps(s, t) for s, t in zip(source_hw, target_hw, strict=True))
    there = [[k for k, share in enumerate(line) if share] for line in cols]
    expected = [
        [
            sum(r * cols[c][k] for i, r in enumerate(row) if r for k in there[c] if valid[i, k]) * 2 >= 1
            for c in range(target_hw[1])
        ]
        for row in rows
    ]
    np.testing.assert_array_equal(way.mostly(whole(target_hw), valid[at]), expected)


@properties
@given(sides, sides, st.integers(0, 99), st.data())
def test_a_pixel_is_the_same_to_the_last_bit_in_any_window(source_hw, target_hw, seed, data):
    pixels, valid = raster(source_hw, seed)
    valid[: source_hw[0] // 2] = True  # some windows are valid all over, and are read so
    pixels = np.nan_to_num(pixels, nan=7.1)
    way = Resampling(source_hw, target_hw)

    def part(at: Window) -> tuple[np.ndarray, np.ndarray]:
        needed = way.needs(at).slices_within(whole(source_hw))
        own = valid[needed]
        made = way.pixels(at, pixels[:, *needed], None if own.all() else own)
        return made, way.mostly(at, own)

    row, col = (data.draw(st.integers(0, size - 1)) for size in target_hw)
    height, width = (
        data.draw(st.integers(1, target_hw[0] - row)),
        data.draw(st.integers(1, target_hw[1] - col)),
    )
    at = Window(row_off=row, col_off=col, height=height, width=width)
    for one, all_of_it in zip(part(at), part(whole(target_hw)), strict=True):
        np.testing.assert_array_equal(one, all_of_it[(..., *at.slices_within(whole(target_hw)))])


def test_values_at_float32s_end_stay_finite():
    pixels = np.full((1, 14, 18), np.finfo(np.float32).max, np.float32)
    made = Resampling((14, 18), (5, 7)).pixels(whole((5, 7)), pixels, None)
    np.testing.assert_allclose(made, resample.LARGEST, rtol=1e-5)


@properties
@given(sides, sides, st.data())
def test_blocks_are_the_window_as_wide_as_it_is_and_hold_little(source_hw, target_hw, data):
    row, col = (data.draw(st.integers(0, size - 1)) for size in target_hw)
    at = Window(row_off=row, col_off=col, height=target_hw[0] - row, width=target_hw[1] - col)
    way = Resampling(source_hw, target_hw)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resample, "BLOCK_PIXELS", 50)
        blocks = list(way.blocks(at))
    assert {(block.col_off, block.width) for block in blocks} == {(at.col_off, at.width)}
    ends = [at.row_off, *(block.row_stop for block in blocks)]
    assert ends[:-1] == [block.row_off for block in blocks]
    assert ends[-1] == at.row_stop
    per_row = max(1, -(-source_hw[0] // target_hw[0]))
    across = max(at.width, at.width * source_hw[1] // target_hw[1])
    for block in blocks:  # and the rows that it takes a part of, at its ends
        assert block.height == 1 or (block.height * per_row) * across <= 100
        assert way.needs(block).height <= block.height * per_row + 2


@pytest.mark.parametrize(
    ("target_hw", "method"),
    [((20, 30), Method.average), ((24, 36), Method.average), ((90, 100), Method.bilinear)],
)
def test_gdal_answers_the_same_of_a_whole_raster(target_hw, method):
    pixels = np.random.default_rng(1).integers(0, 255, (2, 60, 90), dtype=np.uint8)
    with MemoryFile() as memory:
        with memory.open(driver="GTiff", height=60, width=90, count=2, dtype="uint8") as target:
            target.write(pixels)
        with memory.open() as dataset:
            expected = dataset.read(out_shape=(2, *target_hw), resampling=method)
    made = Resampling((60, 90), target_hw).pixels(whole(target_hw), pixels, None)
    assert made.dtype == np.uint8
    assert np.abs(made.astype(int) - expected).max() <= 1  # halves are rounded otherwise


def test_integers_are_rounded_and_even_pixels_stay_even():
    pixels = np.array([[[1, 2], [2, 2]]], dtype=np.int16)
    assert Resampling((2, 2), (1, 1)).pixels(whole((1, 1)), pixels, None).tolist() == [[[2]]]
    for kind, value in ((np.uint16, 65535), (np.int16, -32768), (np.uint8, 255)):
        even = np.full((1, 30, 30), value, dtype=kind)
        for target_hw in ((7, 11), (30, 30), (64, 51)):
            assert np.unique(Resampling((30, 30), target_hw).pixels(whole(target_hw), even, None)) == value


def test_the_same_size_is_the_same_pixels():
    pixels, valid = raster((9, 13), 3)
    way = Resampling((9, 13), (9, 13))
    np.testing.assert_array_equal(way.pixels(whole((9, 13)), pixels, valid)[:, valid], pixels[:, valid])
    np.testing.assert_array_equal(way.mostly(whole((9, 13)), valid), valid)


@properties
@given(st.integers(1, 200), st.integers(1, 200))
def test_the_nearest_pixel_holds_the_centre(target, source):
    for o, k in enumerate(nearest(target, source).tolist()):
        assert k <= Fraction(2 * o + 1, 2 * target) * source < k + 1

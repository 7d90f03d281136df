"""Half-size levels against counting by hand."""

import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import rasterio
from conftest import write_raster
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rasterio.errors import RasterioIOError

from batchseg.output import overviews
from batchseg.output.overviews import (
    BLOCK,
    _most_frequent,
    find_damage,
    halve_classes,
    halve_confidence,
    make_levels,
)

shapes = st.tuples(st.integers(1, 5), st.integers(1, 7))
small_ids = arrays(np.uint8, shapes, elements=st.sampled_from([0, 1, 2, 255]))


def cells(array: np.ndarray) -> list[list[list[int]]]:
    """The four values below each half-size pixel; the last row and column doubled where they are odd."""
    height, width = array.shape
    rows = [[min(2 * r + i, height - 1) for i in (0, 1)] for r in range((height + 1) // 2)]
    cols = [[min(2 * c + j, width - 1) for j in (0, 1)] for c in range((width + 1) // 2)]
    return [[[int(array[r, c]) for r in pair_r for c in pair_c] for pair_c in cols] for pair_r in rows]


@settings(deadline=None, max_examples=200)
@given(small_ids)
def test_classes_by_majority_and_nodata_only_where_nothing_else_is(ids: np.ndarray) -> None:
    half = halve_classes(ids, 255)
    for row, found in zip(cells(ids), half.tolist(), strict=True):
        for four, value in zip(row, found, strict=True):
            counts = Counter(four)
            if set(four) == {255}:
                assert value == 255
                continue
            assert value != 255
            assert value in four
            valid = Counter(v for v in four if v != 255)
            if max(counts.values()) == max(valid.values()) and counts.most_common(1)[0][1] > 1:
                assert valid[value] == max(valid.values())


@settings(deadline=None, max_examples=100)
@given(
    st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.sampled_from([np.uint8, np.uint16])
)
def test_few_borders_and_many_give_the_same(height: int, width: int, seed: int, dtype: type) -> None:
    random = np.random.default_rng(seed)
    ids = np.full((height, width), random.integers(0, 300) % np.iinfo(dtype).max, dtype=dtype)
    spots = random.random(ids.shape) < random.choice([0.0, 0.01, 0.5])
    ids[spots] = random.choice([0, 7, np.iinfo(dtype).max], spots.sum())
    top, bottom = cells(ids), halve_classes(ids, np.iinfo(dtype).max).tolist()
    a, b, c, d = (np.array([[four[i] for four in row] for row in top], dtype=dtype) for i in range(4))
    assert _most_frequent((a, b, c, d), np.iinfo(dtype).max).tolist() == bottom


@settings(deadline=None, max_examples=200)
@given(arrays(np.uint8, shapes))
def test_confidence_is_the_mean_of_the_valid(values: np.ndarray) -> None:
    half = halve_confidence(values)
    for row, found in zip(cells(values), half.tolist(), strict=True):
        for four, value in zip(row, found, strict=True):
            valid = [v for v in four if v]
            assert abs(value - (sum(valid) / len(valid) if valid else 0)) <= 0.5


def test_levels_halve_until_one_block_holds_them_and_every_strip_is_seen(tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(0, 4, (2 * BLOCK + 7, 4 * BLOCK + 3), dtype=np.uint8)
    path = write_raster(tmp_path / "full.tif", ids[None])
    seen = []
    halve = partial(halve_classes, nodata=255)
    levels = make_levels(str(path), tmp_path, "mask", halve, lambda row, strip: seen.append(strip)).levels
    np.testing.assert_array_equal(np.concatenate(seen), ids)
    expected = ids
    for level in levels:
        expected = halve_classes(expected, 255)
        with rasterio.open(level) as dataset:
            np.testing.assert_array_equal(dataset.read(1), expected)
    assert max(expected.shape) <= BLOCK < 2 * max(expected.shape)


def test_a_raster_of_one_block_has_no_levels_but_is_seen(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "full.tif", np.ones((1, 30, BLOCK), dtype=np.uint8))
    seen = []
    look = lambda row, strip: seen.append(strip)  # noqa: E731
    assert make_levels(str(path), tmp_path, "mask", lambda strip: strip, look).levels == []
    assert [strip.shape for strip in seen] == [(30, BLOCK)]


def test_one_strip_is_seen_in_the_calling_thread(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "small.tif", np.zeros((1, 640, 600), dtype=np.uint8))
    seen = []
    look = lambda row, strip: seen.append(threading.current_thread())  # noqa: E731
    make_levels(str(path), tmp_path, "mask", partial(halve_classes, nodata=255), look)
    assert seen == [threading.current_thread()]


def test_strips_are_seen_in_their_order_however_slow_who_looks(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(overviews, "STRIP_PIXELS", 64 * 600)
    path = write_raster(tmp_path / "tall.tif", np.zeros((1, 640, 600), dtype=np.uint8))
    seen = []

    def look(row_off: int, strip: np.ndarray) -> None:
        time.sleep(0.02 if row_off == 0 else 0)
        seen.append(row_off)

    make_levels(str(path), tmp_path, "mask", partial(halve_classes, nodata=255), look)
    assert seen == list(range(0, 640, 64))


@pytest.mark.parametrize("row", [0, 576])
def test_who_looks_may_fail(tmp_path: Path, monkeypatch, row: int) -> None:
    monkeypatch.setattr(overviews, "STRIP_PIXELS", 64 * 600)
    path = write_raster(tmp_path / "tall.tif", np.zeros((1, 640, 600), dtype=np.uint8))

    def look(row_off: int, strip: np.ndarray) -> None:
        if row_off == row:
            raise OSError("no room for regions")

    with pytest.raises(OSError, match="no room"):
        make_levels(str(path), tmp_path, "mask", partial(halve_classes, nodata=255), look)


def test_nobody_looks_any_more_when_reading_has_failed(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(overviews, "STRIP_PIXELS", 64 * 600)
    path = write_raster(tmp_path / "tall.tif", np.zeros((1, 640, 600), dtype=np.uint8))
    ended = []

    def look(row_off: int, strip: np.ndarray) -> None:
        time.sleep(0.2)
        ended.append(row_off)

    halved = []

    def halve(strip: np.ndarray) -> np.ndarray:
        halved.append(strip)
        if len(halved) == 2:
            raise RasterioIOError("cut off")
        return halve_classes(strip, 255)

    with pytest.raises(RasterioIOError):
        make_levels(str(path), tmp_path, "mask", halve, look)
    assert ended == [0]


@pytest.mark.parametrize(("bands", "height", "width"), [(5, 1100, 600), (2, 1030, 1030), (1, 1100, 600)])
def test_bands_of_a_tall_raster_are_read_back_as_they_were_in_memory(tmp_path, bands, height, width):
    """Levels are made of half strips and read back in whole ones."""
    pixels = np.random.default_rng(bands).integers(1, 256, (bands, height, width), dtype=np.uint8)
    path = write_raster(tmp_path / "whole.tif", pixels)
    pyramid = make_levels(str(path), tmp_path, "probabilities", halve_confidence, None)
    assert pyramid.levels
    for number, level in enumerate(pyramid.levels, start=1):
        alone = type(pyramid)(levels=[], checksums=[pyramid.checksums[number]])
        assert find_damage(level, alone) is None
    assert find_damage(path, type(pyramid)(levels=[], checksums=pyramid.checksums[:1])) is None
    pixels[-1, -1, -1] ^= 1
    other = write_raster(tmp_path / "other.tif", pixels)
    assert find_damage(other, type(pyramid)(levels=[], checksums=pyramid.checksums[:1])) == "the full size"

"""Merging and sieving against a flood fill that knows nothing of GDAL."""

from collections import Counter

import numpy as np
import pytest
import rasterio
from conftest import write_raster
from factories import make_product
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sieved import expected, flooded, sieved_once

from batchseg.errors import NoRoomError
from batchseg.job.cleaning import Cleaning, Merge
from batchseg.output import overviews
from batchseg.output.cleaning import REGION_BYTES, clean_scene, cleaned

CLASSES = make_product("a", "b", "c", "d").classes
MERGES = (Merge(name="one", ids=(1, 3)),)
PLENTY = 2**30


def cleaning_of(sieve=0, connectivity=4, merges=()) -> Cleaning:
    return Cleaning(classes=CLASSES, merges=merges, sieve=sieve, connectivity=connectivity)


@st.composite
def masks(draw):
    """Coarse squares with specks, so that there are regions of all sizes; uint8 or uint16."""
    height, width = draw(st.integers(1, 14)), draw(st.integers(1, 14))
    nodata = draw(st.sampled_from([255, 65535]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    ids = np.array([0, 1, 2, 3, nodata])
    coarse = rng.choice(ids, (-(-height // 4), -(-width // 4)), p=[0.3, 0.2, 0.2, 0.2, 0.1])
    values = coarse.repeat(4, axis=0).repeat(4, axis=1)[:height, :width]
    specks = rng.random((height, width)) < draw(st.sampled_from([0.0, 0.1, 0.5]))
    values[specks] = rng.choice(ids, np.count_nonzero(specks))
    return values.astype("uint8" if nodata == 255 else "uint16"), nodata


cleanings = st.builds(
    cleaning_of, st.sampled_from([0, 2, 3, 5, 9, 40]), st.sampled_from([4, 8]), st.sampled_from([(), MERGES])
)


@settings(max_examples=150)
@given(masks(), cleanings)
def test_a_mask_is_merged_and_then_sieved(drawn, cleaning):
    values, nodata = drawn
    before = values.copy()
    made = cleaned(values, cleaning, nodata)
    assert made.dtype == values.dtype
    assert np.array_equal(values, before), "what was predicted is kept, and stays"
    assert np.array_equal(made, expected(values, cleaning, nodata))


@settings(max_examples=80)
@given(masks(), st.sampled_from([2, 5, 9]), st.sampled_from([4, 8]))
def test_small_regions_are_left_only_where_no_large_one_can_be_reached(drawn, size, connectivity):
    values, nodata = drawn
    made = cleaned(values, cleaning_of(size, connectivity), nodata)
    assert np.array_equal(made == nodata, values == nodata), "nodata changes nothing and never changes"
    labels = flooded(made, nodata, connectivity)
    islands = flooded(np.where(made == nodata, nodata, 0), nodata, connectivity)
    for island in range(islands.max() + 1):
        sizes = Counter(labels[islands == island].tolist()).values()
        assert min(sizes) >= size or max(sizes) < size


@settings(max_examples=50)
@given(masks(), cleanings)
def test_a_clean_mask_is_clean(drawn, cleaning):
    values, nodata = drawn
    made = cleaned(values, cleaning, nodata)
    assert np.array_equal(cleaned(made, cleaning, nodata), made)


def test_what_one_pass_of_gdal_leaves_is_sieved_too():
    """a and b are each other's largest neighbours; b touches a large region only once c is part of it."""
    row = np.array([[1] * 4 + [2] * 3 + [0] * 2 + [3] * 9], np.uint8)
    once = sieved_once(row, 5, 255, 4)
    assert once[0].tolist() == [1] * 4 + [2] * 3 + [3] * 11
    assert (cleaned(row, cleaning_of(5), 255) == 3).all()


@settings(max_examples=25)
@given(masks(), cleanings, st.integers(1, 40))
@example((np.zeros((1, 1), np.uint8), 255), cleaning_of(9), 1)
def test_a_scene_in_strips_is_what_it_is_in_memory(tmp_path_factory, drawn, cleaning, strip_pixels):
    values, nodata = drawn
    folder = tmp_path_factory.mktemp("scene")
    path = write_raster(folder / "mask.tif", values[None], nodata=nodata, tiled=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overviews, "strip_rows", lambda width: max(1, strip_pixels // width))
        made = clean_scene(str(path), folder, cleaning, nodata, PLENTY)
    with rasterio.open(made) as dataset:
        assert np.array_equal(dataset.read(1), cleaned(values, cleaning, nodata))
    assert {p.name for p in folder.iterdir()} == {"mask.tif", "cleaned.tif"}, "nothing else stays on the disk"


def test_more_regions_than_memory_has_room_for_are_refused(tmp_path, monkeypatch):
    board = np.indices((40, 50)).sum(axis=0).astype(np.uint8) % 2
    path = str(write_raster(tmp_path / "mask.tif", board[None]))
    enough = 40 * 50 * REGION_BYTES
    with pytest.raises(NoRoomError, match=r"up to 2,000 regions, .* 96,000 bytes .* is 95,999; .*sieve=null"):
        clean_scene(path, tmp_path, cleaning_of(2), 255, enough - 1)
    assert clean_scene(path, tmp_path, cleaning_of(2), 255, enough).exists()
    bars = np.tile(np.arange(50, dtype=np.uint8) // 5, (1, 40, 1))
    stripes = str(write_raster(tmp_path / "stripes.tif", bars))
    monkeypatch.setattr(overviews, "strip_rows", lambda width: 7)
    with pytest.raises(NoRoomError, match="up to 10 regions"):
        clean_scene(stripes, tmp_path, cleaning_of(2), 255, 10 * REGION_BYTES - 1)
    assert clean_scene(path, tmp_path, cleaning_of(0, merges=MERGES), 255, 0).exists()

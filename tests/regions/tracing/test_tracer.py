"""Regions traced strip by strip against rasterio's of the whole raster."""

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from polygons import rings, spiral, whole_regions
from scipy import ndimage
from traced import NODATA, SETTINGS, polygons_of, rasters, traced, wanted

from batchseg.regions.tracing import tracer as trace
from batchseg.regions.tracing.rings import Regions, count
from batchseg.regions.tracing.tracer import JoinedIds, RegionTracer


def by_id(batches: list[Regions]) -> dict[int, tuple[int, shapely.Polygon]]:
    found = {}
    for batch in batches:
        polygons = polygons_of(batch)
        assert shapely.is_valid(polygons).all()
        for region_id, class_id, polygon in zip(batch.region_id, batch.class_id, polygons, strict=True):
            assert int(region_id) not in found
            found[int(region_id)] = (int(class_id), polygon)
    return found


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for region_id, (class_id, polygon) in expected.items():
        assert found[region_id][0] == class_id
        assert polygon.equals(found[region_id][1])
        assert shapely.get_num_coordinates(polygon) == shapely.get_num_coordinates(found[region_id][1])


@SETTINGS
@given(rasters, st.integers(1, 12), st.integers(1, 100))
def test_regions_of_strips_are_those_of_the_whole(ids, rows, chunk):
    batches, _ = traced(ids, rows=rows, chunk=chunk)
    assert_same(by_id(batches), whole_regions(ids, wanted()))


@SETTINGS
@given(rasters, st.sets(st.integers(0, 3)))
def test_only_wanted_classes_make_regions(ids, classes):
    which = np.zeros(256, dtype=bool)
    which[list(classes)] = True
    batches, _ = traced(ids, rows=3, which=which)
    assert_same(by_id(batches), whole_regions(ids, which))


@pytest.mark.parametrize("rows", [1, 5, 64])
@pytest.mark.parametrize(
    "ids",
    [
        spiral(33),
        rings(33),
        np.indices((16, 19)).sum(axis=0).astype(np.uint8) % 2,
        np.eye(12, 15, dtype=np.uint8),
        1 - np.eye(12, 15, dtype=np.uint8),
        np.kron(np.indices((5, 6)).sum(axis=0).astype(np.uint8) % 2, np.ones((3, 4), np.uint8)),
        np.pad(np.tile(np.array([[0, 1], [1, 0]], np.uint8), (6, 7)), 1, constant_values=1),
        np.ones((40, 3), dtype=np.uint8),
        np.full((4, 6), NODATA, dtype=np.uint8),
    ],
    ids=["spiral", "rings", "checks", "diagonal", "cut by a diagonal", "blocks", "lace", "one", "nothing"],
)
def test_regions_of_hard_shapes(ids, rows):
    batches, _ = traced(ids, rows=rows, chunk=4 * ids.shape[1])
    assert_same(by_id(batches), whole_regions(ids, wanted()))


def test_a_region_across_all_strips_holds_the_others():
    ids = np.random.default_rng(3).integers(1, 9, (300, 211)).astype(np.uint8)
    ids[:, ::7], ids[::5, :] = 3, 3
    batches, _ = traced(ids, rows=10, chunk=1)
    found = by_id(batches)
    assert max(shapely.get_num_interior_rings(polygon) for _, polygon in found.values()) > 500
    assert_same(found, whole_regions(ids, wanted()))


@pytest.mark.parametrize("classes", [300, 3])
def test_sixteen_bits(classes):
    ids = np.random.default_rng(0).integers(0, classes, (31, 40)).astype(np.uint16)
    which = np.ones(65536, dtype=bool)
    batches, _ = traced(ids, rows=7, which=which)
    assert_same(by_id(batches), whole_regions(ids, which))


def test_more_columns_than_sixteen_bits():
    ids = np.random.default_rng(0).integers(0, 3, (6, 70_001)).astype(np.uint8).repeat(2, axis=0)
    first, _ = traced(ids, rows=3)
    turned, _ = traced(np.ascontiguousarray(ids.T), rows=1000)
    expected = sorted(shapely.area(np.concatenate([polygons_of(b) for b in turned])))
    assert sorted(shapely.area(np.concatenate([polygons_of(b) for b in first]))) == expected


def test_what_is_carried_is_bounded_by_max_vertices():
    width, limit = 200, 1000
    ids = np.random.default_rng(1).integers(0, 5, (2000, width)).astype(np.uint8)
    ids[:, ::2] = 1
    ids[::3] = 1
    whole, _ = traced(ids, rows=50, chunk=50 * (width + 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace, "CHUNK_PIXELS", 50 * (width + 1))
        tracer = RegionTracer(*ids.shape, wanted=wanted(), max_vertices=limit)
    carried, batches = [], []
    for row in range(0, len(ids), 50):
        batches += tracer.feed(row, ids[row : row + 50])
        carried.append(tracer.carried_vertices)
    batches.append(tracer.finish())
    assert max(carried[:-1]) <= trace.CARRIED * limit < carried[-1]  # nothing is cut after the last row
    assert sum(batch.cut.sum() for batch in batches) > 30
    assert sum(count(b).area.sum() for b in batches) == sum(count(b).area.sum() for b in whole) == ids.size


def test_strips_must_come_in_order_and_whole():
    tracer = RegionTracer(10, 4, wanted=wanted())
    list(tracer.feed(0, np.ones((3, 4), np.uint8)))
    with pytest.raises(ValueError, match=r"from 3 on, got \(3, 4\) at 6"):
        list(tracer.feed(6, np.ones((3, 4), np.uint8)))
    with pytest.raises(ValueError, match="expected 10 rows, got 3"):
        tracer.finish()


def test_joined_ids_are_the_smallest():
    joined = JoinedIds()
    assert not joined
    joined.add(np.array([[5, 7], [3, 7], [2, 5]]))
    assert joined.resolve(np.array([7, 5, 4, 3, 2])).tolist() == [2, 2, 4, 2, 2]


def by_corners(ids, which):
    """(class id, pixels, smaller parts) by region id: scipy's components of the whole raster."""
    found = {}
    for class_id in np.flatnonzero(which[np.unique(ids)]):
        value = np.unique(ids)[class_id]
        labels, count_of = ndimage.label(ids == value, structure=np.ones((3, 3)))
        parts, _ = ndimage.label(ids == value)
        for number in range(1, count_of + 1):
            pixels = np.flatnonzero(labels.ravel() == number)
            sets = len(np.unique(parts.ravel()[pixels]))
            found[int(pixels[0])] = (int(value), len(pixels), sets)
    return found


@SETTINGS
@given(rasters, st.integers(1, 12), st.integers(1, 100))
def test_regions_that_touch_by_corners_share_an_id_and_come_out_together(ids, rows, chunk):
    batches, tracer = traced(ids, rows=rows, chunk=chunk, connectivity=8)
    found = {}
    for batch in batches:
        polygons = polygons_of(batch)
        assert shapely.is_valid(polygons).all() and not batch.cut.any()
        for region_id in np.unique(batch.region_id).tolist():
            assert region_id not in found
            own = batch.region_id == region_id
            (class_id,) = np.unique(batch.class_id[own]).tolist()
            found[region_id] = (class_id, int(count(batch).area[own].sum()), int(own.sum()))
    assert found == by_corners(ids, wanted()) and not tracer.joined
    # Its parts are the regions that touch by sides.
    sides = [polygon for _, polygon in whole_regions(ids, wanted()).values()]
    assert sum(len(batch) for batch in batches) == len(sides)
    again, _ = traced(ids, rows=len(ids), connectivity=8)
    one, other = (np.concatenate([batch.region_id for batch in some]) for some in (batches, again))
    assert one.tolist() == other.tolist()


@SETTINGS
@given(rasters, st.integers(1, 12), st.integers(1, 60), st.integers(4, 30))
def test_regions_that_touch_by_corners_are_cut_and_joined_again(ids, rows, chunk, most):
    batches, tracer = traced(ids, rows=rows, chunk=chunk, connectivity=8, max_vertices=most)
    found = {}
    for batch in batches:
        names = tracer.joined.resolve(batch.region_id).tolist()
        for region_id, class_id, area in zip(names, batch.class_id.tolist(), count(batch).area, strict=True):
            known = found.get(region_id, (class_id, 0))
            assert known[0] == class_id
            found[region_id] = (class_id, known[1] + int(area))
    assert found == {key: value[:2] for key, value in by_corners(ids, wanted()).items()}

"""Rings and what is counted from them, against shapely and the pixels themselves."""

from itertools import pairwise

import numpy as np
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rasterio.features import geometry_mask
from rasterio.transform import Affine
from traced import SETTINGS, polygons_of, rasters, traced

from batchseg.regions.tracing.borders import walk_strip
from batchseg.regions.tracing.rings import Edges, Regions, count, ring_coordinates, split_doubles

FEWER = settings(SETTINGS, max_examples=30)


@SETTINGS
@given(rasters, st.integers(1, 12), st.sampled_from([1, 9, 10**6]), st.data())
def test_counts_are_those_of_the_pixels_of_pieces_too(ids, rows, max_vertices, data):
    confidence = data.draw(arrays(np.uint8, ids.shape))
    batches, _ = traced(ids, rows=rows, confidence=confidence, chunk=30, max_vertices=max_vertices)
    for batch in batches:
        counts, polygons = count(batch), polygons_of(batch)
        for at, polygon in enumerate(polygons):
            hit = geometry_mask([polygon], ids.shape, Affine.identity(), invert=True)
            r, c = np.nonzero(hit)
            assert (counts.area[at], counts.col_sum[at], counts.row_sum[at]) == (hit.sum(), c.sum(), r.sum())
            assert batch.confidence[at] == confidence[hit].sum(dtype=int)
            assert counts.perimeter[at] == polygon.length
            assert tuple(counts.box[at]) == polygon.bounds


@FEWER
@given(rasters)
def test_a_walk_falls_into_rings_that_pass_no_corner_twice(ids):
    walks = walk_strip(np.pad(ids == 1, ((1, 1), (1, 0))).astype(np.uint8), line_off=0)
    rings, walk = split_doubles(Edges(x=walks.x, y=walks.y, double=walks.double, offsets=walks.offsets))
    assert (
        np.bincount(walk, np.diff(rings.offsets), len(walks.label)).tolist()
        == np.diff(walks.offsets).tolist()
    )
    assert not rings.double.any()
    area = 0
    for start, stop in pairwise(rings.offsets.tolist()):
        x, y = rings.x[start:stop], rings.y[start:stop]
        corners = np.stack([np.stack([x, np.roll(x, -1)]), np.stack([y, y])]).T.reshape(-1, 2)
        assert shapely.LinearRing(corners).is_simple
        assert np.lexsort((x, y))[0] == 0
        area += int((y * (x - np.roll(x, -1))).sum())
    assert area == (ids == 1).sum()


@FEWER
@given(rasters, st.data())
def test_chosen_regions_are_those_of_the_whole(ids, data):
    (*_, regions), _ = traced(ids, rows=len(ids), chunk=len(ids) * (ids.shape[1] + 1))
    chosen = data.draw(st.lists(st.sampled_from(range(len(regions))), max_size=5)) if len(regions) else []
    some = regions.pick(np.array(chosen, dtype=np.int64))
    assert len(some) == len(chosen)
    assert some.region_id.tolist() == regions.region_id[chosen].tolist()
    assert shapely.equals(polygons_of(some), polygons_of(regions)[chosen]).all()
    counts, all_counts = count(some), count(regions).pick(np.array(chosen, dtype=np.int64))
    for name in ("area", "col_sum", "row_sum", "perimeter", "box"):
        assert getattr(counts, name).tolist() == getattr(all_counts, name).tolist()


def test_sums_beyond_32_bits_are_exact():
    """A raster of a million columns and lines: its sums wrap around on the way and end right."""
    size, far = 3_000_000, 2_000_000
    x, y = np.array([far, size], np.int32), np.array([far, size], np.int32)
    regions = Regions(
        region_id=np.zeros(1, np.int64),
        class_id=np.ones(1, np.int64),
        confidence=np.zeros(1, np.int64),
        cut=np.zeros(1, bool),
        x=x,
        y=y,
        rings=np.array([0, 2]),
        polygons=np.array([0, 1]),
    )
    side = size - far
    counts = count(regions)
    assert counts.area.tolist() == [side**2]
    assert counts.col_sum.tolist() == counts.row_sum.tolist() == [side * sum(range(far, size))]
    assert counts.perimeter.tolist() == [4 * side]
    corners, offsets = ring_coordinates(regions)
    assert corners.tolist() == [[far, far], [size, far], [size, size], [far, size], [far, far]]
    assert offsets.tolist() == [0, 5]

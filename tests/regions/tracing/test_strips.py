"""What is closed and what stays open after strips, joined and cut, against rasterio's regions."""

import itertools

import numpy as np
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from polygons import whole_regions
from traced import SETTINGS, polygons_of, rasters, traced, wanted

from batchseg.regions.tracing.borders import walk_strip
from batchseg.regions.tracing.rings import count
from batchseg.regions.tracing.strips import cut, join, nothing_open, to_regions

FEWER = settings(SETTINGS, max_examples=30)
NO_ORIGINS = np.zeros((0, 2), dtype=np.int64)


@SETTINGS
@given(rasters, st.integers(1, 12), st.integers(1, 100))
def test_nothing_depends_on_strips(ids, rows, chunk):
    def flat(batches):
        rows_of = [
            (int(i), polygon.wkb_hex)
            for batch in batches
            for i, polygon in zip(batch.region_id, polygons_of(batch), strict=True)
        ]
        assert [i for i, _ in rows_of] == [i for b in batches for i in b.region_id.tolist()]
        return rows_of

    assert flat(traced(ids, rows=rows, chunk=chunk)[0]) == flat(traced(ids, rows=len(ids))[0])


def test_the_order_of_holes_does_not_depend_on_strips():
    ids = np.zeros((5, 6), dtype=np.uint8)
    ids[1:4, 2] = ids[1, 4] = ids[3, 3] = 1
    found = [polygons_of(batch) for rows in (1, 2, 5) for batch in traced(ids + 1, rows=rows)[0]]
    holes = [[hole.bounds[:2] for hole in polygon.interiors] for polygon in np.concatenate(found)]
    assert [some for some in holes if some] == 3 * [[(2, 1), (4, 1)]]


@SETTINGS
@given(rasters, st.integers(1, 12), st.integers(1, 30), st.integers(1, 30))
def test_pieces_of_a_cut_region_make_it_up_and_share_its_id(ids, rows, chunk, max_vertices):
    batches, tracer = traced(ids, rows=rows, chunk=chunk, max_vertices=max_vertices)
    found: dict[int, list[shapely.Polygon]] = {}
    for batch in batches:
        assert shapely.is_valid(polygons_of(batch)).all()
        for region_id, polygon in zip(
            tracer.joined.resolve(batch.region_id), polygons_of(batch), strict=True
        ):
            found.setdefault(int(region_id), []).append(polygon)
    expected = whole_regions(ids, wanted())
    assert found.keys() == expected.keys()
    for region_id, (_, polygon) in expected.items():
        assert shapely.union_all(found[region_id]).equals(polygon)
        assert sum(piece.area for piece in found[region_id]) == polygon.area


def joined(ids, *bounds):
    """What is closed after the last of the strips between some lines, what is open, and all that came out."""
    padded, found, opened = np.pad(ids, ((1, 1), (1, 0))), [], nothing_open()
    for first, stop in itertools.pairwise(bounds):
        walks = walk_strip(padded[first : stop + 1], line_off=first)
        closed, opened, same = join(opened, walks, NO_ORIGINS, ids.shape[1])
        found.append(to_regions(closed, ids.shape[1])[0])
        assert not len(same)
    return opened, found


@FEWER
@given(rasters, st.data())
def test_after_a_strip_the_regions_of_its_last_row_are_open_and_no_others(ids, data):
    ids[ids == 255] = 0
    at = data.draw(st.integers(1, len(ids)))
    opened, (done,) = joined(ids, 0, at)
    above = whole_regions(ids[:at], wanted(1, 2, 3))
    reach = {i for i, (_, polygon) in above.items() if polygon.bounds[3] == at}
    assert set(done.region_id.tolist()) == above.keys() - reach
    assert len(opened.found.label) == len(reach)
    assert sorted(opened.found.label.tolist()) == sorted(above[i][0] for i in reach)
    row = np.pad(ids[at - 1], (1, 1))
    turns = row[1:] != row[:-1]
    assert sorted(opened.start.tolist()) == (2 * np.flatnonzero(turns & (row[1:] > 0)) + 1).tolist()
    assert sorted(opened.end.tolist()) == (2 * np.flatnonzero(turns & (row[:-1] > 0))).tolist()
    _, found = joined(ids, 0, at, len(ids) + 1)
    expected = whole_regions(ids, wanted(1, 2, 3))
    for regions in found:
        for region_id, polygon in zip(regions.region_id.tolist(), polygons_of(regions), strict=True):
            assert polygon.equals(expected.pop(region_id)[1])
    assert not expected


@FEWER
@given(rasters, st.data())
def test_a_cut_closes_the_regions_that_it_is_given_along_the_line(ids, data):
    ids[ids == 255] = 0
    at, width = data.draw(st.integers(1, len(ids))), ids.shape[1]
    opened, _ = joined(ids, 0, at)
    which = data.draw(arrays(bool, len(opened.found.label)))
    closed, left, cuts, same = cut(opened, which, at, width)
    assert not len(same)
    assert len(left.found.label) == (~which).sum()
    pieces, _ = to_regions(closed, width)
    assert pieces.cut.all()
    above = whole_regions(ids[:at], wanted(1, 2, 3))
    for region_id, polygon in zip(pieces.region_id.tolist(), polygons_of(pieces), strict=True):
        assert polygon.equals(above[region_id][1])
    runs = np.zeros(width, dtype=int)
    for start, stop, region_id in zip(cuts.start, cuts.stop, cuts.region_id, strict=True):
        runs[start:stop] += 1
        assert (ids[at - 1, start:stop] == above[int(region_id)][0]).all()
    last = polygons_of(pieces)
    covered = sum(shapely.intersection(p, shapely.box(0, at - 1, width, at)).area for p in last)
    assert runs.max(initial=0) <= 1
    assert runs.sum() == covered
    assert count(pieces).area.sum() == sum(p.area for p in last)

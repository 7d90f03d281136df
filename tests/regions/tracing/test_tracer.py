"""Regions traced strip by strip against rasterio's of the whole raster."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from polygons import rings, spiral, whole_regions
from rasterio.features import geometry_mask
from rasterio.transform import Affine

from batchseg.regions.tracing import tracer as trace
from batchseg.regions.tracing.rings import Regions, count, ring_coordinates
from batchseg.regions.tracing.tracer import JoinedIds, RegionTracer

NODATA = 255
SETTINGS = settings(deadline=None, max_examples=80)

shapes = st.tuples(st.integers(1, 12), st.integers(1, 12)).filter(lambda hw: hw[0] != hw[1])
rasters = st.one_of(
    *(
        arrays(np.uint8, shapes, elements=st.sampled_from(ids))
        for ids in ([0, 1], [0, 1, 1, NODATA], [0, 1, 2, 3])
    )
)


def wanted(*classes: int) -> np.ndarray:
    mask = np.zeros(256, dtype=bool)
    mask[list(classes) or slice(0, NODATA)] = True
    return mask


def traced(
    ids, *, rows, confidence=None, chunk=2**20, which=None, **options
) -> tuple[list[Regions], RegionTracer]:
    which = wanted() if which is None else which
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace, "CHUNK_PIXELS", chunk)
        tracer = RegionTracer(*ids.shape, wanted=which, with_confidence=confidence is not None, **options)
    batches = []
    for row in range(0, len(ids), rows):
        part = None if confidence is None else confidence[row : row + rows]
        batches += tracer.feed(row, ids[row : row + rows], part)
    return [*batches, tracer.finish()], tracer


def polygons_of(regions: Regions) -> np.ndarray:
    corners, offsets = ring_coordinates(regions)
    kind = shapely.GeometryType.POLYGON
    return shapely.from_ragged_array(kind, corners.astype(float), (offsets, regions.polygons))


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

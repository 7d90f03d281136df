import shapely
from hypothesis import given
from hypothesis import strategies as st
from polygons import whole_regions
from traced import SETTINGS, polygons_of, rasters, traced, wanted


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

"""Rows of regions: measures and geometry, read as analysts read them, and against shapely and pyproj."""

import json

import geopandas
import numpy as np
import pyarrow.parquet as pq
import pyproj
import pytest
import shapely
from factories import NOWHERE
from hypothesis import given, settings
from hypothesis import strategies as st
from scene_tables import HEIGHT, PLACES, WIDTH, mask_of, place_of, write
from traced import polygons_of as in_pixels
from traced import rasters, traced

from batchseg.inputs.source import Georeference
from batchseg.job.recipe import RegionSettings
from batchseg.regions.geodesy import row_areas
from batchseg.regions.rows import RowMaker, polygons_of, region_schema
from batchseg.regions.tracing.rings import count


def test_areas_sum_to_the_masks_classes(tmp_path):
    mask, settings = mask_of(), RegionSettings(classes=(0, 1, 2, 3))
    wkt = pyproj.CRS(4326).to_wkt()
    place = Georeference(
        crs_wkt=wkt, transform=(0.01, 0.0, 7.0, 0.0, -0.02, 60.0), gcps=(), gcps_crs_wkt=None, rpcs=()
    )
    write(tmp_path / "a.parquet", mask, place, settings=settings)
    frame = geopandas.read_parquet(tmp_path / "a.parquet")
    areas = row_areas(place, height=HEIGHT, width=WIDTH)
    for class_id, part in frame.groupby("class_id"):
        assert part["area_px"].sum() == (mask == class_id).sum()
        assert part["area_m2"].sum() == pytest.approx(areas @ (mask == class_id).sum(axis=1), rel=1e-12)
    geod = pyproj.Geod(ellps="WGS84")
    some = frame[frame["area_px"] < 60].head(40)
    fine = [polygon.segmentize(0.0005) for polygon in some.geometry]
    exact = [abs(geod.geometry_area_perimeter(polygon)[0]) for polygon in fine]
    np.testing.assert_allclose(some["area_m2"], exact, rtol=1e-4)
    lengths = [sum(geod.geometry_length(line) for line in (p.exterior, *p.interiors)) for p in fine]
    np.testing.assert_allclose(some["perimeter_m"], lengths, rtol=1e-4)


def test_geometry_is_what_shapely_writes(tmp_path):
    write(tmp_path / "a.parquet", np.kron(mask_of(), np.ones((2, 2), np.uint8)), place_of("turned"))
    blobs = pq.read_table(tmp_path / "a.parquet")["geometry"].to_pylist()
    shapes = shapely.from_wkb(blobs)
    assert shapely.get_num_interior_rings(shapes).max() > 1
    assert shapely.to_wkb(shapes, byte_order=1).tolist() == blobs


def test_confidence_is_the_mean(tmp_path):
    mask = mask_of()
    confidence = np.random.default_rng(2).integers(1, 256, mask.shape).astype(np.uint8)
    write(tmp_path / "a.parquet", mask, place_of("north up"), confidence=confidence)
    frame = geopandas.read_parquet(tmp_path / "a.parquet").set_index("region_id")
    one = frame[frame["area_px"] == 1]
    assert len(one) > 5
    np.testing.assert_allclose(one["confidence"], confidence.ravel()[one.index] / 255, rtol=1e-6)
    for class_id, part in frame.groupby("class_id"):
        total = (part["confidence"] * part["area_px"]).sum() * 255
        assert total == pytest.approx(confidence[mask == class_id].sum(dtype=int), rel=1e-5)


def test_without_a_place_rows_are_in_pixels(tmp_path):
    place = Georeference(crs_wkt=None, transform=None, gcps=(), gcps_crs_wkt=None, rpcs=())
    write(tmp_path / "a.parquet", mask_of(), place)
    frame = geopandas.read_parquet(tmp_path / "a.parquet")
    assert frame.crs is None
    for column in ("area_m2", "perimeter_m", "lon_min", "lat_max", "confidence"):
        assert frame[column].isna().all()
    assert frame.geometry.area.tolist() == frame["area_px"].tolist()
    geo = json.loads(pq.read_schema(tmp_path / "a.parquet").metadata[b"geo"])
    assert geo["version"] == "1.1.0"
    assert geo["columns"]["geometry"]["crs"] is None


def test_simplified_regions_are_valid_and_near_and_keep_their_measures(tmp_path):
    mask, place = mask_of(), place_of("turned")
    write(tmp_path / "a.parquet", mask, place)
    write(tmp_path / "b.parquet", mask, place, settings=RegionSettings(simplify=1.5))
    full, simple = (geopandas.read_parquet(tmp_path / name) for name in ("a.parquet", "b.parquet"))
    assert simple.geometry.is_valid.all()
    assert simple.get_coordinates().shape < full.get_coordinates().shape
    assert simple.geometry.hausdorff_distance(full.geometry).max() <= 1.5 * 10 * 1.5
    assert full.drop(columns="geometry").equals(simple.drop(columns="geometry"))


@pytest.mark.parametrize("name", PLACES)
def test_the_schema_tells_readers_the_crs(name):
    schema = region_schema(place_of(name))
    (column,) = json.loads(schema.metadata[b"geo"])["columns"].values()
    assert pyproj.CRS.from_json_dict(column["crs"]) == pyproj.CRS(PLACES[name][0])
    assert column["geometry_types"] == ["Polygon"]
    assert json.loads(region_schema(NOWHERE).metadata[b"geo"])["columns"]["geometry"]["crs"] is None


@settings(deadline=None, max_examples=30)
@given(rasters, st.integers(1, 12), st.sampled_from([8, 10**6]))
def test_polygons_are_those_of_the_mask_in_their_place(ids, rows, max_vertices):
    a, b, c, d, e, f = PLACES["turned"][1]
    batches, _ = traced(ids, rows=rows, chunk=30, max_vertices=max_vertices)
    for regions in batches:
        wkb = polygons_of(regions, 0, lambda x, y: (a * x + b * y + c, d * x + e * y + f))
        wkb.validate(full=True)
        expected = shapely.transform(in_pixels(regions), lambda p: p @ np.array([[a, d], [b, e]]) + (c, f))
        assert wkb.to_pylist() == [shapely.to_wkb(polygon, byte_order=1) for polygon in expected]


@pytest.mark.parametrize("tolerance", [1.5, 100.0])
def test_pieces_of_cut_regions_are_not_simplified(tolerance):
    """They would fit together no more; a region that simplifying would spoil stays as it is too."""
    ids = np.kron(np.random.default_rng(3).integers(0, 3, (12, 15)), np.ones((2, 2), int)).astype(np.uint8)
    batches, _ = traced(ids, rows=4, chunk=4 * (ids.shape[1] + 1), max_vertices=20)
    kept = {True: 0, False: 0}
    for regions in batches:
        simple = shapely.from_wkb(polygons_of(regions, tolerance, lambda x, y: (x, y)).to_pylist())
        whole = in_pixels(regions)
        assert shapely.is_valid(simple).all()
        assert (shapely.equals_exact(simple, whole) | ~regions.cut).all()
        fewer = shapely.get_num_coordinates(simple) < shapely.get_num_coordinates(whole)
        for is_cut in (True, False):
            kept[is_cut] += int(fewer[regions.cut == is_cut].sum())
    assert kept[True] == 0
    assert kept[False] > 0


def test_a_batch_without_regions_has_all_columns():
    for place in (place_of("feet"), NOWHERE):
        make = RowMaker(
            place, height=9, width=7, source_id="a", class_names=(), simplify=0.0, with_confidence=True
        )
        (*_, empty), _ = traced(np.full((9, 7), 255, np.uint8), rows=9)
        table = make(empty, count(empty))
        assert (len(table), table.schema) == (0, region_schema(place))

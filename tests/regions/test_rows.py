import json

import geopandas
import numpy as np
import pyarrow.parquet as pq
import pyproj
import pytest
import shapely
from scene_tables import HEIGHT, WIDTH, mask_of, place_of, write

from batchseg.inputs.source import Georeference
from batchseg.job.recipe import RegionSettings
from batchseg.regions.geodesy import row_areas


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

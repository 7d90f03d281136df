"""The region table against rasterio's regions of the whole mask, read as analysts read it."""

import dataclasses
import json

import geopandas
import numpy as np
import pandas
import pyarrow.parquet as pq
import pyproj
import pytest
import shapely
from factories import make_scene
from polygons import whole_regions

from batchseg.inputs.source import Georeference
from batchseg.job.recipe import RegionSettings
from batchseg.regions import scene_table as regions_module
from batchseg.regions.geodesy import crs_code, row_areas
from batchseg.regions.scene_table import RegionWriter
from batchseg.regions.tracing import tracer

HEIGHT, WIDTH = 90, 70
NODATA = 255
NAMES = ("soil", "water", "trees")
PLACES = {
    "north up": ("EPSG:32633", (10.0, 0.0, 5e5, 0.0, -10.0, 5e6), 1.0),
    "south up": ("EPSG:32633", (10.0, 0.0, 5e5, 0.0, 10.0, 5e6), 1.0),
    "turned": ("EPSG:32633", (8.0, 6.0, 5e5, 6.0, -8.0, 5e6), 1.0),
    "feet": ("EPSG:2263", (5.0, 0.0, 9e5, 0.0, -5.0, 2e5), 1200 / 3937),
}


def place_of(name: str) -> Georeference:
    code, transform, _ = PLACES[name]
    wkt = pyproj.CRS(code).to_wkt()
    return Georeference(crs_wkt=wkt, transform=transform, gcps=(), gcps_crs_wkt=None, rpcs=())


def mask_of(seed: int = 0, classes: int = 4) -> np.ndarray:
    random = np.random.default_rng(seed)
    mask = random.integers(0, classes, (HEIGHT // 3, WIDTH // 2)).astype(np.uint8)
    mask = mask.repeat(3, axis=0).repeat(2, axis=1)
    mask[random.random(mask.shape) < 0.1] = 2
    mask[random.random(mask.shape) < 0.05] = NODATA
    return mask


def write(path, mask, place, *, rows=25, confidence=None, settings=None, names=NAMES):
    path.parent.mkdir(parents=True, exist_ok=True)
    scene = make_scene(*mask.shape, georeference=place)
    writer = RegionWriter(
        path,
        scene,
        settings or RegionSettings(),
        class_names=names,
        nodata=NODATA,
        with_confidence=confidence is not None,
    )
    for row in range(0, len(mask), rows):
        writer.feed(row, mask[row : row + rows], None if confidence is None else confidence[row : row + rows])
    return writer.close()


def wanted(*classes: int) -> np.ndarray:
    which = np.zeros(256, dtype=bool)
    which[list(classes)] = True
    return which


def placed(polygon, transform):
    a, b, c, d, e, f = transform
    return shapely.transform(polygon, lambda p: p @ np.array([[a, d], [b, e]]) + (c, f))


@pytest.mark.parametrize("name", PLACES)
def test_a_folder_holds_the_regions_of_the_whole_mask(tmp_path, name):
    mask, place = mask_of(), place_of(name)
    folder = tmp_path / f"crs={crs_code(place)}"
    counts = write(folder / "a.parquet", mask, place)
    write(folder / "b.parquet", mask_of(1), place)
    frame = geopandas.read_parquet(folder)
    assert frame.crs == pyproj.CRS(PLACES[name][0])
    frame = geopandas.read_parquet(folder / "a.parquet")
    expected = whole_regions(mask, wanted(1, 2, 3))
    assert set(frame["region_id"]) == expected.keys()
    assert counts.rows == len(frame) == sum(number for _, number in counts.regions)
    assert dict(counts.regions) == frame.groupby("class_id").size().to_dict()
    assert frame.geometry.is_valid.all()
    unit = PLACES[name][2]
    for row in frame.itertuples():
        class_id, polygon = expected[row.region_id]
        there = placed(polygon, place.transform)
        assert row.class_id == class_id
        assert row.class_name == NAMES[class_id] if class_id < 3 else pandas.isna(row.class_name)
        assert row.source_id == "scene.tif"
        assert row.geometry.normalize().equals_exact(there.normalize(), 1e-6)
        assert (row.area_px, row.perimeter_px) == (polygon.area, polygon.length)
        assert row.area_m2 == pytest.approx(there.area * unit**2)
        assert row.perimeter_m == pytest.approx(there.length * unit)
        assert (row.centroid_x, row.centroid_y) == pytest.approx(there.centroid.coords[0])
        left, top, right, bottom = polygon.bounds
        assert row.touches_edge == (left == 0 or top == 0 or right == WIDTH or bottom == HEIGHT)
        assert row.confidence is None or np.isnan(row.confidence)
    degrees = frame.to_crs(4326).bounds
    assert (frame["lon_min"] <= degrees["minx"] + 1e-7).all()
    assert (frame["lat_min"] <= degrees["miny"] + 1e-7).all()
    assert (frame["lon_max"] >= degrees["maxx"] - 1e-7).all()
    assert (frame["lat_max"] >= degrees["maxy"] - 1e-7).all()


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


def test_bytes_do_not_depend_on_strips(tmp_path, monkeypatch):
    monkeypatch.setattr(regions_module, "GROUP_ROWS", 50)
    monkeypatch.setattr(regions_module, "GROUP_BYTES", 6000)
    files = []
    for rows, chunk, edges in ((1, 2**20, 2**18), (HEIGHT, 700, 40), (37, 300, 90)):
        monkeypatch.setattr(tracer, "CHUNK_PIXELS", chunk)
        monkeypatch.setattr(regions_module, "BATCH_EDGES", edges)
        write(tmp_path / "a.parquet", mask_of(), place_of("turned"), rows=rows)
        files.append((tmp_path / "a.parquet").read_bytes())
    assert files[0] == files[1] == files[2]
    groups = pq.ParquetFile(tmp_path / "a.parquet").metadata
    assert groups.num_row_groups > 5
    assert max(groups.row_group(at).num_rows for at in range(groups.num_row_groups)) <= 50


def test_small_regions_are_left_out(tmp_path):
    mask, place = mask_of(), place_of("north up")
    counts = write(tmp_path / "a.parquet", mask, place, settings=RegionSettings(min_area=6, classes=(1, 3)))
    frame = geopandas.read_parquet(tmp_path / "a.parquet")
    expected = {i for i, (_, p) in whole_regions(mask, wanted(1, 3)).items() if p.area >= 6}
    assert set(frame["region_id"]) == expected
    assert counts.rows == len(expected)


def test_simplified_regions_are_valid_and_near_and_keep_their_measures(tmp_path):
    mask, place = mask_of(), place_of("turned")
    write(tmp_path / "a.parquet", mask, place)
    write(tmp_path / "b.parquet", mask, place, settings=RegionSettings(simplify=1.5))
    full, simple = (geopandas.read_parquet(tmp_path / name) for name in ("a.parquet", "b.parquet"))
    assert simple.geometry.is_valid.all()
    assert simple.get_coordinates().shape < full.get_coordinates().shape
    assert simple.geometry.hausdorff_distance(full.geometry).max() <= 1.5 * 10 * 1.5
    assert full.drop(columns="geometry").equals(simple.drop(columns="geometry"))


@pytest.mark.parametrize("rows", [7, HEIGHT])
def test_pieces_of_cut_regions_fit_together(tmp_path, monkeypatch, rows):
    monkeypatch.setattr(tracer, "CHUNK_PIXELS", 10 * (WIDTH + 1))
    mask, place = mask_of(4, classes=3), place_of("turned")
    mask[:, 1::9] = 1
    mask[60] = 1
    settings = RegionSettings(min_area=6, simplify=2.0, max_vertices=40)
    counts = write(tmp_path / "a.parquet", mask, place, settings=settings, rows=rows)
    frame = geopandas.read_parquet(tmp_path / "a.parquet")
    whole = {i: p for i, (c, p) in whole_regions(mask, wanted(1, 2)).items() if p.area >= 6}
    assert set(frame["region_id"]) == whole.keys()
    assert sum(number for _, number in counts.regions) == len(whole) < counts.rows == len(frame)
    pieces = frame[frame["region_id"].duplicated(keep=False)]
    for region_id, part in pieces.groupby("region_id"):
        assert part["area_px"].sum() == whole[region_id].area
        union = shapely.union_all(part.geometry.array, grid_size=1e-3)
        assert union.symmetric_difference(placed(whole[region_id], place.transform)).area < 1


def test_a_mask_without_regions_gives_an_empty_table(tmp_path):
    counts = write(tmp_path / "a.parquet", np.zeros((5, 9), np.uint8), place_of("north up"))
    frame = geopandas.read_parquet(tmp_path / "a.parquet")
    assert (len(frame), counts.rows, counts.regions) == (0, 0, ())
    assert frame.crs == pyproj.CRS("EPSG:32633")
    assert dataclasses.is_dataclass(counts)

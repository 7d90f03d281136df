"""The region table against rasterio's regions of the whole mask, read as analysts read it."""

import dataclasses

import geopandas
import numpy as np
import pandas
import pyarrow.parquet as pq
import pyproj
import pytest
import shapely
from polygons import whole_regions
from scene_tables import HEIGHT, NAMES, PLACES, WIDTH, mask_of, place_of, write

from batchseg.job.recipe import RegionSettings
from batchseg.regions import scene_table as regions_module
from batchseg.regions.geodesy import crs_code
from batchseg.regions.tracing import tracer


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


def test_where_corners_connect_bounds_ask_the_whole_region(tmp_path):
    """Three pixels on a diagonal, two beside one another, one alone."""
    mask = np.zeros((9, 12), np.uint8)
    mask[1, 1] = mask[2, 2] = mask[3, 1] = mask[5, 5] = mask[5, 6] = mask[7, 9] = 2
    settings = RegionSettings(min_area=2, connectivity=8)
    counts = write(tmp_path / "a.parquet", mask, place_of("north up"), settings=settings, rows=2)
    frame = geopandas.read_parquet(tmp_path / "a.parquet")
    assert sorted(zip(frame["region_id"], frame["area_px"], strict=True)) == [
        (13, 1),
        (13, 1),
        (13, 1),
        (65, 2),
    ]
    assert (counts.rows, counts.regions) == (4, ((2, 2),))
    sides = write(tmp_path / "b.parquet", mask, place_of("north up"), settings=RegionSettings(min_area=2))
    assert (sides.rows, sides.regions) == (1, ((2, 1),))

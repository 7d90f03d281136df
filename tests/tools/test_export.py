"""Region tables to vector files, read back by pyogrio."""

import json
import struct
from pathlib import Path

import geopandas
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import pyproj
import pytest
import shapely
from conftest import JobWriter, batchseg, reflectance, write_raster
from outputs import check
from rasterio import Affine
from runs import run

from batchseg.errors import ConfigError, OutputError
from batchseg.tools.export import export, schema_crs
from batchseg.tools.results import read_regions


@pytest.fixture
def output(tmp_path: Path, write_job: JobWriter) -> Path:
    """Regions of two scenes in one CRS."""
    for name, seed in (("a", 1), ("b", 2)):
        write_raster(tmp_path / "in" / f"{name}.tif", reflectance(90, 130, seed=seed))
    run(write_job())
    return tmp_path / "out"


def regions_of(output: Path) -> geopandas.GeoDataFrame:
    return geopandas.read_parquet(output / "annotations").sort_values(["source_id", "region_id"])


@pytest.mark.parametrize(
    "geo",
    [
        b"[" * 100_000,
        b"{",
        b"[1]",
        b'{"columns": 7}',
        b'{"columns": {"geometry": {"crs": {"a": 1}}}}',
        b"\xff",
    ],
)
def test_a_crs_that_is_damaged_is_the_output_s(geo: bytes) -> None:
    with pytest.raises(OutputError, match=r"^annotations/a.parquet does not say its CRS"):
        schema_crs(pa.schema([]).with_metadata({b"geo": geo}), "annotations/a.parquet")


def schema_of(crs: pyproj.CRS) -> pa.Schema:
    geo = {"columns": {"geometry": {"crs": crs.to_json_dict()}}}
    return pa.schema([]).with_metadata({b"geo": json.dumps(geo).encode()})


def test_a_crs_that_names_a_grid_is_refused() -> None:
    for grid in ("http://127.0.0.1:9/x.gsb", "/dev/stdin", "x.gsb"):
        crs = pyproj.CRS(f"+proj=longlat +ellps=bessel +nadgrids={grid} +no_defs")
        with pytest.raises(OutputError, match="names a file"):
            schema_crs(schema_of(crs), "a.parquet")


@pytest.mark.parametrize(
    "text",
    ["EPSG:32633", "+proj=laea +lat_0=52 +lon_0=10 +ellps=GRS80", "+proj=utm +zone=33 +towgs84=1,2,3"],
)
def test_a_crs_of_numbers_is_read(text: str) -> None:
    crs = pyproj.CRS(text)
    assert schema_crs(schema_of(crs), "a.parquet") == crs


@pytest.mark.parametrize("crs", [None, "EPSG:3857"])
def test_outlines_that_were_planted_are_not_handed_to_gdal(output: Path, tmp_path: Path, crs: str) -> None:
    part = sorted((output / "annotations").rglob("*.parquet"))[0]
    table = pq.read_table(part)
    nested = struct.pack("<BII", 1, 7, 1) * 100_000
    at = table.schema.get_field_index("geometry")
    pq.write_table(table.set_column(at, "geometry", pa.array([nested] * len(table), pa.binary())), part)
    named = part.relative_to(output)
    with pytest.raises(OutputError, match=f"^{named}: an outline is no WKB polygon; run `batchseg verify`"):
        export(str(output), tmp_path / "r.gpkg", crs=crs, classes=())
    assert not (tmp_path / "r.gpkg").exists()


@pytest.mark.parametrize("suffix", [".gpkg", ".fgb"])
def test_every_region_is_in_the_file_as_it_was(output: Path, tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"all{suffix}"
    done = export(str(output), target, crs=None, classes=())
    expected = regions_of(output)
    assert done.layers == (("regions", len(expected)),)
    found = geopandas.read_file(target).sort_values(["source_id", "region_id"])
    assert found.crs == expected.crs
    assert found.geometry.normalize().to_wkb().tolist() == expected.geometry.normalize().to_wkb().tolist()
    for column in ("source_id", "class_name", "area_px", "area_m2", "touches_edge"):
        assert found[column].tolist() == expected[column].tolist()


def test_geojson_is_in_degrees(output: Path, tmp_path: Path) -> None:
    export(str(output), tmp_path / "all.geojson", crs=None, classes=())
    found = geopandas.read_file(tmp_path / "all.geojson").sort_values(["source_id", "region_id"])
    expected = regions_of(output).to_crs(4326)
    np.testing.assert_allclose(found.total_bounds, expected.total_bounds, atol=1e-6)
    np.testing.assert_allclose(
        found.centroid_x, shapely.get_x(shapely.centroid(found.geometry.values)), atol=1e-3
    )


def test_classes_are_chosen_by_name_or_id(output: Path, tmp_path: Path) -> None:
    for classes in (("water", "3"), ("1", "bright")):
        export(str(output), tmp_path / "some.fgb", crs="EPSG:3857", classes=classes)
        found = geopandas.read_file(tmp_path / "some.fgb")
        assert set(found.class_id) == {1, 3}
        assert found.crs.to_epsg() == 3857
    with pytest.raises(ConfigError, match=r"'fire'.*soil, water"):
        export(str(output), tmp_path / "some.fgb", crs=None, classes=("fire",))


def test_several_crs_are_layers_or_are_brought_to_one(
    output: Path, tmp_path: Path, write_job: JobWriter
) -> None:
    write_raster(tmp_path / "in" / "c.tif", reflectance(40, 50), crs="EPSG:26914")
    run(write_job())
    done = export(str(output), tmp_path / "all.gpkg", crs=None, classes=())
    layers = dict(pyogrio.list_layers(tmp_path / "all.gpkg"))
    assert set(layers) == {"regions_EPSG_26914", "regions_EPSG_32633"} == {name for name, _ in done.layers}
    for name, count in done.layers:
        info = pyogrio.read_info(tmp_path / "all.gpkg", layer=name)
        assert (info["features"], info["crs"]) == (count, name.removeprefix("regions_").replace("_", ":"))
    with pytest.raises(ConfigError, match=r"EPSG-26914, EPSG-32633.*--crs"):
        export(str(output), tmp_path / "all.fgb", crs=None, classes=())
    one = export(str(output), tmp_path / "all.fgb", crs="EPSG:4326", classes=())
    assert one.layers == (("regions", sum(count for _, count in done.layers)),)


def test_what_cannot_be_exported_is_said(output: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ends in \.gpkg"):
        export(str(output), tmp_path / "all.shp", crs=None, classes=())
    with pytest.raises(ConfigError, match="holds no results"):
        export(str(tmp_path), tmp_path / "all.fgb", crs=None, classes=())
    with pytest.raises(ConfigError, match="--crs EPSG:0"):
        export(str(output), tmp_path / "all.fgb", crs="EPSG:0", classes=())
    with pytest.raises(OutputError, match=r"cannot write .*none/all\.fgb"):
        export(str(output), tmp_path / "none" / "all.fgb", crs=None, classes=())


def test_an_output_without_regions_says_so(tmp_path: Path, write_job: JobWriter) -> None:
    write_raster(tmp_path / "in" / "a.tif", reflectance(40, 50))
    job = write_job(regions=False)
    run(job)
    done = batchseg("export", job, tmp_path / "all.gpkg")
    assert done.returncode == 2
    assert "regions: false" in done.stderr
    assert not (tmp_path / "all.gpkg").exists()


LOCAL = 'LOCAL_CS["Arbitrary",UNIT["metre",1],AXIS["Easting",EAST],AXIS["Northing",NORTH]]'
MOON = "+proj=eqc +R=1737400"
OFF_THE_DISC = {"crs": "+proj=geos +h=35785831 +lon_0=0", "transform": Affine(10, 0, 9e6, 0, -10, 9e6)}


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        ({"crs": LOCAL}, "in the CRS 'Arbitrary'"),
        ({"crs": MOON}, "celestial"),
        (OFF_THE_DISC, "where it is not defined"),
    ],
)
@pytest.mark.parametrize(("name", "crs"), [("r.geojson", None), ("r.gpkg", "EPSG:3857")])
def test_one_table_without_a_way_to_the_crs_is_named(
    output: Path, tmp_path: Path, write_job: JobWriter, odd: dict, said: str, name: str, crs: str | None
) -> None:
    write_raster(tmp_path / "in" / "z.tif", reflectance(40, 50), **odd)
    run(write_job())
    with pytest.raises(ConfigError, match=f"(?s)those of annotations/crs=.*{said}.*without --crs"):
        export(str(output), tmp_path / name, crs=crs, classes=())
    assert not [*tmp_path.glob("*.g*"), *tmp_path.glob(".tmp*")]
    with pytest.raises(ConfigError, match=said):
        read_regions(str(output), "EPSG:4326")
    assert len(export(str(output), tmp_path / "all.gpkg", crs=None, classes=()).layers) == 2


def test_a_later_table_that_is_damaged_is_named(output: Path, tmp_path: Path) -> None:
    part = sorted((output / "annotations").rglob("*.parquet"))[1]
    data = bytearray(part.read_bytes())
    data[4:400] = bytes(396)
    part.write_bytes(data)
    named = part.relative_to(output)
    for crs in (None, "EPSG:4326"):
        with pytest.raises(OutputError, match=f"^cannot read {named}: .*batchseg verify"):
            export(str(output), tmp_path / "r.gpkg", crs=crs, classes=())
    assert not (tmp_path / "r.gpkg").exists()
    with pytest.raises(OutputError, match=f"^cannot read {named}"):
        read_regions(str(output), None)
    assert any(problem.startswith(f"cannot read {named}") for problem in check(str(output)).problems)

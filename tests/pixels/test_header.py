from pathlib import Path

import numpy as np
import pytest
import rasterio
from archives import find
from conftest import reflectance, write_raster
from factories import make_recipe, scene_of, source_of

from batchseg.errors import SourceError, StoppedError
from batchseg.inputs.source import Refusal, Scene
from batchseg.job.settings import SceneSet
from batchseg.pixels import header as headers
from batchseg.pixels.fit import tile_grid
from batchseg.pixels.grid import ShardGrid
from batchseg.pixels.header import read_header, read_headers_alone
from batchseg.pixels.read import read_shards


def test_a_cut_off_file_is_the_sources_fault(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", reflectance(300, 401))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    header = read_header(source_of(path))
    if isinstance(header, Refusal):
        assert not header.transient
        return
    recipe = make_recipe()
    with pytest.raises(SourceError, match="damaged or cut off") as caught:
        read_shards(header, recipe, tuple(ShardGrid(tiles=tile_grid(recipe, 300, 401), tiles_hw=(99, 99))))
    assert not caught.value.transient


def test_a_png_without_its_end_is_refused_though_gdal_reads_it(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (3, 50, 70), dtype=np.uint8)
    path = write_raster(tmp_path / "a.png", pixels, driver="PNG", compress=None, crs=None)
    path.write_bytes(path.read_bytes()[:-12])
    header = read_header(source_of(path))
    assert isinstance(header, Refusal)
    assert "cut off" in header.reason


def test_a_vanished_file_is_no_quarantine(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", reflectance(20, 30))
    source = source_of(path)
    path.unlink()
    header = read_header(source)
    assert isinstance(header, Refusal)
    assert header.transient
    assert "gone" in header.reason


def test_headers_read_alone_are_the_same(tmp_path: Path) -> None:
    good = source_of(write_raster(tmp_path / "a.tif", reflectance(20, 30)))
    (tmp_path / "b.tif").write_text("no raster")
    bad = source_of(tmp_path / "b.tif")
    assert list(read_headers_alone([good, bad], timeout=60)) == [read_header(good), read_header(bad)]


def test_an_error_that_nobody_foresaw_is_the_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = source_of(write_raster(tmp_path / "a.tif", reflectance(20, 30)))

    def fail(*_: object) -> None:
        raise TypeError("what is this?\nand more")

    monkeypatch.setattr(headers, "_scene", fail)
    header = read_header(source)
    assert isinstance(header, Refusal)
    assert header.reason == "opening it failed: TypeError: what is this?"
    assert not header.transient
    monkeypatch.setattr(headers, "storage_failure", lambda: "503")
    header = read_header(source)
    assert isinstance(header, Refusal)
    assert header.transient
    assert "503" in header.reason


def test_what_is_no_sources_fault_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = source_of(write_raster(tmp_path / "a.tif", reflectance(20, 30)))

    def stop(*_: object) -> None:
        raise StoppedError("the disk is full")

    monkeypatch.setattr(headers, "open_source", stop)
    with pytest.raises(StoppedError):
        read_header(source)


def test_complex_integers_are_a_type_as_others(tmp_path: Path) -> None:
    pixels = (reflectance(20, 30)[:3] // 100 + 1j).astype(np.complex64)
    path = write_raster(tmp_path / "a.tif", pixels, dtype="complex_int16")
    header = read_header(source_of(path))
    assert isinstance(header, Scene)
    assert header.dtypes == ("complex_int16",) * 3


def test_a_crs_of_a_grid_at_an_address_is_refused(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", reflectance(20, 30), crs=None)
    wkt = (
        'GEOGCS["a",DATUM["a",SPHEROID["a",6378137,298.25],EXTENSION["PROJ4_GRIDS","http://127.0.0.1:9/a.gsb"]],'
        'PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]]'
    )
    path.with_name("a.tif.aux.xml").write_text(
        f"<PAMDataset><SRS>{wkt.replace(chr(34), '&quot;')}</SRS></PAMDataset>"
    )
    header = read_header(source_of(path))
    assert isinstance(header, Refusal)
    assert "grid" in header.reason  # PROJ's words, or ours where PROJ_NETWORK lets it take the CRS


def test_bands_have_the_files_names_and_colours(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", np.zeros((3, 20, 30), dtype=np.uint8))
    header = read_header(source_of(path))
    assert isinstance(header, Scene)
    assert (header.band_names, header.colors) == ((), ("red", "green", "blue"))
    with rasterio.open(path, "r+") as dataset:
        dataset.descriptions = ("B04", "  green ", "x" * 1000)
    header = read_header(source_of(path))
    assert isinstance(header, Scene)
    assert header.band_names == ("B04", "green", "x" * 60)


def test_bands_of_several_files_have_the_jobs_names(tmp_path: Path) -> None:
    for name, count in (("blue", 1), ("rest", 2)):
        write_raster(tmp_path / f"a_{name}.tif", np.zeros((count, 20, 30), dtype=np.uint16))
    patterns = tuple((name, f"{tmp_path}/{{scene}}_{name}.tif") for name in ("blue", "rest"))
    ((source,), _) = find((None, SceneSet(kind="bands", patterns=patterns)))
    header = read_header(source)
    assert isinstance(header, Scene)
    assert header.band_names == ("blue", "rest 1", "rest 2")


def test_near_infrared_that_gdal_calls_alpha_is_no_alpha(tmp_path):
    path = write_raster(tmp_path / "a.tif", np.zeros((4, 9, 9), np.uint8))
    assert scene_of(path).alpha_bands == (4,)
    with rasterio.open(path, "r+") as dataset:
        dataset.descriptions = ("red", "green", "blue", "nir")
    assert scene_of(path).alpha_bands == ()

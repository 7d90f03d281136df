"""Several files against one file that holds all of them, and against numpy."""

import dataclasses
import json
import os
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
from conftest import UTM, reflectance, write_raster
from factories import find_sources, make_config
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.transform import Affine
from rasterio.windows import Window
from stacks import GRIDS, read, scene_of, source_of

from batchseg.errors import SourceChangedError, SourceError
from batchseg.inputs.source import BandMetadata, Refusal, Scene, Source
from batchseg.pixels.gdal import gdal
from batchseg.pixels.header import read_header
from batchseg.pixels.stack import Stack, open_source, rescale_of


def refusal_of(*paths: Path, **keys) -> Refusal:
    refusal = read_header(source_of(*paths, **keys))
    assert isinstance(refusal, Refusal)
    return refusal


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> tuple[Source, NDArray]:
    """Three files of 2, 1 and 1 bands, uint8, int16 and float32; and all bands as float32."""
    folder = tmp_path_factory.mktemp("mixed")
    values = reflectance(77, 101) // 80
    parts = [
        values[:2].astype(np.uint8),
        values[2:3].astype(np.int16) - 50,
        values[3:].astype(np.float32) / 3,
    ]
    paths = [write_raster(folder / f"{n}.tif", part) for n, part in enumerate(parts)]
    return source_of(*paths), np.concatenate([part.astype(np.float32) for part in parts])


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.data())
def test_a_stack_reads_as_one_file_that_holds_all_bands(mixed, bands, data):
    source, whole = mixed
    row, col = data.draw(st.integers(0, 76)), data.draw(st.integers(0, 100))
    height, width = data.draw(st.integers(1, 77 - row)), data.draw(st.integers(1, 101 - col))
    with gdal(), open_source(source) as stack:
        assert stack.dtypes == ("uint8", "uint8", "int16", "float32")
        pixels = stack.read(bands, window=Window(col, row, width, height))
        assert pixels.dtype == np.result_type(*(stack.dtypes[band - 1] for band in bands))
    expected = whole[[band - 1 for band in bands], row : row + height, col : col + width]
    np.testing.assert_array_equal(pixels, expected)


def test_a_file_alone_is_rasterios_own(tmp_path):
    path = write_raster(tmp_path / "a.tif", reflectance(20, 30))
    (source,), _ = find_sources(make_config(inputs=((None, str(path)),)), {})
    with open_source(source) as dataset:
        assert isinstance(dataset, rasterio.DatasetReader)
    assert source.rasters == ()


def test_the_first_of_the_finest_grids_is_the_scenes(tmp_path):
    shifted = Affine(10.0, 0.0, UTM.c + 30, 0.0, -10.0, UTM.f)
    paths = [
        write_raster(tmp_path / "a.tif", reflectance(30, 40)[:1], transform=GRIDS["twice"]),
        write_raster(tmp_path / "b.tif", reflectance(60, 80)[:1], transform=shifted),
        write_raster(tmp_path / "c.tif", reflectance(60, 80)[:1]),
    ]
    scene = scene_of(*paths, resampling="nearest")
    assert scene.georeference.transform == tuple(shifted)[:6]
    assert (scene.height, scene.width) == (60, 80)


def test_grids_that_differ_by_rounding_alone_are_one(tmp_path):
    paths = [write_raster(tmp_path / "a.tif", reflectance(60, 80)[:1])]
    for number, shift in enumerate((1e-6, 1e-4)):  # metres: 1e-7 and 1e-5 of a pixel
        moved = Affine(10.0, 0.0, UTM.c + shift, 0.0, -10.0, UTM.f)
        paths.append(write_raster(tmp_path / f"{number}.tif", reflectance(60, 80)[:1], transform=moved))
    assert scene_of(*paths[:2]).band_count == 2
    said = refusal_of(*paths).reason
    assert f"differ in origin (1.tif: {UTM.c + 1e-4:.12g}, {UTM.f:.12g}, a.tif: {UTM.c:.12g}, " in said


def test_without_resampling_another_grid_is_refused_by_name(tmp_path):
    fine = write_raster(tmp_path / "fine.tif", reflectance(60, 80)[:1])
    coarse = write_raster(tmp_path / "coarse.tif", reflectance(30, 40)[:1], transform=GRIDS["twice"])
    refusal = refusal_of(coarse, fine)
    assert refusal.mismatch
    for words in (
        "size (coarse.tif: 40 x 30 pixels, fine.tif: 80 x 60 pixels) and",
        "pixel size (coarse.tif: 20 x 20, fine.tif: 10 x 10);",
        "resampling: bilinear",
    ):
        assert words in refusal.reason


@pytest.mark.parametrize("resampling", ["none", "bilinear"])
def test_another_crs_is_refused_with_both(tmp_path, resampling):
    fine = write_raster(tmp_path / "fine.tif", reflectance(60, 80)[:1])
    other = write_raster(tmp_path / "other.tif", reflectance(60, 80)[:1], crs="EPSG:32634")
    refusal = refusal_of(fine, other, resampling=resampling)
    assert "EPSG:32634" in refusal.reason
    assert "EPSG:32633" in refusal.reason


def test_files_without_geotransform_need_one_size_alone(tmp_path):
    points = [GroundControlPoint(r, c, 13 + c / 9, 51 - r / 9) for r, c in ((0, 0), (0, 70), (50, 0))]
    gcps = {"crs": "EPSG:4326", "transform": None}
    paths = []
    for name in "ab":
        paths.append(write_raster(tmp_path / f"{name}.tif", reflectance(50, 70)[:1], **gcps))
        with rasterio.open(paths[-1], "r+") as dataset:
            dataset.gcps = (points, dataset.crs)
    plain = write_raster(tmp_path / "plain.tif", reflectance(50, 70)[:1], crs=None, transform=None)
    assert len(scene_of(*paths, plain).georeference.gcps) == 3
    placed = write_raster(tmp_path / "placed.tif", reflectance(50, 70)[:1])
    refusal = refusal_of(plain, placed)
    assert refusal.mismatch
    assert "(plain.tif: none, placed.tif: one)" in refusal.reason
    assert "plain.tif has no geotransform that says how they lie" in refusal.reason
    known = write_raster(tmp_path / "known.tif", reflectance(50, 70)[:1], transform=None)
    assert "differ in geotransform (known.tif: none, placed.tif: one)" in refusal_of(placed, known).reason
    assert scene_of(plain).georeference.transform is None
    small = write_raster(tmp_path / "small.tif", reflectance(40, 70)[:1], crs=None, transform=None)
    refusal = refusal_of(placed, small, resampling="bilinear")
    assert "differ in size (small.tif: 70 x 40 pixels, placed.tif: 70 x 50 pixels) and CRS" in refusal.reason
    assert "small.tif has no geotransform that says how they lie" in refusal.reason


DIFFERENCES = {
    "origin": {"transform": Affine(10.0, 0.0, UTM.c + 5, 0.0, -10.0, UTM.f)},
    "pixel size": {"transform": Affine(12.0, 0.0, UTM.c, 0.0, -12.0, UTM.f)},
    "axes": {"transform": Affine(6.0, 8.0, UTM.c, 8.0, -6.0, UTM.f)},
    "CRS": {"crs": "EPSG:32634"},
    "size": {},
}


@pytest.mark.parametrize("resampling", ["none", "bilinear"])
@pytest.mark.parametrize("kind", DIFFERENCES)
@pytest.mark.parametrize("crs", ["EPSG:32633", None])
def test_files_of_two_grids_are_told_what_differs_and_nothing_else(tmp_path, kind, crs, resampling):
    pixels = reflectance(60, 80)[:1]
    one = write_raster(tmp_path / "one.tif", pixels, crs=crs)
    there = {"crs": crs} | DIFFERENCES[kind]
    other = write_raster(tmp_path / "other.tif", pixels[:, :50] if kind == "size" else pixels, **there)
    source = source_of(one, other, resampling=resampling)
    if resampling == "bilinear" and crs and kind != "CRS":
        assert isinstance(read_header(source), Scene)
        return
    said = read_header(source).reason
    found = re.findall(r"(pixel size|size|origin|axes|CRS) \(\w+\.tif: [^)]*, \w+\.tif: [^)]*\)", said)
    assert found == [kind]
    assert said.startswith("its files differ in ")
    if crs is None and kind != "CRS":
        assert "has no CRS that says how they lie" in said


def test_a_pixel_is_no_data_where_any_file_holds_its_own_nodata(tmp_path):
    shape = (40, 60)
    tenth = 0.1  # float32 holds its rounding
    red, nir = np.ones((1, *shape), np.int32), np.ones((1, *shape), np.float32)
    red[0, :20], nir[0, :, :30] = 7, tenth
    scene = scene_of(
        write_raster(tmp_path / "red.tif", red, nodata=7),
        write_raster(tmp_path / "nir.tif", nir, nodata=tenth),
    )
    _, valid = read(scene)
    assert valid[20:, 30:].all()
    assert valid.sum() == 20 * 30
    assert read(scene, bands=(1,))[1].sum() == valid.size // 2
    nir[0, 39, 59] = np.nan
    write_raster(tmp_path / "nir.tif", nir, nodata=tenth)
    assert not read(scene_of(tmp_path / "red.tif", tmp_path / "nir.tif"))[1][39, 59]


def mask_of(path: Path, mask: NDArray, **environment) -> None:
    with rasterio.Env(**environment), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(mask)


@pytest.mark.parametrize("internal", [True, False])
def test_a_mask_of_one_file_makes_its_pixels_invalid(tmp_path, internal):
    pixels = reflectance(60, 80)
    one, two = (write_raster(tmp_path / f"{n}.tif", pixels[n : n + 1], nodata=None) for n in (0, 1))
    holes = np.ones((60, 80), bool)
    holes[10:20, 30:50] = False
    mask_of(two, holes, GDAL_TIFF_INTERNAL_MASK=internal)
    scene = scene_of(one, two)
    np.testing.assert_array_equal(read(scene)[1], holes)
    assert read(scene, bands=(1,))[1].all()
    assert read(scene, nodata="none")[1].all()


@pytest.mark.parametrize("internal", [True, False])
def test_a_mask_is_resampled_with_its_file(tmp_path, internal):
    fine = write_raster(tmp_path / "fine.tif", reflectance(60, 80)[:1])
    coarse = write_raster(tmp_path / "coarse.tif", reflectance(30, 40)[:1], transform=GRIDS["twice"])
    holes = np.ones((30, 40), bool)
    holes[5:9, 10:30] = False
    mask_of(coarse, holes, GDAL_TIFF_INTERNAL_MASK=internal)
    valid = read(scene_of(fine, coarse, resampling="nearest"))[1]
    np.testing.assert_array_equal(valid, holes.repeat(2, axis=0).repeat(2, axis=1))


def test_alpha_counts_for_the_files_that_are_read(tmp_path):
    pixels = (reflectance(60, 80) // 50).astype(np.uint8)
    pixels[3] = 255
    pixels[3, 10:20] = 0
    rgba = write_raster(tmp_path / "rgba.tif", pixels)
    with rasterio.open(rgba, "r+") as dataset:
        dataset.colorinterp = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
    nir = write_raster(tmp_path / "nir.tif", pixels[:1])
    scene = scene_of(rgba, nir)
    assert scene.alpha_bands == (4,)
    np.testing.assert_array_equal(read(scene, bands=(1, 5))[1], pixels[3] != 0)
    assert read(scene, bands=(5,))[1].all()


def test_a_change_of_any_file_is_a_change_of_the_scene(tmp_path):
    paths = [write_raster(tmp_path / f"{n}.tif", reflectance(60, 80)[n : n + 1]) for n in range(3)]
    scene = scene_of(*paths)
    os.utime(paths[2], (1, 1))
    with pytest.raises(SourceChangedError, match="changed"):
        read(scene)
    assert source_of(*paths).tag != scene.source.tag
    paths[1].unlink()
    with pytest.raises(SourceChangedError, match="gone"):
        read(scene)


def test_what_decides_pixels_decides_the_tag(tmp_path):
    paths = [write_raster(tmp_path / f"{n}.tif", reflectance(60, 80)[n : n + 1]) for n in range(2)]
    tags = {
        source_of(*paths).tag,
        source_of(*reversed(paths)).tag,
        source_of(*paths, resampling="nearest").tag,
        source_of(*paths, paths[0]).tag,
    }
    assert len(tags) == 4
    assert source_of(*paths).tag in tags


def test_a_damaged_file_of_a_scene_is_named(tmp_path):
    paths = [write_raster(tmp_path / f"{n}.tif", reflectance(300, 401)[n : n + 1]) for n in range(2)]
    whole = paths[1].read_bytes()
    paths[1].write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(SourceError, match=r"^its file for f1: damaged or cut off"):
        read(scene_of(*paths))
    paths[1].write_bytes(b"no raster")
    assert refusal_of(*paths).reason.startswith("its file for f1: no raster")


def test_a_scale_of_nothing_says_nothing(tmp_path):
    path = write_raster(tmp_path / "a.tif", reflectance(20, 30)[:2])
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = (0.5, 0.0), (1.0, 3.0)
    assert scene_of(path).rescale == ((0.5, 1.0), None)


def test_the_listing_goes_before_a_metadata_file_and_that_before_the_raster(tmp_path):
    name = "LC08_L2SP_224078_20200518_20200820_02_T1"
    values = {"REFLECTANCE_MULT_BAND_4": "2", "REFLECTANCE_ADD_BAND_4": "-3"}
    mtl = {"LANDSAT_METADATA_FILE": {"LEVEL2_SURFACE_REFLECTANCE_PARAMETERS": values}}
    path = write_raster(tmp_path / f"{name}_SR_B4.TIF", reflectance(20, 30)[:1])
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = (5.0,), (7.0,)
    assert scene_of(path).rescale == ((5, 7),)
    (tmp_path / f"{name}_MTL.json").write_text(json.dumps(mtl))
    source = source_of(path)
    assert source.files[-1] == str(tmp_path / f"{name}_MTL.json")
    assert scene_of(path).rescale == ((2, -3),)
    said = (BandMetadata(scale=0.5, offset=0.25, nodata=0.1),)
    for bands, rescale in ((said, (0.5, 0.25)), ((BandMetadata(nodata=0.1),), (2, -3))):
        with gdal(), open_source(dataclasses.replace(source, said=(bands,))) as stack:
            assert isinstance(stack, Stack)
            assert stack.rescale == (rescale,)
            assert stack.nodatavals == (0.1,)
    refused = read_header(dataclasses.replace(source, said=(said * 2,)))
    assert isinstance(refused, Refusal)
    assert "has 1 bands, its STAC item describes 2" in refused.reason


def test_nodata_that_metadata_say_is_rounded_as_the_pixels_are(tmp_path):
    path = write_raster(tmp_path / "a.tif", reflectance(20, 30)[:1].astype(np.float32))
    source = dataclasses.replace(source_of(path), said=((BandMetadata(nodata=0.1),),))
    with gdal(), open_source(source) as stack:
        assert stack.nodatavals == (float(np.float32(0.1)),)


@pytest.mark.parametrize(
    "pair", [(1e-320, 0.0), (1e300, 0.0), (1.0, 1e30), (float("nan"), 0.0), (1.0, float("inf"))]
)
def test_a_scale_that_makes_nothing_of_raw_values_is_none(pair):
    dataset = SimpleNamespace(scales=(pair[0],), offsets=(pair[1],), dtypes=("uint16",))
    assert rescale_of(dataset) == (None,)

"""Reading against rasterio, and what damaged or changing files become."""

import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
from conftest import reflectance, write_raster
from factories import make_recipe, scene_of, source_of

from batchseg.errors import SourceChangedError, SourceError
from batchseg.inputs.source import Refusal
from batchseg.job.settings import Scale
from batchseg.pixels.fit import tile_grid
from batchseg.pixels.grid import ShardGrid
from batchseg.pixels.header import read_header, read_headers_alone
from batchseg.pixels.read import read_shards


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64", "int32", "uint32"])
def test_shards_hold_rasterios_pixels(tmp_path: Path, dtype: str) -> None:
    pixels = (reflectance(77, 101)[:3] // 50).astype(dtype)
    scene = scene_of(write_raster(tmp_path / "a.tif", pixels))
    recipe = make_recipe(bands=(3, 1), scale=Scale(kind="divide", low=(0.0,), high=(100.0,)), normalize=None)
    shards = tuple(ShardGrid(tiles=tile_grid(recipe, 77, 101), tiles_hw=(3, 4)))
    read, seconds = read_shards(scene, recipe, shards)
    assert seconds > 0
    for held in read:
        rows, cols = held.shard.read.slices_within(shards[0].read)
        np.testing.assert_array_equal(held.pixels, pixels[[2, 0], rows, cols].astype(np.float32))
        assert held.pixels.dtype == (dtype if dtype in ("uint8", "uint16", "int16", "float32") else "float32")
        assert held.valid is None


def test_nodata_that_the_job_names_replaces_the_files(tmp_path: Path) -> None:
    pixels = reflectance(77, 101)
    pixels[:, 5:9, 5:30] = 0
    scene = scene_of(write_raster(tmp_path / "a.tif", pixels, nodata=7))
    recipe = make_recipe(nodata=0.0)
    (held,), _ = read_shards(
        scene, recipe, tuple(ShardGrid(tiles=tile_grid(recipe, 77, 101), tiles_hw=(99, 99)))
    )
    assert held.valid is not None
    np.testing.assert_array_equal(held.valid, pixels[0] != 0)


def test_a_nodata_value_that_its_dtype_cannot_hold_marks_nothing(tmp_path: Path) -> None:
    vrt = tmp_path / "a.vrt"
    path = write_raster(tmp_path / "a.tif", reflectance(30, 40)[:3])
    bands = "".join(
        f'<VRTRasterBand dataType="UInt16" band="{b}"><NoDataValue>-3.4e+38</NoDataValue><SimpleSource>'
        f'<SourceFilename relativeToVRT="1">{path.name}</SourceFilename><SourceBand>{b}</SourceBand>'
        f"</SimpleSource></VRTRasterBand>"
        for b in (1, 2, 3)
    )
    vrt.write_text(f'<VRTDataset rasterXSize="40" rasterYSize="30">{bands}</VRTDataset>')
    recipe = make_recipe()
    (held,), _ = read_shards(
        scene_of(vrt, allow_vrt=True),
        recipe,
        tuple(ShardGrid(tiles=tile_grid(recipe, 30, 40), tiles_hw=(9, 9))),
    )
    assert held.valid is None


def test_a_changed_source_is_not_read(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", reflectance(77, 101))
    scene, recipe = scene_of(path), make_recipe()
    shards = tuple(ShardGrid(tiles=tile_grid(recipe, 77, 101), tiles_hw=(9, 9)))
    os.utime(path, (1, 1))
    with pytest.raises(SourceChangedError):
        read_shards(scene, recipe, shards)
    path.unlink()
    with pytest.raises(SourceChangedError, match="gone"):
        read_shards(scene, recipe, shards)


def test_a_new_sidecar_mask_is_a_new_version(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", reflectance(77, 101))
    before = source_of(path)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(np.eye(77, 101, dtype=bool))
    assert source_of(path).tag != before.tag


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


def test_a_jpeg_that_is_cut_off_is_refused_though_gdal_makes_up_the_rest(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 200, 300), dtype=np.uint8)
    path = write_raster(tmp_path / "a.jpg", pixels, driver="JPEG")
    recipe = make_recipe()
    shards = tuple(ShardGrid(tiles=tile_grid(recipe, 200, 300), tiles_hw=(99, 99)))
    assert len(read_shards(scene_of(path), recipe, shards)[0]) == 1
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + whole[-2:])
    with pytest.raises(SourceError, match="damaged or cut off"):
        read_shards(scene_of(path), recipe, shards)


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

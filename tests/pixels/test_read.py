"""Reading against rasterio, and what damaged or changing files become."""

import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
from conftest import reflectance, write_raster
from factories import make_recipe, scene_of, source_of

from batchseg.errors import SourceChangedError
from batchseg.job.settings import Scale
from batchseg.pixels.fit import tile_grid
from batchseg.pixels.grid import ShardGrid
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

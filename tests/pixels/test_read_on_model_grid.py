"""Reading at another resolution than the files': validity, overviews, damage, and no trace of shards."""

import csv
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from conftest import reflectance, write_raster
from damage import corrupt
from factories import find_sources, make_config, make_recipe, scene_of
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.enums import Resampling as Method
from rasterio.transform import Affine
from stacks import read
from stacks import scene_of as stack_of

from batchseg.errors import SourceChangedError
from batchseg.inputs.source import Scene
from batchseg.job.resolution import ModelGrid, Resolution
from batchseg.job.settings import MaskFlags, SceneSet
from batchseg.pixels.fit import tile_grid
from batchseg.pixels.grid import ShardGrid
from batchseg.pixels.header import read_header
from batchseg.pixels.model_grid import on_model_grid
from batchseg.pixels.read import read_shards

FINE = Affine(0.25, 0.0, 500_000.0, 0.0, -0.25, 4_600_000.0)


def read_at(
    own: Scene, metres: float, tiles_hw: tuple[int, int] = (99, 99), **changes: Any
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Pixels and validity of a whole scene on the model's grid, read shard by shard."""
    grid = ModelGrid(resolution=Resolution(metres), mask="model")
    scene = on_model_grid(own, make_recipe(model_grid=grid))
    return read(scene, tiles_hw, model_grid=grid, **changes)


def build_overviews(path: Path) -> None:
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2, 4], Method.average)


def quarter(there: NDArray[Any]) -> NDArray[Any]:
    """(..., height, width) of blocks of four by four as their means."""
    height, width = there.shape[-2:]
    return there.reshape(*there.shape[:-2], height // 4, 4, width // 4, 4).mean(axis=(-3, -1))


@pytest.mark.parametrize("metres", [0.11, 0.4, 0.5, 1.7])
@pytest.mark.parametrize("has_overviews", [False, True])
def test_a_pixel_does_not_depend_on_its_shard(tmp_path: Path, metres: float, *, has_overviews: bool) -> None:
    pixels = reflectance(157, 211)[:3].astype(np.float32) / 7
    pixels[:, 40:90, 30:100] = -1
    path = write_raster(tmp_path / "a.tif", pixels, transform=FINE, nodata=-1)
    if has_overviews:
        build_overviews(path)
    whole = read_at(scene_of(path), metres)
    for tiles_hw in ((1, 1), (2, 3), (9, 1)):
        for one, other in zip(read_at(scene_of(path), metres, tiles_hw), whole, strict=True):
            np.testing.assert_array_equal(one, other)


def test_nodata_never_mixes_and_half_of_the_area_is_enough(tmp_path: Path) -> None:
    pixels = np.full((1, 64, 64), 100, np.int16)
    pixels[0, :, :30] = -9999  # of columns 28 to 31 two are valid, which is half
    pixels[0, :3, 32:36] = -9999  # of 16 pixels 4 are valid
    made, valid = read_at(
        scene_of(write_raster(tmp_path / "a.tif", pixels, transform=FINE, nodata=-9999)), 1.0
    )
    expected = np.ones((16, 16), bool)
    expected[:, :7] = False
    expected[0, 8] = False
    np.testing.assert_array_equal(valid, expected)
    assert np.unique(made[0][valid]) == 100


def test_overviews_are_read_in_place_of_what_is_finer(tmp_path: Path) -> None:
    """Theirs hold other values here than the raster, so that it shows."""
    path = write_raster(tmp_path / "a.tif", np.full((3, 128, 192), 10, np.uint8), transform=FINE)
    build_overviews(path)
    with rasterio.open(path, "r+", overview_level=0) as dataset:
        dataset.write(np.full((3, 64, 96), 20, np.uint8))
    for metres, value in ((0.4, 10), (0.5, 20), (0.75, 20)):
        made, _ = read_at(scene_of(path), metres)
        assert np.unique(made) == value, metres


THERE = np.ones((64, 96), bool)
THERE[8:24, 12:40] = False


def with_alpha(folder: Path, pixels: NDArray[np.uint8]) -> Scene:
    path = write_raster(
        folder / "a.tif", np.concatenate([pixels, THERE[None] * np.uint8(255)]), transform=FINE
    )
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    build_overviews(path)
    return scene_of(path)


def with_mask(folder: Path, pixels: NDArray[np.uint8]) -> Scene:
    path = write_raster(folder / "a.tif", pixels, transform=FINE)
    build_overviews(path)
    with rasterio.open(path, "r+") as dataset:
        dataset.write_mask(THERE)
    return scene_of(path)


def with_flags(folder: Path, pixels: NDArray[np.uint8]) -> Scene:
    paths = [
        write_raster(folder / "all.tif", pixels, transform=FINE),
        write_raster(folder / "flags.tif", THERE[None].astype(np.uint8), transform=FINE),
    ]
    build_overviews(paths[0])
    with (folder / "scenes.csv").open("w") as file:
        csv.writer(file).writerows((["name", "all", "flags"], ["a", *map(str, paths)]))
    given = SceneSet(
        kind="manifest",
        path=str(folder / "scenes.csv"),
        columns=("all",),
        id_column="name",
        mask=MaskFlags(by="values", numbers=(0,), file="flags"),
    )
    (source,), _ = find_sources(make_config(inputs=((None, given),)), {})
    scene = read_header(source)
    assert isinstance(scene, Scene), scene
    return scene


def of_two_resolutions(folder: Path, pixels: NDArray[np.uint8]) -> Scene:
    coarse = np.where(THERE, np.maximum(pixels[2], 1), 0)[None, ::4, ::4]
    return stack_of(
        write_raster(folder / "fine.tif", pixels[:2], transform=FINE),
        write_raster(folder / "coarse.tif", coarse, transform=FINE @ Affine.scale(4), nodata=0),
        resampling="nearest",
    )


@pytest.mark.parametrize("make", [with_alpha, with_mask, with_flags, of_two_resolutions])
def test_all_that_says_what_is_valid_counts(tmp_path: Path, make: Any) -> None:
    pixels = (reflectance(64, 96) // 50).astype(np.uint8)[:3]
    made, valid = read_at(make(tmp_path, pixels), 1.0, bands=(1, 2, 3))
    np.testing.assert_array_equal(valid, quarter(THERE) >= 0.5)
    np.testing.assert_allclose(made[:2, valid], quarter(pixels[:2].astype(float))[:, valid], atol=1)


def test_damaged_blocks_are_nodata_and_counted(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", reflectance(256, 256)[:3] // 50, transform=FINE)
    corrupt(path, 1, 2)
    grid = ModelGrid(resolution=Resolution(1.0), mask="model")
    recipe = make_recipe(model_grid=grid, on_bad_block="nodata", normalize=None)
    scene = on_model_grid(scene_of(path), recipe)
    (held,), _ = read_shards(
        scene, recipe, tuple(ShardGrid(tiles=tile_grid(recipe, 64, 64), tiles_hw=(9, 9)))
    )
    expected = np.ones((64, 64), bool)
    expected[16:32, 32:48] = False
    np.testing.assert_array_equal(held.valid, expected)
    assert held.bad_pixels == 16 * 16


def test_a_file_of_another_size_than_its_header_is_a_change(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", reflectance(64, 96)[:3], transform=FINE)
    own = dataclasses.replace(scene_of(path), height=60)
    with pytest.raises(SourceChangedError):
        read_at(own, 1.0)

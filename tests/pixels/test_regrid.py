import itertools

import numpy as np
import pytest
from conftest import reflectance, write_raster
from stacks import GRIDS, read, scene_of

HEIGHT, WIDTH = 310, 627


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("resampling", ["nearest", "bilinear", "cubic", "average"])
def test_resampled_pixels_do_not_depend_on_the_shards(tmp_path, grid, resampling):
    fine = write_raster(tmp_path / "fine.tif", reflectance(HEIGHT, WIDTH)[:1])
    noise = np.random.default_rng(3).integers(1, 10_000, (1, 240, 360), dtype=np.uint16)
    noise[:, 30:40, 50:90] = 0
    coarse = write_raster(tmp_path / "coarse.tif", noise, transform=GRIDS[grid], nodata=0)
    scene = scene_of(coarse, fine, resampling=resampling)
    assert (scene.height, scene.width) == (HEIGHT, WIDTH)
    pixels, valid = read(scene, tile_size=160, halo=16)
    assert 0.2 < valid.mean() < 1 or grid == "twice"
    for tile_size, tiles_hw in ((160, (1, 1)), (64, (1, 12)), (90, (2, 1))):
        again, valid_again = read(scene, tiles_hw, tile_size=tile_size, halo=16)
        np.testing.assert_array_equal(again, pixels)
        np.testing.assert_array_equal(valid_again, valid)


def test_pixels_are_gdals_and_where_a_file_ends_there_is_no_data(tmp_path):
    small = np.random.default_rng(4).integers(1, 10_000, (1, 60, 80), dtype=np.uint16)
    fine = write_raster(tmp_path / "fine.tif", reflectance(140, 190)[:2])
    coarse = write_raster(tmp_path / "coarse.tif", small, transform=GRIDS["twice"])
    inside = np.zeros((140, 190), bool)
    inside[:120, :160] = True
    nearest, valid = read(scene_of(fine, coarse, resampling="nearest"))
    np.testing.assert_array_equal(nearest[2, :120, :160], small[0].repeat(2, axis=0).repeat(2, axis=1))
    np.testing.assert_array_equal(valid, inside)
    bilinear, _ = read(scene_of(fine, coarse, resampling="bilinear"))
    a, b, c, d = (
        small[0, i : 59 + i, j : 79 + j].astype(float) for i, j in itertools.product((0, 1), (0, 1))
    )
    expected = (9 * a + 3 * b + 3 * c + d) / 16  # a quarter of a pixel from a's centre
    assert np.abs(bilinear[2, 1:119:2, 1:159:2] - expected).max() <= 0.5
    scene = scene_of(fine, coarse, resampling="nearest")
    for nodata in ("none", 70_000.0):  # whatever stands for no data
        np.testing.assert_array_equal(read(scene, nodata=nodata)[1], inside)
    assert read(scene, bands=(1, 2))[1].all()  # a file that is not asked for has no say


@pytest.mark.parametrize("resampling", ["bilinear", "cubic", "average"])
def test_no_data_is_not_mixed_into_its_neighbours(tmp_path, resampling):
    values = np.full((1, 60, 80), 5000, np.uint16)
    values[0, 20:33, 30:47] = 0
    fine = write_raster(tmp_path / "fine.tif", reflectance(120, 160)[:1])
    coarse = write_raster(tmp_path / "coarse.tif", values, transform=GRIDS["thrice, shifted"], nodata=0)
    pixels, _ = read(scene_of(fine, coarse, resampling=resampling), bands=(2,))
    assert set(np.unique(pixels)) == {0, 5000}

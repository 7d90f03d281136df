"""Which overview is read in place of a raster."""

import numpy as np
import pytest
import rasterio
from conftest import UTM, reflectance, write_raster
from factories import scene_of as scene_of_file
from rasterio.enums import ColorInterp, Resampling
from rasterio.transform import Affine
from stacks import source_of

from batchseg.pixels.gdal import gdal
from batchseg.pixels.overviews import level
from batchseg.pixels.stack import open_source


def with_overviews(path, factors=(2, 4, 8)):
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews(list(factors), Resampling.average)
    return path


def level_of(source, target_hw) -> int | None:
    with gdal(), open_source(source) as dataset:
        return level(dataset, target_hw)


@pytest.mark.parametrize(
    ("target_hw", "expected"),
    [
        ((160, 240), None),
        ((90, 130), None),
        ((80, 120), 0),
        ((81, 121), None),
        ((40, 100), 0),  # the less coarse side decides
        ((20, 30), 2),
        ((5, 8), 2),
    ],
)
def test_the_smallest_that_is_no_smaller_than_wanted(tmp_path, target_hw, expected):
    path = with_overviews(write_raster(tmp_path / "a.tif", reflectance(160, 240)))
    assert level_of(scene_of_file(path).source, target_hw) == expected


def test_what_rounding_and_a_projections_scale_leave_of_twice_is_twice(tmp_path):
    path = with_overviews(write_raster(tmp_path / "a.tif", reflectance(801, 999)))
    assert level_of(scene_of_file(path).source, (402, 501)) == 0


def test_of_overviews_in_any_order_their_factor_counts(tmp_path):
    path = with_overviews(write_raster(tmp_path / "a.tif", reflectance(160, 240)), (8,))
    with_overviews(path, (2,))
    with rasterio.open(path) as dataset:
        factors = dataset.overviews(1)
    assert factors[level_of(scene_of_file(path).source, (70, 110))] == 2


def test_without_overviews_and_with_a_mask_of_the_file_the_raster_is_read(tmp_path):
    """GDAL takes all of an overview for valid whose mask has none."""
    path = write_raster(tmp_path / "a.tif", reflectance(160, 240))
    assert level_of(scene_of_file(path).source, (20, 30)) is None
    with_overviews(path)
    with rasterio.open(path, "r+") as dataset:
        dataset.write_mask(np.eye(160, 240, dtype=bool))
    assert level_of(scene_of_file(path).source, (20, 30)) is None


def test_the_smaller_images_of_jpeg_2000_lie_elsewhere(tmp_path):
    path = write_raster(
        tmp_path / "a.jp2", reflectance(640, 960), driver="JP2OpenJPEG", compress=None, crs=None
    )
    with rasterio.open(path) as dataset:
        assert dataset.overviews(1)
    assert level_of(scene_of_file(path).source, (160, 240)) is None


def test_alpha_has_overviews_of_its_own(tmp_path):
    path = write_raster(tmp_path / "a.tif", reflectance(160, 240).astype(np.uint8))
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    assert level_of(scene_of_file(with_overviews(path)).source, (20, 30)) == 2


def test_files_of_one_grid_are_read_at_one_level_and_others_as_they_are(tmp_path):
    pixels = reflectance(160, 240)
    paths = [
        with_overviews(write_raster(tmp_path / f"{band}.tif", pixels[band : band + 1])) for band in (0, 1)
    ]
    assert level_of(source_of(*paths), (40, 60)) == 1
    with gdal(), open_source(source_of(*paths), level=1) as stack:
        assert (stack.height, stack.width, stack.count) == (40, 60, 2)
    fewer = with_overviews(write_raster(tmp_path / "c.tif", pixels[2:3]), (2,))
    assert level_of(source_of(*paths, fewer), (40, 60)) is None
    coarse = Affine(20.0, 0.0, UTM.c, 0.0, -20.0, UTM.f)
    other = with_overviews(write_raster(tmp_path / "d.tif", pixels[3:, ::2, ::2], transform=coarse))
    assert level_of(source_of(*paths, other, resampling="bilinear"), (40, 60)) is None

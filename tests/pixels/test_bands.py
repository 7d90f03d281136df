import dataclasses

import numpy as np
import pytest
import rasterio
from factories import make_recipe, make_scene, source_of, write_raster
from rasterio.enums import ColorInterp

from batchseg.pixels.bands import NoBandError, bands_of, called, color_of, describe_bands
from batchseg.pixels.fit import mismatch, tile_grid
from batchseg.pixels.grid import ShardGrid
from batchseg.pixels.header import read_header
from batchseg.pixels.read import read_shards

RGB = ("red", "green", "blue")
NAMED = make_recipe(band_names=RGB, all_bands=False)


def looking(names=(), colors=(), bands=3):
    return make_scene(bands=bands, band_names=names, colors=colors)


@pytest.mark.parametrize(
    ("names", "colors", "numbers"),
    [
        ((), RGB, (1, 2, 3)),
        ((), RGB[::-1], (3, 2, 1)),
        (("Blue", "Green ", "RED"), RGB, (3, 2, 1)),  # GDAL's colours of an 8-bit file say nothing
        (("B04", "B03", "B02"), RGB, (1, 2, 3)),
        (("B02", "B03", "B04"), RGB, (3, 2, 1)),
        (("b", "g", "r"), RGB, (3, 2, 1)),
        (("red edge", "blue (490 nm)", "green", "red"), (), (4, 3, 2)),
        (("nir", "red", "green", "blue"), (*RGB, ""), (2, 3, 4)),
    ],
)
def test_names_are_found_by_description_then_by_colour(names, colors, numbers):
    scene = looking(names, colors, bands=max(3, len(names)))
    assert bands_of(scene, NAMED) == numbers
    assert mismatch(scene, NAMED) is None


def test_numbers_stay_as_they_are():
    assert bands_of(looking((), RGB[::-1]), make_recipe(bands=(2, 3, 1))) == (2, 3, 1)


@pytest.mark.parametrize(
    ("scene", "reason"),
    [
        (looking(), "has no band called 'red'; it has 3 bands without names"),
        (looking((), ("red", "green", "")), "has no band called 'blue'; it has 1 red, 2 green, 3"),
        (looking(("red", "green", "green")), "has several bands called 'green': 2 and 3"),
    ],
)
def test_a_name_that_is_missing_or_twice_is_told(scene, reason):
    with pytest.raises(NoBandError, match=reason):
        bands_of(scene, NAMED)
    assert reason in str(mismatch(scene, NAMED))


def test_bands_in_words():
    assert describe_bands(looking(("B04", "green", ""), RGB)) == "1 B04 (red), 2 green, 3 blue"
    assert describe_bands(looking(bands=1)) == "1 band without names"
    assert describe_bands(looking(("B02", "B03", "B04"), RGB)) == "1 B02 (blue), 2 B03 (green), 3 B04 (red)"
    assert called(looking(("blue", "", "")), 1) == "band 1 (blue)"
    assert called(looking(("blue", "", "")), 2) == "band 2"
    assert [color_of(looking((), RGB), n) for n in (1, 2, 3)] == list(RGB)


def test_files_of_other_orders_give_the_network_the_same_pixels(tmp_path):
    pixels = np.random.default_rng(3).integers(0, 255, (3, 20, 30), dtype=np.uint8)
    path = write_raster(tmp_path / "rgb.tif", pixels)
    turned = write_raster(tmp_path / "bgr.tif", pixels[::-1])
    described = write_raster(tmp_path / "named.tif", pixels[[1, 2, 0]])
    with rasterio.open(turned, "r+") as dataset:
        dataset.colorinterp = [ColorInterp[name] for name in RGB[::-1]]
    with rasterio.open(described, "r+") as dataset:
        dataset.descriptions = ("green", "blue", "red")
    recipe = dataclasses.replace(NAMED, tile_size=64)
    shards = tuple(ShardGrid(tiles=tile_grid(recipe, 20, 30), tiles_hw=(9, 9)))
    for file in (path, turned, described):
        (read,), _ = read_shards(read_header(source_of(file)), recipe, shards)
        np.testing.assert_array_equal(read.pixels, pixels)

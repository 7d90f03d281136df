import dataclasses
import itertools
import re

import numpy as np
import pytest
import rasterio
from factories import make_recipe, source_of, write_raster
from planned_scenes import scene, warned

from batchseg.driver.band_warnings import band_warnings
from batchseg.pixels.header import read_header

RGB, BGR = ("red", "green", "blue"), ("blue", "green", "red")


@pytest.mark.parametrize(
    ("look", "recipe", "said"),
    [
        (
            {"colors": RGB},
            {"bands": (3, 2, 1), "all_bands": False},
            "(bands 3, 2, 1) of 1 scene (a); if it was",
        ),
        ({"colors": BGR}, {}, "set bands: [3, 2, 1]"),
        ({"band_names": ("Blue", "Green", "Red"), "colors": RGB}, {}, "set bands: [3, 2, 1]"),
        ({"colors": RGB}, {}, None),
        ({"colors": BGR}, {"bands": (3, 2, 1), "all_bands": False}, None),
        ({"colors": BGR}, {"band_names": BGR, "all_bands": False}, None),
    ],
)
def test_blue_first_is_told(tmp_path, look, recipe, said):
    lines = warned(tmp_path, scene("a", **look), **recipe)
    assert (
        lines == () if said is None else "the network gets blue, green, red" in lines[0] and said in lines[0]
    )


def test_four_bands_from_blue_on_are_usual_and_turned_ones_are_told(tmp_path):
    recipe = {"facts": dataclasses.replace(make_recipe().facts, channels=4), "all_bands": False}
    landsat = scene("a", bands=4, band_names=("blue", "green", "red", "nir"))
    assert warned(tmp_path, landsat, bands=(1, 2, 3, 4), **recipe) == ()
    aerial = scene("a", bands=4, colors=(*RGB, ""))
    (line,) = warned(tmp_path, aerial, bands=(3, 2, 1, 4), **recipe)
    assert line.endswith("set bands: [1, 2, 3, 4]")


def test_files_of_several_orders_are_told_unless_bands_go_by_name(tmp_path):
    scenes = [scene("a", colors=RGB), scene("b", colors=RGB), scene("c", colors=BGR)]
    (line,) = warned(tmp_path, *scenes)
    assert line == (
        "bands: the network gets red, green, blue of a, b, and another order of 1 scene (c); give `bands` "
        "by name, as in [red, green, blue]"
    )
    assert warned(tmp_path, *scenes, band_names=RGB, all_bands=False) == ()
    two_kinds = [scene("a", colors=RGB), scene("b", colors=BGR), scene("c", band_names=BGR)]
    assert "another order of 1 scene (a)" in warned(tmp_path, *two_kinds)[0]
    partly = [scene("a", bands=4, colors=(*RGB, "")), scene("b", bands=4, colors=("blue", "green", "", ""))]
    assert "another order" in warned(tmp_path, *partly, bands=(1, 2, 3), all_bands=False)[0]


def test_a_table_of_colours_is_told(tmp_path):
    (line,) = warned(tmp_path, scene("a", bands=1, colors=("palette",)), bands=(1,))
    assert line.startswith("bands: band 1 of 1 scene (a) holds places in a table of colours")


def applied(line, recipe):
    """The recipe with the `bands` that a warning says to set."""
    given = re.search(r"set bands: \[([^]]*)\]", line)[1].split(", ")
    if given[0].isdigit():
        return dataclasses.replace(recipe, bands=tuple(map(int, given)), all_bands=False)
    return dataclasses.replace(recipe, band_names=tuple(given), all_bands=False)


DESCRIPTIONS = {
    "words": {"red": "Red", "green": "Green", "blue": "Blue"},
    "letters": {"red": "r", "green": "g", "blue": "b"},
    "Sentinel-2": {"red": "B04", "green": "B03", "blue": "B02"},
    "Earth Engine": {"red": "B4", "green": "B3", "blue": "B2"},
    "Landsat 8": {"red": "SR_B4", "green": "SR_B3", "blue": "SR_B2"},
    "Landsat 7": {"red": "SR_B3", "green": "SR_B2", "blue": "SR_B1"},
}


@pytest.mark.parametrize("names", DESCRIPTIONS)
@pytest.mark.parametrize("order", list(itertools.permutations(RGB)))
def test_descriptions_win_over_the_drivers_tags_in_any_order(tmp_path, names, order):
    """A real file of three 8-bit bands, which GDAL tags red, green, blue."""
    descriptions = [DESCRIPTIONS[names][color] for color in order]
    path = write_raster(tmp_path / "a.tif", np.zeros((3, 9, 9), np.uint8))
    with rasterio.open(path, "r+") as dataset:
        dataset.descriptions = descriptions
    header, recipe = read_header(source_of(path)), make_recipe()
    assert header.colors == RGB
    lines = list(band_warnings([header], recipe))
    if order == RGB:
        assert lines == []
        return
    (line,) = lines
    assert f"the network gets {', '.join(order)} (bands 1, 2, 3) of 1 scene" in line
    mended = applied(line, recipe)
    assert [order[band - 1] for band in mended.bands] == [*RGB]
    assert list(band_warnings([header], mended)) == []


def test_tags_that_somebody_set_against_the_names_are_told_with_both(tmp_path):
    scenes = [scene("a", band_names=("R", "G", "B"), colors=BGR)]
    (line,) = warned(tmp_path, *scenes)
    assert "by name bands are 1 red, 3 blue, by colour interpretation 1 blue, 3 red; names count" in line
    (line,) = warned(
        tmp_path,
        scene("a", bands=4, band_names=(*BGR, "nir"), colors=(*RGB, "alpha")),
        bands=(1, 2, 3),
        all_bands=False,
    )
    assert "contradict" not in line, "a driver set these"


def test_false_colours_are_told_with_what_mends_them_or_that_nothing_does(tmp_path):
    infrared = scene("a", band_names=("NIR", "Red", "Green"), colors=RGB)
    (line,) = warned(tmp_path, infrared)
    assert "the network gets nir, red, green (bands 1, 2, 3)" in line
    assert line.endswith("they have no blue; if nir, red, green is meant, say bands: [nir, red, green]")
    assert warned(tmp_path, infrared, band_names=("nir", "red", "green"), all_bands=False) == ()
    four = scene("a", bands=4, band_names=("nir", *RGB), colors=(*RGB, "alpha"))
    recipe = {"bands": (1, 2, 3), "all_bands": False}
    (line,) = warned(tmp_path, four, **recipe)
    assert "set bands: [2, 3, 4]; if" in line
    assert warned(tmp_path, four, bands=(2, 3, 4), all_bands=False) == ()


def test_names_are_advised_only_where_all_scenes_have_them(tmp_path):
    scenes = [scene("a", colors=RGB), scene("b", band_names=("nir", "red", "green"), colors=RGB)]
    (line,) = warned(tmp_path, *scenes)
    assert line.endswith("no names find the same bands in all (b): give each kind a job of its own")

import dataclasses

import pyproj
import pytest
from factories import NOWHERE, make_product, make_recipe, make_scene, make_source

from batchseg.driver.plan import make_plan
from batchseg.driver.scene_triage import Triage
from batchseg.driver.scene_warnings import describe_scenes, scene_warnings
from batchseg.output.ledger import Ledger

RGB, BGR = ("red", "green", "blue"), ("blue", "green", "red")
NOTHING = Triage(todo=(), done=0, quarantined=0, lost=frozenset(), incomplete=frozenset(), vanished=())


def scene(name, *, metres=1.0, crs="EPSG:32631", uri="", **changes):
    place = dataclasses.replace(
        NOWHERE,
        crs_wkt=pyproj.CRS(crs).to_wkt() if crs else None,
        transform=(metres, 0.0, 500_000.0, 0.0, -metres, 5e6) if crs else None,
    )
    source = make_source(name, **({"uri": uri} if uri else {}))
    return make_scene(source=source, **({"georeference": place} | changes))


def planned(tmp_path, *scenes, **recipe):
    made = make_recipe(**recipe)
    plan = make_plan(
        NOTHING,
        scenes,
        recipe=made,
        product=make_product(),
        ledger=Ledger(str(tmp_path / "out")),
        cpu_classes=["avx2"],
        workers=1,
        shard_tiles=None,
    )
    return plan, made


def warned(tmp_path, *scenes, **recipe):
    return scene_warnings(*planned(tmp_path, *scenes, **recipe))


def test_scenes_that_are_alike_and_fit_are_no_matter(tmp_path):
    alike = [scene(name, colors=RGB) for name in "ab"]
    assert warned(tmp_path, *alike, resolution=1.0) == ()
    assert warned(tmp_path) == ()


def test_other_resolutions_are_told_from_half_as_large_again(tmp_path):
    scenes = [
        scene("a", metres=0.1),
        scene("b", metres=0.14),
        scene("c", metres=0.25),
        scene("d", metres=0.3),
    ]
    (line,) = warned(tmp_path, *scenes, resolution=0.1)
    assert line.startswith(
        "resolution: the model was made for pixels of 0.1 m; 2 of 4 scenes have others (d: 0.3 m)"
    )
    assert warned(tmp_path, *scenes) == ()
    (line,) = warned(tmp_path, scene("a", metres=100), resolution=0.1, any_resolution=True)
    assert "1 of 1 scene have others (a: 100 m)" in line


def test_a_scene_without_crs_has_an_unknown_resolution_and_not_one_of_a_metre(tmp_path):
    scenes = [
        scene(str(n), georeference=dataclasses.replace(NOWHERE, transform=(1, 0, 0, 0, -1, 0)))
        for n in range(5)
    ]
    (line,) = warned(tmp_path, *scenes, resolution=1.0)
    assert line.endswith("nothing says how large those of 5 of 5 scenes are (0, 1, 2, ...)")


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


def test_a_crs_of_another_planet_than_the_others_is_told(tmp_path):
    scenes = [scene("a"), scene("b"), scene("m", crs="+proj=eqc +a=3396190 +b=3376200 +units=m")]
    (line,) = warned(tmp_path, *scenes)
    assert line.startswith("CRS: 1 scene of Mars (m), 2 of the Earth")


def test_some_scenes_without_a_place_are_told_and_pictures_are_not(tmp_path):
    (line,) = warned(tmp_path, scene("a"), scene("b", crs=None))
    assert line.startswith(
        "place: nothing says where 1 of 2 scenes lie (b): their masks have no geotransform"
    )
    assert warned(tmp_path, scene("a", crs=None), scene("b", crs=None)) == ()
    (line,) = warned(tmp_path, scene("a", crs=None, uri="https://example.org/a.tif"))
    assert line.endswith("files beside a raster on a web server are not read")


def test_a_nodata_value_of_the_files_that_no_pixel_can_have_is_told(tmp_path):
    scenes = [scene("a", nodata=(-9999.0,) * 3), scene("b", nodata=(0.0,) * 3)]
    (line,) = warned(tmp_path, *scenes)
    assert line.startswith(
        "nodata: the files of 1 scene (a) name -9999, which none of their uint8 pixels can be"
    )
    assert warned(tmp_path, *scenes, nodata="none") == ()


def test_a_plan_shows_bands_and_pixels(tmp_path):
    scenes = [
        scene("a", colors=RGB),
        scene("b", colors=RGB, metres=2.0),
        scene("c", band_names=("x", "y", "z")),
    ]
    assert describe_scenes(*planned(tmp_path, *scenes, resolution=2.0)) == (
        "bands    1 red, 2 green, 3 blue: 2 scenes",
        "bands    1 x, 2 y, 3 z: 1 scene",
        "         the network gets 1, 2, 3",
        "ground   1 to 2 m per pixel; the model was made for 2 m",
    )
    assert describe_scenes(*planned(tmp_path, scene("a", crs=None)))[-1] == (
        "ground   nothing says how large the pixels are"
    )
    many = [scene(str(n), band_names=(str(n), "", "")) for n in range(9)]
    assert "         and 4 other kinds of scenes" in describe_scenes(*planned(tmp_path, *many))
    assert describe_scenes(*planned(tmp_path)) == ()

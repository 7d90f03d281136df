import dataclasses

from factories import NOWHERE
from planned_scenes import planned, scene, warned

from batchseg.driver.scene_warnings import describe_scenes
from batchseg.job.resolution import ModelGrid, Resolution

RGB = ("red", "green", "blue")


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


def test_either_side_of_a_pixel_is_compared_and_shown(tmp_path):
    """2.5 x 40 m have a mean of 10 m, and a degree is half as wide as high at 60 degrees north."""
    sizes = {"a": (10, 10), "b": (7, 14), "c": (5, 20), "d": (20, 5), "e": (6.5, 10), "f": (1.4e-4, 1e-4)}
    scenes = []
    for name, (across, down) in sizes.items():
        one = scene(name, crs="EPSG:4326" if name == "f" else "EPSG:32631")
        left, top = (5.0, 60.0) if name == "f" else (500_000.0, 5e6)
        place = dataclasses.replace(one.georeference, transform=(across, 0.0, left, 0.0, -down, top))
        scenes.append(dataclasses.replace(one, georeference=place))
    (line,) = warned(tmp_path, *scenes, resolution=10.0)
    assert "3 of 6 scenes have others (c: 5 x 20 m), in which" in line
    (*_, shown) = describe_scenes(*planned(tmp_path, scenes[2], resolution=10.0))
    assert shown == "ground   5 x 20 m per pixel; the model was made for 10 m"


def test_a_scene_without_crs_has_an_unknown_resolution_and_not_one_of_a_metre(tmp_path):
    scenes = [
        scene(str(n), georeference=dataclasses.replace(NOWHERE, transform=(1, 0, 0, 0, -1, 0)))
        for n in range(5)
    ]
    (line,) = warned(tmp_path, *scenes, resolution=1.0)
    assert line.endswith("nothing says how large those of 5 of 5 scenes are (0, 1, 2, ...)")


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


def test_a_job_whose_nodata_is_another_than_the_files_is_told_both(tmp_path):
    scenes = [
        scene("a", nodata=(255.0,) * 3),
        scene("b", nodata=(0.0,) * 3),
        scene("c", bands=4, nodata=(None,) * 4, alpha_bands=(4,)),
        scene("d"),
    ]
    (line,) = warned(tmp_path, *scenes, nodata=0.0)
    assert line.startswith(
        "nodata: the job says 0, and files say 255 (1 scene: a), alpha (1 scene: c): both count as no data"
    )
    assert warned(tmp_path, scenes[1], scenes[3], nodata=0.0) == ()
    assert warned(tmp_path, *scenes) == ()


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
    rest = "         and 4 other kinds of scenes (5, 6, 7, ...): `batchseg plan` with"
    assert rest in describe_scenes(*planned(tmp_path, *many))
    assert describe_scenes(*planned(tmp_path)) == ()


def read_at(metres, **changes):
    return {"model_grid": ModelGrid(resolution=Resolution(metres), **changes)}


def test_what_is_coarser_than_it_is_read_and_a_resolution_that_is_not_the_models_are_told(tmp_path):
    scenes = [scene("a", metres=1.0), scene("b", metres=0.3), scene("c", metres=1.4), scene("d", metres=2.0)]
    (line,) = warned(tmp_path, *scenes, **read_at(1.0), resolution=1.2)
    assert line.startswith("resolution: 1 of 4 scenes are coarser than 1 m (d): ")
    (line,) = warned(tmp_path, *scenes, **read_at(3.0), resolution=1.0)
    assert line.startswith("resolution: scenes are read at 3 m, and the model was made for 1 m; write")
    assert warned(tmp_path, *scenes[:3], **read_at(1.0)) == ()


def test_a_plan_shows_the_resolution_that_is_read_and_the_scenes_own(tmp_path):
    scenes = [scene("a", metres=1.0), scene("b", metres=0.3), scene("c", metres=2.0)]

    def shown(*some, **recipe) -> str:
        return describe_scenes(*planned(tmp_path, *some, **recipe))[-1]

    assert shown(*scenes, **read_at(1.0)) == (
        "ground   0.3 to 2 m per pixel, read at 1 m (2 scenes; 1 as they are); masks on the scene's grid"
    )
    assert shown(*scenes[1:], **read_at(1.0, mask="model"), resolution=1.0) == (
        "ground   0.3 to 2 m per pixel, read at 1 m; masks on the model's grid; the model was made for 1 m"
    )
    assert shown(scenes[0], **read_at(1.0)) == "ground   1 m per pixel, read as they are, which is 1 m"

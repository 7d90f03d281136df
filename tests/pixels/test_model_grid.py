"""Scenes on the model's grid: their size, their place, and which are refused."""

import dataclasses

import numpy as np
import pyproj
import pytest
from factories import NOWHERE, make_recipe, make_scene
from hypothesis import given
from hypothesis import strategies as st

from batchseg.inputs.source import ControlPoint, Georeference, Scene
from batchseg.job.resolution import ModelGrid, Resolution
from batchseg.pixels.fit import MAX_TILES, mismatch
from batchseg.pixels.ground import ground_resolution
from batchseg.pixels.model_grid import UNREADABLE, model_shape, on_model_grid, published, unreadable

UTM_WKT = pyproj.CRS("EPSG:32633").to_wkt()


def recipe_at(resolution: float | str, **changes):
    return make_recipe(model_grid=ModelGrid(resolution=Resolution.of(resolution), **changes))


def scene_at(
    transform, crs: str | None = "EPSG:32633", height: int = 90, width: int = 120, **changes
) -> Scene:
    wkt = None if crs is None else pyproj.CRS(crs).to_wkt()
    place = Georeference(crs_wkt=wkt, transform=transform, gcps=(), gcps_crs_wkt=None, rpcs=())
    return make_scene(height, width, georeference=dataclasses.replace(place, **changes))


def square(metres: float):
    return (metres, 0.0, 500_000.0, 0.0, -metres, 4_600_000.0)


def corner(scene: Scene, row: float, col: float) -> tuple[float, float]:
    """Of shares of the height and the width."""
    a, b, c, d, e, f = scene.georeference.transform
    row, col = row * scene.height, col * scene.width
    return a * col + b * row + c, d * col + e * row + f


TRANSFORMS = {
    "north-up": square(0.3),
    "south-up": (0.3, 0.0, 500_000.0, 0.0, 0.3, 4_600_000.0),
    "turned": (0.26, 0.15, 500_000.0, 0.15, -0.26, 4_600_000.0),
    "turned and oblong": (0.26, 0.75, 500_000.0, 0.15, -1.3, 4_600_000.0),
    "oblong": (2.0, 0.0, 500_000.0, 0.0, -0.5, 4_600_000.0),
}


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_the_corners_and_directions_stay_and_pixels_get_the_size(transform):
    own = scene_at(transform)
    scene = on_model_grid(own, recipe_at(1.0))
    assert scene.own is own
    for row, col in ((0, 0), (0, 1), (1, 0), (1, 1)):
        np.testing.assert_allclose(corner(scene, row, col), corner(own, row, col), rtol=1e-14)
    across, down = ground_resolution(scene)
    assert abs(across - 1) < 1 / scene.width
    assert abs(down - 1) < 1 / scene.height


def test_sides_differ_as_the_pixels_do():
    assert model_shape(scene_at(TRANSFORMS["oblong"]), recipe_at(1.0)) == (45, 240)
    assert model_shape(scene_at((1.0, 0.0, 5e5, 0.0, -2.0, 4e6)), recipe_at(1.0)) == (180, 120)


@given(st.floats(0.9901, 1.0099))
def test_within_a_hundredth_a_scene_is_read_as_it_is(metres):
    own = scene_at(square(metres))
    assert on_model_grid(own, recipe_at(ground_resolution(scene_at(square(1.0)))[0])) is own


@pytest.mark.parametrize(
    ("metres", "shape_hw"),
    [(0.25, (251, 300)), (0.252, (251, 300)), (0.5, (501, 600)), (2.0, (2002, 2400)), (3.02, (3003, 3600))],
)
def test_near_a_whole_number_of_pixels_it_is_one(metres, shape_hw):
    """UTM's scale makes 0.2499 m of 0.25 m: to read four pixels as 3.9987 would blur them."""
    own = scene_at(square(metres), height=1001, width=1200)
    assert model_shape(own, recipe_at(1.0)) == shape_hw  # rounded up, as GDAL's overviews are


@given(st.floats(0.15, 7.0))
def test_no_pixel_is_off_by_more_than_a_hundredth(metres):
    own = scene_at(square(metres), height=1001, width=1200)
    across, down = ground_resolution(on_model_grid(own, recipe_at(1.0)))
    assert max(abs(across - 1), abs(down - 1)) < 0.013  # and half a pixel of 150


@pytest.mark.parametrize("metres", [0.98, 1.03])
def test_beyond_it_is_not(metres):
    assert on_model_grid(scene_at(square(metres)), recipe_at(1.0)).own is not None


def test_without_a_resolution_nothing_changes():
    own = scene_at(square(0.3))
    assert on_model_grid(own, make_recipe(resolution=1.0)) is own
    assert published(own, make_recipe()) is own
    assert unreadable(make_scene(), make_recipe()) is None


def test_masks_lie_on_the_scenes_grid_unless_the_job_says_the_models():
    own = scene_at(square(0.3))
    scene = on_model_grid(own, recipe_at(1.0))
    assert published(scene, recipe_at(1.0)) is own
    assert published(scene, recipe_at(1.0, mask="model")) is scene
    assert published(own, recipe_at(1.0)) is own


def test_degrees_are_those_of_the_crs():
    degree = scene_at((1e-5, 0.0, 5.0, 0.0, -1e-5, 60.0), "EPSG:4326")
    assert on_model_grid(degree, recipe_at("0.00001 deg")) is degree
    assert model_shape(degree, recipe_at("0.00002 deg")) == (45, 60)
    # Half as wide as high at 60 degrees north.
    assert model_shape(degree, recipe_at(1.11)) == (90, 60)
    gon = scene_at((1e-5, 0.0, 5.0, 0.0, -1e-5, 50.0), "EPSG:4807")
    assert model_shape(gon, recipe_at("0.000009 deg")) == (90, 120)


def test_control_points_and_polynomials_move_with_the_pixels():
    points = tuple(
        ControlPoint(row=row, col=col, x=5e5 + 0.5 * col, y=4.6e6 - 0.5 * row, z=0.0, id="")
        for row, col in ((0.0, 0.0), (0.0, 120.0), (90.0, 0.0))
    )
    rpcs = (("LINE_OFF", "44.5"), ("LINE_SCALE", "45"), ("SAMP_OFF", "59.5 pixels"), ("HEIGHT_OFF", "7"))
    place = Georeference(crs_wkt=None, transform=None, gcps=points, gcps_crs_wkt=UTM_WKT, rpcs=rpcs)
    scene = on_model_grid(make_scene(90, 120, georeference=place), recipe_at(1.0))
    assert (scene.height, scene.width) == (45, 60)
    assert [(p.row, p.col) for p in scene.georeference.gcps] == [(0, 0), (0, 60), (45, 0)]
    terms = {key: float(value) for key, value in scene.georeference.rpcs}
    assert terms == {"LINE_OFF": 22.0, "LINE_SCALE": 22.5, "SAMP_OFF": 29.5, "HEIGHT_OFF": 7.0}
    damaged = dataclasses.replace(place, rpcs=(("LINE_OFF", "x"),))
    assert on_model_grid(make_scene(georeference=damaged), recipe_at(1.0)).georeference.rpcs == ()


def test_whole_rows_of_a_file_stay_whole_rows():
    own = dataclasses.replace(scene_at(square(0.3)), block_hw=(1, 120))
    scene = on_model_grid(own, recipe_at(1.0))
    assert scene.block_hw[1] >= scene.width
    assert scene.block_hw[0] == 1


NO_CRS = dataclasses.replace(NOWHERE, transform=square(1.0))

REFUSED = [
    (
        scene_at(square(0.1)),
        1.0,
        "cannot be read at 1 m (max_ratio 8): its pixels of 0.1 m are 10 times smaller; set max_ratio: 1",
    ),
    (scene_at(square(30.0)), 1.0, "its pixels of 30 m are 30 times larger; set max_ratio: 3"),
    (scene_at((2.0, 0.0, 5e5, 0.0, -9.0, 4e6)), 1.0, "its pixels of 2 x 9 m are 9 times larger"),
    (make_scene(georeference=NO_CRS), 1.0, "it has no CRS that says how large its pixels are"),
    (make_scene(), 1.0, "it has no geotransform that says"),
    (
        scene_at(square(1.0), 'LOCAL_CS["site",UNIT["unknown",1]]'),
        1.0,
        "its CRS does not say how many metres its pixels are",
    ),
    (scene_at(square(1.0)), "0.00001 deg", "its CRS is none of longitude and latitude"),
]


@pytest.mark.parametrize(("scene", "resolution", "words"), REFUSED)
def test_what_cannot_be_brought_there_is_refused_with_its_numbers(scene, resolution, words):
    recipe = recipe_at(resolution)
    reason = mismatch(scene, recipe)
    assert reason is not None
    assert reason.startswith(f"{UNREADABLE} {recipe.model_grid.limits}: ")
    assert words in reason


@given(st.floats(1.0, 1000.0), st.booleans())
def test_the_ratio_that_a_refusal_names_takes_the_scene(ratio, is_larger):
    scene = scene_at(square(ratio if is_larger else 1 / ratio))
    reason = unreadable(scene, recipe_at(1.0))
    if reason is not None:
        named = float(reason.partition("set max_ratio: ")[2].partition(" ")[0])
        assert unreadable(scene, recipe_at(1.0, max_ratio=named)) is None


def test_a_projections_scale_makes_no_eight_of_more_than_eight():
    assert ground_resolution(scene_at(square(8.0)))[0] > 8
    assert unreadable(scene_at(square(8.0)), recipe_at(1.0)) is None


def test_a_scene_that_would_be_too_many_tiles_there_is_refused():
    scene = scene_at(square(8.0), height=6000, width=6000)
    assert "tiles; at most" in mismatch(scene, recipe_at(1.0))
    assert mismatch(scene, make_recipe()) is None
    assert MAX_TILES < 48_000**2 // 100

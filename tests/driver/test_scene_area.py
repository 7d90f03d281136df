import dataclasses

import pytest
import shapely
from factories import make_recipe
from planned_scenes import AREA_CONFIG as CONFIG
from planned_scenes import area, placed, plan_of

from batchseg.driver.plan import Plan
from batchseg.driver.scene_area import area_warning, refuse_area_elsewhere
from batchseg.errors import ConfigError
from batchseg.job.recipe import Area
from batchseg.output.ledger import Ledger


def planned(tmp_path, area: Area, done=0) -> tuple[Plan, object]:
    recipe = make_recipe(area=area)
    scenes = [placed(number) for number in range(3)]
    plan = plan_of(scenes, Ledger(str(tmp_path / "out")), recipe=recipe, done=done)
    return plan, recipe


SWAPPED = area(52.0, 5.0, 52.2, 5.2)


def test_an_area_with_swapped_axes_is_refused_with_both_boxes(tmp_path):
    with pytest.raises(ConfigError) as caught:
        refuse_area_elsewhere(*planned(tmp_path, SWAPPED), CONFIG)
    (line,) = caught.value.lines
    assert "/areas/county.geojson meets no scene, of 3: it lies at x 52 to 52.2, y 5 to 5.2" in line
    assert "the scenes at x 5.04" in line
    assert line.endswith("(WGS 84 (CRS84)); its axes are swapped: write x (longitude, easting) before y")


@pytest.mark.parametrize(
    ("elsewhere", "said"),
    [
        (area(10, 45, 11, 46), "it lies at x 10 to 11, y 45 to 46, the scenes at x 5.04"),
        (area(640_000, 5_774_000, 643_000, 5_775_000), "it lies at x 640000 to 643000"),  # metres as degrees
        (area(5_774_000, 640_000, 5_775_000, 643_000, "EPSG:32631"), "its axes are swapped"),
    ],
)
def test_an_area_that_lies_elsewhere_is_refused(tmp_path, elsewhere, said):
    with pytest.raises(ConfigError, match="meets no scene") as caught:
        refuse_area_elsewhere(*planned(tmp_path, elsewhere), CONFIG)
    assert said in str(caught.value)
    assert ("swapped" in str(caught.value)) == ("swapped" in said)


def test_where_earlier_runs_did_some_it_is_a_warning(tmp_path):
    plan, recipe = planned(tmp_path, SWAPPED, done=1)
    refuse_area_elsewhere(plan, recipe, CONFIG)
    assert "aoi: it meets no scene of this run, of 3" in area_warning(plan, recipe)
    assert "its axes are swapped" in area_warning(plan, recipe)


def test_an_area_that_meets_one_scene_is_none_to_warn_of(tmp_path):
    plan, recipe = planned(tmp_path, area(5.06, 52.0, 5.08, 52.2))
    assert sum(job.is_outside for job in plan.jobs) == 1
    refuse_area_elsewhere(plan, recipe, CONFIG)
    assert area_warning(plan, recipe) == ""
    everything, recipe = planned(tmp_path, area(5, 52, 6, 53))
    refuse_area_elsewhere(everything, dataclasses.replace(recipe, area=None), CONFIG)


def test_parts_whose_axes_are_swapped_are_told(tmp_path):
    boxes = [(5.04, 52.0, 5.06, 52.2), (52.0, 5.04, 52.2, 5.06), (10, 45, 11, 46)]
    mixed = shapely.union_all([shapely.box(*box) for box in boxes])
    plan, recipe = planned(tmp_path, dataclasses.replace(SWAPPED, wkb=shapely.to_wkb(mixed)))
    refuse_area_elsewhere(plan, recipe, CONFIG)
    assert "aoi: 1 of its 3 parts would meet scenes if their axes were swapped" in area_warning(plan, recipe)


LEFT, TOP, PIXEL = 640_000.0, 5_775_000.0, 10.0
"""Of the first scene, 100 x 100 pixels; the others lie 1000 m and 2000 m east of it."""


def in_pixels(left, top, right, bottom) -> Area:
    """In pixels of the first scene, from its first corner."""
    return area(
        LEFT + PIXEL * left, TOP - PIXEL * bottom, LEFT + PIXEL * right, TOP - PIXEL * top, "EPSG:32631"
    )


GRAZING = {
    "touches an edge": (20, -30, 50, 0),
    "touches a corner": (-30, -30, 0, 0),
    "sliver between centres": (10.6, 10, 11.4, 80),
    "sliver at the edge": (-30, 20, 0.4, 60),
    "smaller than a pixel": (20.6, 30.6, 20.9, 30.9),
    "on the border of four pixels": (29.9, 29.9, 30.1, 30.1),
}


@pytest.mark.parametrize("name", GRAZING)
def test_an_area_without_a_pixels_centre_meets_no_scene(tmp_path, name):
    grazing = in_pixels(*GRAZING[name])
    plan, recipe = planned(tmp_path, grazing)
    assert all(job.is_outside for job in plan.jobs)
    assert [job.is_grazed for job in plan.jobs] == [True, False, False]
    assert not any(job.open_shards() for job in plan.jobs)
    with pytest.raises(
        ConfigError, match=r"meets no scene, of 3: it lies at x .*, the scenes at x "
    ) as caught:
        refuse_area_elsewhere(plan, recipe, CONFIG)
    assert "it touches 1 scene (s0), and no pixel's centre lies in it" in str(caught.value)
    assert str(caught.value).endswith("Widen it by a pixel to have them")
    wider = shapely.buffer(shapely.from_wkb(grazing.wkb), PIXEL)
    plan, recipe = planned(tmp_path, dataclasses.replace(grazing, wkb=shapely.to_wkb(wider)))
    assert not plan.jobs[0].is_outside
    assert area_warning(plan, recipe) == ""


def test_scenes_that_an_area_only_grazes_are_told_with_both_boxes(tmp_path):
    plan, recipe = planned(tmp_path, in_pixels(100, 0, 150, 50))  # ends at the first, lies in the second
    assert [job.is_outside for job in plan.jobs] == [True, False, True]
    refuse_area_elsewhere(plan, recipe, CONFIG)
    line = area_warning(plan, recipe)
    assert line.startswith(
        "aoi: of 1 scene that it touches (s0) no pixel's centre lies in it, so their masks are"
    )
    assert "it lies at x 641000 to 641500, y 5774500 to 5775000, they at x 640000 to 641000" in line


def test_one_centre_is_enough(tmp_path):
    plan, recipe = planned(tmp_path, in_pixels(40.45, 40.45, 40.55, 40.55))
    assert [job.is_outside for job in plan.jobs] == [False, True, True]
    assert area_warning(plan, recipe) == ""

import dataclasses

import pyproj
import pytest
import shapely
from factories import NOWHERE, make_config, make_product, make_recipe, make_scene, make_source

from batchseg.driver.plan import Plan, make_plan
from batchseg.driver.scene_area import area_warning, refuse_area_elsewhere
from batchseg.driver.scene_triage import Triage
from batchseg.errors import ConfigError
from batchseg.job.recipe import Area
from batchseg.job.settings import AreaFile
from batchseg.output.ledger import Ledger

CONFIG = make_config(aoi=AreaFile(uri="/areas/county.geojson", layer=None))
TRIAGE = Triage(todo=(), done=0, quarantined=0, lost=frozenset(), incomplete=frozenset(), vanished=())


def area(left, bottom, right, top, crs="OGC:CRS84") -> Area:
    return Area(wkb=shapely.to_wkb(shapely.box(left, bottom, right, top)), crs=crs, digest="0")


def placed(number: int):
    """Near Utrecht, 5.04 E 52.1 N, in UTM."""
    place = dataclasses.replace(
        NOWHERE,
        crs_wkt=pyproj.CRS("EPSG:32631").to_wkt(),
        transform=(10.0, 0.0, 640_000.0 + 1000 * number, 0.0, -10.0, 5_775_000.0),
    )
    return make_scene(100, 100, source=make_source(source_id=f"s{number}"), georeference=place)


def planned(tmp_path, area: Area, done=0) -> tuple[Plan, object]:
    recipe = make_recipe(area=area)
    plan = make_plan(
        dataclasses.replace(TRIAGE, done=done),
        [placed(number) for number in range(3)],
        recipe=recipe,
        product=make_product(),
        ledger=Ledger(str(tmp_path / "out")),
        cpu_classes=["avx2"],
        workers=1,
        shard_tiles=None,
    )
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

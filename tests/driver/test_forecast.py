"""A plan's time, part by part."""

import pytest
from factories import make_scene, make_source
from planned_scenes import plan_of

from batchseg.driver import forecast as module
from batchseg.driver.forecast import forecast
from batchseg.driver.plan import Estimate, Plan
from batchseg.output.ledger import Ledger


def planned(tmp_path, count: int, side: int = 100) -> Plan:
    scenes = [make_scene(side, side, source=make_source(f"{n}.tif")) for n in range(count)]
    return plan_of(scenes, Ledger(str(tmp_path)))


def numbers(seconds: float) -> Estimate:
    known = dict.fromkeys(("scenes", "tiles", "source_pixels", "bytes_in", "bytes_out", "in_flight_bytes"), 1)
    return Estimate(**known, seconds=seconds)


def test_start_and_finish_are_part_of_it(tmp_path):
    plan = planned(tmp_path, 2, side=1000)
    found = forecast(plan, numbers(10.0), executor="inline", regions=True, workers=1)
    assert found.start == module.START_SECONDS["inline"]
    assert found.finish == pytest.approx(
        2 * (module.SCENE_SECONDS + module.MASK_SECONDS + module.REGION_SECONDS)
    )
    assert found.total == found.start + 10.0 + found.finish
    without = forecast(plan, numbers(10.0), executor="inline", regions=False, workers=1)
    assert without.finish < found.finish


def test_workers_share_finishing_but_for_the_last_scene(tmp_path):
    one, many = planned(tmp_path, 1, side=1000), planned(tmp_path, 8, side=1000)
    alone = forecast(one, numbers(1.0), executor="ray", regions=True, workers=8).finish
    assert alone == pytest.approx(forecast(one, numbers(1.0), executor="ray", regions=True, workers=1).finish)
    shared = forecast(many, numbers(1.0), executor="ray", regions=True, workers=8).finish
    assert alone < shared < 2 * alone


def test_nothing_to_do_takes_next_to_nothing(tmp_path):
    found = forecast(planned(tmp_path, 0), numbers(0.0), executor="ray", regions=True, workers=2)
    assert found.total == module.IDLE_SECONDS

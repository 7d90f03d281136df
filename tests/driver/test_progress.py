"""Events summed up, and put into words."""

import logging

import pytest

from batchseg.driver.events import (
    Committed,
    GroupDone,
    Note,
    PhaseStarted,
    PlanReady,
    Retried,
    SceneDone,
    SceneRefused,
    ShardsDone,
    WorkEnded,
)
from batchseg.driver.progress import LogListener, Sums, describe, describe_damage, describe_young, duration
from batchseg.output.record import SceneRecord
from batchseg.system.timing import Stint

SECONDS = {"read_seconds": 1.0, "predict_seconds": 2.0, "stitch_seconds": 0.5, "write_seconds": 0.25}
SHARDS = ShardsDone(source_id="a.tif", shards=2, tiles=5, skipped=1, pixels=100, **SECONDS)
GROUP = GroupDone(images=7, failed=2, tiles=9, pixels=50, **SECONDS)
REFUSED = SceneRefused(source_id="b.tif", reason="cut off", transient=False, tiles=4)


def summed(*events):
    sums = Sums()
    for event in events:
        sums(event)
    return sums


def test_tiles_of_scenes_are_counted_and_those_that_fall_away_are_not_waited_for():
    plan = PlanReady(scenes=2, tiles=10, pixels=500, skipped=0)
    sums = summed(plan, SHARDS, REFUSED, SceneDone(source_id="a.tif", finish_seconds=3.0))
    assert (sums.unit, sums.counted) == ("tiles", (5, 10 - 1 - 4))
    assert (sums.scenes, sums.state()) == (2, "2/2 scenes")
    assert sums.seconds == {"read": 1.0, "predict": 2.0, "stitch": 0.5, "write": 0.25, "finish": 3.0}


def test_photographs_are_counted_themselves():
    sums = summed(PlanReady(scenes=10, tiles=0, pixels=0, skipped=0, images=True), GROUP)
    assert (sums.unit, sums.counted, sums.state()) == ("images", (7, 10), "2 not passed")


def test_the_clock_stops_when_the_work_has_ended():
    sums = summed(PlanReady(scenes=1, tiles=1, pixels=1, skipped=0), WorkEnded())
    assert sums.elapsed == sums.ended - sums.first_lease


def test_nothing_is_said_of_the_time_left_before_anything_is_done():
    assert Sums().time_left() == "-"


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (PhaseStarted(text="listing"), "listing"),
        (PlanReady(scenes=2, tiles=9, pixels=1_500_000, skipped=3), "3 done before"),
        (PlanReady(scenes=2, tiles=0, pixels=0, skipped=0, images=True), "2 photographs to do"),
        (REFUSED, "quarantined: b.tif: cut off"),
        (SHARDS, None),
    ],
)
def test_events_in_words(event, line):
    said = describe(event)
    assert said is None if line is None else line in said


def test_the_log_has_a_line_for_all_but_the_clerks_events(caplog):
    stint = Stint(role="driver", host="h", pid=1, thread=1, clock=0.0, spans=())
    told = [SHARDS, GROUP, REFUSED, Note(text="a note"), Retried(source_id="a.tif", reason="lost")]
    with caplog.at_level(logging.INFO):
        logger = logging.getLogger("test_progress")
        for event in [*told, Committed(records=1, stint=stint), WorkEnded()]:
            LogListener(logger)(event)
    assert len(caplog.records) == len(told)
    levels = [record.levelname for record in caplog.records]
    assert levels == ["INFO", "INFO", "ERROR", "INFO", "WARNING"]


def test_ages_and_damage_are_rounded_for_people():
    assert duration(59.6) == "1 min 00 s"
    assert describe_young(2, 3600).startswith("2 sources changed less than 1 h ago")
    record = SceneRecord(status="done", source_id="a.tif", tag="t", height=10, width=10, bad_pixels=25)
    assert describe_damage(record).startswith("25 pixels (25.00%)")

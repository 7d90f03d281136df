import datetime as dt
import re
import time

import pytest
from factories import write_job
from hypothesis import given, settings
from hypothesis import strategies as st
from job_files import RED, refusal

from batchseg.job.file import load_job
from batchseg.job.schema import seconds_until
from batchseg.job.settings import Interest, Photographs, Rule


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"bands": RED, "stac": "x", "assets": ["a"]}, "found bands and stac"),
        ({"bands": "folder", "stac": "other"}, "no input can have such a name"),
        ({"bands": RED, "resample": "cubic"}, "'resample' is no key of scenes by bands.*'resampling'"),
        ({"bands": RED, "columns": ["a"]}, "'columns' is no key of scenes by bands"),
        ({"manifest": "m.csv"}, r"manifest: say which files.*columns: \[red, nir\]"),
        ({"stac": "m.json"}, r"stac: say which files.*assets: \[red, nir\]"),
        ({"bands": RED, "resampling": "lanczos"}, "resampling is one of none, nearest.*'lanczos'"),
        ({"bands": {"red": "a/B4.tif"}}, r"bands: red: .*a/B4.tif has no \{scene\}"),
        ({"north": {"bands": {"red": "{tile}/{scene}.tif"}}}, r"has \{tile\}"),
        (
            {"landsat": "a", "assets": ["nir"]},
            "there is no 'nir'; perhaps.*'nir08'.*Landsat 4 to 7: blue",
        ),
        ({"sentinel2": "a", "assets": ["B04"]}, "sentinel2: assets: there is no 'B04'.*coastal, blue, green"),
        ({"sentinel2": "a", "assets": ["red", "red"]}, "red is named twice"),
        ({"landsat": "a", "sentinel2": "b", "assets": ["red"]}, "found landsat and sentinel2"),
        ({"landsat": "a", "assets": ["red"], "columns": ["a"]}, "'columns' is no key of scenes by landsat"),
    ],
)
def test_a_wrong_scene_set_is_refused_in_words(tmp_path, inputs, words):
    message = refusal(write_job(tmp_path, inputs=inputs))
    assert re.search(words, message)
    assert "\n" not in message


@pytest.mark.parametrize(
    ("value", "size"),
    [(12345, 12345), ("512MiB", 512 * 2**20), ("1.5GiB", 3 * 2**29), ("8 KiB", 8192), (None, None)],
)
def test_sizes_are_bytes_or_carry_a_unit(tmp_path, value, size):
    assert load_job(write_job(tmp_path, max_in_flight=value)).max_in_flight == size
    photographs = load_job(write_job(tmp_path, fit="tile", max_photo_memory=value)).photographs
    assert photographs.max_photo_memory == (2 * 2**30 if size is None else size)


@settings(deadline=None, max_examples=50)
@given(st.datetimes(dt.datetime(2000, 1, 1), dt.datetime(2100, 1, 1)), st.integers(0, 23), st.integers(0, 59))
def test_a_time_of_day_is_the_next_one(now, hour, minute):
    seconds = seconds_until(f"{hour:02d}:{minute:02d}", now)
    then = dt.datetime.fromtimestamp(now.timestamp() + seconds)
    assert 0 < seconds <= 90000
    assert abs(then - then.replace(hour=hour, minute=minute, second=0, microsecond=0)) < dt.timedelta(
        milliseconds=1
    )


@pytest.mark.parametrize(("day", "hours"), [((2026, 3, 28), 7), ((2026, 6, 1), 8), ((2026, 10, 24), 9)])
def test_clocks_that_are_changed_in_the_night_do_not_move_the_deadline(monkeypatch, day, hours):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        assert seconds_until("06:00", dt.datetime(*day, 22)) == hours * 3600
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("90m", 5400), ("7.5h", 27000), ("0.5m", 30)])
def test_a_duration_is_itself_whatever_the_time(text, seconds):
    assert seconds_until(text, dt.datetime(2026, 3, 1, 23, 59)) == seconds


@pytest.mark.parametrize(("value", "seconds"), [("90s", 90), ("10m", 600), ("1.5h", 5400), (45, 45), (0, 0)])
def test_an_age_is_a_duration_or_seconds(tmp_path, value, seconds):
    assert load_job(write_job(tmp_path, min_age=value)).min_age == seconds


RULES = """
fit: tile
confidence: true
pixel_size: 0.05
masks: failed
rules:
  - {name: crack, class: crack, min_area: 30}
  - {class: [blowhole, 3], min_area_mm2: 0.5, count: 3, min_confidence: 0.6, then: FAIL}
  - name: doubtful
    class: crack
    min_area: 10
    then: REVIEW
    region_of_interest: {box: [0, 0.1, 1, 0.5], unit: share}
  - region_of_interest: {polygon: [[10, 20], [400, 20], [400, 300], [10, 20]]}
"""


def test_rules_are_read_as_they_are_written(tmp_path):
    config = load_job(write_job(tmp_path, RULES))
    box = ((0.0, 0.1), (1.0, 0.1), (1.0, 0.5), (0.0, 0.5))
    triangle = ((10.0, 20.0), (400.0, 20.0), (400.0, 300.0))
    rules = (
        Rule(name="crack", then="FAIL", classes=("crack",), min_area=30.0),
        Rule(
            name="3 x blowhole or class 3 >= 0.5 mm2, confidence >= 0.6",
            then="FAIL",
            classes=("blowhole", 3),
            min_area_mm2=0.5,
            count=3,
            min_confidence=0.6,
        ),
        Rule(
            name="doubtful",
            then="REVIEW",
            classes=("crack",),
            min_area=10.0,
            interest=Interest(corners_xy=box, unit="share"),
        ),
        Rule(
            name="any region in the region of interest", then="FAIL", interest=Interest(corners_xy=triangle)
        ),
    )
    assert config.photographs == Photographs(rules=rules, pixel_size=0.05, masks="failed")


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"min_aera": 3}, r"rules: number 2: min_aera: unknown key\. Perhaps you meant 'min_area'"),
        ({"classes": "crack"}, r"classes: unknown key\. Perhaps you meant 'class'"),
        ({"class": True}, "number 2: class: expected a class's name, its id, or a list of such; found True"),
        ({"class": []}, r"number 2: class: expected .*found \[\]"),
        ({"class": [None]}, "number 2: class: expected"),
        ({"then": "PASS"}, "number 2: then: expected FAIL or REVIEW; found 'PASS'"),
        ({"count": 0}, "number 2: count: .*greater than or equal to 1; found 0"),
        ({"min_confidence": 60}, "number 2: min_confidence: .*less than or equal to 1; found 60"),
        ({"min_area": float("nan")}, "number 2: min_area: "),
        ({"region_of_interest": [0, 0, 9, 9]}, r"region_of_interest: expected \{box: .*found \[0, 0, 9, 9\]"),
        ({"region_of_interest": {}}, "number 2: region_of_interest: give a box or a polygon"),
        ({"region_of_interest": {"bx": [0, 0, 9, 9]}}, "region_of_interest: bx: unknown key.*'box'"),
        ({"region_of_interest": {"box": [0, 0, 9]}}, r"box: expected \[x_min, .*found \[0, 0, 9\]"),
        ({"region_of_interest": {"box": [9, 0, 0, 9]}}, r"box is \[x_min, .*found \[9, 0, 0, 9\]"),
        ({"region_of_interest": {"box": [-1, 0, 5, 9]}}, r"begins at 0; found \[-1, 0\]"),
        (
            {"region_of_interest": {"box": [0, 0, 0.5, 9], "unit": "share"}},
            r"shares are 0\.\.1 .*found \[0\.5, 9\]",
        ),
        ({"region_of_interest": {"polygon": [[0, 0], [4, 4], [0, 0]]}}, "polygon is three or more corners"),
        ({"region_of_interest": {"polygon": [[0, 0, 4], [4, 4], [0, 9]]}}, "polygon is three or more"),
        ({"region_of_interest": {"box": [0.1, 0, 0.9, 1]}}, r"0\.8 x 1 pixels .*did you mean unit: share\?"),
        ({"region_of_interest": {"polygon": [[0, 0], [1, 0], [0, 1]]}}, r"1 x 1 pixels .*unit: share"),
        ({"region_of_interest": {"polygon": 5}}, "polygon: expected three or more corners .*found 5"),
        ({"name": "crack"}, "rules: two rules are called 'crack'; give each a `name`"),
        ({"min_area_mm2": 1}, "rules: any region >= 1 mm2: min_area_mm2 needs the job's `pixel_size`"),
        ({"min_confidence": 0.5}, "min_confidence needs confidence: true"),
    ],
)
def test_a_wrong_rule_is_refused_in_words(tmp_path, rule, words):
    path = write_job(tmp_path, rules=[{"name": "crack", "class": "crack"}, rule])
    message = refusal(path)
    assert message.startswith(f"{path}: rules: ")
    assert re.search(words, message)
    assert "\n" not in message

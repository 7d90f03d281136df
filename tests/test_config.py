import dataclasses
import datetime as dt
import re
import time

import pytest
from factories import write_job
from hypothesis import given, settings
from hypothesis import strategies as st

from batchseg.config import load_job
from batchseg.errors import ConfigError
from batchseg.jobfile import seconds_until
from batchseg.settings import (
    PALETTE,
    ClassInfo,
    Interest,
    ModelOptions,
    Normalize,
    Photographs,
    Rule,
    Scale,
    SceneSet,
)


def refusal(path, *overrides) -> str:
    with pytest.raises(ConfigError) as caught:
        load_job(path, overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("inputs", 5),
        ("inputs", [1]),
        ("inputs", {"a": 1}),
        ("inputs", {"a": ["x"]}),
        ("inputs", {"bands": "a"}),
        ("inputs", {"bands": {}}),
        ("inputs", {"bands": {"red": 4}}),
        ("inputs", {"manifest": "a.csv", "columns": "red"}),
        ("inputs", {"stac": "a.json", "assets": []}),
        ("inputs", {"stac": 5, "assets": ["red"]}),
        ("inputs", {"a": {"b": "c"}}),
        ("inputs", [{"a": "b"}]),
        ("model", 3),
        ("output", None),
        ("bands", []),
        ("bands", [0, 1]),
        ("bands", [1.5]),
        ("bands", "1,2,3"),
        ("tile_size", "512"),
        ("tile_size", 511.5),
        ("tile_size", 7),
        ("tile_size", True),
        ("halo", -1),
        ("halo", -1),
        ("scale", "reflectance"),
        ("scale", {"divide": 0}),
        ("scale", {"divid": 10000}),
        ("scale", {"divide": 255, "stretch": [0, 1]}),
        ("scale", {"stretch": [0]}),
        ("scale", {"stretch": [0, "high"]}),
        ("normalize", "imagenet"),
        ("normalize", {"mean": [0.5]}),
        ("normalize", {"mean": [0.5], "std": [0.5, 0.5]}),
        ("normalize", {"mean": [0.5], "std": [0]}),
        ("normalize", {"mean": [], "std": []}),
        ("nodata", "zero"),
        ("nodata", [0]),
        ("nodata", True),
        ("classes", "soil, water"),
        ("classes", [{"color": "#ffffff"}]),
        ("classes", [{"name": "soil", "colour": "#ffffff"}]),
        ("classes", [{"name": "soil", "color": "brown"}]),
        ("classes", [3]),
        ("num_classes", 0),
        ("num_classes", 65536),
        ("confidence", "yes"),
        ("confidence", 1),
        ("compress", "jpeg"),
        ("precision", "fp8"),
        ("engine", "tflite"),
        ("gate", {"equal_pixels": 2}),
        ("model", {"path": "m", "layout": "HWC"}),
        ("device", "cuda"),
        ("executor", "dask"),
        ("ray_address", 6379),
        ("workers", 0),
        ("workers", 1.5),
        ("gpus_per_worker", 0),
        ("batch_size", 0),
        ("shard_tiles", 0),
        ("max_in_flight", "lots"),
        ("max_in_flight", [1]),
        ("lease_timeout", 0),
        ("lease_timeout", "soon"),
        ("deadline", "25:00"),
        ("deadline", "tomorrow"),
        ("stop_after", 1),
        ("allow_empty", "no"),
        ("aoi", 5),
        ("aoi", ""),
        ("aoi", {"layer": "north"}),
        ("aoi", {"file": "a.gpkg", "table": "north"}),
        ("on_bad_block", "skip"),
        ("min_age", "soon"),
        ("min_age", "06:00"),
        ("min_age", -1),
        ("min_age", True),
        ("fit", "crop"),
        ("rules", {"class": "crack"}),
        ("rules", ["crack"]),
        ("rules", "crack"),
        ("pixel_size", 0),
        ("pixel_size", "0.05mm"),
        ("masks", "some"),
        ("mask_format", "jpg"),
        ("same_content", "yes"),
    ],
)
def test_a_wrong_value_gives_one_line_that_names_file_and_key(tmp_path, key, value):
    path = write_job(tmp_path, **{key: value})
    message = refusal(path)
    assert message.startswith(f"{path}: ")
    assert key in message
    assert "\n" not in message
    assert "pydantic" not in message


@pytest.mark.parametrize("value", [-1, 0, "0MiB"])
def test_a_bound_of_memory_that_holds_nothing_is_refused(tmp_path, value):
    assert "max_in_flight" in refusal(write_job(tmp_path, max_in_flight=value))


@pytest.mark.parametrize(
    ("typo", "meant"),
    [("tilesize", "tile_size"), ("nodta", "nodata"), ("class", "classes"), ("Halo", "halo")],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(tmp_path, typo, meant):
    path = write_job(tmp_path, **{typo: 1})
    message = refusal(path)
    assert message.startswith(f"{path}: {typo}: unknown key")
    assert repr(meant) in message
    assert "\n" not in message


def test_a_key_like_no_other_is_answered_with_all_keys(tmp_path):
    message = refusal(write_job(tmp_path, zzz=1))
    assert "zzz: unknown key" in message
    assert "tile_size" in message


@pytest.mark.parametrize("text", ["5: five\n", "on: true\n", "null: 1\n"])
def test_a_key_that_is_no_text_is_refused_in_words(tmp_path, text):
    path = write_job(tmp_path, text)
    assert refusal(path).startswith(f"{path}: ")


def test_each_wrong_key_has_its_line(tmp_path):
    message = refusal(write_job(tmp_path, tile_size="big", compress="jpeg", zzz=1))
    lines = message.splitlines()
    assert len(lines) == 3
    assert [any(key in line for line in lines) for key in ("tile_size", "compress", "zzz")] == [True] * 3


@pytest.mark.parametrize("key", ["inputs", "model", "output"])
def test_a_missing_key_is_named(tmp_path, key):
    path = write_job(tmp_path)
    path.write_text("".join(line for line in path.open() if not line.startswith(key)))
    assert refusal(path).startswith(f"{path}: {key}: missing")


@pytest.mark.parametrize(
    ("content", "word"),
    [(b"", "nothing"), (b"- a\n", "list"), (b"just text", "str"), (b"a: [", "YAML"), (b"a: \xff", "YAML")],
)
def test_a_file_that_is_no_job_is_refused(tmp_path, content, word):
    path = tmp_path / "job.yaml"
    path.write_bytes(content)
    message = refusal(path)
    assert str(path) in message
    assert word in message


def test_an_absent_file_is_refused(tmp_path):
    assert str(tmp_path / "none.yaml") in refusal(tmp_path / "none.yaml")


def test_defaults_are_filled_in(tmp_path):
    config = load_job(write_job(tmp_path))
    assert (config.tile_size, config.halo, config.bands, config.compress) == (None, 64, None, "deflate")
    assert config.scale == Scale(kind="transforms", low=(0.0,), high=(255.0,))
    assert (config.normalize, config.nodata, config.classes) == ("model", "source", ())


def test_relative_paths_are_relative_to_the_file_and_addresses_stay(tmp_path):
    inputs = ["scenes", "../other/*.tif", "/abs/x.tif", "s3://bucket/a", "file:///data/b"]
    config = load_job(write_job(tmp_path, inputs=inputs, output="out/"))
    assert [uri for _, uri in config.inputs] == [
        str(tmp_path / "scenes"),
        str(tmp_path.parent / "other" / "*.tif"),
        "/abs/x.tif",
        "s3://bucket/a",
        "/data/b",
    ]
    assert config.output == str(tmp_path / "out")
    assert config.model == ModelOptions(path=str(tmp_path / "model"))


def test_inputs_can_be_named(tmp_path):
    config = load_job(write_job(tmp_path, inputs={"north": "n", "south": "s"}))
    assert config.inputs == (("north", str(tmp_path / "n")), ("south", str(tmp_path / "s")))


RED = {"red": "a/{scene}_B4.tif"}


def test_scenes_of_several_files_are_inputs(tmp_path):
    given = {
        "a": {"bands": {"nir": "/x/{scene}/*_B5.tif", **RED}},
        "b": {"manifest": "m.csv", "columns": ["red", "nir"], "id": "name", "resampling": "cubic"},
        "c": {"stac": "s3://bucket/items.json", "assets": ["red"]},
        "d": "folder",
    }
    config = load_job(write_job(tmp_path, inputs=given))
    patterns = (("nir", "/x/{scene}/*_B5.tif"), ("red", f"{tmp_path}/a/{{scene}}_B4.tif"))
    expected = (
        SceneSet(kind="bands", patterns=patterns),
        SceneSet(
            kind="manifest",
            path=f"{tmp_path}/m.csv",
            columns=("red", "nir"),
            id_column="name",
            resampling="cubic",
        ),
        SceneSet(kind="stac", path="s3://bucket/items.json", columns=("red",)),
        str(tmp_path / "folder"),
    )
    assert config.inputs == tuple(zip("abcd", expected, strict=True))
    alone = load_job(write_job(tmp_path, inputs=given["c"]), ["inputs.resampling=nearest"])
    assert alone.inputs == ((None, dataclasses.replace(expected[2], resampling="nearest")),)
    assert load_job(write_job(tmp_path, inputs=[given["a"], "folder"])).inputs[0] == (None, expected[0])
    assert len({one if isinstance(one, str) else one.key for one in expected}) == 4


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
    ],
)
def test_a_wrong_scene_set_is_refused_in_words(tmp_path, inputs, words):
    message = refusal(write_job(tmp_path, inputs=inputs))
    assert re.search(words, message)
    assert "\n" not in message


def test_set_replaces_adds_and_descends(tmp_path):
    path = write_job(tmp_path, halo=32, scale="transforms")
    config = load_job(path, ["halo=16", "scale.divide=10000", "classes=[soil, water]", "nodata=0"])
    assert config.halo == 16
    assert config.scale == Scale(kind="divide", low=(0.0,), high=(10000.0,))
    assert [info.name for info in config.classes] == ["soil", "water"]
    assert config.nodata == 0


@pytest.mark.parametrize(
    ("override", "word"),
    [
        ("halo", "key=value"),
        ("=3", "key=value"),
        ("bands=[1", "YAML"),
        ("hallo=3", "halo"),
        ("halo=x", "halo"),
    ],
)
def test_a_wrong_override_is_refused(tmp_path, override, word):
    assert word in refusal(write_job(tmp_path), override)


def test_variables_and_the_date_are_filled_in(tmp_path, monkeypatch):
    monkeypatch.setenv("ARCHIVE", "/mnt/archive")
    path = write_job(tmp_path, inputs=["${ARCHIVE}/a", "${ARCHIVE}/b"], output="out/${DATE}")
    config = load_job(path, today=dt.date(2026, 3, 1))
    assert [uri for _, uri in config.inputs] == ["/mnt/archive/a", "/mnt/archive/b"]
    assert config.output == str(tmp_path / "out" / "2026-03-01")


def test_a_halo_that_leaves_no_core_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="halo 64 leaves no core in tile_size 128"):
        load_job(write_job(tmp_path, tile_size=128))


def test_a_model_may_be_completed_by_the_job(tmp_path):
    given = {"path": "model.onnx", "layout": "NHWC", "threshold": 0.3, "key_file": "secret"}
    assert load_job(write_job(tmp_path, model=given)).model == ModelOptions(
        path=str(tmp_path / "model.onnx"), layout="NHWC", threshold=0.3, key_file=str(tmp_path / "secret")
    )


@pytest.mark.parametrize(
    ("model", "word"),
    [
        ({"path": "m", "thresold": 0.3}, "thresold: unknown key. Perhaps you meant 'threshold'"),
        ({"path": "m", "threshold": 2}, "threshold: input should be less than 1; found 2"),
        ({"path": "m", "output": "banana"}, "output: input should be 'logits', 'probabilities'"),
    ],
)
def test_a_wrong_key_below_model_is_named(tmp_path, model, word):
    assert word in refusal(write_job(tmp_path, model=model))


def test_a_variable_that_is_not_set_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("ARCHIVE", raising=False)
    path = write_job(tmp_path, inputs="${ARCHIVE}/a")
    message = refusal(path)
    assert str(path) in message
    assert "${ARCHIVE}" in message


def test_classes_take_colours_from_the_palette_in_turn(tmp_path):
    names = ["soil", {"name": "water", "color": "#0000ff"}, *(f"c{n}" for n in range(40))]
    classes = load_job(write_job(tmp_path, classes=names)).classes
    assert classes[0] == ClassInfo(name="soil", color=PALETTE[0])
    assert classes[1] == ClassInfo(name="water", color="#0000ff")
    assert classes[21].color == PALETTE[1]


def test_scale_and_normalize_take_one_value_per_band(tmp_path):
    config = load_job(
        write_job(
            tmp_path, scale={"stretch": [[0, 10], [100, 200]]}, normalize={"mean": [0, 0.5], "std": [1, 2]}
        )
    )
    assert config.scale == Scale(kind="stretch", low=(0.0, 10.0), high=(100.0, 200.0))
    assert config.normalize == Normalize(mean=(0.0, 0.5), std=(1.0, 2.0))


@pytest.mark.parametrize(
    ("value", "size"),
    [(12345, 12345), ("512MiB", 512 * 2**20), ("1.5GiB", 3 * 2**29), ("8 KiB", 8192), (None, None)],
)
def test_sizes_are_bytes_or_carry_a_unit(tmp_path, value, size):
    assert load_job(write_job(tmp_path, max_in_flight=value)).max_in_flight == size


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


def test_a_tilde_without_a_home_is_refused_in_words(tmp_path):
    assert "home" in refusal(write_job(tmp_path, output="~nobody-of-this-name/results"))


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("90m", 5400), ("7.5h", 27000), ("0.5m", 30)])
def test_a_duration_is_itself_whatever_the_time(text, seconds):
    assert seconds_until(text, dt.datetime(2026, 3, 1, 23, 59)) == seconds


@pytest.mark.parametrize(("value", "seconds"), [("90s", 90), ("10m", 600), ("1.5h", 5400), (45, 45), (0, 0)])
def test_an_age_is_a_duration_or_seconds(tmp_path, value, seconds):
    assert load_job(write_job(tmp_path, min_age=value)).min_age == seconds


def photographs(tmp_path, *overrides, **keys):
    return load_job(write_job(tmp_path, **keys), overrides).photographs


def test_scenes_are_no_photographs_and_one_key_makes_them_such(tmp_path):
    assert photographs(tmp_path) is None
    assert photographs(tmp_path, fit="resize") == Photographs(fit="resize")
    assert photographs(tmp_path, pixel_size=0.05) == Photographs(pixel_size=0.05)
    assert photographs(tmp_path, masks="none") == Photographs(masks="none")
    assert photographs(tmp_path, "same_content=true", mask_format="tif") == Photographs(
        same_content=True, mask_format="tif"
    )


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


def test_each_wrong_key_of_a_rule_has_its_line(tmp_path):
    rules = [{"class": 1.5, "count": "x"}, {"then": "fail"}]
    lines = refusal(write_job(tmp_path, rules=rules)).splitlines()
    assert [line.partition("rules: ")[2].partition(": expected")[0][:18] for line in lines] == [
        "number 1: class",
        "number 1: count: i",
        "number 2: then",
    ]


@pytest.mark.parametrize(
    ("rule", "keys", "words"),
    [
        ({"class": "crack"}, {"regions": False}, "rules: crack: rules look at regions.*leave that out"),
        ({"region_of_interest": {"box": [0, 0, 9, 9]}}, {"regions": {"simplify": 1}}, "needs exact outlines"),
        ({"min_area": 30}, {"regions": {"min_area": 31}}, "asks for regions from 30 px.*min_area: 31; lower"),
        ({"min_area_mm2": 0.4}, {"regions": {"min_area": 41}, "pixel_size": 0.1}, "regions from 40 px"),
    ],
)
def test_rules_and_regions_must_agree(tmp_path, rule, keys, words):
    assert re.search(words, refusal(write_job(tmp_path, rules=[rule], **keys)))


def test_rules_ask_for_regions_down_to_the_smallest_that_are_recorded(tmp_path):
    rules = [{"min_area": 30}, {"min_area": 0.5}, {"name": "all"}]
    assert photographs(tmp_path, rules=rules) is not None
    assert photographs(tmp_path, rules=rules[::2], regions={"min_area": 30}) is not None
    metric = {"rules": [{"min_area_mm2": 0.3}], "pixel_size": 0.1}  # 30 px, and 29.999999999999993 in floats
    assert photographs(tmp_path, **metric, regions={"min_area": 30}) is not None


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (
            {"aoi": "a.gpkg"},
            r"aoi: photographs have no place.*\(`fit` says that the inputs are photographs\)",
        ),
        ({"scale": "metadata"}, "scale: photographs say no reflectance"),
        ({"nodata": 0}, "nodata: every pixel of a photograph counts"),
        ({"on_bad_block": "nodata"}, "on_bad_block: "),
        ({"shard_tiles": 4}, "shard_tiles: "),
        ({"inputs": {"bands": RED}}, "inputs: photographs are one file each"),
        ({"inputs": ["a", {"manifest": "m.csv", "columns": ["a", "b"]}]}, "inputs: photographs are one"),
        ({"inputs": {"x": {"manifest": "m.csv", "columns": ["uri"]}}}, "name a folder, a glob or a manifest"),
        ({"fit": "resize", "halo": 64}, "halo: with fit: resize a photograph is one tile"),
        ({"compress": "zstd"}, "compress: PNG masks are deflated; set mask_format: tif"),
        ({"masks": "failed"}, "masks: nothing fails without `rules`"),
    ],
)
def test_keys_of_scenes_are_refused_with_photographs(tmp_path, keys, words):
    path = write_job(tmp_path, **{"fit": "tile", **keys})
    message = refusal(path)
    assert message.startswith(f"{path}: ")
    assert re.search(words, message)
    assert "\n" not in message


def test_keys_that_go_with_photographs_are_taken(tmp_path):
    given = {
        "confidence": True,
        "nodata": "none",
        "compress": "zstd",
        "mask_format": "tif",
        "inputs": {"a": "m.csv", "b": "folder"},
        "scale": {"divide": 65535},
    }
    assert load_job(write_job(tmp_path, **given)).photographs == Photographs(mask_format="tif")


def test_a_whole_photograph_has_no_halo(tmp_path):
    config = load_job(write_job(tmp_path, fit="resize", tile_size=96))
    assert (config.halo, config.tile_size) == (0, 96)
    assert load_job(write_job(tmp_path, fit="resize", halo=0)).halo == 0
    assert load_job(write_job(tmp_path, fit="tile", tile_size=192)).halo == 64
    with pytest.raises(ConfigError, match="halo 64 leaves no core in tile_size 96"):
        load_job(write_job(tmp_path, fit="tile", tile_size=96))

import dataclasses
import datetime as dt
import re
import time

import pytest
from factories import write_job
from hypothesis import given, settings
from hypothesis import strategies as st

from batchseg.config import load_job, seconds_until
from batchseg.errors import ConfigError
from batchseg.settings import PALETTE, ClassInfo, ModelOptions, Normalize, Scale, SceneSet


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
        ({"bands": "folder", "stac": "other"}, "cannot be named so"),
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

import dataclasses
import datetime as dt

import pytest
from factories import write_job
from job_files import RED, photographs, refusal

from batchseg.errors import ConfigError
from batchseg.job import file
from batchseg.job.file import load_job
from batchseg.job.settings import Scale, SceneSet
from batchseg.models.package import ModelOptions


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


def test_products_are_inputs_and_their_words_names_of_others(tmp_path):
    given = {"a": {"landsat": "l", "assets": ["red"]}, "b": {"sentinel2": "s3://b/*", "assets": ["nir"]}}
    config = load_job(write_job(tmp_path, inputs=given))
    assert config.inputs == (
        ("a", SceneSet(kind="landsat", path=f"{tmp_path}/l", columns=("red",))),
        ("b", SceneSet(kind="sentinel2", path="s3://b/*", columns=("nir",))),
    )
    assert config.inputs[0][1].key == f'{{"landsat": "{tmp_path}/l", "assets": ["red"]}}'
    config = load_job(
        write_job(tmp_path, inputs={"landsat": "l", "sentinel2": {"stac": "i", "assets": ["a"]}})
    )
    assert [(name, getattr(one, "kind", one)) for name, one in config.inputs] == [
        ("landsat", f"{tmp_path}/l"),
        ("sentinel2", "stac"),
    ]


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


def test_a_model_may_be_completed_by_the_job(tmp_path):
    given = {"path": "model.onnx", "layout": "NHWC", "threshold": 0.3, "key_file": "secret"}
    assert load_job(write_job(tmp_path, model=given)).model == ModelOptions(
        path=str(tmp_path / "model.onnx"), layout="NHWC", threshold=0.3, key_file=str(tmp_path / "secret")
    )


def test_a_variable_that_is_not_set_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("ARCHIVE", raising=False)
    path = write_job(tmp_path, inputs="${ARCHIVE}/a")
    message = refusal(path)
    assert str(path) in message
    assert "${ARCHIVE}" in message


def test_a_tilde_without_a_home_is_refused_in_words(tmp_path):
    assert "home" in refusal(write_job(tmp_path, output="~nobody-of-this-name/results"))


def test_rules_ask_for_regions_down_to_the_smallest_that_are_recorded(tmp_path):
    rules = [{"min_area": 30}, {"min_area": 0.5}, {"name": "all"}]
    assert photographs(tmp_path, rules=rules) is not None
    assert photographs(tmp_path, rules=rules[::2], regions={"min_area": 30}) is not None
    metric = {"rules": [{"min_area_mm2": 0.3}], "pixel_size": 0.1}  # 30 px, and 29.999999999999993 in floats
    assert photographs(tmp_path, **metric, regions={"min_area": 30}) is not None


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("fit: tile\nrules: [{min_area: 51,5}]", "rules: found the key 5: .*if 51,5 is a number, write 51.5"),
        ("regions: {min_area: 51,5}", "regions: found the key 5: .*write 51.5"),
        ("scale: {divide: 51,5}", "scale: found the key 5: .*write 51.5"),
        ("rules: [{region_of_interest: {on: 1}}]", "rules: region_of_interest: found the key True: keys are"),
        ("2024: in", "found the key 2024: keys are names; if this is one, put it in quotes"),
    ],
)
def test_a_decimal_comma_and_other_keys_that_are_no_names_are_told_in_words(tmp_path, keys, words):
    path = tmp_path / "job.yaml"
    path.write_text(f"inputs: in\nmodel: m\noutput: out\n{keys}\n")
    with pytest.raises(ConfigError, match=words):
        load_job(path)


def test_what_stands_below_storage_is_not_quoted(tmp_path):
    path = tmp_path / "job.yaml"
    path.write_text("inputs: in\nmodel: m\noutput: out\nstorage: {s3: {secret: 7700,8811}}\n")
    with pytest.raises(ConfigError) as caught:
        load_job(path)
    assert "8811" not in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "gpu", "executor"),
    [
        ({}, False, "processes"),
        ({}, True, "ray"),
        ({"device": "cpu"}, True, "processes"),
        ({"device": "gpu"}, False, "ray"),
        ({"ray_address": "10.0.0.1:6379"}, False, "ray"),
        ({"device": "cpu", "ray_address": "10.0.0.1:6379"}, True, "ray"),
        ({"executor": "ray"}, False, "ray"),
        ({"executor": "inline"}, True, "inline"),
        ({"executor": "processes"}, True, "processes"),
    ],
)
def test_the_executor_suits_the_machine(tmp_path, monkeypatch, keys, gpu, executor):
    monkeypatch.setattr(file, "has_gpu_nodes", lambda: gpu)
    assert load_job(write_job(tmp_path, **keys)).executor == executor

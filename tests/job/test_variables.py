import pickle

import pytest
from factories import write_job
from job_files import refusal

from batchseg.api.jobs import Job
from batchseg.errors import ConfigError
from batchseg.job.file import load_job
from batchseg.job.variables import Filled, as_written, fill_in, names_in, plain

S = "Xyzzy1234"


@pytest.fixture(autouse=True)
def _set(monkeypatch):
    for name, value in {"V": S, "SHORT": "q7", "ODD": "it's\\1\n\x1b[2J", "EMPTY": "", "NUMBER": "5"}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("variable", ["V", "SHORT", "ODD"])
@pytest.mark.parametrize(
    ("key", "form"),
    [
        ("halo", "{}"),
        ("tile_size", "x{}"),
        ("inputs", ["a", {"b": "{}"}]),
        ("inputs", {"bands": {"red": "/x/{}/a.tif"}}),
        ("inputs", {"stac": "a.json", "assets": ["red"], "resampling": "{}"}),
        ("model", {"path": "m", "layout": "{}"}),
        ("scale", "{}"),
        ("scale", {"stretch": [0, "{}"]}),
        ("classes", [{"name": "a", "color": "{}"}]),
        ("deadline", "{}"),
        ("min_age", "{}"),
        ("max_in_flight", "{}"),
        ("aoi", {"file": "a.gpkg", "leyer": "{}"}),
        ("output", ["{}"]),
        ("storage", {"s3": "{}"}),
        ("storage", "{}"),
        ("rules", [{"name": "{}"}, {"name": "{}"}]),
        ("rules", [{"name": "a", "then": "{}"}]),
        ("rules", [{"class": "c", "name": "{}", "min_area_mm2": 3}]),
        ("engine", "{}"),
        ("normalize", "{}"),
        ("regions", {"min_area": "{}"}),
        ("gate", {"iou": "{}"}),
        ("nodata", "{}"),
        ("unknown", "{}"),
        ("output", "~{}/out"),
    ],
)
def test_a_refused_value_is_named_and_not_quoted(tmp_path, monkeypatch, key, form, variable):
    def filled(part):
        if isinstance(part, str):
            return part.replace("{}", f"${{{variable}}}")
        if isinstance(part, dict):
            return {name: filled(item) for name, item in part.items()}
        return [filled(item) for item in part] if isinstance(part, list) else part

    value = "it's" if variable == "ODD" else {"V": S, "SHORT": "q7"}[variable]
    with pytest.raises(ConfigError) as caught:
        load_job(write_job(tmp_path, **{key: filled(form)}))
    assert value not in str(caught.value).replace(str(tmp_path), "")
    assert caught.value.__cause__ is None or value not in str(caught.value.__cause__)
    shown = f"${{{variable}}}" in str(caught.value)
    assert shown or key in ("storage", "unknown", "aoi"), "where nothing is quoted, nothing is named"


def test_what_is_filled_in_is_a_plain_text_once_the_job_is_read(tmp_path):
    storage = {"s3": {"secret": "${V}", "client_kwargs": {"list": ["${V}"]}}}
    path = write_job(tmp_path, inputs=["${V}/a"], output="${V}", storage=storage, classes=["${V}"])
    config = load_job(path)
    texts = [config.output, config.storage["s3"]["secret"], config.storage["s3"]["client_kwargs"]["list"][0]]
    assert [type(text) for text in (*texts, config.inputs[0][1], config.classes[0].name)] == [str] * 5
    assert config.variables == {"V": S}
    assert pickle.loads(pickle.dumps(config)) == config
    assert "storage" not in repr(config)
    assert "variables" not in repr(config)


def test_the_date_is_no_secret(tmp_path):
    assert load_job(write_job(tmp_path, output="${DATE}")).variables == {}


def test_a_job_from_python_fills_nothing_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = Job(inputs="${V}", model="m", output="o")
    assert job.inputs[0][1] == str(tmp_path / "${V}")
    assert job.variables == {}


def test_values_keep_their_places():
    given = {"a": ["${V}", 3, None], "b": {"c": "x${V}y${SHORT}"}, "d": "$V ${} {V}", "e": "${EMPTY}"}
    found = fill_in(given, {"V": S, "SHORT": "q7", "EMPTY": ""}, "job")
    assert found == {"a": [S, 3, None], "b": {"c": f"x{S}yq7"}, "d": "$V ${} {V}", "e": ""}
    assert names_in(given) == {"V", "SHORT", "EMPTY"}
    assert repr(found["b"]) == "{'c': 'x${V}y${SHORT}'}"
    assert type(plain(found)["b"]["c"]) is str
    assert type(pickle.loads(pickle.dumps(found["e"]))) is Filled


def test_short_values_are_found_as_words_alone():
    given = [Filled("5", "${NUMBER}"), Filled("", "${EMPTY}")]
    assert as_written("15 is not 5; found '5'", given) == "15 is not ${NUMBER}; found '${NUMBER}'"


def test_a_variable_that_is_not_set_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("V")
    assert "${V} is not set" in refusal(write_job(tmp_path, inputs="${V}/a"))

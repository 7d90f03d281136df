import dataclasses
import json

import pytest
from factories import make_facts, make_recipe

from batchseg.errors import ConfigError, OutputError
from batchseg.inputs.ids import InputRoot
from batchseg.output.state import OutputState, check_pixel_settings, load_state, save_state
from batchseg.predict.choice import from_document

CHOICE = {
    "engine": "paddle",
    "precision": "fp32",
    "device": "cpu",
    "baked": True,
    "asked": {},
    "conversion": None,
    "trials": [],
    "notes": [],
}


def make_state(**recipe) -> OutputState:
    roots = [
        InputRoot(pattern="/in/*.tif", name="", prefix="/in"),
        InputRoot(pattern="/b", name="b", prefix="/b"),
    ]
    return OutputState(
        pixel=make_recipe(**recipe).settings(),
        device="cpu",
        facts=make_facts(class_count=None),
        roots={root.pattern: root for root in roots},
        classes=("soil", "water"),
    )


def test_a_choice_is_read_as_it_was_saved(tmp_path):
    state = dataclasses.replace(make_state(), choice=from_document(CHOICE))
    save_state(str(tmp_path), state)
    assert load_state(str(tmp_path)) == state


def test_a_state_is_read_as_it_was_saved(tmp_path):
    save_state(str(tmp_path), make_state())
    assert load_state(str(tmp_path)) == make_state()


def test_an_output_that_nobody_wrote_to_has_no_state(tmp_path):
    assert load_state(str(tmp_path / "new")) is None
    assert list(tmp_path.iterdir()) == []


def test_another_format_is_refused(tmp_path):
    save_state(str(tmp_path), make_state())
    path = tmp_path / "_batchseg" / "output.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 99'))
    with pytest.raises(ConfigError, match="format 99"):
        load_state(str(tmp_path))


def test_what_earlier_versions_recorded_names_masks_as_they_did(tmp_path):
    save_state(str(tmp_path), make_state())
    path = tmp_path / "_batchseg" / "output.json"
    document = json.loads(path.read_text())
    assert document.pop("mask_names") == "kept"
    path.write_text(json.dumps(document))
    assert load_state(str(tmp_path)).mask_names == "added"
    path.write_text(json.dumps(document | {"mask_names": "newer"}))
    with pytest.raises(ConfigError, match="'newer'"):
        load_state(str(tmp_path))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"format": 1}', "\xff", "[" * 100_000, '{"format":' * 100_000, "9" * 5000]
)
def test_a_damaged_state_is_an_error_of_the_output(tmp_path, text):
    save_state(str(tmp_path), make_state())
    (tmp_path / "_batchseg" / "output.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(OutputError, match=r"output\.json"):
        load_state(str(tmp_path))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("pixel", [[[7]]]),
        ("facts", {"a": 1}),
        ("facts", []),
        ("facts", {**dataclasses.asdict(make_facts()), "class_count": "4"}),
        ("facts", {**dataclasses.asdict(make_facts()), "output": ["logits"]}),
        ("facts", {**dataclasses.asdict(make_facts()), "device": "tpu"}),
        ("facts", {**dataclasses.asdict(make_facts()), "seconds_per_tile": None}),
        ("roots", [{"pattern": 7, "name": "", "prefix": "/in"}]),
        ("roots", [{"pattern": "a", "name": "", "prefix": None}]),
        ("roots", {"a": "b"}),
        ("classes", ["a", 7]),
        ("classes", "soil"),
        ("colors", ["red"]),
        ("colors", [[]]),
        ("colors", ["#00000"]),
        ("mask_names", 2),
        ("mask_names", None),
        ("vanished", [None]),
        ("vanished", {"a": 1}),
        ("choice", []),
        ("choice", {"trials": 7}),
        ("choice", {**CHOICE, "engine": ["paddle"]}),
        ("choice", {**CHOICE, "asked": 7}),
        ("choice", {**CHOICE, "baked": "no"}),
    ],
)
def test_a_value_of_another_type_is_an_error_of_the_output(tmp_path, key, value):
    save_state(str(tmp_path), make_state())
    path = tmp_path / "_batchseg" / "output.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(OutputError, match=r"output\.json is damaged"):
        load_state(str(tmp_path))


@pytest.mark.parametrize(
    ("uri", "is_input"),
    [
        ("/in/a.tif", True),
        ("/in/deep/a.tif", True),
        ("/b/a b.png", True),
        ("s3://bucket/in/a.png", True),
        ("https://host/in/a.png", True),
        ("/inner/a.tif", False),
        ("/in", False),
        ("/in/", True),
        ("/etc/passwd", False),
        ("", False),
        ("in/a.tif", False),
        ("file:///in/a.tif", False),
        ("/in/../etc/passwd", False),
        ("/in/..", False),
        ("/in/./a.tif", False),
        ("/in/a\n.tif", False),
        ("/in/a\0.tif", False),
        ("/in/" + "a" * 5000, False),
        ("s3://bucket2/in/a.png", False),
        ("s3a://bucket/in/a.png", False),
        ("https://host/in/../../a.png", False),
        ("https://host.evil/in/a.png", False),
        ("https://host@evil/in/a.png", False),
        ("http://169.254.169.254/latest/meta-data", False),
        ("zip::/in/a.tif", False),
        ("/in/a.zip::file:///etc/passwd", False),
        ("memory://in/a.png", False),
        ("//in/a.tif", False),
    ],
)
def test_an_input_lies_below_a_recorded_folder(uri, is_input):
    state = make_state()
    remote = (("s3://bucket/in", "s3://bucket/in"), ("https://host/in", "https://host/in/"), ("x", ""))
    more = {p: InputRoot(pattern=p, name="", prefix=prefix) for p, prefix in remote}
    assert dataclasses.replace(state, roots={**state.roots, **more}).is_input(uri) == is_input


def test_an_output_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match="output"):
        load_state(str(tmp_path / "file" / "out"))


@pytest.mark.parametrize("nodata", ["source", "none", 0.0, -9999.5, float("nan")])
def test_the_same_settings_are_no_change_in_the_next_run(tmp_path, nodata):
    save_state(str(tmp_path), make_state(nodata=nodata))
    settings = make_recipe(nodata=float("nan") if nodata != nodata else nodata).settings()
    check_pixel_settings(load_state(str(tmp_path)), settings, str(tmp_path))


def test_other_settings_are_refused_each_by_name():
    with pytest.raises(ConfigError) as caught:
        check_pixel_settings(make_state(), make_recipe(halo=2, nodata=0.0).settings(), "/results")
    lines = str(caught.value).splitlines()
    assert lines[1:-1] == [
        "  halo: 3 -> 2",
        '  nodata: "source" -> "0.0"',
        '  nodata of the files: null -> "counts too"',
    ]
    assert "--replace" in lines[-1]


def test_a_new_output_takes_any_settings():
    check_pixel_settings(None, make_recipe().settings(), "/results")

import pytest
from factories import make_facts, make_recipe

from batchseg.errors import ConfigError, OutputError
from batchseg.inputs.ids import InputRoot
from batchseg.output.state import OutputState, check_pixel_settings, load_state, save_state


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


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', "\xff"])
def test_a_damaged_state_is_an_error_of_the_output(tmp_path, text):
    save_state(str(tmp_path), make_state())
    (tmp_path / "_batchseg" / "output.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(OutputError, match=r"output\.json"):
        load_state(str(tmp_path))


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
    assert lines[1:-1] == ["  halo: 3 -> 2", '  nodata: "source" -> "0.0"']
    assert "--replace" in lines[-1]


def test_a_new_output_takes_any_settings():
    check_pixel_settings(None, make_recipe().settings(), "/results")

import contextlib
import signal
import subprocess
import sys

import pytest
from factories import make_facts, make_recipe

from batchseg.errors import ConfigError, LockedError, OutputError
from batchseg.inputs import InputRoot
from batchseg.state import OutputState, check_pixel_settings, load_state, lock, lock_holder, save_state

HOLD = """
import sys
from batchseg.state import lock
with lock(sys.argv[1], "other"):
    print("held", flush=True)
    input()
"""


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


@contextlib.contextmanager
def another_run(output):
    """A process of its own that holds the output."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(output)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


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
    with pytest.raises(ConfigError, match="output"), lock(str(tmp_path / "file" / "out"), "run"):
        pass


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


def test_a_second_process_cannot_take_the_output_and_dying_frees_it(tmp_path):
    output = str(tmp_path / "out")
    with another_run(output) as process:
        assert f"process {process.pid}" in lock_holder(output)
        with pytest.raises(LockedError, match=f"run other, process {process.pid}"), lock(output, "mine"):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert lock_holder(output) is None
        with lock(output, "mine"):
            assert "run mine" in lock_holder(output)
    assert lock_holder(output) is None


def test_a_failed_run_frees_the_output(tmp_path):
    output = str(tmp_path / "out")
    with pytest.raises(ZeroDivisionError), lock(output, "first"):
        raise ZeroDivisionError
    with lock(output, "second"):
        assert "run second" in lock_holder(output)


def test_asking_who_holds_an_output_writes_nothing(tmp_path):
    assert lock_holder(str(tmp_path / "out")) is None
    assert list(tmp_path.iterdir()) == []


def test_only_outputs_on_disks_can_be_held():
    with pytest.raises(ConfigError, match="only local outputs"), lock("s3://bucket/out", "run"):
        pass

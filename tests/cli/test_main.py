"""What `main` prints and exits with, whatever a command does."""

import os
import subprocess
from pathlib import Path

import pytest
from conftest import BATCHSEG
from hypothesis import HealthCheck, given, settings
from names import NAMES, acts

import batchseg
from batchseg.api import own_process
from batchseg.cli import outputs
from batchseg.cli.main import main
from batchseg.cli.terminal import Answer
from batchseg.errors import EXIT_QUARANTINED, ConfigError, LockedError


def ended(*words: str) -> object:
    with pytest.raises(SystemExit) as end:
        main(list(words))
    return end.value.code


@pytest.fixture
def status(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What `batchseg status` does: `answer` is given, or raised."""
    command: dict[str, object] = {}

    def action(arguments, streams, say):
        say("looking")
        streams.take()
        command["lent"] = own_process.is_lent()
        if isinstance(command["answer"], BaseException):
            raise command["answer"]
        return command["answer"]

    monkeypatch.setattr(outputs, "_status", action)
    return command


def test_lines_go_to_stdout_and_the_code_out(status, capfd) -> None:
    status["answer"] = Answer(["one", "two"], EXIT_QUARANTINED)
    assert ended("status", "out") == 3
    assert capfd.readouterr() == ("one\ntwo\n", "looking\n")


def test_an_error_is_one_line_and_its_own_code(status, capfd) -> None:
    status["answer"] = LockedError("another run holds s3://key:hidden@bucket/out")
    assert ended("status", "out") == 6
    assert capfd.readouterr() == ("", "looking\nbatchseg: another run holds s3://***@bucket/out\n")


def test_a_defect_shows_its_traceback(status, capfd) -> None:
    status["answer"] = ZeroDivisionError("once")
    assert ended("status", "out") == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("looking\nTraceback")
    assert err.rstrip().endswith("ZeroDivisionError: once")


def test_an_interrupt_is_one_line_and_says_whether_anything_was_changed(
    status, capfd, monkeypatch: pytest.MonkeyPatch
) -> None:
    status["answer"] = KeyboardInterrupt()
    assert ended("status", "out") == 5
    assert capfd.readouterr() == ("", "looking\nbatchseg: interrupted; nothing was changed\n")
    monkeypatch.setattr(outputs, "_prune", outputs._status)
    assert ended("prune", "out") == 5
    assert capfd.readouterr() == ("", "looking\nbatchseg: interrupted\n")


def test_a_full_disk_is_no_defect(status, capfd) -> None:
    status["answer"] = OSError(28, "No space left on device", "/data/x")
    assert ended("status", "out") == 5
    assert "batchseg: stopped (/data/x)" in capfd.readouterr().err


def test_the_process_is_lent_for_as_long_as_the_command_works(status) -> None:
    status["answer"] = Answer([])
    ended("status", "out")
    assert status["lent"] is True
    assert not own_process.is_lent()


def test_a_deleted_folder_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert ended("status", "out") == 2
    assert "the current folder was deleted" in capfd.readouterr().err


def test_words_that_are_none_end_with_2(capfd) -> None:
    for words in ((), ("stat",), ("status",), ("run", "job.yaml", "--exec", "ray")):
        assert ended(*words) == 2
    assert ended("--version") == 0
    assert capfd.readouterr().out == f"batchseg {batchseg.__version__}\n"


def test_an_error_may_have_lines(status, capfd) -> None:
    status["answer"] = ConfigError("first", "  second")
    assert ended("status", "out") == 2
    assert capfd.readouterr().err == "looking\nbatchseg: first\n  second\n"


@given(NAMES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_name_acts_on_the_terminal_or_adds_a_line(status, capfd, name: str) -> None:
    for answer, lines in (
        (Answer([f"  failed: {name}: why", "end"]), 3),
        (ConfigError(f"cannot read {name}", "end"), 3),
        (OSError(28, "No space left on device", name), 2),
    ):
        status["answer"] = answer
        ended("status", "out")
        printed = "".join(capfd.readouterr())
        assert printed.count("\n") == lines
        assert not any(map(acts, printed.split("\n")))


def test_words_that_are_none_are_escaped_too(capfd) -> None:
    assert ended("status", "out", "a\x1b[2J\nbatchseg: all well.tif") == 2
    assert capfd.readouterr().err.endswith("unrecognized arguments: a\\x1b[2J\\nbatchseg: all well.tif\n")


def test_a_terminal_of_few_letters_gets_codes(tmp_path: Path) -> None:
    """Cron's may know ASCII alone; names of files are any bytes."""
    names = ["gr\xfc\xdfe".encode(), b"\xff\x1b"]
    done = subprocess.run(
        [BATCHSEG.encode(), b"status", b"/".join([os.fsencode(tmp_path), *names])],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"batchseg: {tmp_path}/gr\\xfc\\xdfe/\\udcff\\x1b holds".encode())

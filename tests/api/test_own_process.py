"""Calls in a process of their own: what comes back, how they end, and what stays as it was here."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import callees
import pytest
from killing import wait_for

from batchseg.api.own_process import call, lent
from batchseg.errors import ConfigError, StoppedError


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_another_process_answers_and_tells_in_order() -> None:
    heard: list[int] = []
    pid, *given = call(callees.tell_three, "a", Path("b"), hear=heard.append)
    assert pid != os.getpid()
    assert given == ["a", Path("b")]
    assert heard == [0, 1, 2]
    assert not is_there(pid)


def test_a_lent_process_does_it_itself() -> None:
    heard: list[int] = []
    with lent():
        pid, *_ = call(callees.tell_three, "a", "b", hear=heard.append)
    assert (pid, heard) == (os.getpid(), [0, 1, 2])
    assert call(callees.tell_three, "a", "b")[0] != os.getpid()


def test_nothing_of_this_process_changes(capfd: pytest.CaptureFixture[str]) -> None:
    before = dict(os.environ), Path.cwd(), signal.getsignal(signal.SIGTERM)
    assert call(callees.change_everything)["HOME"] == "/changed"
    assert before == (dict(os.environ), Path.cwd(), signal.getsignal(signal.SIGTERM))
    assert capfd.readouterr() == ("", "")


def test_errors_are_raised_here() -> None:
    with pytest.raises(ConfigError, match="tile_size: no"):
        call(callees.refuse)
    with pytest.raises(ConfigError) as refused:
        call(callees.refuse_a_name)
    assert refused.value.lines == (r"cannot read s3://***@b/a\x1b[2J\n${WHERE}/b", r"  or\udcff")
    with pytest.raises(KeyError, match="absent") as failed:
        call(callees.fail)
    assert "in fail" in failed.value.__notes__[0], "the traceback of the other process"
    with pytest.raises(RuntimeError, match="StubbornError"):
        call(callees.fail_with_what_cannot_be_sent)


def test_the_end_of_the_process_is_no_end_of_this_one() -> None:
    with pytest.raises(
        StoppedError, match=r"ended by SIGKILL; is there memory enough.*stays:\n    last words"
    ):
        call(callees.die, signal.SIGKILL)
    with pytest.raises(StoppedError, match="ended itself with status 3"):
        call(callees.leave)


def test_a_listeners_error_stops_it(tmp_path: Path) -> None:
    def hear(content: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        call(callees.work_until_stopped, str(tmp_path / "said"), hear=hear)
    assert (tmp_path / "said").read_text() == "stopped by ZeroDivisionError"


def test_threads_call_at_once() -> None:
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda: answers.append(call(callees.tell_three, 1, 2)[0])) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(answers)) == 2


CALLER = """
import sys
sys.path.insert(0, {tests!r})
import callees
from batchseg.api.own_process import call
try:
    call(callees.work_until_stopped, {path!r}, hear=lambda content: None)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.fixture
def caller(tmp_path: Path) -> "subprocess.Popen[str]":
    """A script, whose call has begun."""
    code = CALLER.format(tests=str(Path(callees.__file__).parent), path=str(tmp_path / "said"))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    wait_for(lambda: (tmp_path / "said").exists() and (tmp_path / "said").read_text() != "")
    return process


def test_an_interrupt_is_raised_once_it_has_stopped(tmp_path: Path, caller: "subprocess.Popen[str]") -> None:
    pid = int((tmp_path / "said").read_text())
    caller.send_signal(signal.SIGINT)
    assert caller.communicate(timeout=60)[0] == "interrupted\n"
    assert (tmp_path / "said").read_text() == "stopped by KeyboardInterrupt"
    assert not is_there(pid)


def test_it_stops_when_its_caller_is_killed(tmp_path: Path, caller: "subprocess.Popen[str]") -> None:
    caller.kill()
    caller.communicate()
    wait_for(lambda: "is gone" in (tmp_path / "said").read_text())


def test_a_signal_to_it_is_a_reason_to_stop(tmp_path: Path, caller: "subprocess.Popen[str]") -> None:
    os.kill(int((tmp_path / "said").read_text()), signal.SIGTERM)
    assert caller.communicate(timeout=60)[0] == ""
    assert (tmp_path / "said").read_text() == "stopped by SIGTERM"

"""Fresh processes that answer, raise, die and hang."""

import os
import signal
import subprocess
import sys
import time
import warnings
from multiprocessing import resource_tracker, spawn
from pathlib import Path

import pytest

from batchseg.errors import CredentialsError, StoppedError
from batchseg.system import processes
from batchseg.system.processes import (
    NotStartedError,
    ProcessDiedError,
    call_in_fresh_process,
    captured_output,
    each_in_fresh_process,
)


def test_the_answer_comes_from_another_process() -> None:
    assert call_in_fresh_process(os.getpid, timeout=60) != os.getpid()


def test_the_end_of_pythons_resource_tracker_is_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked at before it is told of a semaphore, and may be killed in between."""
    tracker = resource_tracker._resource_tracker  # type: ignore[attr-defined]
    tracker.ensure_running()
    os.kill(tracker._pid, signal.SIGKILL)
    time.sleep(0.1)
    alive, looks = tracker._check_alive, iter([True])
    monkeypatch.setattr(tracker, "_check_alive", lambda: next(looks, False) or alive())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the tracker died
        assert call_in_fresh_process(os.getpid, timeout=60) != os.getpid()


def test_exceptions_come_back() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        call_in_fresh_process(int, "x", timeout=60)


def test_a_crash_is_named() -> None:
    with pytest.raises(ProcessDiedError, match="was ended by SIGABRT"):
        call_in_fresh_process(os.abort, timeout=60)
    with pytest.raises(ProcessDiedError, match="status 7"):
        call_in_fresh_process(os._exit, 7, timeout=60)


def test_a_machine_that_starts_no_process_is_told_from_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spawn, "get_executable", lambda: b"/nowhere/python")
    with pytest.raises(NotStartedError, match="is there memory left"):
        call_in_fresh_process(os.getpid, timeout=60)
    with pytest.raises(StoppedError, match="is there memory left"):
        list(each_in_fresh_process(str, [1], timeout=60))


def test_a_process_that_hangs_is_ended() -> None:
    started = time.monotonic()
    with pytest.raises(ProcessDiedError, match="no answer within 1 s"):
        call_in_fresh_process(time.sleep, 600, timeout=1)
    assert time.monotonic() - started < 30


def go_wrong(how: str) -> int:
    match how:
        case "crash":
            os.abort()
        case "hang":
            time.sleep(600)
        case "raise":
            raise KeyError(how)
        case "grow":
            bytearray(processes.MEMORY_BYTES + 1)
    return os.getpid()


def test_items_at_fault_are_found_and_all_others_answered() -> None:
    items = ["fine", "crash", "fine", "fine", "hang", "raise", "grow", "fine"]
    answers = list(each_in_fresh_process(go_wrong, items, timeout=2))
    assert [isinstance(answer, int) for answer in answers] == [item == "fine" for item in items]
    assert answers[2] == answers[3] != answers[0]  # one process for as long as it lives
    said = [str(answer) for answer in answers]
    assert "SIGABRT" in said[1]
    assert "no answer within 2 s" in said[4]
    assert "KeyError" in said[5]
    assert "4 GiB of memory" in said[6]
    assert [getattr(answer, "hung", False) for answer in answers] == [item == "hang" for item in items]


def stop(item: str) -> str:
    if item == "full":
        raise CredentialsError("they are expired")
    return item


def test_what_is_no_items_fault_ends_the_work() -> None:
    answers = each_in_fresh_process(stop, ["a", "full", "b"], timeout=60)
    assert next(answers) == "a"
    with pytest.raises(CredentialsError, match="they are expired"):
        next(answers)


def test_what_is_written_to_the_descriptors_is_taken(tmp_path: Path) -> None:
    with captured_output(tmp_path / "log") as written:
        os.write(1, b"from C\n")
        os.write(2, b"and its errors\n")
        assert written() == "from C\nand its errors\n"
    os.write(1, b"not this\n")
    assert (tmp_path / "log").read_text() == "from C\nand its errors\n"


LOSING_PARENT = """
import multiprocessing, os, sys, time
from batchseg.system.processes import call_in_fresh_process

def mark(path):
    open(path, "w").close()
    time.sleep(60)

if __name__ == "__main__":
    call_in_fresh_process(mark, sys.argv[1], timeout=60)
"""


@pytest.mark.parametrize("begun", [False, True])
def test_a_process_ends_with_its_caller_even_if_that_dies_while_it_starts(
    tmp_path: Path, begun: bool
) -> None:
    (tmp_path / "parent.py").write_text(LOSING_PARENT)
    parent = subprocess.Popen([sys.executable, str(tmp_path / "parent.py"), str(tmp_path / "mark")])
    until = time.monotonic() + 60
    while not (children := spawned(parent.pid)) or (begun and not (tmp_path / "mark").exists()):
        assert time.monotonic() < until
        time.sleep(0.005)
    parent.kill()
    parent.wait()
    while any(b"spawn_main" in command(pid) for pid in children):
        assert time.monotonic() < until
        time.sleep(0.05)


def command(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def spawned(pid: int) -> list[str]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [child for child in children if b"spawn_main" in command(child)]

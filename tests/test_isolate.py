"""Fresh processes that answer, raise, die and hang."""

import os
import time

import pytest

from batchseg.isolate import ProcessDiedError, call_in_fresh_process


def test_the_answer_comes_from_another_process() -> None:
    assert call_in_fresh_process(os.getpid, timeout=60) != os.getpid()


def test_exceptions_come_back() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        call_in_fresh_process(int, "x", timeout=60)


def test_a_crash_is_named() -> None:
    with pytest.raises(ProcessDiedError, match="was ended by SIGABRT"):
        call_in_fresh_process(os.abort, timeout=60)
    with pytest.raises(ProcessDiedError, match="status 7"):
        call_in_fresh_process(os._exit, 7, timeout=60)


def test_a_process_that_hangs_is_ended() -> None:
    started = time.monotonic()
    with pytest.raises(ProcessDiedError, match="no answer within 1 s"):
        call_in_fresh_process(time.sleep, 600, timeout=1)
    assert time.monotonic() - started < 30

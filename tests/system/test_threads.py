import threading
from concurrent.futures import Future

import pytest

from batchseg.errors import StoppedError
from batchseg.system.threads import Helper, start_aside, wait_for


def test_what_runs_aside_gives_its_result_or_its_error():
    assert start_aside(lambda a, b: a - b, 5, 3).result(10) == 2
    with pytest.raises(ZeroDivisionError):
        start_aside(lambda: 1 // 0).result(10)


def test_nobody_waits_for_it_at_exit():
    assert start_aside(lambda: threading.current_thread().daemon).result(10)


def test_a_thread_that_stays_outlives_its_work():
    thread = start_aside(threading.current_thread, stay=True).result(10)
    thread.join(0.2)
    assert thread.is_alive()


def test_a_helper_does_all_in_one_thread_one_after_the_other():
    helper = Helper()
    futures = [helper.start(threading.current_thread) for _ in range(3)]
    failed = helper.start(lambda: 1 // 0)
    (thread,) = {future.result(10) for future in futures}
    with pytest.raises(ZeroDivisionError):
        failed.result(10)
    helper.close()
    thread.join(10)
    assert not thread.is_alive()


def test_a_helper_that_hangs_is_given_up_and_counted(monkeypatch):
    monkeypatch.setattr(Helper, "given_up", 0)
    helper, over = Helper(), threading.Event()
    hanging = helper.start(over.wait)
    helper.give_up()
    assert (Helper.given_up, hanging.done()) == (1, False)
    over.set()
    assert hanging.result(10)


def test_waiting_ends_with_the_result_or_the_reason_to_stop():
    assert wait_for(start_aside(lambda: 7), lambda: None) == 7
    with pytest.raises(StoppedError, match="told to"):
        wait_for(Future(), lambda: "told to")

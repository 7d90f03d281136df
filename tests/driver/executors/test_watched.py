"""An engine that does not answer."""

import threading
import time

import pytest

from batchseg.driver.executors import watched
from batchseg.driver.executors.watched import WatchedExecutor
from batchseg.errors import StoppedError
from batchseg.system.threads import Helper


class Engine:
    """Notes what is asked of it, always in which thread; `hangs` is what it never answers."""

    def __init__(self, hangs: str = "") -> None:
        self.hangs, self.calls = hangs, []

    def check(self):
        """All is well."""

    def __getattr__(self, name):
        def call(*arguments):
            if name == self.hangs:
                threading.Event().wait()
            self.calls.append((name, arguments, threading.current_thread()))
            return iter(arguments[0]) if name == "headers" else [name]

        return call


@pytest.fixture(autouse=True)
def given_up(monkeypatch):
    monkeypatch.setattr(Helper, "given_up", 0)
    monkeypatch.setattr(watched, "CALL_SECONDS", 0.2)
    monkeypatch.setattr(watched, "START_SECONDS", 0.2)


def test_all_is_passed_on_and_in_one_thread():
    engine = Engine()
    executor = WatchedExecutor(engine, header_seconds=1)
    assert list(executor.headers(["a", "b"])) == ["a", "b"]
    assert executor.start("recipe", "product") == ["start"]
    assert executor.poll(0.1) == ["poll"]
    assert executor.abandon(7) == ["abandon"]
    executor.submit("a lease")
    executor.submit("a finish")
    assert executor.poll(0.2) == ["poll"]
    executor.close()
    assert [call[:2] for call in engine.calls[1:]] == [
        ("start", ("recipe", "product")),
        ("poll", (0.1,)),
        ("abandon", (7,)),
        ("submit", ("a lease",)),
        ("submit", ("a finish",)),
        ("poll", (0.2,)),
        ("close", ()),
    ]
    assert len({call[2] for call in engine.calls[1:7]}) == 1
    assert Helper.given_up == 0


@pytest.mark.parametrize("method", ["poll", "abandon", "start", "submit"])
def test_what_does_not_answer_ends_the_run_in_time(method):
    engine = Engine(hangs=method)
    executor = WatchedExecutor(engine, header_seconds=1)
    began = time.monotonic()
    arguments = {"poll": (0.1,), "start": ("recipe", "product")}
    with pytest.raises(StoppedError, match="Ray gave no answer"):
        getattr(executor, method)(*arguments.get(method, ("task",)))
        executor.poll(0.1)  # with which goes what has no answer of its own
    executor.close()
    assert time.monotonic() - began < 5
    assert [call[0] for call in engine.calls] == ["kill"]
    assert Helper.given_up == 1  # the process must not wait for that thread


def test_a_close_that_hangs_is_done_by_force():
    engine = Engine(hangs="close")
    WatchedExecutor(engine, header_seconds=1).close()
    assert [call[0] for call in engine.calls] == ["kill"]


def test_a_cluster_that_is_lost_ends_the_wait():
    class Lost(Engine):
        def check(self):
            raise StoppedError("the head is gone")

    executor = WatchedExecutor(Lost(hangs="poll"), header_seconds=1)
    with pytest.raises(StoppedError, match="the head is gone"):
        executor.poll(0.1)
    assert Helper.given_up == 1


def test_a_cluster_that_is_lost_is_noticed_though_each_call_ends_at_once():
    """As it does where nothing is under way any more: its hosts are gone with the head."""

    class Lost(Engine):
        def check(self):
            raise StoppedError("the head is gone")

    with pytest.raises(StoppedError, match="the head is gone"):
        WatchedExecutor(Lost(), header_seconds=1).poll(0.1)


def test_errors_come_through():
    class Failing(Engine):
        def poll(self, timeout):
            raise StoppedError("a node went away")

    with pytest.raises(StoppedError, match="a node went away"):
        WatchedExecutor(Failing(), header_seconds=1).poll(0.1)
    assert Helper.given_up == 0

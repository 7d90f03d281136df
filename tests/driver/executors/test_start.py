"""Which executor a job gets, with what room, and when."""

import contextlib
import math
import threading
from types import SimpleNamespace

import pytest
from factories import make_config

from batchseg.driver.executors import start
from batchseg.driver.executors.inline import InlineExecutor
from batchseg.driver.executors.ray import cluster
from batchseg.driver.executors.start import (
    LazyExecutor,
    describe_small_memory,
    driver_timeout,
    make_executor,
    worker_count,
)
from batchseg.errors import StoppedError
from batchseg.system.machine import core_count, predictor_count
from batchseg.system.threads import Helper

MIB = 2**20


def test_predictors_are_as_many_as_cores_unless_the_job_says():
    assert worker_count(make_config(workers=3)) == 3
    assert worker_count(make_config(workers=None, executor="inline")) == core_count()
    assert worker_count(make_config(workers=None)) == predictor_count()


def test_the_inline_executor_keeps_time_limits_itself():
    assert driver_timeout(make_config(executor="inline", lease_timeout=60.0)) == math.inf
    assert driver_timeout(make_config(executor="ray", lease_timeout=60.0)) == 60.0


def test_an_inline_job_starts_no_engine():
    executor = make_executor(make_config(executor="inline", workers=1), lambda: None)
    assert isinstance(executor, InlineExecutor)
    executor.close()


def test_too_little_shared_memory_is_told_with_what_would_do(monkeypatch):
    monkeypatch.setattr(start, "free_bytes", lambda path: 64 * MIB)
    config = make_config(executor="ray", ray_address=None, workers=2)
    assert "--shm-size=128m" in describe_small_memory(config)
    monkeypatch.setattr(start, "free_bytes", lambda path: 1000 * MIB)
    assert describe_small_memory(config) is None


@pytest.mark.parametrize("changes", [{"executor": "inline"}, {"executor": "ray", "ray_address": "head:6379"}])
def test_shared_memory_is_of_no_interest_without_a_cluster_here(monkeypatch, changes):
    monkeypatch.setattr(start, "free_bytes", lambda path: 0)
    assert describe_small_memory(make_config(**changes)) is None


def test_an_executor_is_started_once_in_a_thread_of_its_own_and_closed_with_the_run(monkeypatch):
    made, closed, notes = [], [], []

    def make(config, stop):
        made.append(threading.current_thread())
        return SimpleNamespace(close=lambda: closed.append(1))

    monkeypatch.setattr(start, "make_executor", make)
    monkeypatch.setattr(start, "describe_small_memory", lambda config: "too little")
    with contextlib.ExitStack() as stack:
        lazy = LazyExecutor(make_config(executor="ray"), lambda: None, stack, notes.append)
        assert (made, notes) == ([], [])
        assert lazy.start() is lazy.start()
        assert len(made) == len(notes) == 1
        assert made[0] is not threading.main_thread()
        assert closed == []
    assert closed == [1]


@pytest.fixture
def hangs(monkeypatch):
    """An executor whose start does not end before it is told to; and whether its cluster was given up."""
    ended, given_up = threading.Event(), []

    def make(config, stop):
        ended.wait(30)
        return SimpleNamespace(close=lambda: None)

    monkeypatch.setattr(start, "make_executor", make)
    monkeypatch.setattr(start, "describe_small_memory", lambda config: None)
    monkeypatch.setattr(start, "GRACE_SECONDS", 0.2)
    monkeypatch.setattr(cluster, "give_up_starts", lambda: given_up.append(1))
    yield SimpleNamespace(end=ended.set, given_up=given_up)
    ended.set()


@pytest.mark.parametrize("address", [None, "head:6379"])
def test_to_stop_is_heard_while_ray_starts(hangs, address):
    config = make_config(executor="ray", ray_address=address)
    lazy = LazyExecutor(config, lambda: "stopped by SIGTERM", contextlib.ExitStack(), lambda note: None)
    with pytest.raises(StoppedError, match=r"^stopped by SIGTERM$"):
        lazy.start()
    assert (hangs.given_up, Helper.given_up) == ([1], 1)


def test_a_cluster_that_is_nearly_there_when_the_run_is_stopped_ends_in_order(hangs, monkeypatch):
    monkeypatch.setattr(start, "GRACE_SECONDS", 20.0)
    lazy = LazyExecutor(make_config(executor="ray"), lambda: "stopped", contextlib.ExitStack(), print)
    threading.Timer(0.3, hangs.end).start()
    assert lazy.start().close() is None
    assert (hangs.given_up, Helper.given_up) == ([], 0)


def test_ray_is_not_waited_for_without_end(hangs, monkeypatch):
    monkeypatch.setattr(start, "OWN_SECONDS", 0.3)
    lazy = LazyExecutor(make_config(executor="ray"), lambda: None, contextlib.ExitStack(), print)
    with pytest.raises(StoppedError, match=r"Ray gave no answer for .* while it was started"):
        lazy.start()
    assert hangs.given_up == [1]

"""A lease's steps side by side with those of others, and what their errors become: without a network."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from factories import make_product, make_recipe, make_scene, make_source

from batchseg.driver import lease_worker
from batchseg.driver.lease_worker import LeaseWorker
from batchseg.driver.scene_worker import Lease
from batchseg.errors import ModelError, OutputError, SourceIOError, StoppedError
from batchseg.system.processes import ProcessDiedError


def make_lease(number, uri="a.tif"):
    scene = make_scene(source=make_source(uri=uri))
    return Lease(id=number, scene=scene, grid="1x1", cpu_class="avx2", shards=())


@pytest.fixture
def said():
    """Reasons to stop."""
    return []


@pytest.fixture
def made():
    return []


@pytest.fixture
def worker(monkeypatch, said, made):
    for step in ("read_lease", "predict_lease", "write_lease"):
        monkeypatch.setattr(lease_worker, step, lambda *_, step=step: step)

    def make(readers=1):
        new = LeaseWorker(
            *("out", make_recipe(), make_product(), "network"),
            batch_size=1,
            readers=readers,
            timeout=60.0,
            stop=lambda: bool(said),
        )
        made.append(new)
        return new

    yield make
    for each in made:
        each.close()


def raising(error):
    def step(*_):
        raise error

    return step


def test_a_lease_goes_through_its_steps_and_says_at_which_it_is(worker, monkeypatch):
    seen, worker = [], worker()
    for step in ("read_lease", "predict_lease", "write_lease"):
        monkeypatch.setattr(lease_worker, step, lambda *_, step=step: seen.append(worker.step_of(4)) or step)
    assert worker(make_lease(4)) == "write_lease"
    assert seen == ["read", "predict", "write"]
    assert worker.step_of(4) == "waits"


@pytest.mark.parametrize(
    ("step", "error", "kind", "at"),
    [
        ("read_lease", SourceIOError("gone"), "error", "read"),
        ("read_lease", ProcessDiedError("was ended by SIGSEGV"), "crash", "read"),
        ("read_lease", ZeroDivisionError("a defect"), "error", "read"),
        ("predict_lease", RuntimeError("\nno kernel"), "error", "predict"),
        ("predict_lease", ModelError("class 300"), "error", "predict"),
        ("write_lease", OutputError("no space left"), "error", "write"),
        ("write_lease", ZeroDivisionError("a defect"), "error", "write"),
    ],
)
def test_an_error_is_a_failure_of_its_step(worker, monkeypatch, step, error, kind, at):
    monkeypatch.setattr(lease_worker, step, raising(error))
    failure = worker()(make_lease(0))
    assert (failure.kind, failure.step) == (kind, at)
    assert str(error).strip() in failure.reason
    assert (failure.fatal is error) == isinstance(error, ModelError | OutputError)


def test_a_lease_that_a_stop_ends_is_nobodys_fault(worker, said, monkeypatch):
    monkeypatch.setattr(lease_worker, "predict_lease", raising(StoppedError("told to stop")))
    said.append("SIGTERM")
    failure = worker()(make_lease(0))
    assert (failure.kind, failure.fatal) == ("lost", None)


def test_a_lease_is_read_alone_in_less_than_the_driver_waits(worker, monkeypatch):
    seconds = []
    monkeypatch.setattr(lease_worker, "read_lease", raising(AssertionError))
    monkeypatch.setattr(lease_worker, "read_lease_alone", lambda *given: seconds.append(given[-1]))
    assert worker()(make_lease(0), "read") == "write_lease"
    assert seconds == [48.0]


class Gate:
    """A step that waits to be let through, and counts who is in it."""

    def __init__(self):
        self._open, self._lock = threading.Event(), threading.Lock()
        self.inside, self.most, self.threads, self.entered = 0, 0, set(), threading.Semaphore(0)

    def __call__(self, *_):
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.threads.add(threading.get_ident())
        self.entered.release()
        assert self._open.wait(20)
        with self._lock:
            self.inside -= 1

    def open(self):
        self._open.set()


def test_leases_are_read_and_written_while_the_network_computes(worker, monkeypatch):
    network, worker = Gate(), worker()
    monkeypatch.setattr(lease_worker, "predict_lease", network)
    with ThreadPoolExecutor(3) as pool:
        callers = [pool.submit(worker, make_lease(number)) for number in range(3)]
        assert network.entered.acquire(timeout=20)
        while [worker.step_of(number) for number in range(3)].count("waits") < 2:
            pass  # the others are read, and wait for the network
        network.open()
        assert [caller.result() for caller in callers] == ["write_lease"] * 3
    assert network.most == 1
    assert len(network.threads) == 1


@pytest.mark.parametrize(
    ("readers", "uri", "most"), [(1, "a.tif", 1), (2, "a.tif", 2), (1, "s3://bucket/a.tif", 3)]
)
def test_so_many_leases_are_read_at_once(worker, monkeypatch, readers, uri, most):
    reading, worker = Gate(), worker(readers)
    monkeypatch.setattr(lease_worker, "read_lease", reading)
    with ThreadPoolExecutor(4) as pool:
        callers = [pool.submit(worker, make_lease(number, uri)) for number in range(4)]
        for _ in range(most):
            assert reading.entered.acquire(timeout=20)
        reading.open()
        assert [caller.result() for caller in callers] == ["write_lease"] * 4
    assert reading.most == most


def test_nothing_follows_a_reading_that_was_left(worker, monkeypatch):
    reading, worker = Gate(), worker()
    monkeypatch.setattr(lease_worker, "read_lease", reading)
    monkeypatch.setattr(lease_worker, "predict_lease", raising(AssertionError))
    with ThreadPoolExecutor(1) as pool:
        caller = pool.submit(worker, make_lease(0))
        assert reading.entered.acquire(timeout=20)
        worker.leave()
        reading.open()
        assert caller.result().kind == "lost"


def test_readers_close_what_they_hold_open(worker, monkeypatch):
    closed = threading.Event()
    monkeypatch.setattr(lease_worker, "release", closed.set)
    worker().close()
    assert closed.wait(20)

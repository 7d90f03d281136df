"""A predictor's process from within: its threads, what is taken back, answers that cannot be sent."""

import multiprocessing
import threading
from types import SimpleNamespace

import pytest
from factories import make_recipe, make_source
from ray_fakes import make_task

from batchseg.driver.executors.processes import predictor as module
from batchseg.driver.executors.processes.child import TakenBackError
from batchseg.driver.executors.processes.predictor import Predictor, serve
from batchseg.driver.tasks import LEASES_AT_ONCE
from batchseg.errors import ModelError


class FakeSteps:
    cpu_class = "avx2"
    go_on = threading.Event()

    def __init__(self, *_, **options):
        if options["batch_size"] == 0:
            msg = "no such operator"
            raise ModelError(msg)
        self.begun = []

    def of(self, task):
        def do():
            self.begun.append(task.lease.id)
            self.go_on.wait(20)
            return list(self.begun)

        return do

    def step_of(self, lease_id):
        return f"read {lease_id}"


class Driver:
    """The other end of the pipe."""

    def __init__(self, pipe):
        self.pipe, self.count = pipe, 0

    def ask(self, what, *given):
        self.pipe.send((self.count, what, given))
        self.count += 1
        return self.count - 1

    def hear(self):
        assert self.pipe.poll(20)
        return self.pipe.recv()


@pytest.fixture
def ended(monkeypatch):
    """Set instead of the process's end."""
    event = threading.Event()

    def leave(code):
        event.set()
        threading.Event().wait()  # nothing follows the end of a process

    monkeypatch.setattr(module, "os", SimpleNamespace(_exit=leave))
    return event


@pytest.fixture
def driver(monkeypatch, ended):
    monkeypatch.setattr(module, "Steps", FakeSteps)
    monkeypatch.setattr(FakeSteps, "go_on", threading.Event())
    ours, theirs = multiprocessing.Pipe()
    threading.Thread(target=serve, args=(theirs, "out", 60.0), daemon=True).start()
    yield Driver(ours)
    FakeSteps.go_on.set()
    ours.close()
    assert ended.wait(20)


def load(driver, batch_size=1):
    driver.ask("load", make_recipe(), "product", batch_size, 1)
    return driver.hear()


def test_a_lease_that_comes_before_the_network_waits_for_it(driver):
    FakeSteps.go_on.set()
    lease = driver.ask("do", make_task(7))
    assert not driver.pipe.poll(0.1)
    assert load(driver) == (1, None, "avx2")
    assert driver.hear() == (lease, None, [7])


def test_it_says_what_it_is_at_while_all_its_leases_wait(driver):
    load(driver)
    for number in range(LEASES_AT_ONCE + 2):
        driver.ask("do", make_task(number))
    asked = driver.ask("step_of", 2)
    assert driver.hear() == (asked, None, "read 2")


def test_what_was_not_begun_is_taken_back(driver):
    load(driver)
    leases = [driver.ask("do", make_task(number)) for number in range(LEASES_AT_ONCE + 2)]
    driver.ask("forget", leases[-2])
    driver.ask("step_of", 0)
    driver.hear()  # by then it has heard of it
    FakeSteps.go_on.set()
    heard = {number: (error, begun) for number, error, begun in (driver.hear() for _ in leases)}
    assert heard.keys() == {*leases}
    assert isinstance(heard[leases[-2]][0], TakenBackError)
    assert LEASES_AT_ONCE not in heard[leases[-1]][1]


def test_a_network_that_cannot_be_loaded_is_told_of_all_that_wait_for_it(driver):
    lease = driver.ask("do", make_task(7))
    loaded = load(driver, batch_size=0)
    errors = {number: str(error) for number, error, _ in (loaded, driver.hear())}
    assert errors == {lease: "no such operator", lease + 1: "no such operator"}


def test_headers_are_read_while_the_network_loads(driver, monkeypatch):
    monkeypatch.setattr(module, "read_some_headers", lambda sources: [s.source_id for s in sources])
    monkeypatch.setattr(module, "sample_scenes", lambda scenes, recipe: scenes)
    driver.ask("headers", [make_source("a.tif"), make_source("b.tif")])
    assert driver.hear() == (0, None, ["a.tif", "b.tif"])
    driver.ask("samples", ["a scene"], make_recipe())
    assert driver.hear() == (1, None, ["a scene"])


def test_an_error_that_cannot_be_sent_is_sent_in_words(driver, monkeypatch):
    def fail(source):
        raise ValueError(threading.Lock())

    monkeypatch.setattr(module, "read_some_headers", fail)
    driver.ask("headers", [make_source("a.tif")])
    _, error, _ = driver.hear()
    assert (type(error), "ValueError" in str(error)) == (RuntimeError, True)


def test_it_ends_with_the_driver(ended):
    ours, theirs = multiprocessing.Pipe()
    predictor = Predictor(theirs, "out", 60.0)
    threading.Thread(target=predictor.run, daemon=True).start()
    ours.close()
    assert ended.wait(20)

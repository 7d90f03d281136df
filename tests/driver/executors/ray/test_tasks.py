"""Errors of steps become failures within the task: the functions that Ray runs, called without it."""

import os
from types import SimpleNamespace

import pytest
from ray_fakes import make_task

from batchseg.driver.executors.ray import tasks
from batchseg.driver.tasks import Failure
from batchseg.errors import OutputError, SourceError
from batchseg.system.processes import ProcessDiedError

LEASE = make_task(0).lease
LOST = Failure(kind="lost", step="predict", reason="its predictor died")


def call(task, *arguments):
    return task._function({}, *arguments)


def raising(error):
    def step(*_):
        raise error

    return step


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (SourceError("no such file"), "error"),
        (ProcessDiedError("was ended by SIGSEGV"), "crash"),
        (ZeroDivisionError("a defect"), "error"),
    ],
)
def test_what_goes_wrong_over_a_lease_is_its_readings_failure(monkeypatch, error, kind):
    monkeypatch.setattr(tasks, "read_lease", raising(error))
    failure = call(tasks.read, "recipe", LEASE, False, 60.0)
    assert (failure.kind, failure.step, failure.fatal) == (kind, "read", None)
    assert str(error) in failure.reason


def test_a_lease_is_read_alone_in_less_than_the_driver_waits(monkeypatch):
    monkeypatch.setattr(tasks, "read_lease_alone", lambda *arguments: arguments)
    assert call(tasks.read, "recipe", LEASE, True, 60.0) == ("recipe", LEASE, 48.0)


def test_a_failure_on_the_way_is_what_the_driver_gets(monkeypatch):
    monkeypatch.setattr(tasks, "write_lease", raising(AssertionError))
    assert call(tasks.write, "out", "recipe", LEASE, LOST) is LOST


def test_an_output_that_cannot_be_written_ends_the_run(monkeypatch):
    monkeypatch.setattr(tasks, "write_lease", raising(OutputError("no space left")))
    assert isinstance(call(tasks.write, "out", "recipe", LEASE, "masks").fatal, OutputError)


def test_tasks_reserve_nothing_and_ray_repeats_none():
    named = (value for value in vars(tasks).values() if hasattr(value, "_function"))
    options = {task._function.__name__: task._default_options for task in named}
    assert options.keys() == {
        *("warm", "headers", "headers_alone", "samples", "read", "write", "finish", "inspect_group")
    }
    assert all((told["num_cpus"], told["max_retries"]) == (0, 0) for told in options.values())


def test_a_worker_is_warm_when_its_storages_are_connected(monkeypatch):
    def connect(uri):
        connected.append(uri)
        raise OSError

    connected: list[str] = []
    monkeypatch.setattr(tasks, "storage", SimpleNamespace(adopt=lambda where: None, connect=connect))
    call(tasks.warm, ["s3://a", "s3://b"], 0.0)
    assert connected == ["s3://a", "s3://b"]


def test_ray_reports_to_nobody():
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"

"""Ray's errors, and what they say of whose fault it is."""

import errno

import pytest
from ray import exceptions as ray_errors

from batchseg.driver.executors.ray import failures
from batchseg.driver.executors.ray.failures import cause_of, failure_of, first_line, lost_with_host


@pytest.fixture(autouse=True)
def _room(monkeypatch):
    monkeypatch.setattr(failures, "full_disks", list)


@pytest.mark.parametrize(
    "error",
    [
        ray_errors.NodeDiedError("the node went away"),
        ray_errors.LocalRayletDiedError(),
        ray_errors.TaskCancelledError(),
    ],
)
def test_what_ends_with_a_node_or_by_a_hand_is_lost(error):
    failure = failure_of(error, "read")
    assert (failure.kind, failure.step, failure.memory, failure.fatal) == ("lost", "read", False, None)
    assert type(error).__name__ in failure.reason


def test_the_out_of_memory_killer_is_remembered():
    assert failure_of(ray_errors.OutOfMemoryError("killed by Ray"), "predict").memory


def test_the_end_of_a_process_is_a_crash():
    failure = failure_of(ray_errors.WorkerCrashedError(), "read")
    assert (failure.kind, failure.reason) == ("crash", "reading it ended the process: WorkerCrashedError")


@pytest.mark.parametrize(
    "error", [ray_errors.ObjectStoreFullError("full"), OSError(errno.ENOSPC, "No space left on device")]
)
def test_no_room_ends_the_run_and_blames_no_source(error):
    failure = failure_of(error, "write")
    assert failure.kind == "lost"
    assert "make room" in str(failure.fatal)


def test_a_crash_beside_a_full_disk_is_the_disks(monkeypatch):
    monkeypatch.setattr(failures, "full_disks", lambda: ["/tmp is full"])
    failure = failure_of(ray_errors.WorkerCrashedError(), "read")
    assert "(/tmp is full)" in str(failure.fatal)


def test_the_cause_of_an_error_that_wraps_another_is_that_other():
    inner, outer = ValueError("inner"), ValueError("outer")
    assert cause_of(inner) is inner
    outer.cause = inner
    assert cause_of(outer) is inner


def test_a_reason_is_one_line():
    assert first_line(ValueError("\n\n  first \nsecond")) == "first"
    assert first_line(ValueError()) == "ValueError"
    assert "\n" not in lost_with_host("group").reason

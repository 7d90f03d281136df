"""Whose fault a failed group is, step by step."""

import pytest
from listings import listing

from batchseg.driver.given_up import LOST_LIMIT, MEMORY_LIMIT
from batchseg.driver.photo_failures import FAILED_PER_SLOT, MOST_ATTEMPTS, PhotoFailures, refusal_records
from batchseg.driver.photo_queue import PhotoWork
from batchseg.driver.tasks import Failure
from batchseg.errors import StoppedError
from batchseg.inputs.source import Doubt

CRASH = Failure(kind="crash", step="group", reason="its process ended")
LOST = Failure(kind="lost", step="group", reason="the node went away")
STARVED = Failure(kind="lost", step="group", reason="OutOfMemoryError", memory=True)


def work(count, **changes):
    return PhotoWork(images=listing(*(f"{number}.jpg" for number in range(count))), **changes)


def names(part):
    return part.images["source_id"].to_pylist()


def test_a_group_is_inspected_then_halved_until_one_is_to_blame():
    failures, group = PhotoFailures(100, 1), work(4)
    assert failures.of_group(group, CRASH).inspect is group
    parts = failures.of_group(group, CRASH).again
    assert [names(part) for part in parts] == [["0.jpg", "1.jpg"], ["2.jpg", "3.jpg"]]
    parts = failures.of_group(parts[0], CRASH).again
    assert [names(part) for part in parts] == [["0.jpg"], ["1.jpg"]]
    step = failures.of_group(parts[1], CRASH)
    assert step.doubt == Doubt(source_id="1.jpg", reason=CRASH.reason, transient=False)


def test_one_photograph_has_its_attempts_before_it_is_to_blame():
    failures, alone = PhotoFailures(100, 1), work(1)
    steps = [failures.of_group(alone, CRASH) for _ in range(MOST_ATTEMPTS)]
    assert [step.doubt is not None for step in steps] == [False] * (MOST_ATTEMPTS - 1) + [True]


def test_hashing_is_never_inspected_and_stored_results_may_not_hold_enough():
    failures = PhotoFailures(100, 1)
    hashed, derived = work(2, how="hash"), work(2, how="derive")
    assert failures.of_group(hashed, CRASH).again == (hashed,)
    error = Failure(kind="error", step="group", reason="no mask is stored")
    assert failures.of_group(derived, error).underivable is derived


def test_what_is_lost_is_done_again_but_not_for_ever():
    failures, group = PhotoFailures(100, 1), work(3)
    for _ in range(LOST_LIMIT):
        assert failures.of_group(group, LOST).again == (group,)
    with pytest.raises(StoppedError, match=f"lost {LOST_LIMIT + 1} times"):
        failures.of_group(group, LOST)
    assert group.attempts == 0


def test_a_group_that_takes_its_predictors_memory_is_halved_until_the_one_that_does_is_found():
    failures, group = PhotoFailures(100, 1), work(4)

    def after_kills(part):
        for _ in range(MEMORY_LIMIT - 1):
            assert failures.of_group(part, STARVED).again == (part,), "a neighbour may have taken it"
        return failures.of_group(part, STARVED)

    assert after_kills(group).inspect is group
    assert group.alone, "beside another suspect it might be ended for that one"
    parts = after_kills(group).again
    assert [names(part) for part in parts] == [["0.jpg", "1.jpg"], ["2.jpg", "3.jpg"]]
    parts = after_kills(parts[1]).again
    assert all(part.alone for part in parts)
    step = after_kills(parts[0])
    assert step.doubt == Doubt(source_id="2.jpg", reason=STARVED.reason, transient=True)


def test_groups_that_all_fail_end_the_run_unless_one_succeeds():
    failures = PhotoFailures(1, 2)
    for _ in range(3):
        for _ in range(FAILED_PER_SLOT * 2):
            failures.of_group(work(2), CRASH)
        failures.note_success()
    for _ in range(FAILED_PER_SLOT * 2):
        failures.of_group(work(2), CRASH)
    with pytest.raises(StoppedError, match="11 groups in a row"):
        failures.of_group(work(2), CRASH)


def test_a_refused_photograph_keeps_what_its_listing_said():
    doubts = [Doubt(source_id="1.jpg", reason="cut off", transient=True)]
    ((doubt, record),) = refusal_records(work(2), doubts)
    assert doubt is doubts[0]
    assert (record.status, record.source_id, record.tag, record.uri) == ("failed", "1.jpg", "t", "/in/1.jpg")

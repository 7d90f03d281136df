"""Photographs that are looked at alone: how many at once, and what happens if that gives no answer."""

import itertools

import pytest
from listings import listing

from batchseg.driver import photo_inspection
from batchseg.driver.given_up import MEMORY_LIMIT
from batchseg.driver.photo_inspection import LOST_INSPECTIONS, Inspections
from batchseg.driver.photo_queue import PhotoWork
from batchseg.errors import StoppedError


class Recorder:
    """An executor that does nothing."""

    def __init__(self):
        self.submitted, self.abandoned = [], []
        self.memory = 0

    def submit(self, task):
        self.submitted.append(task.group.id)
        self.memory = task.group.memory

    def abandon(self, task):
        self.abandoned.append(task.group.id)
        return "group"


def work(*names, alone=False):
    return PhotoWork(images=listing(*names), alone=alone)


def test_few_are_under_way_and_the_others_wait():
    executor = Recorder()
    inspections = Inspections(executor, 60.0, itertools.count(5))
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        inspections.add(work(name), had_success=name == "c.jpg")
    inspections.start(most=2)
    assert executor.submitted == [5, 6]
    assert not inspections.pop(5).had_success
    inspections.start(most=2)
    assert executor.submitted == [5, 6, 7]
    assert inspections.pop(5) is None
    assert inspections.pop(6) is not None
    assert inspections.pop(7).had_success
    assert not inspections


def test_one_without_answer_is_repeated_and_ends_the_run_at_last(monkeypatch):
    monkeypatch.setattr(photo_inspection, "START_SECONDS", -60.0)
    executor = Recorder()
    inspections = Inspections(executor, 0.0, itertools.count(1))
    inspections.add(work("a.jpg"), had_success=False)
    for number in range(1, LOST_INSPECTIONS + 1):
        inspections.start(most=1)
        inspections.give_up_late()
        assert executor.abandoned[-1] == number
    inspections.start(most=1)
    with pytest.raises(StoppedError, match=r"looking at photographs alone \(a\.jpg\) failed"):
        inspections.give_up_late()


def test_of_those_whose_process_ends_for_lack_of_memory_the_one_that_takes_it_is_found():
    """b.jpg takes all; each inspection that has it is lost."""
    inspections, numbers = Inspections(Recorder(), 60.0, itertools.count()), itertools.count()
    inspections.add(work("a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"), had_success=True)
    sound, doubts = [], []
    while inspections:
        inspections.start(most=1)
        inspection = inspections.pop(next(numbers))
        ids = inspection.work.images["source_id"].to_pylist()
        if "b.jpg" not in ids:
            sound += ids
        elif (doubt := inspections.starved(inspection, "OutOfMemoryError")) is not None:
            doubts.append(doubt)
            assert inspection.had_success
    assert sorted(sound) == ["a.jpg", "c.jpg", "d.jpg", "e.jpg"]
    assert [(doubt.source_id, doubt.transient) for doubt in doubts] == [("b.jpg", True)]
    assert f"{MEMORY_LIMIT} times, alone" in doubts[0].reason


def test_one_that_has_time_left_is_left_alone():
    executor = Recorder()
    inspections = Inspections(executor, 60.0, itertools.count(1))
    inspections.add(work("a.jpg"), had_success=False)
    inspections.start(most=1)
    inspections.give_up_late()
    assert executor.abandoned == []
    assert inspections


def test_of_those_that_take_much_memory_one_is_looked_at_at_a_time():
    executor = Recorder()
    inspections = Inspections(executor, 60.0, itertools.count(1), 12_345)
    for name in ("a.jpg", "b.jpg"):
        inspections.add(work(name, alone=True), had_success=False)
    inspections.add(work("c.jpg"), had_success=False)
    inspections.start(most=3, alone=False)
    assert inspections._under_way[1].work.images["source_id"].to_pylist() == ["c.jpg"]
    assert not inspections.is_alone_out
    inspections.start(most=3)
    assert inspections.is_alone_out
    assert executor.submitted == [1, 2]
    inspections.start(most=3, alone=not inspections.is_alone_out)
    assert executor.submitted == [1, 2]
    inspections.pop(2)
    inspections.start(most=3)
    assert executor.submitted == [1, 2, 3]
    assert executor.memory == 12_345

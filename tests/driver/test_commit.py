"""Refusals that are held back, and those that are recorded."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchseg.driver.commit import Streak
from batchseg.errors import StoppedError
from batchseg.output.record import SceneRecord


def refusal(name, error, status="quarantined") -> SceneRecord:
    return SceneRecord(status=status, source_id=name, tag="t", error=error, uri=f"/archive/{name}")


def test_a_streak_holds_back_what_is_alike_but_for_names_and_numbers():
    streak = Streak(3)
    assert streak.add(refusal("a.tif", "cannot read a.tif: block 7 at /archive/a.tif")) == []
    assert streak.add(refusal("b2.tif", "cannot read b2.tif: block 12 at /archive/b2.tif")) == []
    with pytest.raises(StoppedError, match="3 sources in a row failed alike"):
        streak.add(refusal("c.tif", "cannot read c.tif: block 3 at /archive/c.tif"))


def test_a_streak_is_broken_by_another_error():
    streak, first, second = Streak(3), refusal("a.tif", "cut off"), refusal("b.tif", "cut off")
    other = refusal("c.tif", "no bands")
    assert streak.add(first) == streak.add(second) == []
    assert streak.add(other) == [first, second]
    assert streak.add(first) == [other]
    assert streak.flush() == [first]
    assert streak.flush() == []


def test_a_flush_begins_a_new_streak():
    streak = Streak(3)
    for _ in range(4):
        streak.add(refusal("a.tif", "cut off"))
        streak.add(refusal("b.tif", "cut off"))
        assert len(streak.flush()) == 2


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(["cut off", "no bands", None]), max_size=12), st.integers(2, 4))
def test_no_refusal_is_lost_or_doubled_by_a_streak(errors, limit):
    streak, released, row = Streak(limit), [], 0
    for number, error in enumerate(errors):
        if error is None:
            released += streak.flush()
            row = 0
            continue
        row = row + 1 if number and errors[number - 1] == error else 1
        if row == limit:
            with pytest.raises(StoppedError):
                streak.add(refusal(f"{number}.tif", error))
            return
        released += streak.add(refusal(f"{number}.tif", error))
    released += streak.flush()
    assert [record.source_id for record in released] == [f"{n}.tif" for n, e in enumerate(errors) if e]

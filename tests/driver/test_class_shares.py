"""One class that has everything is told, where earlier runs had more and chance does not explain it."""

import pytest

from batchseg.driver.class_shares import class_shares
from batchseg.output.class_sums import ClassSums

NAMES = ("good", "crack")
ALL_GOOD = ClassSums(pixels={0: 1000}, sources=10, alone={0: 10})


def test_shares_are_of_all_pixels_the_largest_first() -> None:
    found = class_shares(ClassSums(pixels={0: 1, 1: 2, 7: 1}, sources=1), ClassSums(), NAMES)
    assert found.shares == {"crack": 0.5, "good": 0.25, "class 7": 0.25}
    assert found.in_words == "crack 50.0 %, good 25.0 %, class 7 25.0 %"
    assert (found.only_class, found.warning) == (None, "")
    assert class_shares(ClassSums(), ClassSums(), NAMES).in_words == ""


def test_one_class_where_earlier_runs_had_more_is_told() -> None:
    before = ClassSums(pixels={0: 900, 1: 100}, sources=10, alone={0: 1})
    found = class_shares(ALL_GOOD, before, NAMES)
    assert found.only_class == "good"
    assert found.warning.startswith("every pixel of this run is good; earlier runs of this output found cr")


def test_a_good_night_is_no_warning() -> None:
    rare = ClassSums(pixels={0: 10**9, 1: 100}, sources=1000, alone={0: 980})
    assert class_shares(ALL_GOOD, rare, NAMES).warning == ""
    many = ClassSums(pixels={0: 10**6}, sources=1000, alone={0: 1000})
    assert "crack" in class_shares(many, rare, NAMES).warning
    assert class_shares(ALL_GOOD, ALL_GOOD, NAMES).warning == ""
    assert class_shares(ALL_GOOD, ClassSums(), NAMES).warning == ""


@pytest.mark.parametrize(
    ("earlier", "good", "now", "is_told"),
    [
        (24, 23, 1, False),  # the other one is a defect from edge to edge
        (24, 23, 4, False),
        (1, 0, 1, False),
        (10, 0, 1, False),
        (10, 0, 2, True),
        (24, 12, 10, True),
    ],
)
def test_few_photographs_tell_little(earlier: int, good: int, now: int, is_told: bool) -> None:
    before = ClassSums(pixels={0: 10**6, 1: 10**5}, sources=earlier, alone={0: good, 1: earlier - good})
    tonight = ClassSums(pixels={0: 1000 * now}, sources=now, alone={0: now})
    assert bool(class_shares(tonight, before, NAMES, photographs=True).warning) == is_told


def test_one_scene_of_one_class_is_told_where_all_had_several() -> None:
    tonight = ClassSums(pixels={0: 1000}, sources=1, alone={0: 1})
    assert class_shares(tonight, ClassSums(pixels={0: 9, 1: 9}, sources=2), NAMES).warning
    one_other = ClassSums(pixels={0: 9, 1: 9}, sources=24, alone={0: 23, 1: 1})
    assert class_shares(tonight, one_other, NAMES).warning == ""

"""One class that has everything is told, where earlier runs had more and chance does not explain it."""

from batchseg.driver.class_shares import class_shares
from batchseg.output.class_sums import ClassSums

NAMES = ("good", "crack")
ALL_GOOD = ClassSums(pixels={0: 1000}, sources=10)


def test_shares_are_of_all_pixels_the_largest_first() -> None:
    found = class_shares(ClassSums(pixels={0: 1, 1: 2, 7: 1}, sources=1, mixed=1), ClassSums(), NAMES)
    assert found.shares == {"crack": 0.5, "good": 0.25, "class 7": 0.25}
    assert found.in_words == "crack 50.0 %, good 25.0 %, class 7 25.0 %"
    assert (found.only_class, found.warning) == (None, "")
    assert class_shares(ClassSums(), ClassSums(), NAMES).in_words == ""


def test_one_class_where_earlier_runs_had_more_is_told() -> None:
    before = ClassSums(pixels={0: 900, 1: 100}, sources=10, mixed=9)
    found = class_shares(ALL_GOOD, before, NAMES)
    assert found.only_class == "good"
    assert found.warning.startswith("every pixel of this run is good; earlier runs of this output found cr")


def test_a_good_night_is_no_warning() -> None:
    rare = ClassSums(pixels={0: 10**9, 1: 100}, sources=1000, mixed=20)
    assert class_shares(ALL_GOOD, rare, NAMES).warning == ""
    many = ClassSums(pixels={0: 10**6}, sources=1000)
    assert "crack" in class_shares(many, rare, NAMES).warning
    assert class_shares(ALL_GOOD, ALL_GOOD, NAMES).warning == ""
    assert class_shares(ALL_GOOD, ClassSums(), NAMES).warning == ""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchseg.job.settings import Gate
from batchseg.predict.gate import CLASS_PIXELS, Agreement, Labels, agreement, shortfall

properties = settings(deadline=None, max_examples=40)


def labels(seed: int, wrong: float, tiles: int = 2) -> tuple[list[Labels], list[Labels]]:
    """Answers of a reference, and of a candidate that differs in about `wrong` of the pixels."""
    random = np.random.default_rng(seed)
    pairs = []
    for _ in range(tiles):
        classes = random.choice(5, (67, 83), p=[0.5, 0.25, 0.2, 0.04, 0.01]).astype(np.uint8)
        other = np.where(random.random((67, 83)) < wrong, random.integers(0, 6, (67, 83)), classes)
        confidence = random.integers(1, 256, (2, 67, 83), dtype=np.uint8)
        pairs.append(
            (
                Labels(
                    classes=classes,
                    confidence=confidence[0],
                    margin=random.choice([0.0, 0.05, 0.1, 1.0], (67, 83)),
                ),
                Labels(classes=other.astype(np.uint8), confidence=confidence[1]),
            )
        )
    return [one for one, _ in pairs], [other for _, other in pairs]


def stacked(labelled: list[Labels], field: str) -> np.ndarray:
    return np.stack([getattr(one, field) for one in labelled])


@properties
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.01, 0.3, 1.0]), st.sampled_from([0.0, 0.05, 0.1]))
def test_what_counts_are_the_pixels_of_which_the_reference_is_sure(seed, wrong, least):
    reference, candidate = labels(seed, wrong)
    found = agreement(reference, candidate, least)
    one, other = stacked(reference, "classes"), stacked(candidate, "classes")
    counted = stacked(reference, "margin") > least
    assert (found.pixels, found.equal) == (one.size, int((one == other).sum()))
    assert (found.sure, found.sure_differ) == (counted.sum(), (counted & (one != other)).sum())
    expected = {}
    for class_id in range(6):
        mine = set(np.flatnonzero((one == class_id) & counted))
        theirs = set(np.flatnonzero((other == class_id) & counted))
        if len(mine | theirs) >= CLASS_PIXELS:
            expected[class_id] = len(mine & theirs) / len(mine | theirs)
    assert dict(found.iou) == pytest.approx(expected)
    apart = np.abs(stacked(reference, "confidence").astype(int) - stacked(candidate, "confidence")) / 255
    assert found.confidence_difference == pytest.approx(apart.max())
    assert found.mean_confidence_difference == pytest.approx(apart.mean())


def test_a_pixel_counts_only_where_the_reference_is_sure() -> None:
    classes = np.zeros((100, 100), np.uint8)
    sure = np.full((100, 100), 0.5)
    sure[:, :50] = 0.04
    other = classes.copy()
    other[:, :50] = 1
    near = agreement([Labels(classes=classes, margin=sure)], [Labels(classes=other)], 0.05)
    assert (near.equal_share, near.sure_share, near.iou) == (0.5, 1.0, ((0, 1.0),))
    assert shortfall(near, Gate()) is None
    other[0, 50:52] = 1  # 2 of 5,000 sure pixels
    off = agreement([Labels(classes=classes, margin=sure)], [Labels(classes=other)], 0.05)
    assert (shortfall(off, Gate()) or "").startswith("0.0400% of the pixels of which the reference is sure")
    assert shortfall(off, Gate(equal_pixels=0.9995)) is None


def test_a_class_of_few_sure_pixels_has_no_iou() -> None:
    classes = np.zeros((100, 100), np.uint8)
    classes.flat[:CLASS_PIXELS] = 1
    other = classes.copy()
    other.flat[0] = 0
    sure = np.ones((100, 100))

    def found():
        return agreement([Labels(classes=classes, margin=sure)], [Labels(classes=other)], 0.05)

    assert dict(found().iou) == {0: 9000 / 9001, 1: 0.999}
    sure.flat[999] = 0  # one pixel of the class less
    assert [class_id for class_id, _ in found().iou] == [0]


def test_a_network_that_is_never_sure_proves_no_engine() -> None:
    """Untrained ones are so of every pixel: then all pixels count, as where there are no scores."""
    classes = np.arange(100, dtype=np.uint8).reshape(10, 10) % 4
    unsure = Labels(classes=classes, margin=np.full((10, 10), 0.01))
    shifted = agreement([unsure], [Labels(classes=(classes + 1) % 4)], 0.05)
    assert shifted.sure == 0
    assert "100.0000% of the pixels are of another class" in (shortfall(shifted, Gate()) or "")
    assert shortfall(agreement([unsure], [unsure], 0.05), Gate()) is None


@pytest.mark.parametrize(("sure", "decide"), [(4_999, False), (5_000, True)])
def test_few_sure_pixels_do_not_speak_for_the_others(sure: int, decide: bool) -> None:
    found = found_of(equal=9_000, sure=sure)
    assert (shortfall(found, Gate()) is None) is decide
    assert decide or "10.0000% of the pixels are of another class" in (shortfall(found, Gate()) or "")


def found_of(**changes) -> Agreement:
    return Agreement(**({"pixels": 10_000, "equal": 10_000, "sure": 10_000} | changes))


@pytest.mark.parametrize(
    ("found", "word"),
    [
        (found_of(iou=((0, 1.0), (3, 1.0))), None),
        (found_of(sure_differ=1, iou=((0, 0.999), (3, 0.9991))), None),
        (
            found_of(sure_differ=2, iou=((0, 1.0),)),
            r"0\.0200% of the pixels of which the reference is sure \(by more than 0\.05\) are of another "
            r"class, 0\.0100% may be",
        ),
        (
            found_of(iou=((0, 1.0), (3, 0.9989))),
            r"IoU of class 3 is 0\.9989 where the reference is sure, 0\.999 is asked for",
        ),
        (found_of(equal=0), None),  # the others are ties
    ],
)
def test_the_gate_says_what_is_missing(found, word):
    reason = shortfall(found, Gate())
    assert reason is None if word is None else re.fullmatch(word, reason)


def test_the_gate_can_be_set() -> None:
    found = found_of(sure_differ=500, iou=((0, 0.9),))
    assert shortfall(found, Gate(equal_pixels=0.95, iou=0.9)) is None
    assert shortfall(found, Gate(equal_pixels=0.951, iou=0.9)) is not None
    assert shortfall(found, Gate(equal_pixels=0.95, iou=0.901)) is not None


def test_one_class_alone_proves_nothing_and_confidences_in_fp32_do() -> None:
    found = found_of(confidence_difference=0.06, mean_confidence_difference=0.001)
    assert shortfall(found, Gate()) is None
    assert "confidences differ by up to 0.060" in (shortfall(found, Gate(), exact=True) or "")
    assert shortfall(found, Gate(equal_pixels=0.998), exact=True) is None
    near = found_of(confidence_difference=1 / 255, mean_confidence_difference=1 / 255)
    assert shortfall(near, Gate(), exact=True) is None


def test_in_lower_precisions_confidences_tell_another_network_on_average() -> None:
    found = found_of(confidence_difference=0.3, mean_confidence_difference=0.031)
    assert shortfall(found, Gate()) == (
        "confidences differ by 0.031 on average, those of one network by 0.03"
    )
    assert shortfall(found_of(confidence_difference=0.3, mean_confidence_difference=0.003), Gate()) is None


@pytest.mark.parametrize(
    ("equal", "iou", "noise", "gate", "passes"),
    [
        (9_995, (), 0.0, Gate(), True),
        (9_994, (), 0.0, Gate(), False),
        (9_990, (), 0.0101, Gate(), True),  # a tenth of what more halo changes
        (9_980, (), 0.0101, Gate(), False),
        (9_950, (), 0.0, Gate(equal_pixels=0.995), True),
        (10_000, ((2, 0.91),), 0.0, Gate(), True),
        (10_000, ((2, 0.89),), 0.0, Gate(), False),
        (10_000, ((2, 0.89),), 0.0, Gate(iou=0.8), True),
    ],
)
def test_without_scores_all_pixels_count_and_some_may_differ(equal, iou, noise, gate, passes):
    found = found_of(equal=equal, sure=None, iou=iou)
    reason = shortfall(found, gate, noise=noise)
    assert (reason is None) is passes
    assert passes or "of another class" in reason or "IoU of class 2" in reason


def test_without_scores_there_is_no_difference_of_confidence() -> None:
    label = Labels(classes=np.zeros((3, 5), np.uint8), confidence=None)
    found = agreement([label], [label])
    assert (found.sure, found.confidence_difference, found.mean_confidence_difference) == (None, None, None)

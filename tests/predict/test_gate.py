import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchseg.job.settings import Gate
from batchseg.predict.gate import Agreement, Labels, agreement, shortfall


def labels(seed: int, wrong: float, tiles: int = 2) -> tuple[list[Labels], list[Labels]]:
    """Answers of a reference, and of a candidate that differs in about `wrong` of the pixels."""
    random = np.random.default_rng(seed)
    pairs = []
    for _ in range(tiles):
        classes = random.integers(0, 4, (17, 23), dtype=np.uint8)
        other = np.where(random.random((17, 23)) < wrong, random.integers(0, 5, (17, 23)), classes)
        confidence = random.integers(1, 256, (2, 17, 23), dtype=np.uint8)
        pairs.append(
            (
                Labels(classes=classes, confidence=confidence[0]),
                Labels(classes=other.astype(np.uint8), confidence=confidence[1]),
            )
        )
    return [one for one, _ in pairs], [other for _, other in pairs]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.01, 0.3, 1.0]))
def test_iou_is_that_of_the_sets_of_pixels(seed, wrong):
    reference, candidate = labels(seed, wrong)
    found = agreement(reference, candidate)
    one = np.stack([label.classes for label in reference])
    other = np.stack([label.classes for label in candidate])
    assert (found.pixels, found.equal) == (one.size, int((one == other).sum()))
    assert [class_id for class_id, _ in found.iou] == sorted({*np.unique(one), *np.unique(other)})
    for class_id, value in found.iou:
        mine, theirs = set(np.flatnonzero(one == class_id)), set(np.flatnonzero(other == class_id))
        assert value == pytest.approx(len(mine & theirs) / len(mine | theirs))
    confidences = [
        (a.confidence.astype(int) - b.confidence) for a, b in zip(reference, candidate, strict=True)
    ]
    assert found.confidence_difference == pytest.approx(np.abs(confidences).max() / 255)


def test_without_scores_there_is_no_difference_of_confidence():
    label = Labels(classes=np.zeros((3, 5), np.uint8), confidence=None)
    assert agreement([label], [label]).confidence_difference is None


@pytest.mark.parametrize(
    ("equal", "iou", "word"),
    [
        (1000, ((0, 1.0), (3, 1.0)), None),
        (999, ((0, 0.999), (3, 0.99)), None),
        (998, ((0, 1.0),), r"99\.8000% of the pixels agree, 99\.90% are asked for"),
        (1000, ((0, 1.0), (3, 0.989)), r"IoU of class 3 is 0\.9890, 0\.99 is asked for"),
    ],
)
def test_the_gate_says_what_is_missing(equal, iou, word):
    found = Agreement(pixels=1000, equal=equal, iou=iou, confidence_difference=None)
    reason = shortfall(found, Gate())
    assert reason is None if word is None else re.fullmatch(word, reason)


def test_the_gate_can_be_set():
    found = Agreement(pixels=1000, equal=950, iou=((0, 0.9),), confidence_difference=None)
    assert shortfall(found, Gate(equal_pixels=0.95, iou=0.9)) is None


def test_one_class_alone_proves_nothing_and_confidences_in_fp32_do() -> None:
    found = Agreement(pixels=100, equal=100, iou=((0, 1.0),), confidence_difference=0.06)
    assert shortfall(found, Gate()) is None
    assert "confidences differ by up to 0.060" in (shortfall(found, Gate(), exact=True) or "")
    assert shortfall(found, Gate(equal_pixels=0.998), exact=True) is None
    near = Agreement(pixels=100, equal=100, iou=((0, 1.0),), confidence_difference=1 / 255)
    assert shortfall(near, Gate(), exact=True) is None

"""The temperature that makes probabilities mean what they say."""

import numpy as np
import pytest
from factories import make_facts, make_recipe
from hypothesis import given, settings
from hypothesis import strategies as st
from probed import bare, noise, write_conv

from batchseg.errors import ModelError
from batchseg.predict.label_counts import LabelCounts
from batchseg.predict.scores import Scorer
from batchseg.predict.temperature import (
    BINS,
    best_temperature,
    calibration,
    log_probabilities,
    reliability,
)
from batchseg.predict.truth import Known


def drawn(scores: np.ndarray, seed: int = 0) -> np.ndarray:
    """Classes as likely as their softmax says."""
    share = np.exp(scores - scores.max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    return (share.cumsum(axis=1) < np.random.default_rng(seed).random((len(scores), 1))).sum(axis=1)


@settings(deadline=None, max_examples=20)
@given(st.floats(0.3, 4.0), st.integers(2, 6), st.integers(0, 99))
def test_scores_that_were_multiplied_are_divided_again(wrong, classes, seed):
    true = np.random.default_rng(seed).normal(0, 2, (40_000, classes))
    labels = drawn(true, seed)
    found = best_temperature(true * wrong, labels)
    assert found == pytest.approx(wrong, rel=0.06)
    assert reliability(true * wrong, labels, temperature=found).error < 0.02


def test_what_a_network_says_and_how_often_it_is_right_is_counted() -> None:
    # Three pixels said with 0.9, of which two are right; one said with 0.55, which is wrong.
    share = np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.55, 0.45]])
    found = reliability(np.log(share), np.array([0, 1, 1, 1]))
    assert sum(found.counts) == 4
    high, low = int(0.9 * BINS), int(0.55 * BINS)
    assert (found.counts[high], found.counts[low]) == (3, 1)
    assert (found.said[high], found.right[high]) == pytest.approx((0.9, 2 / 3))
    assert found.error == pytest.approx((3 * (0.9 - 2 / 3) + 0.55) / 4)


def test_a_temperature_changes_no_class() -> None:
    logs = np.random.default_rng(0).normal(0, 3, (1000, 4))
    right = [reliability(logs, logs.argmax(axis=1), temperature=t) for t in (0.2, 1.0, 7.0)]
    assert all(share in (0.0, 1.0) for one in right for share in one.right)


@pytest.mark.parametrize("kind", ["logits", "probabilities", "sigmoid"])
def test_logarithms_are_of_each_kind_of_scores(kind) -> None:
    recipe = make_recipe(facts=make_facts(output=kind))
    scores = np.random.default_rng(0).random((1 if kind == "sigmoid" else 3, 4, 5)).astype(np.float32)
    if kind == "probabilities":
        scores /= scores.sum(axis=0)
    share = np.exp(log_probabilities(scores, recipe))
    np.testing.assert_allclose(share.sum(axis=0), 1, atol=1e-5)
    if kind == "sigmoid":
        np.testing.assert_allclose(share[1], scores[0], rtol=1e-5)
    if kind == "probabilities":
        np.testing.assert_allclose(share, scores, rtol=1e-5)


def test_it_is_found_on_some_images_and_judged_on_others(tmp_path) -> None:
    recipe = bare(write_conv(tmp_path / "a.onnx", 2, gain=4.0))
    scorer, known = Scorer(recipe), []
    for seed in range(4):
        sample = noise(recipe, 200, seed)
        scores = scorer.output(sample.pixels, sample)
        classes = drawn(scores.reshape(3, -1).T / 2.0, seed).reshape(200, 200).astype(np.uint16)
        classes[:20] = 255  # what nobody knows
        known.append(Known(sample=sample, classes=classes))
    found = calibration(recipe, known, workers=1)
    assert (found.fitted, found.judged) == (2, 2)
    assert sum(found.before.counts) == sum(found.after.counts) == 2 * 180 * 200
    assert found.temperature == pytest.approx(2.0, rel=0.15)
    assert found.after.error < found.before.error


def test_ids_and_labels_of_other_classes_are_refused(tmp_path) -> None:
    recipe = bare(write_conv(tmp_path / "a.onnx", 2, gain=0.02))
    ids = make_recipe(facts=make_facts(output="classes"))
    with pytest.raises(ModelError, match="no scores"):
        calibration(ids, [], workers=1)
    sample = noise(recipe, 100)
    foreign = [Known(sample=sample, classes=np.full((100, 100), 7, np.uint16))] * 2
    with pytest.raises(ModelError, match=r"labels hold no class of the model; 100.0 % .* are no class \(7\)"):
        calibration(recipe, foreign, workers=1)


@pytest.mark.parametrize("lacking", [0, 1])
def test_labels_of_one_class_are_refused_whichever_images_hold_another(tmp_path, lacking) -> None:
    """Labels of 0 and 255: of what a network finds, nothing counts, and it would be sure of the rest."""
    recipe = bare(write_conv(tmp_path / "a.onnx", 2, gain=0.02))
    sample = noise(recipe, 100)
    both, one = (np.zeros((100, 100), np.uint16) for _ in range(2))
    both[:50], one[:50] = 1, 255
    known = [Known(sample=sample, classes=classes) for classes in (both, one)]
    with pytest.raises(
        ModelError, match=r"two classes in each half .* hold classes 0 and 1; 25.0 % .*255.*0 to 2"
    ):
        calibration(recipe, known[lacking:] + known[:lacking], workers=1)
    with pytest.raises(ModelError, match=r"their labels hold class 0; 50.0 % of the pixels are no class"):
        calibration(recipe, known[1:] * 2, workers=1)
    found = calibration(recipe, known[:1] * 2 + known[1:], workers=1)
    assert found.labels == LabelCounts(classes=(15_000, 10_000, 0), others=((255, 5_000),))

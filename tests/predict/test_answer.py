"""Thresholds, unknown pixels and probabilities against a plain rule, pixel by pixel."""

import numpy as np
import pytest
from factories import make_facts, make_recipe
from hypothesis import given, settings
from hypothesis import strategies as st

from batchseg.predict.answer import Answer, decide, said_of

properties = settings(deadline=None, max_examples=60)
WHOLE = slice(None), slice(None)


def plain(shares: list[int], thresholds: list[int], ignore_below: int, unknown: int | None) -> int:
    """Class of one pixel, as docs/jobs.md says it."""
    taking_part = [k for k, q in enumerate(shares) if q >= thresholds[k]]
    best = max(taking_part, key=lambda k: (shares[k], -k), default=None)
    if unknown is not None and (best is None or shares[best] < ignore_below):
        return unknown
    assert best is not None
    return best


@properties
@given(
    st.integers(2, 6),
    st.integers(0, 2**32 - 1),
    st.booleans(),
    st.sampled_from([1, 65536]),
)
def test_classes_follow_from_thresholds(count, seed, tells_unknown, unit):
    random = np.random.default_rng(seed)
    shares = random.integers(1, 256, (count, 4, 5))
    thresholds = random.integers(0, 256, count) * random.integers(0, 2, count)
    if not tells_unknown:
        thresholds[random.integers(count)] = 0
    ignore = int(random.integers(1, 200)) if tells_unknown else 0
    recipe = make_recipe(
        class_count=count + tells_unknown,
        facts=make_facts(class_count=count),
        thresholds=tuple(int(t) for t in thresholds) if thresholds.any() else (),
        ignore_below=ignore,
        unknown=count if tells_unknown else None,
        confidence=True,
        probabilities=(count - 1, 0),
    )
    planes = shares.astype(np.uint32) * unit
    found = decide(planes, unit, recipe)
    for row in range(4):
        for col in range(5):
            pixel = shares[:, row, col].tolist()
            expected = plain(pixel, thresholds.tolist(), ignore, recipe.unknown)
            assert found.classes[row, col] == expected
            own = max(pixel) if expected == recipe.unknown else pixel[expected]
            if expected != recipe.unknown:
                assert found.confidence[row, col] == own
            assert found.probabilities[:, row, col].tolist() == [pixel[count - 1], pixel[0]]


def test_where_nothing_is_known_is_no_data():
    planes = np.zeros((3, 1, 2), np.uint32)
    planes[:, 0, 1] = np.array([10, 200, 45]) * 65536
    recipe = make_recipe(
        class_count=4,
        facts=make_facts(class_count=3),
        unknown=3,
        ignore_below=1,
        confidence=True,
        probabilities=(0,),
    )
    found = decide(planes, 65536, recipe)
    assert found.classes.tolist() == [[255, 1]]
    assert found.confidence.tolist() == [[0, 200]]
    assert found.probabilities.tolist() == [[[0, 10]]]


@pytest.mark.parametrize("output", ["logits", "probabilities", "sigmoid"])
def test_a_network_outside_the_graph_gives_the_same_probabilities(output):
    random = np.random.default_rng(3)
    if output == "sigmoid":
        scores = random.uniform(size=(1, 3, 4)).astype(np.float32)
        expected = np.concatenate((1 - scores, scores))
    else:
        scores = random.normal(0, 2, (3, 3, 4)).astype(np.float32)
        expected = np.exp(scores) / np.exp(scores).sum(axis=0)
        scores = expected.astype(np.float32) if output == "probabilities" else scores
    count = len(expected)
    recipe = make_recipe(output=output, class_count=count, probabilities=tuple(range(count)), confidence=True)
    said = said_of(Answer(output=scores), WHOLE, recipe)
    assert (
        np.abs(said.probabilities / 255 - expected).max() <= 0.5 / 255 + 1e-6 or said.probabilities.min() == 1
    )
    assert np.array_equal(said.classes, expected.argmax(axis=0))
    assert np.abs(said.confidence / 255 - expected.max(axis=0)).max() <= 0.5 / 255 + 1e-6


@properties
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_thresholds_compare_the_bytes_that_are_written(seed, ignores):
    """Of sums too, which lie between two bytes: who reads the probabilities gets the same classes."""
    unit = 65536
    planes = np.random.default_rng(seed).integers(120 * unit, 136 * unit, (3, 6, 7)).astype(np.uint32)
    recipe = make_recipe(
        class_count=4,
        facts=make_facts(class_count=3),
        thresholds=() if ignores else (128, 128, 128),
        ignore_below=128 if ignores else 0,
        unknown=3,
        probabilities=(0, 1, 2),
    )
    found = decide(planes, unit, recipe)
    assert np.array_equal(found.classes == 3, found.probabilities.max(axis=0) < 128)

import dataclasses

import numpy as np
import pytest
from factories import make_recipe

from batchseg.job.settings import Gate, Values
from batchseg.predict.answer import classify, margin, probabilities
from batchseg.predict.gate import Labels, agreement, shortfall
from batchseg.predict.halo import _numbers_compared
from batchseg.predict.numbers import HIGHEST, divided, has_data, no_data, real, stored

FLOATS = Values()
STEPS = Values(dtype="uint16", scale=0.5, offset=-10.0)


def test_floats_stay_as_they_are_and_what_is_not_finite_is_no_data():
    numbers = np.array([[1.25, -3e30, np.nan, np.inf, -np.inf]], np.float32)
    found = stored(numbers, FLOATS)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.array([[1.25, -3e30, np.nan, np.nan, np.nan]], np.float32))
    assert has_data(found).tolist() == [[True, True, False, False, False]]


def test_uint16_rounds_to_steps_and_clips_what_lies_beyond():
    numbers = np.array([[-10, -9.4, 0, 1e9, -11, np.nan]], np.float32)
    found = stored(numbers, STEPS)
    assert found.tolist() == [[0, 1, 20, HIGHEST, 0, 65535]]
    assert has_data(found).tolist() == [[True] * 5 + [False]]
    assert real(found[0, 2], STEPS) == 0


@pytest.mark.parametrize("values", [FLOATS, STEPS])
def test_no_data_has_none(values):
    pixels = no_data((2, 3), values)
    assert (pixels.shape, str(pixels.dtype)) == ((2, 3), values.dtype)
    assert not has_data(pixels).any()


def test_what_is_above_the_threshold_is_class_1():
    numbers = np.array([[0.49, 0.5, 0.51]], np.float32)
    assert divided(numbers, 0.5).tolist() == [[0, 0, 1]]
    assert divided(numbers, None).tolist() == [[0, 0, 0]]


def recipe_of(**values):
    recipe = make_recipe()
    facts = dataclasses.replace(recipe.facts, output="values", class_count=None)
    return dataclasses.replace(recipe, facts=facts, bake=None, values=Values(**values))


def test_classes_of_numbers_and_nothing_else_of_them():
    numbers = np.array([[[0.4, 0.6, np.nan]]], np.float32)
    assert classify(numbers, recipe_of(threshold=0.5)).tolist() == [[0, 1, 255]]
    assert classify(numbers, recipe_of()).tolist() == [[0, 0, 255]]
    assert margin(numbers, recipe_of()) is None
    assert probabilities(numbers, recipe_of()) is None


def labels(numbers):
    numbers = np.asarray(numbers, np.float32)
    return Labels(classes=np.zeros(numbers.shape, np.uint8), values=numbers)


def test_engines_are_compared_by_how_far_numbers_are_apart():
    reference = np.linspace(0, 100, 10_000, dtype=np.float32).reshape(100, 100)
    reference[0, 0] = np.nan
    near = agreement([labels(reference)], [labels(reference + 0.09)])
    assert (near.equal, near.tolerance) == (10_000, 1e-3)
    assert shortfall(near, Gate()) is None
    far = agreement([labels(reference)], [labels(reference + 0.2)])
    assert far.equal == 1
    assert "of the numbers are off by more than 0.1% of their span" in str(shortfall(far, Gate()))
    assert agreement([labels(reference)], [labels(reference + 0.2)], tolerance=1e-2).equal == 10_000


def test_a_number_that_is_none_is_like_none_alone():
    reference, other = np.array([[1, np.nan]]), np.array([[1, 2.0]])
    assert agreement([labels(reference)], [labels(other)]).equal == 1


def test_settings_of_numbers_are_in_the_digest():
    plain = recipe_of()
    assert plain.settings()["values: dtype"] == "float32"
    assert len({recipe_of(threshold=t).digest for t in (0.5, 0.6)} | {plain.digest}) == 3
    assert "values: dtype" not in make_recipe().settings()


def test_a_halo_changes_numbers_by_shares_of_their_span():
    settled = np.linspace(-50, 50, 10_000, dtype=np.float32).reshape(100, 100)
    seen = settled.copy()
    seen[0, :7] += 0.5
    seen[5, 5] += 0.05
    ids = np.zeros(settled.shape, np.uint8)
    figure = _numbers_compared((ids, seen), (ids, settled))
    assert (figure.pixels, figure.changed) == (10_000, 7)
    assert figure.probability == pytest.approx(0.005, rel=1e-3)
    assert figure.shown > 9_900
    flat = np.zeros_like(settled)
    same = _numbers_compared((ids, flat), (ids, flat))
    assert (same.shown, same.changed) == (0, 0)
    seen[9, 9] = np.nan
    assert _numbers_compared((ids, seen), (ids, settled)).changed == 8

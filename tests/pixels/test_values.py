"""What samples hold is counted over all of them; untagged nodata is shown and not judged."""

import numpy as np
from drawn_values import IMAGENET, TRANSFORMS, divide, held
from factories import make_recipe

from batchseg.pixels.values import ValueSample, hold


def sample(pixels, scale=TRANSFORMS) -> ValueSample:
    return ValueSample(source_id="a", dtype=str(pixels.dtype), pixels=pixels, scale=scale)


def test_what_the_network_gets_is_scaled_and_normalised() -> None:
    raw = np.array([[0, 255], [51, 204], [0, 0]], np.uint8)
    given = held(raw, TRANSFORMS, IMAGENET).given()
    np.testing.assert_allclose(given.scaled, raw / 255)
    np.testing.assert_allclose(given.values[0], [(0 - 0.485) / 0.229, (1 - 0.485) / 0.229])


def test_each_sample_has_its_own_scale() -> None:
    one, other = sample(np.full((3, 2), 10.0), divide(10)), sample(np.full((3, 1), 10.0), divide(100))
    found = hold([one, other], make_recipe(normalize=None))
    assert found is not None
    assert found.given().scaled[0].tolist() == [1, 1, 0.1]
    assert found.given_by(divide(5), None).scaled[0].tolist() == [2, 2, 2]


def test_what_is_not_finite_counts_for_nothing() -> None:
    raw = np.array([[np.nan, 1.0], [2.0, 2.0], [3.0, np.inf]])
    assert hold([sample(raw)], make_recipe()) is None
    assert hold([], make_recipe()) is None
    raw[2, 1] = 3
    found = hold([sample(raw)], make_recipe())
    assert found is not None
    assert found.pixels.tolist() == [[1.0], [2.0], [3.0]]


def test_edges_that_many_pixels_hold_are_not_judged() -> None:
    raw = np.array([[-9999] * 5 + [1, 2, 3]] * 3, np.float32)
    assert held(raw, divide(1), None).judged.tolist() == [False] * 5 + [True, True, False]
    assert held(raw[:, :5], divide(1), None).judged.all()

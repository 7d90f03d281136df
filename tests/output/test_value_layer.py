import numpy as np
import pytest

from batchseg.job.settings import Values
from batchseg.output.value_layer import ValueCensus, halve_values, spread_of, undivided
from batchseg.predict.numbers import stored

STEPS = Values(dtype="uint16", scale=0.5, offset=-10.0)


@pytest.mark.parametrize("values", [Values(), STEPS])
def test_strips_add_up_to_the_whole(values):
    numbers = np.random.default_rng(0).uniform(-9, 9, (40, 30)).astype(np.float32)
    numbers[:10] = np.nan
    pixels = stored(numbers, values)
    census = ValueCensus(values)
    for row in range(0, 40, 8):
        census.look(pixels[row : row + 8])
    low, mean, high = census.found().lowest_mean_highest
    assert (low, high) == spread_of(pixels, values).lowest_mean_highest[::2]
    expected = [np.nanmin(numbers), np.nanmean(numbers), np.nanmax(numbers)]
    assert [low, mean, high] == pytest.approx(expected, abs=0.26 if values.dtype == "uint16" else 1e-6)


def test_nothing_is_known_of_no_data():
    found = spread_of(np.full((3, 3), np.nan, np.float32), Values())
    assert (found.lowest_mean_highest, found.clipped) == ((), 0)


def test_pixels_at_an_end_of_uint16_are_counted():
    numbers = np.array([[-99, -10, 0, 1e6, np.nan]], np.float32)
    assert spread_of(stored(numbers, STEPS), STEPS).clipped == 3
    assert spread_of(numbers, Values()).clipped == 0


def test_ids_of_what_has_no_classes():
    assert undivided(np.array([[1, np.nan]], np.float32), 255).tolist() == [[0, 255]]
    assert undivided(np.array([[1, 65535]], np.uint16), 255).tolist() == [[0, 255]]


def test_half_of_an_odd_size_keeps_type_and_no_data():
    floats = np.full((3, 5), np.nan, np.float32)
    floats[2, 4] = 7
    half = halve_values(floats)
    assert (half.dtype, half.shape, half[1, 2]) == (np.float32, (2, 3), 7)
    assert np.isnan(half).sum() == 5
    steps = np.full((3, 5), 65534, np.uint16)
    assert halve_values(steps).tolist() == [[65534] * 3] * 2

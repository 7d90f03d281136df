"""How fast scenes get done, told from answers that come in bunches."""

import pytest

from batchseg.driver.pace import Pace


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_a_pace_is_not_known_before_answers_span_some_time():
    clock = Clock()
    pace = Pace(clock)
    pace.note(1000, 1)
    assert pace.tiles_per_second is None, "nobody knows when the first one began"
    clock.now += 0.1
    pace.note(10, 1)
    assert pace.tiles_per_second is None


@pytest.mark.parametrize("predictors", [1, 4])
@pytest.mark.parametrize("bunch", [1, 7, 40])
def test_a_steady_pace_is_found_however_answers_are_bunched(bunch, predictors):
    """Each predictor does 20 tiles a second, and answers for `bunch` of them at once."""
    clock = Clock()
    pace = Pace(clock)
    pace.note(5, predictors)
    for _ in range(200):
        clock.now += bunch / 20 / predictors
        pace.note(bunch, predictors)
    assert pace.tiles_per_second == pytest.approx(20, rel=0.15)


def test_a_pace_follows_what_gets_slower():
    clock = Clock()
    pace = Pace(clock)
    pace.note(1, 1)
    for speed in (100, 10):
        for _ in range(30):
            clock.now += 0.6
            pace.note(round(speed * 0.6), 1)
        assert pace.tiles_per_second == pytest.approx(speed, rel=0.05)

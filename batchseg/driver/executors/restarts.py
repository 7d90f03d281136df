"""When predictors that die are made anew no more."""

from collections.abc import Iterable

from batchseg.errors import StoppedError

MAX_RESTARTS_IN_A_ROW = 3
"""Predictors that die before they are loaded, one after the other, before their seat is closed."""


def is_enough(died_in_a_row: int) -> bool:
    """Whether so many that died at their start close a seat."""
    return died_in_a_row > MAX_RESTARTS_IN_A_ROW


def all_died(reasons: Iterable[str]) -> StoppedError:
    """Of a run whose seats are all closed. `reasons`: why predictors died last, empty where nobody knows."""
    why = next((f" ({reason})" for reason in reasons if reason), "")
    count = MAX_RESTARTS_IN_A_ROW + 1
    return StoppedError(f"a predictor died {count} times in a row; is there enough memory?{why}")

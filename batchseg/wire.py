"""Small values that cross processes by the thousand, pickled as tuples."""

from collections.abc import Callable
from functools import cache
from operator import attrgetter
from typing import Any


class Sent:
    """Base of frozen dataclasses with slots, at least two of them.

    Python's own way asks each object for its fields by name: 13 us for a window, and a driver of hundreds of
    predictors sends thousands a second.
    """

    __slots__ = ()

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        kind: Any = type(self)
        return _received, (kind, *_values(kind)(self))


@cache
def _values(kind: type) -> Callable[[Any], tuple[Any, ...]]:
    return attrgetter(*kind.__slots__)  # type: ignore[attr-defined]


def _received(kind: type, *values: Any) -> Any:
    made: Any = object.__new__(kind)
    for name, value in zip(kind.__slots__, values, strict=True):  # type: ignore[attr-defined]
        object.__setattr__(made, name, value)
    return made

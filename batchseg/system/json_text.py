"""JSON that somebody else may have written: its value, or a ValueError, whatever it holds."""

import json
from typing import Any

DEPTH = 200
"""Lists and objects inside each other, at most: what reads, compares or shows a value recurses into it."""

_NESTS = (dict, list)


def parse_json(data: bytes | str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is no JSON, or is nested more than DEPTH deep.
    """
    try:
        value = json.loads(data)
    except RecursionError as e:
        raise _too_deep() from e
    level = [value] if isinstance(value, _NESTS) else []
    for _ in range(DEPTH + 1):
        if not level:
            return value
        inside = (outer.values() if isinstance(outer, dict) else outer for outer in level)
        level = [inner for values in inside for inner in values if isinstance(inner, _NESTS)]
    raise _too_deep()


def _too_deep() -> ValueError:
    return ValueError(f"it is nested more than {DEPTH} deep")

"""A value that somebody else wrote, as a message may quote it."""

from typing import Any

LONGEST = 100
"""Characters."""


def excerpt(value: Any) -> str:
    """Its repr, of which a long one is cut; never an error.

    >>> excerpt([1, "a"]), len(excerpt("a" * 1000)), excerpt(16**5000)
    ("[1, 'a']", 100, 'something too large to show')
    """
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # Python shows no number of more than 4300 digits
        return "something too large to show"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."

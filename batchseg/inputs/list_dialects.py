"""What stands between the cells of a list: a comma, or what spreadsheets write in its place."""

import csv
import re
from collections.abc import Sequence

SEPARATORS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}
"""The first of these by which a header has the columns that are wanted; and what messages call it."""

_NOTHING = re.compile(r"[\s,;|\x1a]*")
"""Separators of any kind, and what DOS writes behind a file's end."""

_SAID = re.compile(r'"?sep=([,;|\t])"?\s*', re.IGNORECASE)
"""A first line for Excel."""


def said_separator(line: str) -> str:
    r"""What a list's first line says for Excel; empty where it is no such line.

    >>> said_separator("sep=;\r\n"), said_separator('"SEP=,"\n'), said_separator("uri,sep=;\n")
    (';', ',', '')
    """
    found = _SAID.fullmatch(line)
    return found[1] if found else ""


def is_nothing(line: str) -> bool:
    r"""Whether a line has nothing but separators, whichever its list has, or Ctrl-Z.

    >>> [is_nothing(line) for line in (";;\n", "\x1a", " ,\t|\r\n", "./;\n")]
    [True, True, True, False]
    """
    return _NOTHING.fullmatch(line) is not None


def separator_of(header: str, wanted: Sequence[str]) -> str:
    r"""What separates the cells of a header, as far as its first line tells.

    Args:
        header: the line.
        wanted: names of columns that it must have.

    Returns:
        Where none gives these columns, what gives the most.

    >>> [separator_of(header, ["uri"]) for header in ("uri,n;m\n", "uri;size, mm\n", "a\tb\n")]
    [',', ';', '\t']
    """
    counts: dict[str, int] = {}
    for separator in SEPARATORS:
        try:
            names = next(csv.reader([header.rstrip("\r\n")], delimiter=separator), [])
        except csv.Error:  # a cell of more characters than that module takes
            return ","
        if {*wanted} <= {name.strip() for name in names}:
            return separator
        counts[separator] = len(names)
    return max(counts, key=lambda separator: counts[separator])

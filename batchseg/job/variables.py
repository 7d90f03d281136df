"""`${NAME}` in a job file: filled in from the environment, and named in messages instead of quoted."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from batchseg.errors import ConfigError

VARIABLE = re.compile(r"\$\{(\w+)\}")

SHORT = 6
"""Characters of a value that may well be a part of another word."""


class Filled(str):
    """Text with variables filled in. In messages that quote it, it stands as the job file has it."""

    written: str

    def __new__(cls, text: str, written: str = "") -> "Filled":
        filled = super().__new__(cls, text)
        filled.written = written
        return filled

    def __repr__(self) -> str:
        return repr(self.written)


def fill_in(value: Any, variables: Mapping[str, str], path: str) -> Any:
    """A job file's keys with all `${NAME}` in their values filled in.

    Args:
        value: of a YAML file.
        variables: values by name.
        path: of the file, for the message.

    Raises:
        ConfigError: a variable is not set.
    """
    if isinstance(value, dict):
        return {key: fill_in(item, variables, path) for key, item in value.items()}
    if isinstance(value, list):
        return [fill_in(item, variables, path) for item in value]
    if not isinstance(value, str):
        return value
    for name in VARIABLE.findall(value):
        if name not in variables:
            msg = f"{path}: ${{{name}}} is not set in the environment; export {name}=... or write the value"
            raise ConfigError(msg)
    filled = VARIABLE.sub(lambda match: variables[match[1]], value)
    return value if filled == value else Filled(filled, value)


def names_in(value: Any) -> set[str]:
    """Of the variables that a job file's keys hold, before they are filled in."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return set().union(*map(names_in, value))
    return set(VARIABLE.findall(value)) if isinstance(value, str) else set()


def as_written(text: str, given: Any) -> str:
    """A message about keys, in which what was filled in stands as the job file has it.

    Args:
        text: the message.
        given: the keys, after `fill_in`.
    """
    for filled in sorted(_filled(given), key=len, reverse=True):
        for spelt in (str(filled), repr(str(filled))[1:-1]):
            edge = r"\b" if len(spelt) < SHORT and spelt.isalnum() else ""
            text = re.sub(f"{edge}{re.escape(spelt)}{edge}", _same(filled.written), text)
    return text


def _same(text: str) -> Callable[[re.Match[str]], str]:
    """For `re.sub`, which would read what follows a backslash."""
    return lambda _: text


def plain(value: Any) -> Any:
    """Keys whose texts are nothing but texts."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Filled) else value


def _filled(value: Any) -> Iterator[Filled]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _filled(item)
    elif isinstance(value, Filled) and value.strip():
        yield value

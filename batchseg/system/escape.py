"""Text made fit to be shown: names come from files, and a terminal obeys what some characters say.

A name may hold escape sequences, which move the cursor or set a window's title, line breaks, which add lines
to a log, and marks that turn the direction of writing. Whatever leaves for people (terminal, notebook, log,
plan) passes here, line by line. Tables and JSON keep names as they are.
"""

import contextlib
import re
import traceback
import unicodedata
from collections.abc import Iterator

from batchseg.errors import BatchsegError
from batchseg.system.redact import hidden, impersonal

_JOINERS = "\u200c\u200d"
"""Between letters of Persian and Hindi, and between the people of a family."""

_FLAG = re.compile("\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{3,6}\U000e007f")
"""Of England, for example: a black flag, the country's letters as tags, the tags' end."""


def escaped(text: str) -> str:
    r"""Text on one line, in which each character that is none to look at stands as its code.

    These are line breaks, control characters, marks of direction and width, halves of pairs (names that are
    not UTF-8), and what Unicode has not assigned. Escaping twice changes nothing more. Letters of every
    script stay, with what joins or parts two of them, and so do emoji and all kinds of blanks.

    >>> escaped("a\tb\x1b[2J\u202e\udcff")
    'a\\tb\\x1b[2J\\u202e\\udcff'
    """
    if text.isprintable():
        return text
    flags = {at for flag in _FLAG.finditer(text) for at in range(*flag.span())}
    return "".join(
        c if at in flags or _is_seen(c) or _joins(text, at) else code_of(c) for at, c in enumerate(text)
    )


def code_of(character: str) -> str:
    r"""As Python spells it: `\n`, `\x1b`, `\u202e`."""
    return character.encode("unicode_escape").decode("ascii")


def shown(text: str, *, name_variables: bool = False) -> str:
    """One line for people, without credentials.

    Args:
        text: what is said; its line breaks are of the names in it.
        name_variables: put `${NAME}` for the values that the job file took from the environment.
    """
    clean = impersonal if name_variables else hidden
    line = escaped(clean(text))
    return line if line == text else clean(line)  # a line break had parted what is one word now


def shown_traceback(error: BaseException) -> str:
    """A traceback for people: as Python prints it, but what each error says is one line."""
    return "\n".join(shown(line, name_variables=True) for line in _traceback(error, frozenset()))


@contextlib.contextmanager
def errors_shown() -> Iterator[None]:
    """What batchseg raises within it is fit to be shown by whoever catches it, or by Python."""
    try:
        yield
    except BatchsegError as e:
        make_shown(e)
        raise


def make_shown(error: BatchsegError) -> None:
    error.args = tuple(shown(line, name_variables=True) for line in error.lines)


def _traceback(error: BaseException, later: frozenset[int]) -> Iterator[str]:
    """Lines of what led to an error, and of the error. `later`: ids of the errors that come after it."""
    later |= {id(error)}
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None and id(before) not in later:
        yield from _traceback(before, later)
        yield from ("", _CAUSE if error.__cause__ else _CONTEXT, "")
    if error.__traceback__ is not None:
        yield "Traceback (most recent call last):"
    for entry in traceback.format_tb(error.__traceback__):
        yield from entry.rstrip("\n").split("\n")
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    said = str(error)
    yield f"{name}: {said}" if said else name
    for note in getattr(error, "__notes__", ()):
        yield from note.split("\n")


_CAUSE = "The above exception was the direct cause of the following exception:"
_CONTEXT = "During handling of the above exception, another exception occurred:"


def _is_seen(character: str) -> bool:
    is_emoji = "\U0001f000" <= character <= "\U0001faff"  # those that this Python does not know yet, too
    return character.isprintable() or is_emoji or unicodedata.category(character) == "Zs"


def _joins(text: str, at: int) -> bool:
    """Whether it is a joiner between two characters that are seen and no blanks."""
    beside = (text[at - 1 : at], text[at + 1 : at + 2])
    return text[at] in _JOINERS and all(c and _is_seen(c) and not c.isspace() for c in beside)

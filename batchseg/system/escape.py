"""Text made fit to be shown: names come from files, and a terminal obeys what some characters say.

A name may hold escape sequences, which move the cursor or set a window's title, line breaks, which add lines
to a log, and marks that turn the direction of writing. Whatever leaves for people (terminal, notebook, log,
plan) passes here, line by line. Tables and JSON keep names as they are.
"""

import traceback
import unicodedata

from batchseg.system.redact import hidden, impersonal


def escaped(text: str) -> str:
    r"""Text on one line, in which each character that is none to look at stands as its code.

    These are line breaks, control characters, marks of direction and width, halves of pairs (names that are
    not UTF-8), and what Unicode has not assigned. Escaping twice changes nothing more. Letters of every
    script stay, and so do all kinds of blanks.

    >>> escaped("a\tb\x1b[2J\u202e\udcff")
    'a\\tb\\x1b[2J\\u202e\\udcff'
    """
    if text.isprintable():
        return text
    return "".join(c if _is_seen(c) else code_of(c) for c in text)


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
    """A traceback for people: as Python prints it, but the words of errors are one line each."""
    text = "".join(traceback.format_exception(error))
    for said in sorted(_words_of(error), key=len, reverse=True):
        text = text.replace(said, escaped(said))
    return "\n".join(shown(line, name_variables=True) for line in text.rstrip("\n").split("\n"))


def _is_seen(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"


def _words_of(error: BaseException) -> set[str]:
    """What an error and all that led to it say, where it is more than a line."""
    found: set[str] = set()
    known: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        one = left.pop()
        if one is None or id(one) in known:
            continue
        known.add(id(one))
        left += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]
        found.add(str(one))
    return {said for said in found if "\n" in said}

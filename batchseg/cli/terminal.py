"""The process's own face: its standard streams, kept for batchseg alone, and what a command answers."""

import argparse
import contextlib
import io
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TextIO

from batchseg.api.own_process import send_chatter_to
from batchseg.errors import EXIT_OK
from batchseg.system.escape import shown
from batchseg.system.redact import hidden
from batchseg.system.utf8 import terminal_encoding

UNKNOWN = "backslashreplace"
"""How a stream writes what its encoding lacks, such as an umlaut in ASCII: as its code, not with an error."""


class Streams:
    """The user's stdout and stderr, taken from everybody else.

    Ray and Paddle print from C++ and from threads, past Python's sys.stdout; so file descriptors 1
    and 2 themselves are pointed at a file while they work.
    """

    def __init__(self) -> None:
        for number in (0, 1, 2):  # closed by a daemon: another file must not get their numbers
            with contextlib.suppress(OSError):
                os.fstat(number)
                continue
            os.open(os.devnull, os.O_RDWR)
        sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115, PTH123
        sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115, PTH123
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(encoding=terminal_encoding(), errors=UNKNOWN)
        self.out: TextIO = sys.stdout
        self.err: TextIO = sys.stderr
        self._saved: list[int] = []

    def take(self) -> None:
        """Point descriptors 1 and 2 at nowhere until a run has a file for it; keep the user's own for us.

        Of what libraries print, nobody escapes the names.
        """
        sys.stdout.flush()
        sys.stderr.flush()
        self._saved = [os.dup(1), os.dup(2)]
        self.out = os.fdopen(os.dup(1), "w", buffering=1, encoding=sys.stdout.encoding, errors=UNKNOWN)
        self.err = os.fdopen(os.dup(2), "w", buffering=1, encoding=sys.stderr.encoding, errors=UNKNOWN)
        send_chatter_to(os.devnull)

    def give_back(self) -> None:
        if self._saved:
            with contextlib.suppress(OSError):
                self.out.flush()
                self.err.flush()
            for saved, number in zip(self._saved, (1, 2), strict=True):
                os.dup2(saved, number)
                os.close(saved)
            self._saved = []


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command comes to: `main` prints the lines on stdout and exits with the code.

    A line break within a line is of a name, and is escaped.
    """

    lines: Sequence[str]
    code: int = EXIT_OK


class Parser(argparse.ArgumentParser):
    """Of words that may be names of files, by the shell's globs."""

    def error(self, message: str) -> NoReturn:
        super().error(shown(message))


def json_lines(document: Any, default: Callable[[Any], Any] | None = None) -> list[str]:
    """A document for programs, in lines: names as they are, in ASCII, and no credentials.

    Args:
        document: of what JSON has.
        default: makes such of something else.
    """
    text = json.dumps(_without_credentials(document), indent=1, default=default)
    return text.replace("\x7f", "\\u007f").split("\n")


def _without_credentials(value: Any) -> Any:
    if isinstance(value, str):
        return hidden(value)
    if isinstance(value, Mapping):
        return {key: _without_credentials(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_credentials(item) for item in value]
    return value


Say = Callable[[str], None]
"""Tells the user at once, on stderr, what is being done."""

Action = Callable[[argparse.Namespace, Streams, Say], Answer]
"""A command, as its parser has it in `action`, beside `only_looks` where it changes nothing. It prints
nothing; it takes the streams if libraries may."""

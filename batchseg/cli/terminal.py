"""The process's own face: its standard streams, kept for batchseg alone, and what a command answers."""

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TextIO

from batchseg.api.own_process import send_chatter_to
from batchseg.errors import EXIT_OK


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
        self.out: TextIO = sys.stdout
        self.err: TextIO = sys.stderr
        self._saved: list[int] = []

    def take(self) -> None:
        """Point descriptors 1 and 2 at nowhere until a run has a file for it; keep the user's own for us."""
        sys.stdout.flush()
        sys.stderr.flush()
        self._saved = [os.dup(1), os.dup(2)]
        self.out = os.fdopen(os.dup(1), "w", buffering=1)
        self.err = os.fdopen(os.dup(2), "w", buffering=1)
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
    """What a command comes to: `main` prints the lines on stdout and exits with the code."""

    lines: Sequence[str]
    code: int = EXIT_OK


Say = Callable[[str], None]
"""Tells the user at once, on stderr, what is being done."""

Action = Callable[[argparse.Namespace, Streams, Say], Answer]
"""A command, as its parser has it in `action`. It prints nothing; it takes the streams if libraries may."""

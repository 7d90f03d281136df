"""The process's own face: its standard streams kept for batchseg alone, and signals turned into reasons."""

import contextlib
import datetime as dt
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import TextIO

from batchseg.job.schema import seconds_until


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
        """Point descriptors 1 and 2 at nowhere until `send_chatter_to`; keep the user's own for us."""
        sys.stdout.flush()
        sys.stderr.flush()
        self._saved = [os.dup(1), os.dup(2)]
        self.out = os.fdopen(os.dup(1), "w", buffering=1)
        self.err = os.fdopen(os.dup(2), "w", buffering=1)
        self.send_chatter_to(os.devnull)

    def send_chatter_to(self, path: str) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.close(descriptor)

    def give_back(self) -> None:
        if self._saved:
            with contextlib.suppress(OSError):
                self.out.flush()
                self.err.flush()
            for saved, number in zip(self._saved, (1, 2), strict=True):
                os.dup2(saved, number)
                os.close(saved)
            self._saved = []


def stop_reasons(deadline: str | None, now: Callable[[], float] = time.monotonic) -> Callable[[], str | None]:
    """Install handlers for SIGTERM and SIGINT; the answer gives the reason to stop, or None.

    A second signal ends the process at once, as the user then means it.
    """
    received: list[str] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        if received:
            os._exit(5)
        received.append(signal.Signals(number).name)

    def listen() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, on_signal)

    listen()
    ends = now() + seconds_until(deadline, dt.datetime.now()) if deadline else None

    def reason() -> str | None:
        if threading.current_thread() is threading.main_thread():
            listen()  # again: Paddle puts a handler of its own in place when it is imported, which ends us
        if received:
            return f"stopped by {received[0]}"
        if ends is not None and now() >= ends:
            return f"stopped at the deadline {deadline}"
        return None

    return reason


def keep_exit_code() -> None:
    """Let no signal change how the process ends: Python gives signals back to the system before the process
    has gone, and libraries may take another second to end."""
    for number in (signal.SIGTERM, signal.SIGINT):
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_IGN)

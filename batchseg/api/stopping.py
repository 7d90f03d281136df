"""Reasons to stop: signals, and the deadline."""

import datetime as dt
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType

from batchseg.errors import ConfigError, StoppedError
from batchseg.job.schema import seconds_until


@dataclass(frozen=True, slots=True)
class Deadline:
    """Gives a reason from a moment on. Other processes of this machine may ask it too."""

    text: str
    """As the job says it."""
    ends: float
    """Of time.monotonic()."""

    def __call__(self) -> str | None:
        return self._reason if time.monotonic() >= self.ends else None

    def is_why(self, error: StoppedError) -> bool:
        """Whether it is what stopped a run."""
        return type(error) is StoppedError and error.lines[0].startswith(self._reason)

    @property
    def _reason(self) -> str:
        return f"stopped at the deadline {self.text}"


def deadline_of(text: str) -> Deadline:
    """Counted from now.

    Args:
        text: `06:00`, or a duration such as `7.5h`.

    Raises:
        ConfigError: it is neither.
    """
    try:
        return Deadline(text, time.monotonic() + seconds_until(text, dt.datetime.now()))
    except ValueError as e:
        raise ConfigError(str(e)) from e


STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""SIGHUP comes where a terminal or an ssh session ends."""


def stop_signals() -> Callable[[], str | None]:
    """Install handlers for the signals of STOP in this process; the answer gives the reason to stop, or None.

    A second signal ends the process at once, as the user then means it. SIGHUP does not count, as shells and
    sessions send it more than once, and before or after SIGTERM. Under nohup it stays ignored.
    """
    heard = [number for number in STOP if number != signal.SIGHUP or not _is_ignored(number)]
    received: list[str] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        if number != signal.SIGHUP and any(name != signal.SIGHUP.name for name in received):
            os._exit(5)
        received.append(signal.Signals(number).name)

    def listen() -> None:
        for number in heard:
            signal.signal(number, on_signal)

    def reason() -> str | None:
        if threading.current_thread() is threading.main_thread():
            listen()  # again: Paddle puts a handler of its own in place when it is imported, which ends us
        return f"stopped by {received[0]}" if received else None

    listen()
    return reason


def end_children_at_interrupt() -> None:
    """Let Ctrl-C end the fresh processes that this one waits for, and raise KeyboardInterrupt here.

    For whatever has nothing to record. Without it a wait goes on until the last of them has answered. A
    second interrupt ends this process at once. Where the signal is ignored, as behind a shell's `&`, it stays
    so.
    """

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        from batchseg.system.threads import Helper  # here: it takes time, which a refused run has not

        signal.signal(signal.SIGINT, lambda *_: os._exit(StoppedError.exit_code))
        Helper.given_up += 1  # a thread that started one of them may start another
        threading.Thread(target=_end_children, daemon=True).start()
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, on_interrupt)


def _end_children() -> None:
    """Again and again: one may be about to start."""
    import multiprocessing

    while True:
        for process in multiprocessing.active_children():
            process.kill()
        time.sleep(0.05)


def _is_ignored(number: signal.Signals) -> bool:
    return signal.getsignal(number) == signal.SIG_IGN


def keep_exit_code() -> None:
    """Let no signal change how the process ends: Python gives signals back to the system before the process
    has gone, and libraries may take another second to end."""
    for number in STOP:
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_IGN)

"""A process that is asked through a pipe, as the driver sees it: it answers, or it ends.

This module imports little: a child begins with it, before its libraries look at the environment.
"""

import contextlib
import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from batchseg.system.processes import end_with
from batchseg.system.threads import Helper

TO_THE_DRIVER = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
"""Signals that a terminal or a service manager sends to all processes: only the driver hears them."""

OOM_SCORE = 1000
"""A child is ended before the driver where the kernel needs memory. Ray's workers have the same."""

TITLE = "batchseg-net"
"""A child's name in `ps` and `top`: 15 bytes at most."""

END_SECONDS = 5.0
"""In which a child that is killed is gone, unless it waits for a disk."""

Serve = Callable[..., None]


class ChildDiedError(Exception):
    """The process ended before it answered.

    Attributes:
        how: it ended, in words.
        was_ended: the driver ended it.
        memory: the kernel did, for want of memory.
    """

    def __init__(self, exit_code: int | None, *, was_ended: bool, memory: bool) -> None:
        code = exit_code or 0
        self.how = signal.Signals(-code).name if code < 0 else f"status {code}"
        self.was_ended, self.memory = was_ended, memory
        super().__init__(self.how)


class TakenBackError(Exception):
    """A question that was taken back before it was begun."""


class Child:
    """A process of this machine. It ends with this one, and with the spawner's thread.

    Args:
        spawner: a helper of one thread that stays: what a thread starts ends with it.
        serve: what it runs, with its end of the pipe and `given`.
        given: arguments, picklable.
        lacked_memory: whether the kernel ended a process for want of memory since it was asked last.
        on_end: called when it has ended, after all its answers have.
    """

    def __init__(
        self,
        spawner: Helper,
        serve: Serve,
        *given: object,
        lacked_memory: Callable[[], bool] = lambda: False,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self._lacked_memory, self._on_end = lacked_memory, on_end
        self._lock, self._numbers = threading.Lock(), itertools.count()
        self._asked: dict[int, Future[Any]] = {}
        """Questions without an answer, in their order."""
        self.ended: ChildDiedError | None = None
        self.is_given_up = False
        """Whether the driver ends it."""
        self._pipe, self._process = spawner.start(partial(_spawn, serve, given)).result()
        self._sender = Helper()
        self._hearer = threading.Thread(target=self._hear, daemon=True)
        self._hearer.start()

    @property
    def pid(self) -> int:
        return int(self._process.pid)

    @property
    def load(self) -> int:
        """Questions without an answer."""
        return len(self._asked)

    def ask(self, what: str, *given: object) -> Future[Any]:
        """What the child's method `what` answers, or ChildDiedError. One that hangs holds nobody up here."""
        future: Future[Any] = Future()
        with self._lock:
            if self.ended is None:
                number = next(self._numbers)
                self._asked[number] = future
                self._sender.start(partial(self._send, number, what, given))
                return future
        future.set_exception(self.ended)
        return future

    def take_back(self, future: Future[Any]) -> None:
        """Nobody waits for this answer any more. What was not begun is not done: TakenBackError."""
        with self._lock:
            number = next((key for key, asked in self._asked.items() if asked is future), None)
            if number is not None:
                self._sender.start(partial(self._send, next(self._numbers), "forget", (number,)))

    def kill(self) -> None:
        self.is_given_up = True
        self._process.kill()

    def wait_end(self) -> None:
        """After `kill`: wait, but not for a process that waits for a disk for ever."""
        self._hearer.join(END_SECONDS)
        if self._hearer.is_alive():
            Helper.given_up += 1  # or Python would wait for it at exit

    def _send(self, number: int, what: str, given: tuple[object, ...]) -> None:
        with contextlib.suppress(OSError):  # it has ended, as `_hear` tells
            self._pipe.send((number, what, given))

    def _hear(self) -> None:
        while True:
            try:
                number, error, answer = self._pipe.recv()
            except Exception:  # noqa: BLE001  EOFError, or OSError within an answer: it has ended
                break
            with self._lock:
                future = self._asked.pop(number, None)
            if future is not None:
                future.set_exception(error) if error is not None else future.set_result(answer)
        self._end()

    def _end(self) -> None:
        self._process.kill()  # nobody hears it any more; one that is ending keeps its exit code
        self._process.join()
        killed = self._process.exitcode == -signal.SIGKILL and not self.is_given_up
        with self._lock:
            self.ended = ChildDiedError(
                self._process.exitcode, was_ended=self.is_given_up, memory=killed and self._lacked_memory()
            )
            asked = list(self._asked.values())
        self._sender.close()
        self._pipe.close()
        for future in asked:
            future.set_exception(self.ended)
        self._on_end()


def _spawn(serve: Serve, given: tuple[object, ...]) -> tuple[Connection, Any]:
    """Start a process to which this thread's signals are blocked from its first moment on."""
    resource_tracker.ensure_running()  # which unblocks signals when it is started
    signal.pthread_sigmask(signal.SIG_BLOCK, TO_THE_DRIVER)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_begin, args=(os.getpid(), serve.__module__, theirs, given))
    process.start()
    theirs.close()  # the child's end is the only one left: it closes with the child
    return ours, process


def _begin(parent: int, module: str, pipe: Connection, given: tuple[object, ...]) -> None:
    """What a child does first: it is to die with its parent, and before it."""
    end_with(parent)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))
        Path("/proc/self/comm").write_text(TITLE)
    # As Ray's workers of one CPU: libraries make no threads beside the network's one.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import importlib

    importlib.import_module(module).serve(pipe, *given)

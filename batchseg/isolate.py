"""One call in a fresh process, so that what ends the process ends nothing else."""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

PR_SET_PDEATHSIG = 1


class ProcessDiedError(Exception):
    """The fresh process ended without an answer."""


def call_in_fresh_process(function: Callable[..., T], *args: object, timeout: float) -> T:
    """Run a picklable function in a new interpreter.

    Raises:
        ProcessDiedError: the process crashed, or gave no answer within `timeout` seconds.
        Exception: whatever the function raises.
    """
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(
        max_workers=1, mp_context=context, initializer=_end_with_parent, initargs=(os.getpid(),)
    )
    try:
        future = pool.submit(function, *args)
        processes = list(pool._processes.values())
        try:
            return future.result(timeout=timeout)
        except BrokenProcessPool as e:
            # The pool's own thread reaps the process; a second waiter could find its exit code gone.
            pool.shutdown(wait=True)
            raise ProcessDiedError(_how_it_ended([process.exitcode for process in processes])) from e
        except TimeoutError as e:
            for process in processes:
                process.kill()
            msg = f"gave no answer within {timeout:.0f} s"
            raise ProcessDiedError(msg) from e
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def captured_output(path: Path | None = None) -> Iterator[Callable[[], str]]:
    """Take what the process writes to file descriptors 1 and 2, C++ libraries included.

    Args:
        path: where to keep it, for who outlives this process; None: nowhere.

    Yields:
        A function that gives what was written so far.
    """
    with path.open("w+b") if path else tempfile.TemporaryFile() as taken:
        sys.stdout.flush()
        sys.stderr.flush()
        kept = os.dup(1), os.dup(2)
        os.dup2(taken.fileno(), 1)
        os.dup2(taken.fileno(), 2)

        def written() -> str:
            sys.stdout.flush()
            sys.stderr.flush()
            length = os.fstat(taken.fileno()).st_size
            return os.pread(taken.fileno(), length, 0).decode(errors="replace")

        try:
            yield written
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for descriptor, original in enumerate(kept, start=1):
                os.dup2(original, descriptor)
                os.close(original)


def _end_with_parent(parent: int) -> None:
    """A caller that is killed takes the process along: what hangs in it would stay for ever."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died while this process started
        os._exit(1)


def _how_it_ended(exit_codes: list[int | None]) -> str:
    code = next((code for code in exit_codes if code), None)
    if code is not None and code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended itself with status {code}"

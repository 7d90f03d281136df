"""Calls in fresh processes, so that what ends the process ends nothing else."""

import contextlib
import ctypes
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

from batchseg.errors import StoppedError

T = TypeVar("T")
U = TypeVar("U")

PR_SET_PDEATHSIG = 1


START_SECONDS = 120.0
"""In which a fresh process has imported what it needs; two seconds on a machine that does nothing else."""

MEMORY_BYTES = 4 * 2**30
"""Of a fresh process that looks at something doubtful: what takes more is taken for growing without end."""


NOT_EXECUTED = 255
"""What Python's `_posixsubprocess` exits with where exec fails; multiprocessing does not ask why."""


class ProcessDiedError(Exception):
    """The fresh process ended without an answer."""

    hung = False
    """Whether it was ended because it gave none in time."""


class NotStartedError(ProcessDiedError):
    """The system could not run another interpreter: it has no memory left, for one. No input is to blame."""


class ProcessHungError(ProcessDiedError):
    """The fresh process gave no answer in time, and was ended."""

    hung = True


def call_in_fresh_process(function: Callable[..., T], *args: object, timeout: float) -> T:
    """Run a picklable function in a new interpreter.

    Args:
        function: what to run.
        args: of the function.
        timeout: seconds until the process is ended.

    Raises:
        ProcessDiedError: the process crashed, or gave no answer within `timeout` seconds.
        Exception: whatever the function raises.
    """
    context = multiprocessing.get_context("spawn")
    new_pool = partial(
        ProcessPoolExecutor,
        max_workers=1,
        mp_context=context,
        initializer=_begin,
        initargs=(os.getpid(), None),
    )
    try:
        pool = new_pool()
    except BrokenPipeError:  # Python's resource tracker was killed a moment ago; it is started again
        pool = new_pool()
    try:
        future = pool.submit(function, *args)
        processes = list(pool._processes.values())
        try:
            return future.result(timeout=timeout)
        except BrokenProcessPool as e:
            # The pool's own thread reaps the process; a second waiter could find its exit code gone.
            pool.shutdown(wait=True)
            raise _how_it_ended([process.exitcode for process in processes]) from e
        except TimeoutError as e:
            for process in processes:
                process.kill()
            msg = f"gave no answer within {timeout:.0f} s"
            raise ProcessHungError(msg) from e
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def each_in_fresh_process(
    function: Callable[..., U],
    items: Sequence[T],
    *args: object,
    timeout: float,
    memory: int = MEMORY_BYTES,
) -> Iterator[U | ProcessDiedError]:
    """Run a picklable function on items one by one, in one process for as long as it lives.

    An item over which the process ends, hangs or raises is tried again in a process of its own before it is
    blamed, and another process goes on behind it.

    Args:
        function: called with an item and `args`.
        items: picklable.
        args: of the function.
        timeout: seconds for one item.
        memory: bytes that a process may take.

    Yields:
        For each item in order what the function gave, or how its process ended.

    Raises:
        StoppedError: a process ended or hung before it began with an item; or the function raised it, about
            no item.
    """
    at = 0
    while at < len(items):
        before = at
        for answer in _answers(function, items[at:], args, timeout, memory):
            if isinstance(answer, ProcessDiedError) and at > before:
                break  # it is the first of the next process
            yield answer
            at += 1
            if isinstance(answer, ProcessDiedError):
                break


def _answers(
    function: Callable[..., U], items: Sequence[T], args: tuple[object, ...], timeout: float, memory: int
) -> Iterator[U | ProcessDiedError]:
    """Of one process, until it is through or has failed."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    given = theirs, function, items, args, os.getpid(), memory
    process = context.Process(target=_answer_each, args=given)
    process.start()
    theirs.close()
    try:
        try:
            _received(ours, process, START_SECONDS)
        except ProcessDiedError as e:  # what fails before is no item's fault
            msg = f"a fresh process {e}"
            raise StoppedError(msg) from e
        for _ in items:
            try:
                yield _received(ours, process, timeout)
            except ProcessDiedError as e:
                yield e
                return
    finally:
        process.kill()
        process.join()
        ours.close()


def _received(pipe: Connection, process: Any, timeout: float) -> Any:
    """The next answer. Raises ProcessDiedError."""
    if not pipe.poll(timeout):
        msg = f"gave no answer within {timeout:.0f} s"
        raise ProcessHungError(msg)
    try:
        failed, answer = pipe.recv()
    except EOFError as e:
        process.join()
        raise _how_it_ended([process.exitcode]) from e
    if failed:
        raise answer if isinstance(answer, StoppedError) else ProcessDiedError(answer)
    return answer


def _answer_each(
    pipe: Connection,
    function: Callable[..., U],
    items: Sequence[T],
    args: tuple[object, ...],
    parent: int,
    memory: int,
) -> None:
    _begin(parent, memory)
    pipe.send((False, None))
    for item in items:
        try:
            pipe.send((False, function(item, *args)))
        except MemoryError:
            pipe.send((True, f"took more than {memory / 2**30:.0f} GiB of memory"))
            return
        except StoppedError as e:
            pipe.send((True, e))
            return
        except Exception as e:  # noqa: BLE001  a defect over one item must not end a night
            pipe.send((True, f"failed: {type(e).__name__}: {e}"))
            return


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


def _begin(parent: int, memory: int | None) -> None:
    if memory is not None:
        # Private memory that can be written, not what is mapped: RLIMIT_AS would count that as well.
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    end_with(parent)


def end_with(parent: int) -> None:
    """A parent that is killed takes this process along: what hangs in it would stay for ever.

    It ends with the thread that started it, too.
    """
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died while this process started
        os._exit(1)


def _how_it_ended(exit_codes: list[int | None]) -> ProcessDiedError:
    code = next((code for code in exit_codes if code), None)
    if code == NOT_EXECUTED:
        return NotStartedError("could not be started; is there memory left?")
    if code is not None and code < 0:
        return ProcessDiedError(f"was ended by {signal.Signals(-code).name}")
    return ProcessDiedError(f"ended itself with status {code}")

"""Work beside the main thread, which stays free to hear signals."""

import multiprocessing
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

from batchseg.errors import StoppedError

T = TypeVar("T")


def start_aside(function: Callable[..., T], *args: object, stay: bool = False) -> Future[T]:
    """Run a function in a thread that nobody waits for at exit, unlike those of a pool.

    Args:
        function: what to run.
        args: of the function.
        stay: keep the thread after it. Processes that it started with PR_SET_PDEATHSIG end with the
            thread, not with the process.
    """
    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(function(*args))
        except BaseException as e:  # noqa: BLE001  it is raised where the result is asked for
            future.set_exception(e)
        if stay:
            threading.Event().wait()

    threading.Thread(target=work, daemon=True).start()
    return future


def wait_for(future: Future[T], stop: Callable[[], str | None]) -> T:
    """The future's result; signals and the deadline are heard meanwhile.

    Raises:
        StoppedError: told to stop. Processes that the thread waits for are ended, so that it ends too.
    """
    while not future.done():
        wait([future], timeout=0.2)
        if reason := stop():
            for process in multiprocessing.active_children():
                process.kill()
            raise StoppedError(reason)
    return future.result()

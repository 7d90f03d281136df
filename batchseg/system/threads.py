"""Work beside the main thread, which stays free to hear signals."""

import multiprocessing
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any, TypeVar

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


class Helper:
    """Daemon threads that run functions in the order in which they come: libraries keep state per thread.

    Args:
        threads: one, unless functions may run side by side.
        at_end: run in each thread when it is closed.
    """

    given_up = 0
    """Threads of this process that hang, and that nobody waits for."""

    def __init__(self, threads: int = 1, *, at_end: Callable[[], None] = lambda: None) -> None:
        self._todo: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._threads, self._at_end = threads, at_end
        for _ in range(threads):
            threading.Thread(target=self._work, daemon=True).start()

    def start(self, function: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        self._todo.put((future, function))
        return future

    def close(self) -> None:
        """End the threads once they are through."""
        for _ in range(self._threads):
            self._todo.put(None)

    def give_up(self) -> None:
        """Leave the threads to what they hang in."""
        Helper.given_up += 1
        self.close()

    def _work(self) -> None:
        while (item := self._todo.get()) is not None:
            future, function = item
            try:
                future.set_result(function())
            except BaseException as e:  # noqa: BLE001  it is raised where the result is asked for
                future.set_exception(e)
            # What they hold, a lease's pixels for one, would stay until the next one comes.
            del item, future, function
        self._at_end()


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

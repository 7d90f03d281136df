"""An executor that is given up when its engine no longer answers: Ray's calls have no time limits."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import wait
from functools import partial
from typing import Literal, Protocol, TypeVar

from batchseg.driver.tasks import Executor, LeaseTask, Outcome, Slot, Step, Task
from batchseg.errors import StoppedError
from batchseg.inputs.source import Refusal, Scene, Source
from batchseg.job.recipe import Product, Recipe
from batchseg.pixels.value_samples import SAMPLE_SECONDS
from batchseg.pixels.values import ValueSample
from batchseg.system.threads import Helper

T = TypeVar("T")

CHECK_SECONDS = 0.2

CALL_SECONDS = 120.0
"""Of a call that only asks or tells: 0.2 s and some milliseconds where the engine is well."""

START_SECONDS = 600.0
"""Of loading the predictors, which has a limit of its own below that."""


class EndableExecutor(Executor, Protocol):
    """An executor that can be ended without being asked."""

    def check(self) -> None:
        """Called often while an answer is awaited. Raises StoppedError where there will be none."""
        ...

    def kill(self) -> None:
        """End what it started, by force."""
        ...


class WatchedExecutor:
    """Passes everything on, in a thread of its own, and waits for it only so long.

    What has no answer is passed on with the next call that has one: changing threads costs 0.1 ms, and a
    driver of hundreds of predictors submits as many leases in a row.

    Args:
        engine: the executor.
        header_seconds: that may pass between two headers.

    Raises:
        StoppedError: by every method: the engine does not answer. It is then only good to be closed.
    """

    def __init__(self, engine: EndableExecutor, *, header_seconds: float) -> None:
        self._engine, self._header_seconds = engine, header_seconds
        self._helper, self._hangs = Helper(), False
        self._untold: list[Callable[[], None]] = []

    def headers(self, sources: Iterator[Source]) -> Iterator[Scene | Refusal]:
        # Beside the start and the leases, which the other thread is busy with.
        helper = Helper()
        answers = self._engine.headers(sources)
        try:
            while (
                header := self._waited(helper, partial(next, answers, None), self._header_seconds)
            ) is not None:
                yield header
        finally:
            helper.close()

    def samples(self, scenes: Sequence[Scene], recipe: Recipe) -> list[ValueSample]:
        helper = Helper()  # beside the start, as above
        found = self._waited(
            helper, partial(self._engine.samples, scenes, recipe), SAMPLE_SECONDS + CALL_SECONDS
        )
        helper.close()
        return found

    def start(self, recipe: Recipe, product: Product) -> Sequence[Slot]:
        return self._waited(self._helper, partial(self._engine.start, recipe, product), START_SECONDS)

    def submit(self, task: Task) -> None:
        self._untold.append(partial(self._engine.submit, task))

    def abandon(self, task: Task) -> Step | Literal["lost"]:
        return self._call(partial(self._engine.abandon, task))

    def withdraw(self, task: LeaseTask) -> None:
        self._untold.append(partial(self._engine.withdraw, task))

    def poll(self, timeout: float) -> list[Outcome]:
        return self._call(partial(self._engine.poll, timeout), timeout)

    def close(self) -> None:
        if not self._hangs:
            try:
                self._waited(Helper(), self._engine.close, CALL_SECONDS)
                self._helper.close()
                return
            except StoppedError:
                pass
        self._engine.kill()

    def _call(self, function: Callable[[], T], seconds: float = 0.0) -> T:
        untold, self._untold = self._untold, []

        def tell_and_ask() -> T:
            for told in untold:
                told()
            return function()

        return self._waited(self._helper, tell_and_ask, CALL_SECONDS + seconds)

    def _waited(self, helper: Helper, function: Callable[[], T], seconds: float) -> T:
        future, until = helper.start(function), time.monotonic() + seconds
        try:
            self._engine.check()  # where nothing is under way each call ends at once
            while not wait([future], timeout=CHECK_SECONDS).done:
                self._engine.check()
                if self._hangs or time.monotonic() > until:
                    msg = (
                        f"Ray gave no answer for {seconds:.0f} s; is one of its own processes (raylet, "
                        f"gcs_server) stopped, or the machine out of memory?"
                    )
                    raise StoppedError(msg)
        except StoppedError:
            self._hangs = True
            helper.give_up()
            raise
        return future.result()

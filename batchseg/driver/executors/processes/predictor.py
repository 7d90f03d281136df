"""What runs in a predictor's process: it answers what the driver asks, each kind in threads of its own."""

import os
import pickle
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from batchseg.driver.executors.processes.child import TakenBackError
from batchseg.driver.executors.steps import Steps
from batchseg.driver.lease_worker import LeaseStep
from batchseg.driver.tasks import (
    LEASES_AT_ONCE,
    FinishTask,
    GroupTask,
    InspectionTask,
    LeaseTask,
    LotTask,
    Outcome,
    Task,
)
from batchseg.inputs.source import Refusal, Scene, Source
from batchseg.job.recipe import Product, Recipe
from batchseg.pixels.header import read_some_headers
from batchseg.pixels.value_samples import sample_scenes
from batchseg.pixels.values import ValueSample
from batchseg.system.threads import Helper

BATCHES_OF_HEADERS = 4
"""Read at once: while one waits for a bucket the others decode."""

FINISHES = 4
"""Scenes finished at once: a large one is not to hold up the small ones."""

Question = tuple[int, str, tuple[Any, ...]]


def serve(pipe: Connection, output: str, timeout: float) -> None:
    """Answer until the driver is gone. The network is loaded here, in the process's main thread."""
    Predictor(pipe, output, timeout).run()


class Predictor:
    """Answers questions: (number, method, arguments) in, (number, error, answer) out, in any order."""

    def __init__(self, pipe: Connection, output: str, timeout: float) -> None:
        self._pipe, self._output, self._timeout = pipe, output, timeout
        self._sending = threading.Lock()
        self._forgotten: set[int] = set()
        self._loads: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._loading: Future[Steps] = Future()
        self._headers = Helper(BATCHES_OF_HEADERS)
        leases = Helper(LEASES_AT_ONCE)
        self._helpers: dict[type[Task], Helper] = {
            LeaseTask: leases,
            LotTask: leases,
            GroupTask: Helper(),
            FinishTask: Helper(FINISHES),
            InspectionTask: Helper(),
        }

    def run(self) -> None:
        threading.Thread(target=self._hear, daemon=True).start()
        while True:
            self._loads.get()()

    def _hear(self) -> None:
        while True:
            try:
                question: Question = self._pipe.recv()
            except (EOFError, OSError):
                os._exit(0)  # whatever is under way: nobody would hear of it
            number, what, given = question
            if what == "forget":
                self._forgotten.add(given[0])
            elif what == "step_of":
                self._answer(number, partial(self.step_of, *given))
            else:
                answer = partial(self._answer, number, partial(getattr(self, what), *given))
                if what == "load":
                    self._loads.put(answer)
                else:
                    (self._helpers[type(given[0])] if what == "do" else self._headers).start(answer)

    def _answer(self, number: int, function: Callable[[], Any]) -> None:
        error, answer = None, None
        try:
            if number in self._forgotten:
                raise TakenBackError
            answer = function()
        except Exception as e:  # noqa: BLE001  it is raised where the answer is asked for
            error = e
        try:
            data = pickle.dumps((number, error, answer))
        except Exception as e:  # noqa: BLE001  a library's error, for one, that holds what cannot be sent
            data = pickle.dumps((number, RuntimeError(f"{type(error or e).__name__}: {error or e}"), None))
        self._forgotten.discard(number)
        with self._sending:
            self._pipe.send_bytes(data)

    def load(self, recipe: Recipe, product: Product, batch_size: int, readers: int) -> str:
        """Load the network. Returns the CPU class. Raises ModelError."""
        try:
            steps = Steps(
                self._output,
                recipe,
                product,
                readers=readers,
                batch_size=batch_size,
                timeout=self._timeout,
            )
        except BaseException as e:
            self._loading.set_exception(e)
            raise
        self._loading.set_result(steps)
        return steps.cpu_class

    def do(self, task: Task) -> Outcome:
        """A task; one that comes before the network waits for it."""
        return self._loading.result().of(task)()

    def step_of(self, lease_id: int) -> LeaseStep:
        """What is done for a lease. It is asked where a step hangs, in a thread that does nothing else."""
        return self._loading.result(timeout=0).step_of(lease_id)

    def headers(self, sources: list[Source]) -> list[Scene | Refusal]:
        return read_some_headers(sources)

    def samples(self, scenes: list[Scene], recipe: Recipe) -> list[ValueSample]:
        return sample_scenes(scenes, recipe)

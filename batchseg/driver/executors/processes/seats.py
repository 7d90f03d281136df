"""Which process predicts where: a seat per predictor, and who has died on it.

A process that dies is replaced by another on the same seat, so that the driver's slot stays; a seat whose
processes die at their start, one after the other, is closed.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from batchseg.driver.executors.processes.child import Child, ChildDiedError
from batchseg.driver.executors.restarts import all_died, is_enough
from batchseg.driver.tasks import Slot
from batchseg.errors import ModelError

Loading = tuple[object, ...]
"""Arguments of `Predictor.load`."""


@dataclass(slots=True)
class Seat:
    """Room for one predictor, and the process that has it; another when that dies."""

    id: int
    child: Child
    hello: Future[str] | None = None
    """The CPU class, once the network is loaded; None: nobody has asked for it to be."""
    cpu_class: str = ""
    """Empty until it is loaded."""
    reads: bool = False
    """Whether the process has headers or samples to read: its death while it loads may be theirs."""
    died_in_a_row: int = 0
    why: str = ""
    """Of the last death at the start."""

    @property
    def is_closed(self) -> bool:
        return is_enough(self.died_in_a_row)

    @property
    def is_ready(self) -> bool:
        return bool(self.cpu_class) and not self.child.is_given_up and self.child.ended is None

    @property
    def slot(self) -> Slot:
        return Slot(id=self.id, cpu_class=self.cpu_class)


class Seats:
    """A run's predictors by their slot's number. May be used from any thread.

    Args:
        make: a new process.
        count: of predictors.
    """

    def __init__(self, make: Callable[[], Child], count: int) -> None:
        self._make = make
        self._loading: Loading | None = None
        self._lock, self._closed = threading.RLock(), False
        self._seats = [Seat(number, make()) for number in range(count)]
        self._own: list[Child] = []

    def load(self, *loading: object) -> None:
        """Have all of them load the network."""
        with self._lock:
            self._loading = loading
            for seat in self._seats:
                seat.hello = seat.child.ask("load", *loading)

    def make_beside(self) -> Child:
        """A predictor for one lease alone. Who asked for it ends it."""
        child = self._make()
        child.ask("load", *(self._loading or ()))
        self._own = [other for other in self._own if other.ended is None] + [child]
        return child

    def get(self, number: int) -> Seat:
        return self._seats[number]

    def ready(self) -> list[Seat]:
        """Those whose predictor is loaded."""
        return [seat for seat in self._seats if seat.is_ready]

    def awaited(self) -> list[Future[str]]:
        """Answers of those that load."""
        hellos = [seat.hello for seat in self._seats if not (seat.cpu_class or seat.is_closed)]
        return [hello for hello in hellos if hello is not None]

    def reader(self) -> Seat:
        """The one with the least to do, which is to read headers."""
        with self._lock:
            self.tend()
            seat = min(self._seats, key=lambda seat: (seat.is_closed, seat.child.load))
            seat.reads = True
            return seat

    def answered(self, number: int) -> None:
        """A predictor gave a result: those that died before it were no row."""
        self._seats[number].died_in_a_row = 0

    def tend(self, *, first: bool = False) -> None:
        """Take note of predictors that are loaded, and replace those that died.

        Args:
            first: at the start of the run, where a network that cannot be loaded ends it.

        Raises:
            ModelError: a network cannot be loaded.
            StoppedError: the predictors of all seats died again and again.
        """
        with self._lock:
            for seat in self._seats if not self._closed else ():
                self._look_at(seat, first=first)
            if all(seat.is_closed for seat in self._seats):
                raise all_died(seat.why for seat in self._seats)

    def _look_at(self, seat: Seat, *, first: bool) -> None:
        ended, hello = seat.child.ended, seat.hello
        if seat.is_closed:
            return
        if ended is not None:
            # Once it is loaded, a death may be its work's fault, which the driver finds out.
            blamed = not (seat.cpu_class or seat.reads or ended.was_ended)
            self._replace(seat, ended.how, blamed=blamed)
        elif hello is not None and not seat.cpu_class and hello.done():
            error = hello.exception()
            if error is None:
                seat.cpu_class = hello.result()
            elif not isinstance(error, ChildDiedError):  # or else it has ended by now
                if first:
                    msg = f"model: a predictor cannot be started: {error}"
                    raise ModelError(msg) from error
                seat.child.kill()
                self._replace(seat, str(error), blamed=True)

    def _replace(self, seat: Seat, why: str, *, blamed: bool) -> None:
        seat.died_in_a_row, seat.why = (seat.died_in_a_row + 1 if blamed else 0), why
        seat.cpu_class, seat.hello, seat.reads = "", None, False
        if not seat.is_closed:
            seat.child = self._make()
            if self._loading is not None:
                seat.hello = seat.child.ask("load", *self._loading)

    def close(self) -> None:
        """End all processes."""
        with self._lock:
            self._closed = True
            children = [*(seat.child for seat in self._seats), *self._own]
        for child in children:
            child.kill()
        for child in children:
            child.wait_end()

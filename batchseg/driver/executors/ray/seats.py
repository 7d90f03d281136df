"""Which actor predicts where: the seats of a run's predictors, and who has died on them.

An actor that dies is replaced by another on the same seat, so that the driver's slot stays; one seat whose
actors die at their start, one after the other, is closed.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import ray
from ray import exceptions as ray_errors

from batchseg.driver.executors.ray.failures import first_line
from batchseg.driver.executors.ray.hosts import Hosts
from batchseg.driver.executors.restarts import is_enough
from batchseg.errors import ModelError


@dataclass(slots=True)
class Seat:
    """Room for one predictor, and the actor that has it; another when that dies."""

    id: int
    actor: Any = None
    hello: Any = None
    """The actor's first answer, awaited; None once it came."""
    node: str = ""
    """Of the actor; empty until its first answer."""
    cpu_class: str = ""
    died_in_a_row: int = 0
    why: str = ""
    """Of the last death at the start."""

    @property
    def is_closed(self) -> bool:
        return is_enough(self.died_in_a_row)

    @property
    def is_ready(self) -> bool:
        return self.hello is None and not self.is_closed


class Seats:
    """The seats of a cluster's predictors, by their slot's number.

    Args:
        make: a new predictor actor.
        hosts: of the cluster.
    """

    def __init__(self, make: Callable[[], Any], hosts: Hosts) -> None:
        self._make, self._hosts = make, hosts
        self._seats: dict[int, Seat] = {}
        self._next_id = 0

    def all(self) -> list[Seat]:
        return list(self._seats.values())

    def ready(self) -> list[Seat]:
        """Those whose predictor is loaded."""
        return [seat for seat in self._seats.values() if seat.is_ready]

    def get(self, number: int) -> Seat | None:
        """A slot's seat; None where its host is gone."""
        return self._seats.get(number)

    def hellos(self) -> list[Any]:
        """First answers that are awaited."""
        return [seat.hello for seat in self._seats.values() if seat.hello is not None]

    def keep(self, count: int) -> None:
        """As many seats as that, each with an actor; of too many those that wait for room go."""
        while len(self._seats) < count:
            seat = Seat(id=self._next_id)
            self._next_id += 1
            self._seats[seat.id] = seat
            self._sit(seat)
        for seat in self._surplus(count):
            self.kill(self._seats.pop(seat.id).actor)

    def greet(self, refs: list[Any], *, first: bool = False) -> None:
        """Take the first answers of predictors.

        Args:
            refs: those that came.
            first: at the start of the run, where an actor that cannot be made ends it.

        Raises:
            ModelError: one cannot be made.
        """
        for seat in [seat for seat in self._seats.values() if seat.hello in refs]:
            try:
                seat.node, seat.cpu_class = ray.get(seat.hello)
                seat.hello = None
            except ray_errors.RayError as e:
                seat.why = _reason(e)
                if first and getattr(e, "actor_init_failed", False):
                    msg = f"model: a predictor cannot be started: {seat.why}"
                    raise ModelError(msg) from e
                self.end(seat.id, seat.actor)

    def end(self, number: int, actor: Any, *, blame: bool = True) -> None:
        """End a predictor; its seat gets another one.

        Args:
            number: of the slot.
            actor: the predictor, which may have been replaced before.
            blame: it died of itself, not with its host.
        """
        self.kill(actor)
        seat = self._seats.get(number)
        if seat is None or seat.actor is not actor:
            return
        # Once it is loaded, a death may be its work's fault, which the driver finds out.
        seat.died_in_a_row = seat.died_in_a_row + blame if seat.hello is not None else 0
        if seat.is_closed:
            seat.actor = seat.hello = None
        else:
            self._sit(seat)

    def answered(self, number: int) -> None:
        """A predictor gave a result: those that died before it were no row."""
        if (seat := self._seats.get(number)) is not None:
            seat.died_in_a_row = 0

    def leave_lost_hosts(self) -> None:
        """Seats go with their hosts."""
        for seat in list(self._seats.values()):
            if seat.node and self._hosts.state(seat.node) == "gone":
                self.kill(self._seats.pop(seat.id).actor)

    def kill(self, actor: Any) -> None:
        if actor is not None and not self._hosts.head_is_lost:  # which would be asked, and waited for
            with contextlib.suppress(ray_errors.RayError):
                ray.kill(actor)

    def close(self) -> None:
        for seat in self._seats.values():
            self.kill(seat.actor)
        self._seats = {}

    def _sit(self, seat: Seat) -> None:
        seat.actor, seat.node = self._make(), ""
        seat.hello = seat.actor.hello.remote()

    def _surplus(self, count: int) -> Iterator[Seat]:
        """Seats that wait for room which went with a host."""
        waiting = [seat for seat in self._seats.values() if seat.hello is not None]
        yield from waiting[: max(0, len(self._seats) - count)]


def _reason(error: BaseException) -> str:
    """What went wrong in a predictor's own words: the last line of its traceback; or else Ray's."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if getattr(error, "actor_init_failed", False) else first_line(error)

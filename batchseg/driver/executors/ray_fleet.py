"""The predictors of a run on Ray: actors that come and go with the cluster's hosts."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import ray
from ray import exceptions as ray_errors

from batchseg.driver.executors.ray_hosts import Host, Hosts
from batchseg.driver.executors.ray_tasks import first_line
from batchseg.driver.tasks import Slot
from batchseg.errors import ConfigError, ModelError, StoppedError

START_TIMEOUT = 300.0
"""Seconds for predictors to load their model."""

FORSAKEN_SECONDS = 60.0
"""Without a predictor that works or starts, a run ends: hosts may come back or be replaced meanwhile."""

MAX_RESTARTS_IN_A_ROW = 3
"""Predictors that die before their first answer, one after the other, before their seat is closed."""


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
        return self.died_in_a_row > MAX_RESTARTS_IN_A_ROW

    @property
    def is_ready(self) -> bool:
        return self.hello is None and not self.is_closed


class Fleet:
    """Seats as many as the job asks for, or as the cluster has room for at any time.

    Args:
        hosts: of the cluster.
        make: a new predictor actor.
        asked: predictors that the job asks for; None: as many as fit.
        device: "cpu" or "gpu", of which each predictor takes one, or `gpus` of it.
        gpus: GPUs per predictor.
    """

    def __init__(
        self, hosts: Hosts, make: Callable[[], Any], *, asked: int | None, device: str, gpus: float
    ) -> None:
        self._hosts, self._make, self._asked = hosts, make, asked
        self._device, self._gpus = device, gpus
        self._seats: dict[int, Seat] = {}
        self._next_id = 0
        self._lived = time.monotonic()

    @property
    def size(self) -> int:
        """Seats that the run wants now."""
        return self._asked or self._room()

    def _room(self) -> int:
        return sum(self._room_of(host) for host in self._hosts.all())

    def _room_of(self, host: Host) -> int:
        return int(host.gpus / self._gpus) if self._device == "gpu" else int(host.cpus)

    def start(self, is_closing: Callable[[], bool], warm: list[Any]) -> None:
        """Wait for the first predictors: all for which there is room, or after START_TIMEOUT some.

        Raises:
            ConfigError: no host has room for one.
            ModelError: one cannot be made.
            StoppedError: none came in time, or the run is closing.
        """
        if self.size < 1:
            msg = f"the Ray cluster has no {'GPU' if self._device == 'gpu' else 'CPU'} to run a predictor on"
            raise ConfigError(msg)
        self._fill()
        until = time.monotonic() + START_TIMEOUT
        while warm or self._settled() < min(self.size, max(1, self._room())):
            self._hosts.check()
            if is_closing() or (time.monotonic() > until and not self._ready()):
                msg = (
                    f"{self.size} predictors were not ready in time; "
                    f"has the cluster as many CPUs or GPUs free?"
                )
                raise StoppedError(msg)
            if time.monotonic() > until:
                break
            awaited = [*self.hellos(), *warm]
            ready, _ = ray.wait(awaited, num_returns=1, timeout=0.2)
            warm = [ref for ref in warm if ref not in ready]
            self._greet(ready, first=True)
            self._leave_lost_hosts()
            self._fill()
            self._give_up_if_closed()
        self._lived = time.monotonic()

    def live(self) -> list[Slot]:
        """Predictors that take work: loaded, on a host that answers."""
        return [
            Slot(id=seat.id, cpu_class=seat.cpu_class)
            for seat in self._ready()
            if self._hosts.state(seat.node) == "here"
        ]

    def tend(self) -> None:
        """Look after hosts that came or went and predictors that started.

        Raises:
            StoppedError: there is none, and none to hope for.
        """
        if hellos := self.hellos():
            self._greet(ray.wait(hellos, num_returns=len(hellos), timeout=0)[0])
        self._leave_lost_hosts()
        self._fill()
        self._give_up_if_forsaken()

    def seat(self, number: int) -> Seat | None:
        """A slot's seat; None where its host is gone."""
        return self._seats.get(number)

    def hellos(self) -> list[Any]:
        return [seat.hello for seat in self._seats.values() if seat.hello is not None]

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

    def kill(self, actor: Any) -> None:
        if actor is not None and not self._hosts.head_is_lost:  # which would be asked, and waited for
            with contextlib.suppress(ray_errors.RayError):
                ray.kill(actor)

    def close(self) -> None:
        for seat in self._seats.values():
            self.kill(seat.actor)
        self._seats = {}

    def _settled(self) -> int:
        return sum(seat.hello is None for seat in self._seats.values())

    def _ready(self) -> list[Seat]:
        return [seat for seat in self._seats.values() if seat.is_ready]

    def _sit(self, seat: Seat) -> None:
        seat.actor, seat.node = self._make(), ""
        seat.hello = seat.actor.hello.remote()

    def _fill(self) -> None:
        while len(self._seats) < self.size:
            seat = Seat(id=self._next_id)
            self._next_id += 1
            self._seats[seat.id] = seat
            self._sit(seat)
        for seat in self._surplus():
            self.kill(self._seats.pop(seat.id).actor)

    def _surplus(self) -> Iterator[Seat]:
        """Seats that wait for room which went with a host."""
        waiting = [seat for seat in self._seats.values() if seat.hello is not None]
        yield from waiting[: max(0, len(self._seats) - self.size)]

    def _greet(self, refs: list[Any], *, first: bool = False) -> None:
        """Take the first answers of predictors."""
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

    def _leave_lost_hosts(self) -> None:
        for seat in list(self._seats.values()):
            if seat.node and self._hosts.state(seat.node) == "gone":
                self.kill(self._seats.pop(seat.id).actor)

    def _give_up_if_forsaken(self) -> None:
        now, seats = time.monotonic(), self._seats.values()
        if self.live():
            self._lived = now
            return
        self._give_up_if_closed()
        starting = any(seat.hello is not None for seat in seats) and self._room() > 0
        if now - self._lived > (START_TIMEOUT if starting else FORSAKEN_SECONDS):
            msg = (
                f"no host of the Ray cluster has had a predictor for {now - self._lived:.0f} s: "
                f"hosts are lost, or others use them. Run the same command again when some are free"
            )
            raise StoppedError(msg)

    def _give_up_if_closed(self) -> None:
        seats = self._seats.values()
        if seats and all(seat.is_closed for seat in seats):
            why = next((f" ({seat.why})" for seat in seats if seat.why), "")
            msg = f"a predictor died {MAX_RESTARTS_IN_A_ROW + 1} times in a row; is there enough memory?{why}"
            raise StoppedError(msg)


def _reason(error: BaseException) -> str:
    """What went wrong in a predictor's own words: the last line of its traceback; or else Ray's."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if getattr(error, "actor_init_failed", False) else first_line(error)

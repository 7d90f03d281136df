"""How many predictors a run has on Ray, from its start on, while the cluster's hosts come and go."""

import time
from collections.abc import Callable

import ray

from batchseg.driver.executors.ray.hosts import Host, Hosts
from batchseg.driver.executors.ray.seats import Seats
from batchseg.driver.executors.restarts import all_died
from batchseg.driver.tasks import Slot
from batchseg.errors import ConfigError, StoppedError

START_TIMEOUT = 300.0
"""Seconds for predictors to load their model."""

FORSAKEN_SECONDS = 60.0
"""Without a predictor that works or starts, a run ends: hosts may come back or be replaced meanwhile."""


class Capacity:
    """How many predictors a job asks for, and for how many the cluster has room now.

    Args:
        hosts: of the cluster.
        asked: predictors that the job asks for; None: as many as fit.
        device: "cpu" or "gpu", of which each predictor takes one, or `gpus` of it.
        gpus: GPUs per predictor.
    """

    def __init__(self, hosts: Hosts, *, asked: int | None, device: str, gpus: float) -> None:
        self._hosts, self._asked, self.device, self._gpus = hosts, asked, device, gpus

    @property
    def wanted(self) -> int:
        """Predictors that the run wants now."""
        return self._asked or self.room

    @property
    def room(self) -> int:
        """Predictors that the hosts have room for."""
        return sum(self._room_of(host) for host in self._hosts.all())

    def _room_of(self, host: Host) -> int:
        return int(host.gpus / self._gpus) if self.device == "gpu" else int(host.cpus)


class Fleet:
    """Predictors as many as the job asks for, or as the cluster has room for at any time.

    Args:
        hosts: of the cluster.
        seats: none of which is taken yet.
        capacity: how many are wanted.
        leases: that each takes at once.
    """

    def __init__(self, hosts: Hosts, seats: Seats, capacity: Capacity, leases: int) -> None:
        self._hosts, self._seats, self._capacity, self._leases = hosts, seats, capacity, leases
        self._lived = time.monotonic()

    def start(self, is_closing: Callable[[], bool]) -> None:
        """Wait for the first predictors: all for which there is room, or after START_TIMEOUT some.

        Raises:
            ConfigError: no host has room for one.
            ModelError: one cannot be made.
            StoppedError: none came in time, or the run is closing.
        """
        if self._capacity.wanted < 1:
            device = "GPU" if self._capacity.device == "gpu" else "CPU"
            msg = f"the Ray cluster has no {device} to run a predictor on"
            raise ConfigError(msg)
        self._seats.keep(self._capacity.wanted)
        until = time.monotonic() + START_TIMEOUT
        while self._settled() < min(self._capacity.wanted, max(1, self._capacity.room)):
            self._hosts.check()
            if is_closing() or (time.monotonic() > until and not self._seats.ready()):
                wanted = self._capacity.wanted
                msg = (
                    f"{wanted} predictors were not ready in time; has the cluster as many CPUs or GPUs free?"
                )
                raise StoppedError(msg)
            if time.monotonic() > until:
                break
            ready, _ = ray.wait(self._seats.hellos(), num_returns=1, timeout=0.2)
            self._seats.greet(ready, first=True)
            self._seats.leave_lost_hosts()
            self._seats.keep(self._capacity.wanted)
            self._give_up_if_closed()
        self._lived = time.monotonic()

    def live(self) -> list[Slot]:
        """Predictors that take work: loaded, on a host that answers."""
        return [
            Slot(id=seat.id, cpu_class=seat.cpu_class, leases=self._leases)
            for seat in self._seats.ready()
            if self._hosts.state(seat.node) == "here"
        ]

    def tend(self) -> None:
        """Look after hosts that came or went and predictors that started.

        Raises:
            StoppedError: there is none, and none to hope for.
        """
        if hellos := self._seats.hellos():
            self._seats.greet(ray.wait(hellos, num_returns=len(hellos), timeout=0)[0])
        self._seats.leave_lost_hosts()
        self._seats.keep(self._capacity.wanted)
        self._give_up_if_forsaken()

    def _settled(self) -> int:
        return sum(seat.hello is None for seat in self._seats.all())

    def _give_up_if_forsaken(self) -> None:
        now, seats = time.monotonic(), self._seats.all()
        if self.live():
            self._lived = now
            return
        self._give_up_if_closed()
        starting = any(seat.hello is not None for seat in seats) and self._capacity.room > 0
        if now - self._lived > (START_TIMEOUT if starting else FORSAKEN_SECONDS):
            msg = (
                f"no host of the Ray cluster has had a predictor for {now - self._lived:.0f} s: "
                f"hosts are lost, or others use them. Run the same command again when some are free"
            )
            raise StoppedError(msg)

    def _give_up_if_closed(self) -> None:
        seats = self._seats.all()
        if seats and all(seat.is_closed for seat in seats):
            raise all_died(seat.why for seat in seats)

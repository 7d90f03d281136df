"""A run's leases on Ray: which is read next, and where each one is. References are opaque here.

Nothing that is done for a lease looks at the other leases or at all predictors.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any

from batchseg.driver.scene_worker import Lease
from batchseg.driver.tasks import Isolation


@dataclass(slots=True)
class Flight:
    """A lease on its way."""

    lease: Lease
    slot: int
    isolation: Isolation
    node: str = ""
    """Where all its steps run; empty until it is launched."""
    actor: Any = None
    read: Any = None
    masks: Any = None
    done: Any = None
    own_actor: bool = False
    is_read: bool = False
    """Its pixels wait for its predictor, or are further on."""
    started: float = field(default_factory=time.monotonic)


class Leases:
    """Flights by lease and by reference, and the queue of those that nobody reads yet."""

    def __init__(self) -> None:
        self._flights: dict[int, Flight] = {}
        self._queues: dict[int, dict[int, Flight]] = {}
        """By slot, in order: those that nobody reads yet."""
        self._reading: dict[Any, Flight] = {}
        self._landing: dict[Any, Flight] = {}
        """By the reference of what they give in the end."""
        self._fed: Counter[int] = Counter()
        """Flights by slot that are read."""
        self._in_order: list[int] = []
        self._hungry: list[int] = []
        """Heaps of leases, the second of slots for which nothing is read; some are launched by now."""

    def all(self) -> list[Flight]:
        return list(self._flights.values())

    def references(self) -> list[Any]:
        """All that may come next."""
        return [*self._landing, *self._reading]

    @property
    def being_read(self) -> int:
        return len(self._reading)

    def queue(self, flight: Flight) -> None:
        """Take a lease in. Later leases have larger ids."""
        self._flights[flight.lease.id] = flight
        self._queues.setdefault(flight.slot, {})[flight.lease.id] = flight
        heappush(self._in_order, flight.lease.id)
        if not self._fed[flight.slot]:
            heappush(self._hungry, flight.lease.id)

    def _is_queued(self, flight: Flight) -> bool:
        return flight.lease.id in self._queues.get(flight.slot, ())

    def first_hungry(self, takes: Callable[[int], bool]) -> Flight | None:
        """The first in the queue whose predictor has nothing that is read, of slots that take work."""
        return self._first(self._hungry, takes, lambda flight: not self._fed[flight.slot])

    def first(self, takes: Callable[[int], bool]) -> Flight | None:
        """The first in the queue, of slots that take work."""
        return self._first(self._in_order, takes, lambda flight: True)

    def _first(
        self, heap: list[int], takes: Callable[[int], bool], still: Callable[[Flight], bool]
    ) -> Flight | None:
        skipped, found = [], None
        while heap and found is None:
            flight = self._flights.get(heap[0])
            if flight is None or not self._is_queued(flight) or not still(flight):
                heappop(heap)
            elif takes(flight.slot):
                found = flight
            else:
                skipped.append(heappop(heap))  # its host is silent, or its predictor is made anew
        for lease_id in skipped:
            heappush(heap, lease_id)
        return found

    def launched(self, flight: Flight) -> None:
        """It has its references, and is being read."""
        del self._queues[flight.slot][flight.lease.id]
        self._reading[flight.read] = flight
        self._landing[flight.done] = flight

    def read_ended(self, reference: Any) -> None:
        """A reading came to its end, if that is what the reference is of."""
        if (flight := self._reading.pop(reference, None)) is not None:
            flight.is_read = True
            self._fed[flight.slot] += 1

    def landed(self, reference: Any) -> Flight | None:
        """The flight that a reference ends; None for other references."""
        return self._landing.get(reference)

    def pop(self, lease_id: int) -> Flight:
        """Take a lease out, wherever it is."""
        flight = self._flights.pop(lease_id)
        self._queues.get(flight.slot, {}).pop(lease_id, None)
        self._reading.pop(flight.read, None)
        self._landing.pop(flight.done, None)
        if flight.is_read:
            self._fed[flight.slot] -= 1
            if not self._fed[flight.slot]:
                for waiting in self._queues.get(flight.slot, ()):
                    heappush(self._hungry, waiting)
        return flight

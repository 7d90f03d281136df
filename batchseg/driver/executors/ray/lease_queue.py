"""Which lease is read next, and where each one is on Ray. References are opaque here.

Nothing that is done for a lease looks at the other leases or at all predictors.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any

from batchseg.driver.tasks import LeaseTask


@dataclass(slots=True)
class RayLease:
    """A lease in Ray's hands, or in the queue for them."""

    task: LeaseTask
    node: str = ""
    """Where all its steps run; empty until it is launched."""
    actor: Any = None
    """The predictor that it was given to."""
    read: Any = None
    masks: Any = None
    done: Any = None
    """References: of its pixels, of its masks, and of what the driver gets."""
    own_actor: bool = False
    """Its predictor serves no other lease."""
    is_read: bool = False
    """Its pixels wait for its predictor, or are further on."""
    started: float = field(default_factory=time.monotonic)

    @property
    def id(self) -> int:
        return self.task.lease.id

    @property
    def slot(self) -> int:
        return self.task.slot.id


class LeaseQueue:
    """Leases by id and by reference, and the queue of those that nobody reads yet."""

    def __init__(self) -> None:
        self._leases: dict[int, RayLease] = {}
        self._queues: dict[int, dict[int, RayLease]] = {}
        """By slot, in order: those that nobody reads yet."""
        self._reading: dict[Any, RayLease] = {}
        self._ending: dict[Any, RayLease] = {}
        """By the reference of what they give in the end."""
        self._fed: Counter[int] = Counter()
        """Leases by slot that are read."""
        self._in_order: list[int] = []
        self._hungry: list[int] = []
        """Heaps of leases, the second of slots for which nothing is read; some are launched by now."""

    def all(self) -> list[RayLease]:
        return list(self._leases.values())

    def references(self) -> list[Any]:
        """All that may come next."""
        return [*self._ending, *self._reading]

    @property
    def being_read(self) -> int:
        return len(self._reading)

    def add(self, lease: RayLease) -> None:
        """Take a lease in. Later leases have larger ids."""
        self._leases[lease.id] = lease
        self._queues.setdefault(lease.slot, {})[lease.id] = lease
        heappush(self._in_order, lease.id)
        if not self._fed[lease.slot]:
            heappush(self._hungry, lease.id)

    def _is_queued(self, lease: RayLease) -> bool:
        return lease.id in self._queues.get(lease.slot, ())

    def first_hungry(self, takes: Callable[[int], bool]) -> RayLease | None:
        """The first in the queue whose predictor has nothing that is read, of slots that take work."""
        return self._first(self._hungry, takes, lambda lease: not self._fed[lease.slot])

    def first(self, takes: Callable[[int], bool]) -> RayLease | None:
        """The first in the queue, of slots that take work."""
        return self._first(self._in_order, takes, lambda lease: True)

    def _first(
        self, heap: list[int], takes: Callable[[int], bool], still: Callable[[RayLease], bool]
    ) -> RayLease | None:
        skipped, found = [], None
        while heap and found is None:
            lease = self._leases.get(heap[0])
            if lease is None or not self._is_queued(lease) or not still(lease):
                heappop(heap)
            elif takes(lease.slot):
                found = lease
            else:
                skipped.append(heappop(heap))  # its host is silent, or its predictor is made anew
        for lease_id in skipped:
            heappush(heap, lease_id)
        return found

    def launched(self, lease: RayLease) -> None:
        """It has its references, and is being read."""
        del self._queues[lease.slot][lease.id]
        self._reading[lease.read] = lease
        self._ending[lease.done] = lease

    def read_ended(self, reference: Any) -> None:
        """A reading came to its end, if that is what the reference is of."""
        if (lease := self._reading.pop(reference, None)) is not None:
            lease.is_read = True
            self._fed[lease.slot] += 1

    def ended_by(self, reference: Any) -> RayLease | None:
        """The lease that a reference ends; None for other references."""
        return self._ending.get(reference)

    def pop(self, lease_id: int) -> RayLease:
        """Take a lease out, wherever it is."""
        lease = self._leases.pop(lease_id)
        self._queues.get(lease.slot, {}).pop(lease_id, None)
        self._reading.pop(lease.read, None)
        self._ending.pop(lease.done, None)
        if lease.is_read:
            self._fed[lease.slot] -= 1
            if not self._fed[lease.slot]:
                for waiting in self._queues.get(lease.slot, ()):
                    heappush(self._hungry, waiting)
        return lease

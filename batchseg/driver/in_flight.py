"""Leases under way: whose turn it is to get one, what they hold in memory, and which are late."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from heapq import heappop, heappush

from batchseg.driver.scene_queue import SceneWork
from batchseg.driver.scene_worker import Lease
from batchseg.driver.tasks import Isolation, LeaseTask, LotTask, Slot
from batchseg.system.processes import START_SECONDS


@dataclass(slots=True)
class LeaseInFlight:
    """A lease that was sent to an executor."""

    work: SceneWork
    task: LeaseTask
    nbytes: int
    submitted: float
    tried: frozenset[Isolation]
    """Steps that were isolated in earlier attempts at these shards."""
    deaths: int
    """Predictors that died over them."""
    is_withdrawn: bool = False
    """Taken back: its predictor may be at work with it still, or hang, and nobody waits for its answer."""

    @property
    def id(self) -> int:
        return self.task.lease.id

    @property
    def lease(self) -> Lease:
        return self.task.lease

    @property
    def slot(self) -> Slot:
        return self.task.slot

    @property
    def isolation(self) -> Isolation:
        return self.task.isolation


@dataclass(frozen=True, slots=True)
class LotInFlight:
    """A lot that was sent to an executor: it answers for all its scenes at once."""

    works: tuple[SceneWork, ...]
    """Of its leases, in their order."""
    task: LotTask
    nbytes: int
    """Of one scene at a time."""
    submitted: float

    @property
    def id(self) -> int:
        return self.task.id

    @property
    def slot(self) -> Slot:
        return self.task.slot

    @property
    def isolation(self) -> Isolation:
        return "none"

    @property
    def is_withdrawn(self) -> bool:
        """Never, as its scenes have no other leases that could fail."""
        return False

    @property
    def parts(self) -> list[LeaseInFlight]:
        """Its leases, each as if it had been sent alone."""
        return [
            LeaseInFlight(
                work=work,
                task=LeaseTask(lease=lease, slot=self.slot),
                nbytes=self.nbytes,
                submitted=self.submitted,
                tried=frozenset({"none"}),
                deaths=0,
            )
            for work, lease in zip(self.works, self.task.leases, strict=True)
        ]


Flight = LeaseInFlight | LotInFlight


class LeasesInFlight:
    """All leases and lots that were sent, by id and by slot; each costs the same, however many there are."""

    def __init__(self, slots: Iterable[Slot]) -> None:
        self._by_id: dict[int, Flight] = {}
        self._queues: dict[int, dict[int, Flight]] = {}
        """By slot, in the order in which they were sent."""
        self._heard_of: dict[int, float] = {}
        """When each slot last answered: what waits behind a slow lease is not late itself."""
        self.nbytes = 0
        """Pixels and masks of all together."""
        self.awaited = 0
        """Those that were not withdrawn."""
        self.in_lots = 0
        """Scenes."""
        self.change_slots(slots)

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, flight_id: int) -> bool:
        return flight_id in self._by_id

    @property
    def most(self) -> int:
        """Leases or lots that the slots take together."""
        return self._most

    def change_slots(self, slots: Iterable[Slot]) -> None:
        """Other predictors take leases from now on; what is under way stays known."""
        self.slots = list(slots)
        self.classes = {slot.cpu_class for slot in self.slots}
        self._most = sum(slot.leases for slot in self.slots)
        self._places = {slot.id: place for place, slot in enumerate(self.slots)}
        self._room: dict[str, list[tuple[int, int]]] = {}
        """Heaps of load and place in `slots` by class of CPU, some of them of a slot's earlier load."""
        for slot in self.slots:
            self._offer(slot)

    def emptiest(self, without: Collection[str]) -> Slot | None:
        """The slot with the fewest leases of those with room, the first of equals.

        Args:
            without: classes of CPU that are out of question.
        """
        heads = [head for key in self._room if key not in without and (head := self._head(key)) is not None]
        return self.slots[min(heads)[1]] if heads else None

    def _head(self, cpu_class: str) -> tuple[int, int] | None:
        heap = self._room[cpu_class]
        while heap:
            load, place = heap[0]
            if self._load(self.slots[place].id) == load:
                return heap[0]
            heappop(heap)
        return None

    def _load(self, slot: int) -> int:
        return len(self._queues.get(slot, ()))

    def _offer(self, slot: Slot) -> None:
        load, place = self._load(slot.id), self._places.get(slot.id)
        if place is not None and load < self.slots[place].leases:
            heappush(self._room.setdefault(slot.cpu_class, []), (load, place))

    def add(self, flight: Flight) -> None:
        self._by_id[flight.id] = flight
        self._queues.setdefault(flight.slot.id, {})[flight.id] = flight
        self.nbytes += flight.nbytes
        self.awaited += 1
        self.in_lots += _scenes_of_lot(flight)
        self._offer(flight.slot)

    def withdraw(self, flight: LeaseInFlight) -> None:
        """Nobody waits for its answer any more. It keeps its place until that comes, or is late."""
        flight.is_withdrawn = True
        self.awaited -= 1

    def pop(self, flight_id: int) -> Flight | None:
        """Take a flight out; None where it was given up before."""
        flight = self._by_id.pop(flight_id, None)
        if flight is not None:
            queue = self._queues[flight.slot.id]
            del queue[flight_id]
            if not queue:
                del self._queues[flight.slot.id]
            self.nbytes -= flight.nbytes
            self.awaited -= not flight.is_withdrawn
            self.in_lots -= _scenes_of_lot(flight)
            self._offer(flight.slot)
        return flight

    def heard_of(self, slot: Slot, now: float) -> None:
        self._heard_of[slot.id] = now

    def is_new(self, slot: Slot) -> bool:
        """Whether a slot had no lease so far."""
        return slot.id not in self._queues and slot.id not in self._heard_of

    def of(self, work: SceneWork) -> list[LeaseInFlight]:
        """A scene's leases that are awaited, none in a lot; for what is rare, as all are looked at."""
        flights = [flight for flight in self._by_id.values() if isinstance(flight, LeaseInFlight)]
        return [flight for flight in flights if flight.work is work and not flight.is_withdrawn]

    def has(self, work: SceneWork) -> bool:
        """Whether anything of a scene is under way; for what is rare too."""
        lots = (flight for flight in self._by_id.values() if isinstance(flight, LotInFlight))
        return bool(self.of(work)) or any(other is work for lot in lots for other in lot.works)

    def late(self, now: float, timeout: float) -> list[Flight]:
        """Those that gave no answer in time, one per slot at most: the others only waited behind it."""
        found = (self._late_of(slot, now, timeout) for slot in self._queues)
        return [flight for flight in found if flight is not None]

    def _late_of(self, slot: int, now: float, timeout: float) -> Flight | None:
        """The first of a slot's flights waits for nobody, nor does one with a predictor of its own."""
        for place, flight in enumerate(self._queues[slot].values()):
            alone = flight.isolation == "predict"
            heard_of = 0.0 if alone else self._heard_of.get(slot, 0.0)
            # A fresh process, which is not there yet, keeps the limit itself.
            limit = timeout + START_SECONDS if flight.isolation == "read" else timeout
            if (alone or place == 0) and now - max(flight.submitted, heard_of) > limit:
                return flight
        return None


def _scenes_of_lot(flight: Flight) -> int:
    return len(flight.works) if isinstance(flight, LotInFlight) else 0

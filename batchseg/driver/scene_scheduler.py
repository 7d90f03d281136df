"""Which predictor gets which shards next: leases are cut, sent out and taken back here."""

from collections.abc import Callable, Iterable, Sequence

from batchseg.driver.events import Listener, Retried
from batchseg.driver.in_flight import LeaseInFlight, LeasesInFlight, LotInFlight
from batchseg.driver.loop import Tally
from batchseg.driver.pace import Pace
from batchseg.driver.scene_finishes import SceneFinishes
from batchseg.driver.scene_queue import Retry, SceneQueue, SceneWork
from batchseg.driver.scene_worker import Lease, LeaseResult
from batchseg.driver.tasks import LEASES_AT_ONCE, Executor, LeaseTask, LotTask, Slot
from batchseg.pixels.grid import Shard, pixels_read, tiles_in

LEASE_SECONDS, LEASES_PER_SECOND = 2.0, 32
"""Of work in a lease, or more where all predictors together would end more leases in a second: 16 s for 512.
A lease costs the driver 2 ms, half of them in Ray. What a kill costs grows with it: of a predictor its
leases, of the driver what all have begun, which they do again in as many seconds."""

LOT_SECONDS, MOST_SCENES = 1.0, 256
"""Of work in a lot, or as much more for many predictors as of a lease. A predictor does the lots that it has
at once side by side, and with it go all of them half done: short as they are, no more than of leases."""

REST = 1.5
"""A lease takes all that is left of a scene up to so many times its size: a small rest costs as much as a
whole lease."""

CLASS_SECONDS = 60.0
"""Without a predictor of a scene's class of CPU, before the scene begins again on another."""


class LeaseScheduler:
    """Gives leases to predictors with room, the least loaded first, of started scenes before new ones.

    Args:
        executor: where leases run.
        queue: the scenes.
        flights: leases under way, and the predictors.
        finishes: take scenes of which nothing is left to predict when they begin.
        emit: hears of scenes that begin again.
        in_flight_bytes: bound of pixels and masks between reading and writing.
        seconds_per_tile: of prediction, as far as it is known.
        clock: seconds.
        profiled: ask for the times of each step.
        epoch: of the run's lock.
        tally: counts tiles that are sent again.
        moved_share: of tiles that are predicted again at other places.
    """

    def __init__(
        self,
        *,
        executor: Executor,
        queue: SceneQueue,
        flights: LeasesInFlight,
        finishes: SceneFinishes,
        emit: Listener,
        in_flight_bytes: int,
        seconds_per_tile: float,
        clock: Callable[[], float],
        profiled: bool,
        epoch: int,
        tally: Tally,
        moved_share: float = 0.0,
    ) -> None:
        self._executor, self._queue, self._flights, self._finishes = executor, queue, flights, finishes
        self._emit, self._clock, self._profiled, self._tally = emit, clock, profiled, tally
        self._in_flight_bytes, self._seconds_per_tile, self._epoch = in_flight_bytes, seconds_per_tile, epoch
        self._next_lease, self._moved_share = 0, moved_share
        self._pace = Pace(clock)
        self._class_seen: dict[str, float] = {}
        """When a class of CPU last lost a predictor."""

    def fill(self) -> None:
        """Give out leases until no predictor has room for one."""
        stuck: set[str] = set()
        """Classes of CPU for whose predictors there is nothing, or no room in memory."""
        while (slot := self._flights.emptiest(stuck)) is not None:
            if self._give_lease(slot):
                continue
            if self._begin_again():
                stuck.clear()
            else:
                stuck.add(slot.cpu_class)

    def allow(self, nbytes: int) -> None:
        """So many bytes may be in flight, if it were less: a scene with larger shards came."""
        self._in_flight_bytes = max(self._in_flight_bytes, nbytes)

    def change_slots(self, slots: Iterable[Slot]) -> None:
        """Predictors came or went."""
        self._class_seen |= dict.fromkeys(self._flights.classes, self._clock())
        self._flights.change_slots(slots)

    def note_speed(self, result: LeaseResult) -> None:
        """Learn from a lease how long a tile takes."""
        if result.predicted:
            latest = (result.predict_seconds + result.stitch_seconds) / result.predicted
            # A moving average: the probe's tile says little of a machine with all predictors at work.
            self._seconds_per_tile += 0.3 * (latest - self._seconds_per_tile)

    def note_answer(self, slot: Slot, tiles: int) -> None:
        """A predictor answered for so many tiles, whatever it said."""
        self._flights.heard_of(slot, self._clock())
        self._pace.note(tiles, len(self._flights.slots))

    def take_back(self, work: SceneWork) -> None:
        """Take back a scene's other leases until one of its own has come through: they may hang as well."""
        work.held = True
        self.withdraw(work)

    def withdraw(self, work: SceneWork) -> None:
        """Take back a scene's leases that are under way."""
        for flight in self._flights.of(work):
            self._flights.withdraw(flight)
            self._executor.withdraw(flight.task)
            self._queue.put_back(work, flight.lease.shards)

    def _give_lease(self, slot: Slot) -> bool:
        """Submit one lease to a slot; False where there is none for it, or no room in memory."""
        if (retry := self._queue.retries.next(slot.cpu_class)) is not None:
            self._tally.repeated += tiles_in(retry.shards)
            self._submit(retry, slot)
            return True
        work = self._scene_for(slot)
        if work is None:
            return False
        lot = self._lot(work, slot)
        if len(lot) > 1:
            self._submit_lot(lot, slot)
            return True
        if not (shards := lot[0][1] if lot else self._cut(work, slot)):
            return False
        self._queue.assign(work, slot.cpu_class)
        self._submit(Retry(work=work, shards=shards, isolation="none", tried=frozenset(), deaths=0), slot)
        return True

    def _lot(self, first: SceneWork, slot: Slot) -> list[tuple[SceneWork, Sequence[Shard]]]:
        """Scenes that go out whole, worth a call together, the first one among them; none: it alone is."""
        pace, flights = self._pace.tiles_per_second, self._flights
        if pace is None or flights.is_new(slot):
            return []
        seconds = LOT_SECONDS * self._stretch * LEASES_AT_ONCE / slot.leases
        limit = min(self._queue.tiles_left // flights.most, int(seconds * pace))
        free, most = self._in_flight_bytes - flights.nbytes, self._in_flight_bytes // flights.most
        lot: list[tuple[SceneWork, Sequence[Shard]]] = []
        work: SceneWork | None = first
        while work is not None and work.is_untouched and len(lot) < MOST_SCENES:
            size = pixels_read(work.open.rest) * work.bytes_per_pixel
            # A first one with which the lot would be full is a lease of its own.
            if (2 - bool(lot)) * work.tiles_open > limit or size > min(free, most):
                break
            limit -= work.tiles_open
            self._queue.assign(work, slot.cpu_class)
            lot.append((work, self._queue.take_all(work)))
            work = self._scene_for(slot, len(lot))
        return lot

    def _scene_for(self, slot: Slot, in_lot: int = 0) -> SceneWork | None:
        """The next scene for a predictor, beside so many that are about to be sent as a lot."""
        while (work := self._queue.next_open(slot.cpu_class)) is None:
            # Scenes in progress hold fragments on the disk and a place in memory until they are finished.
            if not self._queue.waits or self._in_progress - in_lot > 4 * len(self._flights.slots):
                return None
            begun = self._queue.begin()
            if not begun.open:
                self._finishes.add(begun)
        return work

    @property
    def _in_progress(self) -> int:
        """Scenes that were begun, without those in lots: of these a predictor holds one at a time."""
        return self._queue.begun - self._flights.in_lots

    def _begin_again(self) -> bool:
        """Open a scene whose class of CPU went with its hosts to others; False where there is none.

        What was recorded of it cannot be joined with another class's pixels.
        """
        now = self._clock()
        for work in self._queue.stranded(self._flights.classes):
            if work.cpu_class is None or self._flights.has(work):
                continue
            if now - self._class_seen.setdefault(work.cpu_class, now) > CLASS_SECONDS:
                self._emit(Retried(source_id=work.source_id, reason=f"no {work.cpu_class} CPU is left"))
                self._queue.begin_again(work)
                return True
        return False

    def _cut(self, work: SceneWork, slot: Slot) -> tuple[Shard, ...]:
        """Consecutive open shards worth a lease, fewer towards the end; none: no room in memory.

        The first one of a predictor is a shard, as it predicts nothing until that is read.
        """
        is_first = self._flights.is_new(slot)
        flights = self._flights
        share = self._queue.tiles_left // flights.most
        limit = int(LEASE_SECONDS * self._stretch / max(self._seconds_per_tile, 1e-6))
        if work.tiles_open <= REST * limit:
            limit = work.tiles_open
        limit = 1 if is_first else max(1, min(share, limit))
        free, most = self._in_flight_bytes - flights.nbytes, self._in_flight_bytes // flights.most
        taken: list[Shard] = []
        tiles = nbytes = 0
        while work.open and (not taken or work.open.goes_on(slot.id)):
            shard = work.open.first(slot.id)
            size = shard.read.size * work.bytes_per_pixel
            if taken and (tiles + shard.count > limit or nbytes + size > most):
                break
            # Where nothing is under way one shard goes out however large it is: else nothing ever would.
            if nbytes + size > free and (taken or flights.awaited):
                break
            taken.append(self._queue.take(work, slot.id))
            tiles, nbytes = tiles + shard.count, nbytes + size
        return tuple(taken)

    @property
    def _stretch(self) -> float:
        """How much longer leases and lots are than usual, because there are many predictors."""
        return max(1.0, len(self._flights.slots) / LEASES_PER_SECOND / LEASE_SECONDS)

    def _lease_of(self, work: SceneWork, shards: Sequence[Shard], slot: Slot) -> Lease:
        number, self._next_lease = self._next_lease, self._next_lease + 1
        return Lease(
            id=number,
            scene=work.job.scene,
            grid=work.job.grid_name,
            cpu_class=slot.cpu_class,
            shards=shards,
            is_whole=len(shards) + len(work.outside) == work.job.grid.count,
            epoch=self._epoch,
            profiled=self._profiled,
            moved_share=self._moved_share,
        )

    def _submit_lot(self, lot: Sequence[tuple[SceneWork, Sequence[Shard]]], slot: Slot) -> None:
        leases = tuple(self._lease_of(work, shards, slot) for work, shards in lot)
        task = LotTask(leases=leases, slot=slot)
        nbytes = max(pixels_read(shards) * work.bytes_per_pixel for work, shards in lot)
        self._flights.add(LotInFlight(tuple(work for work, _ in lot), task, nbytes, self._clock()))
        self._executor.submit(task)

    def _submit(self, wanted: Retry, slot: Slot) -> None:
        work, shards = wanted.work, wanted.shards
        task = LeaseTask(lease=self._lease_of(work, shards, slot), slot=slot, isolation=wanted.isolation)
        flight = LeaseInFlight(
            work=work,
            task=task,
            nbytes=pixels_read(shards) * work.bytes_per_pixel,
            submitted=self._clock(),
            tried=wanted.tried | {wanted.isolation},
            deaths=wanted.deaths,
        )
        self._flights.add(flight)
        self._executor.submit(task)

"""Which predictors take work, as the driver was last told: nothing is given to others."""

from collections.abc import Sequence

from batchseg.driver.executors.ray.hosts import Hosts
from batchseg.driver.executors.ray.seats import Seats
from batchseg.driver.tasks import Slot


class Slots:
    """The slots that the driver knows, and where their predictors are."""

    def __init__(self, seats: Seats, hosts: Hosts) -> None:
        self._seats, self._hosts = seats, hosts
        self._told: Sequence[Slot] = ()
        self._ids: set[int] = set()

    def tell(self, live: Sequence[Slot]) -> bool:
        """Take note of the predictors that take work from now on; whether they are others than before."""
        if list(live) == list(self._told):
            return False
        self._told, self._ids = live, {slot.id for slot in live}
        return True

    def takes_work(self, slot: int) -> bool:
        """Whether a slot's predictor is there and loaded; one that died may be made anew."""
        seat = self._seats.get(slot)
        return slot in self._ids and seat is not None and seat.is_ready

    def node(self, turn: int) -> str:
        """The node of one predictor after the other, as long as its host is here; else the run's own."""
        for step in range(len(self._told)):
            seat = self._seats.get(self._told[(turn + step) % len(self._told)].id)
            if seat is not None and self._hosts.state(seat.node) == "here":
                return seat.node
        return self._hosts.home

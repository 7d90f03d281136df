"""The queue of leases against the plain reading of its rules."""

import pytest
from factories import make_scene
from hypothesis import given, settings
from hypothesis import strategies as st

from batchseg.driver.executors.ray_leases import Flight, Leases
from batchseg.driver.scene_worker import Lease


def flight(number: int, slot: int) -> Flight:
    lease = Lease(id=number, scene=make_scene(), grid="1x1", cpu_class="avx2", shards=())
    return Flight(lease=lease, slot=slot, isolation="none")


class Plain:
    """What the queue has to say, looking at everything."""

    def __init__(self):
        self.flights, self.queued, self.reading = [], [], set()

    def hungry(self, slot):
        return all(f.read is None or f.lease.id in self.reading for f in self.flights if f.slot == slot)

    def first_hungry(self, live):
        return next((f for f in self.queued if f.slot in live and self.hungry(f.slot)), None)

    def first(self, live):
        return next((f for f in self.queued if f.slot in live), None)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_the_next_lease_to_read_is_that_of_the_rules(data):
    leases, plain = Leases(), Plain()
    for number in range(data.draw(st.integers(1, 40))):
        live = data.draw(st.sets(st.integers(0, 3)))
        takes = live.__contains__
        assert leases.first_hungry(takes) is plain.first_hungry(live)
        assert leases.first(takes) is plain.first(live)
        assert leases.being_read == len(plain.reading)
        step = data.draw(st.sampled_from(["queue", "queue", "launch", "read", "pop"]))
        if step == "queue":
            new = flight(number, data.draw(st.integers(0, 3)))
            leases.queue(new)
            plain.flights.append(new)
            plain.queued.append(new)
        elif step == "launch" and plain.queued:
            begun = leases.first_hungry(takes) or leases.first(takes) or plain.queued[0]
            begun.read, begun.done = f"read {begun.lease.id}", f"done {begun.lease.id}"
            leases.launched(begun)
            plain.queued.remove(begun)
            plain.reading.add(begun.lease.id)
        elif step == "read" and plain.reading:
            ended = data.draw(st.sampled_from(sorted(plain.reading)))
            leases.read_ended(f"read {ended}")
            plain.reading.discard(ended)
        elif step == "pop" and plain.flights:
            gone = data.draw(st.sampled_from(plain.flights))
            assert leases.pop(gone.lease.id) is gone
            plain.flights.remove(gone)
            plain.reading.discard(gone.lease.id)
            if gone in plain.queued:
                plain.queued.remove(gone)
    assert sorted(f.lease.id for f in leases.all()) == sorted(f.lease.id for f in plain.flights)
    launched = [f for f in plain.flights if f.read is not None]
    references = {f.done for f in launched} | {f"read {number}" for number in plain.reading}
    assert set(leases.references()) == references
    assert all(leases.landed(f.done) is f for f in launched)


@pytest.mark.parametrize("slots", [4, 400])
def test_a_lease_is_found_without_asking_all_predictors(slots):
    leases, asked, sent = Leases(), [], 3 * slots
    for number in range(sent):
        leases.queue(flight(number, number % slots))

    def takes(slot):
        asked.append(slot)
        return True

    while (found := leases.first_hungry(takes)) is not None or (found := leases.first(takes)) is not None:
        found.read, found.done = f"read {found.lease.id}", f"done {found.lease.id}"
        leases.launched(found)
        leases.read_ended(found.read)
    assert len(asked) == sent

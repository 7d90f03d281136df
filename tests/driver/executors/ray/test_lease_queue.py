"""The queue of leases against the plain reading of its rules."""

import pytest
from factories import make_scene
from hypothesis import given, settings
from hypothesis import strategies as st

from batchseg.driver.executors.ray.lease_queue import LeaseQueue, RayLease
from batchseg.driver.scene_worker import Lease
from batchseg.driver.tasks import LeaseTask, Slot


def some_lease(number: int, slot: int) -> RayLease:
    lease = Lease(id=number, scene=make_scene(), grid="1x1", cpu_class="avx2", shards=())
    return RayLease(LeaseTask(lease=lease, slot=Slot(id=slot, cpu_class="avx2")))


class Plain:
    """What the queue has to say, looking at everything."""

    def __init__(self):
        self.leases, self.queued, self.reading = [], [], set()

    def hungry(self, slot):
        return all(
            lease.read is None or lease.id in self.reading for lease in self.leases if lease.slot == slot
        )

    def first_hungry(self, live):
        return next((lease for lease in self.queued if lease.slot in live and self.hungry(lease.slot)), None)

    def first(self, live):
        return next((lease for lease in self.queued if lease.slot in live), None)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_the_next_lease_to_read_is_that_of_the_rules(data):
    queue, plain = LeaseQueue(), Plain()
    for number in range(data.draw(st.integers(1, 40))):
        live = data.draw(st.sets(st.integers(0, 3)))
        takes = live.__contains__
        assert queue.first_hungry(takes) is plain.first_hungry(live)
        assert queue.first(takes) is plain.first(live)
        assert queue.being_read == len(plain.reading)
        step = data.draw(st.sampled_from(["queue", "queue", "launch", "read", "pop"]))
        if step == "queue":
            new = some_lease(number, data.draw(st.integers(0, 3)))
            queue.add(new)
            plain.leases.append(new)
            plain.queued.append(new)
        elif step == "launch" and plain.queued:
            begun = queue.first_hungry(takes) or queue.first(takes) or plain.queued[0]
            begun.read, begun.done = f"read {begun.id}", f"done {begun.id}"
            queue.launched(begun)
            plain.queued.remove(begun)
            plain.reading.add(begun.id)
        elif step == "read" and plain.reading:
            ended = data.draw(st.sampled_from(sorted(plain.reading)))
            queue.read_ended(f"read {ended}")
            plain.reading.discard(ended)
        elif step == "pop" and plain.leases:
            gone = data.draw(st.sampled_from(plain.leases))
            assert queue.pop(gone.id) is gone
            plain.leases.remove(gone)
            plain.reading.discard(gone.id)
            if gone in plain.queued:
                plain.queued.remove(gone)
    assert sorted(lease.id for lease in queue.all()) == sorted(lease.id for lease in plain.leases)
    launched = [lease for lease in plain.leases if lease.read is not None]
    references = {lease.done for lease in launched} | {f"read {number}" for number in plain.reading}
    assert set(queue.references()) == references
    assert all(queue.ended_by(lease.done) is lease for lease in launched)


@pytest.mark.parametrize("slots", [4, 400])
def test_a_lease_is_found_without_asking_all_predictors(slots):
    queue, asked, sent = LeaseQueue(), [], 3 * slots
    for number in range(sent):
        queue.add(some_lease(number, number % slots))

    def takes(slot):
        asked.append(slot)
        return True

    while (found := queue.first_hungry(takes)) is not None or (found := queue.first(takes)) is not None:
        found.read, found.done = f"read {found.id}", f"done {found.id}"
        queue.launched(found)
        queue.read_ended(found.read)
    assert len(asked) == sent

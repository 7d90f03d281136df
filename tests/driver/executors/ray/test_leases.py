"""Leases that are read, die on their way, are given up, and go with their hosts."""

from types import SimpleNamespace

import pytest
from ray import exceptions as ray_errors
from ray_fakes import CONTEXT, FakeActor, FakeHosts, FakeRay, fake_tasks, make_task, seated

from batchseg.driver.executors.ray import failures, leases, seats
from batchseg.driver.executors.ray.leases import REMOTE_READS, Leases
from batchseg.driver.executors.ray.slots import Slots
from batchseg.driver.tasks import Slot


@pytest.fixture
def ray(monkeypatch):
    fake = FakeRay()
    for module in (leases, seats):
        monkeypatch.setattr(module, "ray", fake)
    monkeypatch.setattr(leases, "tasks", fake_tasks(fake))
    monkeypatch.setattr(failures, "full_disks", list)
    return fake


class Work:
    """Leases on two predictors, of hosts a and b."""

    def __init__(self, ray):
        self.ray, self.hosts, self.own = ray, FakeHosts(), []
        self.seats = seated(ray, self.hosts, "a", "b")
        self.slots = Slots(self.seats, self.hosts)
        self.slots.tell([Slot(id=number, cpu_class="avx2") for number in (0, 1)])
        self.leases = Leases(
            CONTEXT, self.hosts, self.seats, self.slots, SimpleNamespace(make_beside=self._own)
        )

    def _own(self, **where):
        self.own.append(FakeActor(self.ray))
        return self.own[-1]

    def reading(self):
        return [ref for ref in self.leases.references() if ref.startswith("read")]

    def ending(self):
        return [ref for ref in self.leases.references() if ref.startswith("write")]

    def read(self, *refs):
        """Readings come to an end, and others begin."""
        self.leases.ended(refs or self.reading())
        self.leases.launch()

    def end(self, ref, answer):
        self.ray.answers[ref] = answer
        (outcome,) = self.leases.ended([ref])
        return outcome


@pytest.fixture
def work(ray):
    return Work(ray)


def test_steps_of_a_lease_run_on_its_predictors_host(work):
    work.leases.submit(make_task(0, slot=1))
    ((options, arguments),) = leases.tasks.read.calls
    assert options == {"node": "b"}
    assert arguments[1:] == ("recipe", make_task(0).lease, False, 60.0)
    ((options, arguments),) = leases.tasks.write.calls
    assert options == {"node": "b"}
    assert arguments[:3] == ({}, "out", "recipe")
    assert work.end(work.ending()[0], "masks are written").result == "masks are written"
    assert work.leases.references() == []


def test_first_each_predictor_gets_something_to_do_then_few_are_read_at_once(work):
    for number in range(12):
        work.leases.submit(make_task(number, slot=number % 2))
    assert len(work.reading()) == 2  # one per predictor
    work.read()
    assert len(work.reading()) == 2  # one per host


def test_from_a_bucket_more_are_read_at_once(work):
    for number in range(30):
        work.leases.submit(make_task(number, slot=number % 2, uri="s3://bucket/a.tif"))
    work.read()
    assert len(work.reading()) == 2 * REMOTE_READS


def test_of_two_leases_of_a_predictor_that_dies_the_first_is_the_suspect(work):
    for number in range(2):
        work.leases.submit(make_task(number))
        work.read()
    before = work.seats.get(0).actor
    for ref in work.ending():
        work.ray.answers[ref] = ray_errors.ActorDiedError()
    first, second = work.leases.ended(work.ending())
    assert (first.lease_id, first.result.kind, first.result.step) == (0, "crash", "predict")
    assert (second.lease_id, second.result.kind) == (1, "lost")
    assert work.seats.get(0).actor is not before


def test_a_lease_with_a_predictor_of_its_own_ends_only_that(work):
    before = work.seats.get(0).actor
    work.leases.submit(make_task(0, isolation="predict"))
    outcome = work.end(work.ending()[0], ray_errors.ActorDiedError())
    assert outcome.result.kind == "crash"
    assert work.ray.killed == work.own
    assert work.seats.get(0).actor is before


def test_a_reader_that_dies_is_told_from_a_writer(work):
    for number, isolation in enumerate(["none", "read", "none"]):
        work.leases.submit(make_task(number, isolation=isolation))
        work.read()
    wrapped = ray_errors.WorkerCrashedError()
    through_the_predictor = ray_errors.RayError("predict failed")
    through_the_predictor.cause = wrapped
    read, alone, write = work.ending()
    assert work.end(read, through_the_predictor).result.step == "read"
    failure = work.end(alone, through_the_predictor).result
    assert (failure.kind, failure.step) == ("lost", "read")  # the file is read by a process within that
    assert work.end(write, wrapped).result.step == "write"


def test_a_host_that_does_not_answer_takes_the_blame(work):
    for number in range(2):
        work.leases.submit(make_task(number, slot=1))
        work.read()
    work.hosts.states["b"] = "silent"
    for ref, error in zip(
        work.ending(), [ray_errors.WorkerCrashedError(), ray_errors.ActorDiedError()], strict=True
    ):
        assert work.end(ref, error).result.kind == "lost"


def test_a_lease_that_is_given_up_says_what_it_was_at(work):
    for number in range(4):
        work.leases.submit(make_task(number, slot=number % 2))
    predictors = [seat.actor for seat in work.seats.all()]
    assert work.leases.abandon(make_task(3)) == "lost"  # nobody began with it
    assert work.leases.abandon(make_task(0)) == "read"
    assert work.ray.killed == []
    work.read()
    (lease,) = [lease for lease in work.leases._queue.all() if lease.id == 1]
    work.ray.answers[lease.masks] = "masks"
    assert work.leases.abandon(make_task(1)) == "write"
    assert work.ray.cancelled[-1] == lease.done
    assert work.ray.killed == []
    work.read()
    assert work.leases.abandon(make_task(2)) == "predict"
    assert work.ray.killed == predictors[:1]
    work.leases.submit(make_task(9, slot=1))
    work.hosts.states["b"] = "silent"
    assert work.leases.abandon(make_task(9)) == "lost"


def test_what_went_with_a_host_or_waits_for_no_predictor_is_lost(work):
    for number in range(4):
        work.leases.submit(make_task(number, slot=number % 2))
    assert work.leases.lost() == []
    work.slots.tell([Slot(id=0, cpu_class="avx2")])
    assert [outcome.lease_id for outcome in work.leases.lost()] == [3]
    work.hosts.states["b"] = "gone"
    assert [outcome.lease_id for outcome in work.leases.lost()] == [1]


def test_predictors_of_single_leases_end_with_the_run(work):
    work.leases.submit(make_task(0, isolation="predict"))
    work.leases.submit(make_task(1, slot=1))
    work.leases.close()
    assert work.ray.killed == work.own

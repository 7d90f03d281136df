"""Leases and groups that die on their way, are given up or taken back, and go with their hosts."""

from types import SimpleNamespace

import pytest
from ray import exceptions as ray_errors
from ray_fakes import CONTEXT, FakeActor, FakeHosts, FakeRay, fake_tasks, make_lot, make_task, seated

from batchseg.driver.executors.ray import calls, failures, seats
from batchseg.driver.executors.ray.calls import PredictorCalls
from batchseg.driver.executors.ray.slots import Slots
from batchseg.driver.tasks import Group, GroupTask, Slot


@pytest.fixture
def ray(monkeypatch):
    fake = FakeRay()
    for module in (calls, seats):
        monkeypatch.setattr(module, "ray", fake)
    monkeypatch.setattr(calls, "tasks", fake_tasks(fake))
    monkeypatch.setattr(failures, "full_disks", list)
    return fake


class Work:
    """Two predictors, of hosts a and b."""

    def __init__(self, ray):
        self.ray, self.hosts, self.own = ray, FakeHosts(), []
        self.seats = seated(ray, self.hosts, "a", "b")
        self.slots = Slots(self.seats, self.hosts)
        self.slots.tell([Slot(id=number, cpu_class="avx2") for number in (0, 1)])
        self.calls = PredictorCalls(
            CONTEXT, self.hosts, self.seats, self.slots, SimpleNamespace(make_beside=self._own)
        )

    def _own(self, **where):
        self.own.append((FakeActor(self.ray), where))
        return self.own[-1][0]

    def actor(self, slot):
        return self.seats.get(slot).actor

    def end(self, ref, answer):
        self.ray.answers[ref] = answer
        (outcome,) = self.calls.ended([ref])
        return outcome


@pytest.fixture
def work(ray):
    return Work(ray)


def group_task(number, slot=0):
    group = Group(id=number, work="predict", images=b"", count=1)
    return GroupTask(group=group, slot=Slot(id=slot, cpu_class="avx2"))


def test_a_lease_is_one_call_of_its_predictor(work):
    work.calls.submit(make_task(0, slot=1, isolation="read"))
    assert work.actor(0).calls == []
    assert work.actor(1).calls == [({}, make_task(0).lease, "read")]
    (reference,) = work.calls.references()
    assert work.end(reference, "masks are written").result == "masks are written"
    assert work.calls.references() == []


def test_a_lot_is_one_call_and_says_nothing_of_single_scenes_where_it_fails(work):
    lot = make_lot(4, 5, slot=1)
    work.calls.submit(lot)
    work.calls.submit(make_lot(6, 7, slot=1))
    assert work.actor(1).calls[0] == ({}, lot.leases)
    first, second = work.calls.references()
    outcome = work.end(first, ("four", "five"))
    assert (outcome.lot_id, outcome.result) == (4, ("four", "five"))
    failed = work.end(second, ray_errors.ActorDiedError())
    assert (failed.lot_id, failed.result.kind) == (6, "crash")


def test_a_lot_that_is_given_up_ends_its_predictor(work):
    work.calls.submit(make_lot(4, 5))
    before = work.actor(0)
    assert work.calls.abandon(make_lot(4, 5)) == "predict"
    assert work.ray.killed == [before]
    assert work.calls.references() == []


def test_each_lease_of_a_predictor_that_dies_is_to_be_read_alone(work):
    for number in range(2):
        work.calls.submit(make_task(number))
    before, references = work.actor(0), work.calls.references()
    for ref in references:
        work.ray.answers[ref] = ray_errors.ActorDiedError()
    found = [(o.lease_id, o.result.kind, o.result.step) for o in work.calls.ended(references)]
    assert found == [(0, "crash", "read"), (1, "crash", "read")]
    assert work.actor(0) is not before
    assert work.ray.killed == [before, before]  # none of those that came after it


def test_leases_that_were_read_alone_are_to_have_predictors_of_their_own(work):
    for number in range(2):
        work.calls.submit(make_task(number, isolation="read"))
    references = work.calls.references()
    for ref in references:
        work.ray.answers[ref] = ray_errors.ActorDiedError()
    found = [(o.lease_id, o.result.kind, o.result.step) for o in work.calls.ended(references)]
    assert found == [(0, "crash", "predict"), (1, "crash", "predict")]


def test_a_predictor_of_its_own_that_says_nothing_may_still_load(work):
    work.calls.submit(make_task(0, isolation="predict"))
    ((own, _),) = work.own
    own.step = ray_errors.GetTimeoutError("it loads")
    assert work.calls.abandon(make_task(0, isolation="predict")) == "lost"
    assert work.ray.killed == [own]


def test_answers_come_in_the_order_of_their_groups(work):
    for number in range(3):
        work.calls.submit(group_task(number, slot=number % 2))
    first, second, third = work.calls.references()
    work.ray.answers |= {first: "zero", third: "two"}
    outcomes = work.calls.ended(["another", third, first])
    assert [(outcome.group_id, outcome.result) for outcome in outcomes] == [(0, "zero"), (2, "two")]
    assert work.calls.references() == [second]


def test_of_two_groups_of_a_predictor_that_dies_the_first_is_the_suspect(work):
    for number in range(2):
        work.calls.submit(group_task(number))
    before, references = work.actor(0), work.calls.references()
    for ref in references:
        work.ray.answers[ref] = ray_errors.ActorDiedError()
    first, second = work.calls.ended(references)
    assert (first.result.kind, first.result.step, second.result.kind) == ("crash", "group", "lost")
    assert "over other work" in second.result.reason
    assert work.actor(0) is not before


def test_a_group_that_is_given_up_ends_its_predictor(work):
    for number in range(2):
        work.calls.submit(group_task(number, slot=number))
    before = [seat.actor for seat in work.seats.all()]
    assert work.calls.abandon(group_task(0)) == "group"
    work.hosts.states["b"] = "silent"
    assert work.calls.abandon(group_task(1, slot=1)) == "lost"
    assert work.ray.killed == before
    assert work.calls.references() == []


def test_a_group_of_a_predictor_that_went_is_lost(work):
    work.seats.end(0, work.actor(0))
    work.calls.submit(group_task(0))
    work.calls.submit(group_task(1, slot=1))
    assert len(work.calls.references()) == 1  # for nothing else can be waited
    work.slots.tell([Slot(id=1, cpu_class="avx2")])
    assert work.calls.lost() == []  # another one comes
    work.seats.get(0).died_in_a_row = 9
    assert [outcome.group_id for outcome in work.calls.lost()] == [0]
    work.hosts.states["b"] = "gone"
    assert [(outcome.group_id, outcome.result.kind) for outcome in work.calls.lost()] == [(1, "lost")]
    assert work.calls.lost() == []


def test_a_lease_waits_until_its_predictor_is_made_anew(work):
    work.calls.submit(make_task(0))
    work.end(work.calls.references()[0], ray_errors.ActorDiedError())
    work.calls.submit(make_task(1))
    assert work.calls.references() == []
    work.calls.launch()
    assert work.calls.references() == []
    work.ray.answers[work.seats.get(0).hello] = ("a", "avx2")
    work.seats.greet(work.seats.hellos())
    work.calls.launch()
    assert [lease for _, lease, _ in work.actor(0).calls] == [make_task(1).lease]
    assert work.end(work.calls.references()[0], "done").result == "done"


def test_a_lease_with_a_predictor_of_its_own_ends_only_that(work):
    before = work.actor(0)
    work.calls.submit(make_task(0, isolation="predict"))
    ((own, where),) = work.own
    assert where == {"node": "a"}
    outcome = work.end(work.calls.references()[0], ray_errors.ActorDiedError())
    assert (outcome.result.kind, outcome.result.step) == ("crash", "predict")
    assert work.ray.killed == [own]
    assert work.actor(0) is before


def test_a_host_that_does_not_answer_takes_the_blame(work):
    for number, isolation in enumerate(("none", "read")):
        work.calls.submit(make_task(number, slot=1, isolation=isolation))
    work.hosts.states["b"] = "silent"
    for ref in work.calls.references():
        assert work.end(ref, ray_errors.ActorDiedError()).result.kind == "lost"


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("read", "read"),
        ("write", "write"),
        ("waits", "lost"),  # behind another one that hangs
        (ray_errors.GetTimeoutError("it is stopped"), "predict"),
        (ray_errors.ActorDiedError(), "lost"),
    ],
)
def test_a_lease_that_is_given_up_says_what_it_was_at_and_takes_its_predictor_along(work, step, said):
    work.calls.submit(make_task(0))
    before = work.actor(0)
    before.step = step
    assert work.calls.abandon(make_task(0)) == said
    assert work.ray.killed == [before]
    assert work.calls.references() == []


def test_a_lease_that_is_given_up_with_its_host_or_before_it_began_is_lost(work):
    work.calls.submit(make_task(0))
    work.end(work.calls.references()[0], ray_errors.ActorDiedError())
    work.calls.submit(make_task(1))
    killed = len(work.ray.killed)
    assert work.calls.abandon(make_task(1)) == "lost"
    assert len(work.ray.killed) == killed
    work.calls.submit(make_task(2, slot=1))
    work.hosts.states["b"] = "silent"
    assert work.calls.abandon(make_task(2)) == "lost"


def test_a_lease_that_is_taken_back_leaves_its_predictor_in_peace(work):
    work.calls.submit(make_task(0))
    work.calls.submit(make_task(1, isolation="predict"))
    shared, _ = work.calls.references()
    for number in range(2):
        work.calls.withdraw(make_task(number))
    assert work.ray.cancelled == [shared]
    assert work.ray.killed == [actor for actor, _ in work.own]
    assert work.end(shared, ray_errors.TaskCancelledError()).result.kind == "lost"
    assert len(work.ray.killed) == len(work.own), "its predictor lives"
    work.calls.withdraw(make_task(0))  # its outcome came


def test_what_went_with_a_host_or_waits_for_no_predictor_is_lost(work):
    work.calls.submit(make_task(0))
    work.end(work.calls.references()[0], ray_errors.ActorDiedError())
    for number, slot in enumerate((0, 1), start=1):
        work.calls.submit(make_task(number, slot=slot))
    assert work.calls.lost() == []
    work.slots.tell([Slot(id=1, cpu_class="avx2")])
    assert work.calls.lost() == []  # another one comes
    work.seats.get(0).died_in_a_row = 9
    assert [outcome.lease_id for outcome in work.calls.lost()] == [1]
    work.hosts.states["b"] = "gone"
    assert [outcome.lease_id for outcome in work.calls.lost()] == [2]


def test_predictors_of_single_leases_end_with_the_run(work):
    work.calls.submit(make_task(0, isolation="predict"))
    work.calls.submit(make_task(1, slot=1))
    work.calls.close()
    assert work.ray.killed == [actor for actor, _ in work.own]

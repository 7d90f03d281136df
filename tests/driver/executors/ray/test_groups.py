"""Groups that are done, and whose fault it is where a predictor dies."""

from types import SimpleNamespace

import pytest
from ray import exceptions as ray_errors
from ray_fakes import CONTEXT, FakeHosts, FakeRay, fake_tasks, seated

from batchseg.driver.executors.ray import failures, groups
from batchseg.driver.executors.ray import seats as ray_seats
from batchseg.driver.executors.ray.groups import GroupInspections, Groups
from batchseg.driver.tasks import Group, GroupTask, InspectionTask, Slot


@pytest.fixture
def ray(monkeypatch):
    fake = FakeRay()
    for module in (groups, ray_seats):
        monkeypatch.setattr(module, "ray", fake)
    monkeypatch.setattr(groups, "tasks", fake_tasks(fake))
    monkeypatch.setattr(failures, "full_disks", list)
    return fake


def group(number):
    return Group(id=number, work="predict", images=b"", count=1)


def task(number, slot=0):
    return GroupTask(group=group(number), slot=Slot(id=slot, cpu_class="avx2"))


@pytest.fixture
def made(ray):
    hosts = FakeHosts()
    seats = seated(ray, hosts, "a", "b")
    return SimpleNamespace(hosts=hosts, seats=seats, groups=Groups(CONTEXT, hosts, seats))


def test_answers_come_in_the_order_of_their_groups(ray, made):
    for number in range(3):
        made.groups.submit(task(number, slot=number % 2))
    first, second, third = made.groups.references()
    ray.answers |= {first: "zero", third: "two"}
    outcomes = made.groups.ended(["another", third, first])
    assert [(outcome.group_id, outcome.result) for outcome in outcomes] == [(0, "zero"), (2, "two")]
    assert made.groups.references() == [second]


def test_of_two_groups_of_a_predictor_that_dies_the_first_is_the_suspect(ray, made):
    for number in range(2):
        made.groups.submit(task(number))
    before = made.seats.get(0).actor
    for ref in made.groups.references():
        ray.answers[ref] = ray_errors.ActorDiedError()
    first, second = made.groups.ended(made.groups.references())
    assert (first.result.kind, second.result.kind) == ("crash", "lost")
    assert "over another group" in second.result.reason
    assert made.seats.get(0).actor is not before


def test_a_host_that_does_not_answer_takes_the_blame(ray, made):
    made.groups.submit(task(7, slot=1))
    (ref,) = made.groups.references()
    made.hosts.states["b"] = "silent"
    ray.answers[ref] = ray_errors.ActorUnavailableError("b is not there", b"0" * 16)
    (outcome,) = made.groups.ended([ref])
    assert (outcome.group_id, outcome.result.kind) == (7, "lost")


def test_what_is_given_up_ends_its_predictor(ray, made):
    for number in range(2):
        made.groups.submit(task(number, slot=number))
    before = [seat.actor for seat in made.seats.all()]
    assert made.groups.abandon(task(0)) == "group"
    made.hosts.states["b"] = "silent"
    assert made.groups.abandon(task(1, slot=1)) == "lost"
    assert ray.killed == before
    assert made.groups.references() == []


def test_what_has_no_predictor_or_no_host_any_more_is_lost(ray, made):
    made.seats.end(0, made.seats.get(0).actor)
    made.groups.submit(task(0))
    made.groups.submit(task(1, slot=1))
    assert len(made.groups.references()) == 1  # for nothing else can be waited
    assert [outcome.group_id for outcome in made.groups.lost()] == [0]
    made.hosts.states["b"] = "gone"
    assert [(outcome.group_id, outcome.result.kind) for outcome in made.groups.lost()] == [(1, "lost")]
    assert made.groups.lost() == []


def test_photographs_are_inspected_at_home_in_less_than_the_driver_waits(ray):
    inspections = GroupInspections(CONTEXT, FakeHosts())
    for number in range(3):
        inspections.submit(InspectionTask(group=group(number)))
    options, arguments = groups.tasks.inspect_group.calls[0]
    assert options == {"node": "a"}
    assert arguments == ({}, "recipe", group(0), 48.0)
    first, second, third = inspections.references()
    assert inspections.abandon(InspectionTask(group=group(2))) == "group"
    assert ray.cancelled == [third]
    ray.answers |= {first: "inspected", second: ray_errors.WorkerCrashedError()}
    good, bad = inspections.ended([first, second, third])
    assert (good.group_id, good.result) == (0, "inspected")
    assert (bad.group_id, bad.result.kind, bad.result.step) == (1, "crash", "group")
    assert inspections.references() == inspections.lost() == []

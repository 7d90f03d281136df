"""Finishes and inspections that end, fail, are given up, and go with their host."""

import pytest
from factories import make_scene, make_source
from ray import exceptions as ray_errors
from ray_fakes import CONTEXT, FakeHosts, FakeRay, fake_tasks, seated

from batchseg.driver.executors.ray import failures, seats, side_tasks
from batchseg.driver.executors.ray.side_tasks import SideTasks
from batchseg.driver.executors.ray.slots import Slots
from batchseg.driver.tasks import Failure, FinishOutcome, FinishTask, Group, InspectionTask, Slot


@pytest.fixture
def ray(monkeypatch):
    fake = FakeRay()
    for module in (side_tasks, seats):
        monkeypatch.setattr(module, "ray", fake)
    monkeypatch.setattr(side_tasks, "tasks", fake_tasks(fake))
    monkeypatch.setattr(failures, "full_disks", list)
    return fake


@pytest.fixture
def hosts():
    return FakeHosts()


@pytest.fixture
def work(ray, hosts):
    slots = Slots(seated(ray, hosts, "a", "b"), hosts)
    slots.tell([Slot(id=0, cpu_class="avx2"), Slot(id=1, cpu_class="avx2")])
    return SideTasks(CONTEXT, hosts, slots)


def finish_of(name):
    return FinishTask(scene=make_scene(source=make_source(name)), shards=(), epoch=1)


def test_finishes_go_to_hosts_in_turn_and_their_answers_come_back(ray, work):
    tasks = [finish_of("a.tif"), finish_of("b.tif")]
    for task in tasks:
        work.submit(task)
    calls = side_tasks.tasks.finish.calls
    assert [options["node"] for options, _ in calls] == ["a", "b"]
    assert [arguments for _, arguments in calls] == [({}, "out", "recipe", "product", task) for task in tasks]
    first, second = work.references()
    answer = FinishOutcome(source_id="b.tif", result=Failure(kind="error", step="finish", reason="damaged"))
    ray.answers[second] = answer
    assert work.ended(["of another kind", second]) == [answer]
    assert work.references() == [first]


def test_a_finish_whose_process_ends_is_a_crash_unless_its_host_is_gone(ray, hosts, work):
    for name in ("a.tif", "b.tif"):
        work.submit(finish_of(name))
    hosts.states["b"] = "silent"
    for ref in work.references():
        ray.answers[ref] = ray_errors.WorkerCrashedError()
    outcomes = work.ended(work.references())
    assert [(outcome.source_id, outcome.result.kind) for outcome in outcomes] == [
        ("a.tif", "crash"),
        ("b.tif", "lost"),
    ]


def test_what_is_given_up_is_cancelled_and_what_went_with_its_host_is_lost(ray, hosts, work):
    for name in ("a.tif", "b.tif", "c.tif"):
        work.submit(finish_of(name))
    first = work.references()[0]
    assert work.abandon(finish_of("a.tif")) == "finish"
    assert ray.cancelled == [first]
    assert work.lost() == []
    hosts.states["b"] = "gone"
    assert [outcome.source_id for outcome in work.lost()] == ["b.tif"]
    assert len(work.references()) == 1


def test_photographs_are_inspected_at_home_in_less_than_the_driver_waits(ray, work):
    def inspection(number):
        return InspectionTask(group=Group(id=number, work="predict", images=b"", count=1))

    for number in range(3):
        work.submit(inspection(number))
    options, arguments = side_tasks.tasks.inspect_group.calls[0]
    assert options == {"node": "a"}
    assert arguments == ({}, "recipe", inspection(0).group, 48.0)
    first, second, third = work.references()
    assert work.abandon(inspection(2)) == "group"
    assert ray.cancelled == [third]
    ray.answers |= {first: "inspected", second: ray_errors.WorkerCrashedError()}
    good, bad = work.ended([first, second, third])
    assert (good.group_id, good.result) == (0, "inspected")
    assert (bad.group_id, bad.result.kind, bad.result.step) == (1, "crash", "group")
    assert work.references() == work.lost() == []

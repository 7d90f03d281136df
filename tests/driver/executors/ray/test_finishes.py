"""Finishes that end, fail, are given up, and go with their host."""

import pytest
from factories import make_scene, make_source
from ray import exceptions as ray_errors
from ray_fakes import CONTEXT, FakeHosts, FakeRay, fake_tasks, seated

from batchseg.driver.executors.ray import failures, seats
from batchseg.driver.executors.ray import finishes as ray_finishes
from batchseg.driver.executors.ray.finishes import Finishes
from batchseg.driver.executors.ray.slots import Slots
from batchseg.driver.tasks import Failure, FinishOutcome, FinishTask, Slot


@pytest.fixture
def ray(monkeypatch):
    fake = FakeRay()
    for module in (ray_finishes, seats):
        monkeypatch.setattr(module, "ray", fake)
    monkeypatch.setattr(ray_finishes, "tasks", fake_tasks(fake))
    monkeypatch.setattr(failures, "full_disks", list)
    return fake


@pytest.fixture
def hosts():
    return FakeHosts()


@pytest.fixture
def finishes(ray, hosts):
    slots = Slots(seated(ray, hosts, "a", "b"), hosts)
    slots.tell([Slot(id=0, cpu_class="avx2"), Slot(id=1, cpu_class="avx2")])
    return Finishes(CONTEXT, hosts, slots)


def finish_of(name):
    return FinishTask(scene=make_scene(source=make_source(name)), shards=(), epoch=1)


def test_finishes_go_to_hosts_in_turn_and_their_answers_come_back(ray, finishes):
    tasks = [finish_of("a.tif"), finish_of("b.tif")]
    for task in tasks:
        finishes.submit(task)
    calls = ray_finishes.tasks.finish.calls
    assert [options["node"] for options, _ in calls] == ["a", "b"]
    assert [arguments for _, arguments in calls] == [({}, "out", "recipe", "product", task) for task in tasks]
    first, second = finishes.references()
    answer = FinishOutcome(source_id="b.tif", result=Failure(kind="error", step="finish", reason="damaged"))
    ray.answers[second] = answer
    assert finishes.ended(["of another kind", second]) == [answer]
    assert finishes.references() == [first]


def test_a_finish_whose_process_ends_is_a_crash_unless_its_host_is_gone(ray, hosts, finishes):
    for name in ("a.tif", "b.tif"):
        finishes.submit(finish_of(name))
    hosts.states["b"] = "silent"
    for ref in finishes.references():
        ray.answers[ref] = ray_errors.WorkerCrashedError()
    outcomes = finishes.ended(finishes.references())
    assert [(outcome.source_id, outcome.result.kind) for outcome in outcomes] == [
        ("a.tif", "crash"),
        ("b.tif", "lost"),
    ]


def test_what_is_given_up_is_cancelled_and_what_went_with_its_host_is_lost(ray, hosts, finishes):
    for name in ("a.tif", "b.tif", "c.tif"):
        finishes.submit(finish_of(name))
    first = finishes.references()[0]
    assert finishes.abandon(finish_of("a.tif")) == "finish"
    assert ray.cancelled == [first]
    assert finishes.lost() == []
    hosts.states["b"] = "gone"
    assert [outcome.source_id for outcome in finishes.lost()] == ["b.tif"]
    assert len(finishes.references()) == 1

"""The executor's parts together, on simulated hosts and predictors."""

import threading
from types import SimpleNamespace

import pytest
from factories import make_scene, make_source
from ray import exceptions as ray_errors
from ray_fakes import CONTEXT, FakeActor, FakeHosts, FakeRay, fake_tasks, make_task

from batchseg.driver.executors.ray import calls as ray_calls
from batchseg.driver.executors.ray import executor as ray
from batchseg.driver.executors.ray import failures, fleet, seats, side_tasks
from batchseg.driver.executors.ray.executor import RayExecutor
from batchseg.driver.executors.ray.fleet import Capacity
from batchseg.driver.tasks import (
    FinishTask,
    Group,
    GroupOutcome,
    GroupTask,
    InspectionTask,
    LeaseOutcome,
    Slot,
    SlotsChanged,
)
from batchseg.errors import StoppedError

SLOTS = [Slot(id=number, cpu_class="avx2") for number in (0, 1)]


class FakeCluster:
    def __init__(self, address, **_):
        self.is_own, self.ended = False, ""

    def own_processes(self):
        return {}

    def close(self):
        self.ended = "closed"

    def kill(self):
        self.ended = "killed"


@pytest.fixture
def calls(monkeypatch):
    fake = FakeRay()
    tasks = fake_tasks(fake)
    for module in (ray, fleet, ray_calls, seats, side_tasks):
        monkeypatch.setattr(module, "ray", fake)
    for module in (ray, ray_calls, side_tasks):
        monkeypatch.setattr(module, "tasks", tasks)
    monkeypatch.setattr(ray, "Cluster", FakeCluster)
    monkeypatch.setattr(ray, "Hosts", lambda own: FakeHosts())
    monkeypatch.setattr(ray, "check_hosts", lambda hosts: None)
    monkeypatch.setattr(ray, "TEND_SECONDS", 0.0)
    monkeypatch.setattr(failures, "full_disks", list)
    return fake


def new():
    return RayExecutor(
        "out",
        address="head:6379",
        workers=2,
        gpus_per_worker=1.0,
        batch_size=4,
        timeout=60.0,
        object_store_bytes=0,
    )


@pytest.fixture
def executor(calls):
    """One with two predictors, that are loaded, and of which the driver was told."""
    made = new()
    capacity = Capacity(made._hosts, asked=2, device="cpu", gpus=1.0)
    made._build(CONTEXT, capacity, SimpleNamespace(readers=1, make=lambda: FakeActor(calls)))
    made._seats.keep(2)
    for seat, node in zip(made._seats.all(), "ab", strict=True):
        calls.answers[seat.hello] = (node, "avx2")
    assert made.poll(0.0) == [SlotsChanged(slots=tuple(SLOTS))]
    return made


def group(number):
    return Group(id=number, work="predict", images=b"", count=1)


def reference(executor, name):
    references = [*executor._calls.references(), *executor._aside.references()]
    (ref,) = (ref for ref in references if ref.startswith(name))
    return ref


def test_every_kind_of_task_has_its_answer(executor, calls):
    finish = FinishTask(scene=make_scene(source=make_source("f.tif")), shards=(), epoch=1)
    for task in (
        make_task(1),
        finish,
        GroupTask(group=group(2), slot=SLOTS[1]),
        InspectionTask(group=group(3)),
    ):
        executor.submit(task)
    assert executor.poll(0.0) == []
    finished = "what the finish task gives"
    calls.answers |= {
        reference(executor, "lease"): "lease",
        reference(executor, "finish"): finished,
        reference(executor, "group"): "group",
        reference(executor, "inspect"): "inspected",
    }
    lease, group_done, *others = executor.poll(0.0)
    assert lease == LeaseOutcome(lease_id=1, result="lease")
    assert group_done == GroupOutcome(group_id=2, result="group")
    assert others[0] == finished
    assert (others[1].group_id, others[1].result) == (3, "inspected")
    assert executor.poll(0.0) == []


def test_a_task_that_is_given_up_has_none(executor, calls):
    task, inspected = make_task(1), InspectionTask(group=group(3))
    executor.submit(task)
    executor.submit(inspected)
    assert (executor.abandon(task), executor.abandon(inspected)) == ("predict", "group")
    assert executor.poll(0.0) == [SlotsChanged(slots=(SLOTS[1],))]
    assert executor.poll(0.0) == []


def test_a_lease_that_is_taken_back_waits_for_its_end(executor, calls):
    executor.submit(make_task(1))
    executor.withdraw(make_task(1))
    assert executor.poll(0.0) == []
    assert calls.killed == []


def test_what_went_with_a_host_is_told_with_the_slots_that_are_left(executor):
    executor.submit(make_task(1, slot=1))
    executor._hosts.states["b"] = "gone"
    changed, lost = executor.poll(0.0)
    assert changed == SlotsChanged(slots=(SLOTS[0],))
    assert (lost.lease_id, lost.result.kind) == (1, "lost")


def test_a_predictor_that_died_is_told_and_again_when_another_one_came(executor, calls):
    executor.submit(make_task(1))
    calls.answers[reference(executor, "lease")] = ray_errors.ActorDiedError()
    (outcome,) = executor.poll(0.0)
    assert outcome.result.kind == "crash"
    assert executor.poll(0.0) == [SlotsChanged(slots=(SLOTS[1],))]
    (hello,) = executor._seats.hellos()
    calls.answers[hello] = ("a", "avx2")
    assert executor.poll(0.0) == [SlotsChanged(slots=tuple(SLOTS))]


def test_nothing_comes_before_the_start(calls):
    assert new().poll(0.0) == []


def test_a_close_ends_predictors_hosts_and_cluster(executor, calls):
    actors = [seat.actor for seat in executor._seats.all()]
    executor.close()
    assert calls.killed == actors
    assert executor._hosts.is_closed
    assert executor._cluster.ended == "closed"


def test_a_kill_asks_nobody(executor, calls):
    executor.kill()
    assert calls.killed == []
    assert executor._cluster.ended == "killed"


def test_a_start_under_way_ends_with_the_run(calls, monkeypatch):
    """Predictors that never say hello: closing in one thread ends the wait in another."""
    made = new()
    monkeypatch.setattr(
        ray, "PredictorMaker", lambda **_: SimpleNamespace(readers=1, make=lambda: FakeActor(calls))
    )
    errors = []

    def start():
        try:
            made.start(SimpleNamespace(device="cpu"), "product")
        except StoppedError as e:
            errors.append(str(e))

    starting = threading.Thread(target=start)
    starting.start()
    while not made._starting.locked():
        pass
    made.close()
    starting.join()
    assert errors == ["2 predictors were not ready in time; has the cluster as many CPUs or GPUs free?"]

"""Which predictors the driver may count on."""

import pytest
from ray_fakes import FakeHosts, FakeRay, seated

from batchseg.driver.executors.ray import seats as ray_seats
from batchseg.driver.executors.ray.slots import Slots
from batchseg.driver.tasks import Slot


def told(*numbers):
    return [Slot(id=number, cpu_class="avx2") for number in numbers]


@pytest.fixture
def seats(monkeypatch):
    ray = FakeRay()
    monkeypatch.setattr(ray_seats, "ray", ray)
    return seated(ray, FakeHosts(), "a", "b", "b")


def test_news_are_told_once(seats):
    slots = Slots(seats, FakeHosts())
    assert not slots.tell([])
    assert slots.tell(told(0, 1, 2))
    assert not slots.tell(told(0, 1, 2))
    assert slots.tell(told(1, 2))
    assert [slots.takes_work(number) for number in range(3)] == [False, True, True]
    assert slots.tell([])
    assert not any(map(slots.takes_work, range(3)))


def test_a_predictor_that_is_made_anew_takes_no_work(seats):
    slots = Slots(seats, FakeHosts())
    slots.tell(told(0, 1))
    assert slots.takes_work(0)
    assert not slots.takes_work(2)  # it is there, and the driver does not know it
    seats.end(0, seats.get(0).actor)
    assert not slots.takes_work(0)


def test_work_without_a_predictor_goes_round_the_hosts_that_are_here(seats):
    hosts = FakeHosts()
    slots = Slots(seats, hosts)
    assert slots.node(5) == "a"  # the run's own
    slots.tell(told(0, 1, 2))
    assert [slots.node(turn) for turn in range(4)] == ["a", "b", "b", "a"]
    hosts.states["b"] = "silent"
    assert {slots.node(turn) for turn in range(4)} == {"a"}

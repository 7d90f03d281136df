"""Predictors that die, cannot be made, or go with their hosts: real actors on a cluster of two CPUs."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from batchseg.driver.executors.ray import fleet as ray_fleet
from batchseg.driver.executors.ray.fleet import Capacity, Fleet
from batchseg.driver.executors.ray.hosts import Hosts
from batchseg.driver.executors.ray.seats import Seats
from batchseg.driver.executors.restarts import MAX_RESTARTS_IN_A_ROW
from batchseg.errors import ConfigError, ModelError, StoppedError


class Watched(Hosts):
    """Hosts of which the test decides which are lost."""

    lost: str = ""

    def state(self, node: str) -> Any:
        return self.lost or super().state(node)


@pytest.fixture
def hosts(ray_cluster: str) -> Iterator[Watched]:
    looking = Watched({})
    yield looking
    looking.close()


def maker(fail: Any = lambda: None) -> Any:
    """What makes an actor that does nothing but say where it is; `fail` is asked as it starts."""
    import ray

    class Actor:
        def __init__(self, failing: bool) -> None:
            if failing:
                msg = "the network has no weights"
                raise ValueError(msg)

        def hello(self) -> tuple[str, str]:
            return ray.get_runtime_context().get_node_id(), "avx2"

    remote = ray.remote(num_cpus=1, max_restarts=0)(Actor)
    return lambda: remote.remote(bool(fail()))


def started(hosts: Hosts, make: Any = None, asked: int | None = None) -> tuple[Fleet, Seats]:
    seats = Seats(make or maker(), hosts)
    fleet = Fleet(hosts, seats, Capacity(hosts, asked=asked, device="cpu", gpus=1.0), leases=5)
    fleet.start(lambda: False)
    return fleet, seats


def tend_until(fleet: Fleet, count: int, seconds: float = 60) -> list[int]:
    until = time.monotonic() + seconds
    while len(fleet.live()) != count and time.monotonic() < until:
        fleet.tend()
        time.sleep(0.02)
    return [slot.id for slot in fleet.live()]


def test_seats_are_as_many_as_there_is_room_and_one_whose_predictor_died_gets_another(hosts: Watched) -> None:
    fleet, seats = started(hosts)
    assert [(slot.id, slot.cpu_class) for slot in fleet.live()] == [(0, "avx2"), (1, "avx2")]
    seat = seats.get(0)
    assert seat is not None
    before = seat.actor
    seats.end(0, before)
    assert [slot.id for slot in fleet.live()] == [1]
    assert tend_until(fleet, 2) == [0, 1]
    assert seats.get(0).actor is not before  # type: ignore[union-attr]
    seats.end(0, before)  # it is known already
    assert len(fleet.live()) == 2
    for _ in range(1 + MAX_RESTARTS_IN_A_ROW + 1):  # the first one worked, and may have died of its work
        seats.end(0, seat.actor)
    assert tend_until(fleet, 1) == [1]
    fleet.tend()  # the other works on
    for _ in range(1 + MAX_RESTARTS_IN_A_ROW + 1):
        seats.end(1, seats.get(1).actor)  # type: ignore[union-attr]
    with pytest.raises(StoppedError, match="4 times in a row"):
        fleet.tend()
    seats.close()


def test_a_predictor_that_waits_for_room_gets_no_work_and_is_no_obstacle(hosts: Watched) -> None:
    fleet, seats = started(hosts, asked=3)
    assert len(fleet.live()) == 2
    fleet.tend()
    assert len(fleet.live()) == 2
    seats.close()


def test_seats_go_with_their_host_and_none_for_long_ends_the_run(
    hosts: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet, seats = started(hosts)
    hosts.lost = "silent"
    fleet.tend()
    assert fleet.live() == []
    hosts.lost = ""
    assert len(fleet.live()) == 2
    hosts.lost = "gone"
    fleet.tend()
    assert seats.get(0) is seats.get(1) is None
    monkeypatch.setattr(ray_fleet, "FORSAKEN_SECONDS", 0.0)
    with pytest.raises(StoppedError, match="no host of the Ray cluster has had a predictor"):
        fleet.tend()
    monkeypatch.setattr(ray_fleet, "FORSAKEN_SECONDS", 60.0)
    hosts.lost = ""
    assert tend_until(fleet, 2) == [2, 3]
    seats.close()


def test_a_model_that_cannot_be_loaded_is_told_at_the_start(hosts: Watched) -> None:
    with pytest.raises(ModelError, match=r"cannot be started: ValueError: the network has no weights"):
        started(hosts, maker(lambda: True), asked=1)


def test_a_cluster_without_room_is_refused(hosts: Watched) -> None:
    with pytest.raises(ConfigError, match="no GPU"):
        capacity = Capacity(hosts, asked=None, device="gpu", gpus=1.0)
        Fleet(hosts, Seats(maker(), hosts), capacity, leases=3).start(lambda: False)

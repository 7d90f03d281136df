"""Actors that say hello, die, and go with their hosts."""

import pytest
from ray import exceptions as ray_errors
from ray_fakes import FakeActor, FakeHosts, FakeRay, seated

from batchseg.driver.executors.ray import seats as ray_seats
from batchseg.driver.executors.ray.seats import Seats
from batchseg.driver.executors.restarts import MAX_RESTARTS_IN_A_ROW


@pytest.fixture
def ray(monkeypatch):
    fake = FakeRay()
    monkeypatch.setattr(ray_seats, "ray", fake)
    return fake


def numbers(seats):
    return [seat.id for seat in seats]


def test_a_seat_is_ready_when_its_predictor_said_hello(ray):
    seats = Seats(lambda: FakeActor(ray), FakeHosts())
    seats.keep(2)
    first, second = seats.all()
    ray.answers[first.hello] = ("a", "avx2")
    seats.greet(ray.wait(seats.hellos(), num_returns=9)[0])
    assert seats.ready() == [first]
    assert (first.node, first.cpu_class) == ("a", "avx2")
    assert seats.hellos() == [second.hello]


def test_of_too_many_those_go_that_wait_for_room(ray):
    seats = seated(ray, FakeHosts(), "a", "b")
    seats.keep(4)
    waiting = [seat.actor for seat in seats.all()[2:]]
    seats.keep(3)
    assert ray.killed == waiting[:1]
    seats.keep(1)  # those that work stay
    assert ray.killed == waiting
    assert numbers(seats.all()) == [0, 1]
    seats.keep(3)
    assert numbers(seats.all()) == [0, 1, 4]


def test_only_deaths_at_the_start_in_a_row_close_a_seat(ray):
    seats = seated(ray, FakeHosts(), "a")
    seat = seats.get(0)
    loaded = seat.actor
    seats.end(0, loaded)
    assert seat.actor is not loaded
    seats.end(0, loaded)  # another lease of the same predictor ends
    assert seat.died_in_a_row == 0
    for _ in range(MAX_RESTARTS_IN_A_ROW):
        seats.end(0, seat.actor)
    seats.end(0, seat.actor, blame=False)  # its host went
    assert not seat.is_closed
    seats.end(0, seat.actor)
    assert seat.is_closed
    assert seats.ready() == seats.hellos() == []


def test_an_answer_ends_a_row_of_deaths(ray):
    seats = seated(ray, FakeHosts(), "a")
    for _ in range(MAX_RESTARTS_IN_A_ROW):
        seats.end(0, seats.get(0).actor)
    seats.answered(0)
    seats.end(0, seats.get(0).actor)
    seats.end(0, seats.get(0).actor)
    assert not seats.get(0).is_closed


def test_a_predictor_that_dies_at_its_start_leaves_its_reason(ray):
    seats = seated(ray, FakeHosts(), "a")
    seats.end(0, seats.get(0).actor)
    seat = seats.get(0)
    ray.answers[seat.hello] = ray_errors.RaySystemError("the raylet said no")
    seats.greet(seats.hellos())
    assert "the raylet said no" in seat.why
    assert seat.died_in_a_row == 1


def test_seats_go_with_their_host_and_all_end_together(ray):
    hosts = FakeHosts()
    seats = seated(ray, hosts, "a", "b", "b")
    actors = [seat.actor for seat in seats.all()]
    hosts.states["b"] = "silent"
    seats.leave_lost_hosts()
    assert numbers(seats.all()) == [0, 1, 2]
    hosts.states["b"] = "gone"
    seats.leave_lost_hosts()
    assert numbers(seats.all()) == [0]
    assert seats.get(1) is None
    seats.close()
    assert set(ray.killed) == set(actors)


def test_a_head_that_is_lost_is_not_asked_to_kill(ray):
    hosts = FakeHosts()
    seats = seated(ray, hosts, "a")
    hosts.head_is_lost = True
    seats.close()
    assert ray.killed == []

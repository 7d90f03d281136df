"""Predictors that load, die at their start or later, and are replaced."""

import pytest
from children_fakes import FakeChild

from batchseg.driver.executors.processes.seats import Seats
from batchseg.driver.executors.restarts import MAX_RESTARTS_IN_A_ROW
from batchseg.errors import ModelError, StoppedError


@pytest.fixture
def made():
    return []


@pytest.fixture
def seats(made):
    def make():
        made.append(FakeChild())
        return made[-1]

    return Seats(make, 2)


def loaded(seats, made):
    seats.load("recipe")
    for child in made:
        child.future("load").set_result("avx2")
    seats.tend()


def test_a_predictor_takes_work_once_it_is_loaded(seats, made):
    seats.load("recipe", "product")
    assert made[0].asked[0][0] == ("load", "recipe", "product")
    made[1].future("load").set_result("avx2")
    seats.tend()
    assert [seat.slot.id for seat in seats.ready()] == [1]
    assert seats.awaited() == [made[0].future("load")]


def test_one_that_dies_over_work_is_replaced_however_often(seats, made):
    loaded(seats, made)
    for _ in range(MAX_RESTARTS_IN_A_ROW + 2):
        seats.get(0).child.die()
        assert [seat.id for seat in seats.ready()] == [1]
        seats.tend()
        seats.get(0).child.future("load").set_result("avx2")
        seats.tend()
    assert [seat.id for seat in seats.ready()] == [0, 1]


def test_seats_whose_predictors_die_while_they_load_end_the_run(seats):
    seats.load("recipe")
    for _ in range(MAX_RESTARTS_IN_A_ROW):
        for number in range(2):
            seats.get(number).child.die()
        seats.tend()
    seats.get(0).child.die()
    seats.tend()  # the other one may yet come
    assert seats.get(0).is_closed
    seats.get(1).child.die()
    with pytest.raises(StoppedError, match=r"a predictor died 4 times in a row.*SIGSEGV"):
        seats.tend()


def test_an_answer_ends_a_row(seats):
    seats.load("recipe")
    for _ in range(MAX_RESTARTS_IN_A_ROW):
        seats.get(0).child.die()
        seats.tend()
    seats.answered(0)
    seats.get(0).child.die()
    seats.tend()
    assert not seats.get(0).is_closed


def test_who_dies_while_it_loads_and_reads_headers_is_no_row(seats):
    seats.load("recipe")
    for _ in range(3 * MAX_RESTARTS_IN_A_ROW):
        seats.reader().child.die()
        seats.tend()
    assert not any(seats.get(number).is_closed for number in range(2))


def test_headers_go_to_who_has_the_least_to_do(seats, made):
    first = seats.reader().child
    first.ask("headers")
    assert seats.reader().child is not first


def test_a_network_that_cannot_be_loaded_ends_the_start(seats, made):
    seats.load("recipe")
    made[0].future("load").set_exception(ModelError("no such operator"))
    with pytest.raises(ModelError, match="a predictor cannot be started: no such operator"):
        seats.tend(first=True)


def test_later_it_is_tried_again_until_the_seat_is_closed(seats, made):
    loaded(seats, made)
    seats.get(0).child.die()
    seats.tend()
    for number in range(MAX_RESTARTS_IN_A_ROW + 1):
        assert not seats.get(0).is_closed, number
        child = seats.get(0).child
        child.future("load").set_exception(MemoryError("no room"))
        seats.tend()
        assert child.is_given_up
    assert (seats.get(0).is_closed, seats.get(0).why) == (True, "no room")
    assert [seat.id for seat in seats.ready()] == [1]


def test_all_end_with_the_run_and_none_follows(seats, made):
    loaded(seats, made)
    beside = seats.make_beside()
    assert beside.asked[0][0] == ("load", "recipe")
    seats.close()
    seats.tend()
    assert len(made) == 3
    assert all(child.is_given_up for child in made)

from batchseg.driver.executors.restarts import MAX_RESTARTS_IN_A_ROW, all_died, is_enough


def test_a_seat_is_closed_by_one_death_more_than_it_has_restarts():
    assert [is_enough(count) for count in (0, MAX_RESTARTS_IN_A_ROW, MAX_RESTARTS_IN_A_ROW + 1)] == [
        False,
        False,
        True,
    ]


def test_the_first_reason_that_is_known_is_told():
    assert str(all_died(["", "SIGKILL", "SIGSEGV"])).endswith("is there enough memory? (SIGKILL)")
    assert str(all_died([""])).startswith(f"a predictor died {MAX_RESTARTS_IN_A_ROW + 1} times in a row")

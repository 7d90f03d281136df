"""Processes that try something together: what one found all know, and none waits for the dead."""

import os
import time

import pytest

from batchseg.predict import fleet
from batchseg.predict.fleet import LeftAloneError, Meeting, fleet_size, together
from batchseg.system.processes import ProcessDiedError


def tell(word: str, meeting: Meeting) -> list[list[object]]:
    first = meeting.exchange("first", (word, meeting.number, meeting.share(range(5))))
    return [first, meeting.exchange("second", os.getpid())]


def test_all_hear_the_same_in_the_order_of_their_numbers() -> None:
    answers = together(tell, "a", workers=2, timeout=120)
    count = fleet_size(2)
    assert len(answers) == count
    first, pids = answers[0]
    assert all(answer == [first, pids] for answer in answers)
    assert [(word, number) for word, number, _ in first] == [("a", number) for number in range(count)]
    assert len(set(pids)) == count
    assert os.getpid() not in pids
    assert sorted(item for _, _, share in first for item in share) == list(range(5))


def falls(how: str, meeting: Meeting) -> None:
    if meeting.number == meeting.count - 1:
        if how == "dies":
            os.abort()
        elif how == "raises":
            raise ValueError(how)
        elif how == "hangs":
            time.sleep(600)
    meeting.exchange("a", None)


@pytest.mark.parametrize(
    ("how", "error", "words"),
    [
        ("dies", ProcessDiedError, "was ended by SIGABRT"),
        ("raises", ValueError, "^raises$"),
        ("hangs", ProcessDiedError, "gave no answer within"),
    ],
)
def test_who_fails_leaves_nobody_waiting_and_its_own_error_arrives(how, error, words, monkeypatch) -> None:
    monkeypatch.setattr(fleet, "core_count", lambda: 2)
    started = time.monotonic()
    with pytest.raises(error, match=words):
        together(falls, how, workers=2, timeout=4 if how == "hangs" else 300)
    assert time.monotonic() - started < fleet.WAIT_SECONDS / 4


def test_a_process_waits_for_one_that_takes_longer(tmp_path) -> None:
    """As long as any step may take: shares of a heavy network's squares are not of one length."""
    assert fleet.WAIT_SECONDS >= 600
    early = Meeting(folder=str(tmp_path), number=0, count=2)
    (tmp_path / fleet.LEFT).touch()
    with pytest.raises(LeftAloneError, match="did not come to halo"):
        early.exchange("halo", 1)
    assert Meeting(folder=str(tmp_path), number=1, count=2).exchange("halo", 2) == [1, 2]

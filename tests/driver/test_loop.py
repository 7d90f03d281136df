"""What the loops over scenes and over photographs share."""

import itertools
import time
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
from scene_runs import SILENCE, Run, job

from batchseg.driver import loop
from batchseg.driver.given_up import GivenUpError
from batchseg.driver.tasks import Failure, LeaseOutcome
from batchseg.errors import StoppedError


def test_draining_does_not_wait_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "DRAIN_SECONDS", 0.05)
    run = Run(tmp_path, [job()], answer=lambda *_: SILENCE)
    run.loop._stop = lambda: "stopped" if run.executor.submissions else None
    started = time.monotonic()
    run.stopped("stopped")
    assert time.monotonic() - started < 2


@dataclass
class Given:
    """A loop over numbers: what it submits comes back as the executor is told."""

    polls: list
    left: int = 0
    done: list = field(default_factory=list)
    events: list = field(default_factory=list)


class NumberLoop(loop.Loop):
    def __init__(self, given, stop=lambda: None):
        self.given, self.out = given, given.left
        clock = itertools.count().__next__
        super().__init__(SimpleNamespace(poll=self.poll), stop, SimpleNamespace(flush=self.flush), clock)

    def poll(self, seconds):
        answer = self.given.polls.pop(0) if self.given.polls else []
        if isinstance(answer, Exception):
            raise answer
        return answer

    def flush(self):
        self.given.events.append("flush")

    def _fill(self):
        self.given.events.append("fill")

    def _take(self, outcome):
        self.out -= 1
        self.given.done.append(outcome.lease_id)

    def _give_up_late(self):
        pass

    @property
    def _is_commit_due(self):
        return False

    def _commit(self):
        self.given.events.append("follow" if not self._ends else "commit")

    @property
    def _is_under_way(self):
        return bool(self.out)

    @property
    def _goes_on(self):
        return bool(self.out)

    def _leave(self, given_up):
        self.given.events.append(f"left {given_up.over}")


def ok(number):
    return LeaseOutcome(lease_id=number, result=object())


def bad(number):
    return LeaseOutcome(lease_id=number, result=Failure(kind="lost", step="read", reason="gone"))


def test_successes_are_taken_before_failures():
    given = Given([[bad(1), ok(2), bad(3), ok(4)]], left=4)
    NumberLoop(given)._work_off()
    assert given.done == [2, 4, 1, 3]
    assert given.events == ["fill", "flush", "commit"]


def test_what_the_environment_fails_over_is_left_and_then_recorded():
    given = Given([GivenUpError("no storage", ["a.tif"], "gone")], left=1)
    with pytest.raises(GivenUpError, match="no storage"):
        NumberLoop(given)._work_off()
    assert given.events == ["fill", "left ['a.tif']", "commit"]


def test_a_run_that_was_told_to_stop_says_so_whatever_fails_while_it_waits():
    given = Given([GivenUpError("no storage", ["a.tif"], "gone"), [ok(2)]], left=1)
    with pytest.raises(StoppedError, match="deadline"):
        NumberLoop(given, lambda: "deadline")._work_off()
    assert given.done == [2]
    assert given.events == ["left ['a.tif']", "flush", "commit"]


def test_nothing_is_waited_for_that_cannot_come():
    given = Given([StoppedError("the cluster is gone"), [ok(2)]], left=1)
    with pytest.raises(StoppedError, match="deadline"):
        NumberLoop(given, lambda: "deadline")._work_off()
    assert given.done == []
    assert given.events == ["flush", "commit"]


def test_a_loop_runs_again_after_its_end():
    given = Given([[ok(1)], [ok(2)]], left=1)
    numbers = NumberLoop(given)
    numbers._work_off()
    numbers.out = 1
    numbers._work_off()
    assert given.done == [1, 2]

"""Processes that answer, die, hang, and go with their parent: real ones."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import answering
import pytest

from batchseg.driver.executors.processes.child import OOM_SCORE, Child, ChildDiedError
from batchseg.system.threads import Helper


@pytest.fixture(scope="module")
def spawner():
    helper = Helper()
    yield helper
    helper.close()


@pytest.fixture
def make(spawner):
    made = []

    def new(*given, **options):
        made.append(Child(spawner, answering.serve, *given, **options))
        return made[-1]

    yield new
    for child in made:
        child.kill()
        child.wait_end()


def is_gone(pid):
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def test_questions_have_their_answers_and_errors_are_raised(make):
    child = make("out", 5)
    answers = [child.ask("given"), child.ask("raise"), child.ask("say", 1, 2)]
    assert answers[0].result(30) == ("out", 5)
    with pytest.raises(ValueError, match="refused"):
        answers[1].result(30)
    assert answers[2].result(30) == (1, 2)
    assert child.load == 0


def test_a_child_has_one_thread_per_library_and_goes_before_its_parent(make, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert make().ask("look").result(30) == ("1", OOM_SCORE)


@pytest.mark.parametrize(
    ("question", "how"),
    [
        (("exit", 3), "status 3"),
        (("exit", 0), "status 0"),
        (("kill", signal.SIGKILL), "SIGKILL"),
        (("kill", signal.SIGSEGV), "SIGSEGV"),
    ],
)
def test_all_questions_of_a_child_that_dies_fail_in_their_order(make, question, how):
    ended, order = [], []
    child = make(on_end=lambda: ended.append(len(order)))
    answers = [child.ask(*question), child.ask("say", 1), child.ask("say", 2)]
    for number, answer in enumerate(answers):
        answer.add_done_callback(lambda _, number=number: order.append(number))
    for answer in answers:
        error = answer.exception(30)
        assert isinstance(error, ChildDiedError)
        assert (error.how, error.was_ended, error.memory) == (how, False, False)
    child.wait_end()
    assert (order, ended) == ([0, 1, 2], [3])
    assert child.ask("say", 3).exception(0) is error


@pytest.mark.parametrize("lacked", [True, False])
def test_a_sigkill_is_for_want_of_memory_if_the_kernel_counted_one(make, lacked):
    asked = []

    def lacked_memory():
        asked.append(1)
        return lacked

    error = make(lacked_memory=lacked_memory).ask("kill", signal.SIGKILL).exception(30)
    assert error.memory is lacked
    make(lacked_memory=lacked_memory).ask("exit", 1).exception(30)
    child = make(lacked_memory=lacked_memory)
    child.kill()
    child.wait_end()
    assert child.ended.was_ended
    assert len(asked) == 1  # of other ends memory is not the reason


def test_signals_to_all_processes_are_the_drivers(make):
    child = make()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the first while Python starts
        os.kill(child.pid, number)
    assert child.ask("say", 1).result(30) == (1,)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(child.pid, number)
    assert child.ask("say", 2).result(30) == (2,)


def test_a_child_that_is_stopped_holds_nobody_up_and_can_be_ended(make):
    child = make()
    child.ask("say").result(30)
    child.ask("stop")
    large = [child.ask("say", b"x" * 2_000_000) for _ in range(2)]  # more than a pipe holds
    assert not large[0].done()
    child.kill()
    assert large[1].exception(30).was_ended


def test_what_is_taken_back_too_late_has_its_answer(make):
    child = make()
    answer = child.ask("say", 1)
    child.take_back(answer)
    assert child.ask("say", 2).result(30) == (2,)
    assert answer.result(30) == (1,)
    child.take_back(answer)  # once more: nothing happens
    assert child.load == 0


PARENT = """
import sys, time
sys.path[:0] = sys.argv[1:]
import answering
from batchseg.driver.executors.processes.child import Child
from batchseg.system.threads import Helper
if __name__ == "__main__":
    spawner = Helper()
    child = Child(spawner, answering.serve)
    child.ask("compute").result(60)
    print(child.pid, flush=True)
    time.sleep(60)
"""


def test_a_driver_that_is_killed_leaves_no_child_though_it_computes(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    parent = subprocess.Popen(
        [sys.executable, str(script), str(Path(answering.__file__).parent)], stdout=subprocess.PIPE, text=True
    )
    pid = int(parent.stdout.readline())
    assert Path(f"/proc/{pid}").exists()
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert is_gone(pid)

"""What becomes of tasks whose process dies, hangs or is taken away: without processes."""

import signal
import threading

import pytest
from children_fakes import FakeChild
from factories import make_recipe, make_scene, make_source
from ray_fakes import make_lot, make_task

from batchseg.driver.executors.processes import executor as module
from batchseg.driver.executors.processes.child import TakenBackError
from batchseg.driver.executors.processes.executor import ProcessesExecutor
from batchseg.driver.tasks import (
    FinishOutcome,
    FinishTask,
    Group,
    GroupTask,
    InspectionTask,
    LeaseOutcome,
    LotOutcome,
    Slot,
    SlotsChanged,
)
from batchseg.errors import ConfigError, StoppedError

SLOTS = [Slot(id=number, cpu_class="avx2") for number in (0, 1)]


@pytest.fixture
def made():
    return []


@pytest.fixture
def unloaded(monkeypatch, made):
    """One with two processes, that do nothing so far."""

    def new(spawner, serve, *given, on_end, lacked_memory):
        made.append(FakeChild())
        return made[-1]

    monkeypatch.setattr(module, "Child", new)
    monkeypatch.setattr(module, "usual_batch", lambda recipe: 1)
    return ProcessesExecutor("out", workers=2, batch_size=None, timeout=60.0)


@pytest.fixture
def executor(unloaded, made):
    """One whose two predictors are loaded."""
    threads = [threading.Thread(target=answer_load, args=(child,)) for child in made]
    for thread in threads:
        thread.start()
    assert unloaded.start(make_recipe(), "product") == SLOTS
    for thread in threads:
        thread.join()
    return unloaded


def answer_load(child):
    while not child.asked:
        pass
    child.future("load").set_result("avx2")


def group_task(number, slot=0):
    group = Group(id=number, work="predict", images=b"", count=1)
    return GroupTask(group=group, slot=Slot(id=slot, cpu_class="avx2"))


def inspection(number):
    return InspectionTask(group=group_task(number).group)


def finish_task(name="f.tif"):
    return FinishTask(scene=make_scene(source=make_source(name)), shards=(), epoch=1)


def results(executor):
    """Of all that came, but for changes of slots."""
    outcomes = [o for _ in range(3) for o in executor.poll(0.0)]
    return [o.result for o in outcomes if not isinstance(o, SlotsChanged)]


def found(executor):
    return [(result.kind, result.step) for result in results(executor)]


def test_a_lease_is_one_question_to_the_predictor_of_its_slot(executor, made):
    executor.submit(make_task(3, slot=1))
    assert made[0].load == 0
    made[1].future("do").set_result(LeaseOutcome(lease_id=3, result="masks are written"))
    assert results(executor) == ["masks are written"]
    assert results(executor) == []


def test_a_lot_is_one_question_and_fails_as_a_whole(executor, made):
    for first in (4, 6):
        executor.submit(make_lot(first, first + 1, slot=1))
    made[1].asked[1][1].set_result(LotOutcome(lot_id=4, result=("four", "five")))
    assert results(executor) == [("four", "five")]
    made[1].die()
    assert found(executor) == [("crash", "predict")]


def test_a_lot_that_is_given_up_ends_its_process(executor, made):
    executor.submit(make_lot(4, 5))
    assert executor.abandon(make_lot(4, 5)) == "predict"
    assert made[0].ended is not None


def test_finishes_and_inspections_go_to_who_has_the_least_to_do(executor, made):
    executor.submit(make_task(1))
    executor.submit(finish_task())
    executor.submit(inspection(2))
    executor.submit(finish_task("g.tif"))
    assert [child.load for child in made] == [2, 2]
    made[1].asked[1][1].set_result(FinishOutcome(source_id="f.tif", result="done"))
    assert results(executor) == ["done"]


@pytest.mark.parametrize(("isolation", "step"), [("none", "read"), ("read", "predict")])
def test_each_lease_of_a_predictor_that_dies_is_in_doubt(executor, made, isolation, step):
    for number in range(2):
        executor.submit(make_task(number, isolation=isolation))
    made[0].die()
    outcomes = [*executor.poll(0.0), *executor.poll(0.0)]
    assert outcomes[0] == SlotsChanged(slots=(SLOTS[1],))
    assert [(o.lease_id, o.result.kind, o.result.step) for o in outcomes[1:]] == [
        (number, "crash", step) for number in range(2)
    ]
    assert outcomes[1].result.reason == f"{step}ing it ended the process: SIGSEGV"
    made[2].future("load").set_result("avx2")
    assert executor.poll(0.0) == [SlotsChanged(slots=tuple(SLOTS))]


def test_want_of_memory_is_nobodys_fault(executor, made):
    for number in range(2):  # one kill, not two
        executor.submit(make_task(number))
    made[0].die(-signal.SIGKILL, memory=True)
    one, other = results(executor)
    assert (one.kind, one.memory) == ("lost", True)
    assert one.process == other.process != ""


def test_the_kernels_kills_count_once_each(executor, monkeypatch):
    monkeypatch.setattr(module, "memory_kills", lambda: executor._memory_kills_now)
    executor._memory_kills_now = executor._memory_kills + 2
    assert [executor._lacked_memory() for _ in range(3)] == [True, True, False]


def test_of_two_groups_of_a_predictor_that_dies_the_first_is_the_suspect(executor, made):
    for number in range(2):
        executor.submit(group_task(number))
    made[0].die()
    first, second = results(executor)
    assert (first.kind, first.step, second.kind) == ("crash", "group", "lost")
    assert "over other work" in second.reason


def test_a_finish_of_a_predictor_that_dies_is_a_crash(executor, made):
    executor.submit(finish_task())
    made[0].die()
    assert found(executor) == [("crash", "finish")]


def test_a_lease_with_a_predictor_of_its_own_ends_only_that(executor, made):
    executor.submit(make_task(0, isolation="predict"))
    own = made[2]
    assert own.asked[0][0][0] == "load"
    own.die(-signal.SIGABRT)
    assert found(executor) == [("crash", "predict")]
    executor.submit(make_task(1, isolation="predict"))
    made[3].future("do").set_result(LeaseOutcome(lease_id=1, result="done"))
    assert results(executor) == ["done"]
    assert made[3].is_given_up
    assert not any(child.is_given_up for child in made[:2])


def test_a_lease_that_comes_while_its_predictor_is_made_anew_waits(executor, made):
    made[0].die()
    executor.submit(make_task(1))
    executor.submit(finish_task())  # which anyone can do
    assert results(executor) == []
    assert (made[1].load, made[2].load) == (1, 1)
    made[2].future("load").set_result("avx2")
    assert results(executor) == []
    made[2].future("do").set_result(LeaseOutcome(lease_id=1, result="done"))
    assert results(executor) == ["done"]


def test_what_waits_for_a_predictor_that_is_not_made_any_more_is_lost(executor, made):
    made[0].die()
    executor.submit(make_task(1))
    for _ in range(4):
        executor.poll(0.0)
        executor._seats.get(0).child.die()
    assert found(executor) == [("lost", "predict")]


def test_predictors_that_die_while_they_load_end_the_run(executor, made):
    def die_all():
        for number in range(2):
            executor._seats.get(number).child.die()

    die_all()
    for _ in range(4):
        executor.poll(0.0)
        die_all()
    with pytest.raises(StoppedError, match="a predictor died 4 times in a row"):
        executor.poll(0.0)


@pytest.mark.parametrize(
    ("says", "step"), [("read", "read"), ("write", "write"), ("waits", "lost"), (None, "predict")]
)
def test_a_lease_that_is_given_up_says_its_step_and_ends_its_process(executor, made, monkeypatch, says, step):
    monkeypatch.setattr(module, "ASK_SECONDS", 0.05)
    executor.submit(make_task(0))
    executor.submit(make_task(1))

    def ask(what, *given):
        future = FakeChild.ask(made[0], what, *given)
        if says is not None:
            future.set_result(says)
        return future

    monkeypatch.setattr(made[0], "ask", ask)
    assert executor.abandon(make_task(0)) == step
    assert made[0].is_given_up
    assert found(executor) == [("lost", "read")]  # the other one, through no fault of its own
    assert not executor._seats.get(0).died_in_a_row


def test_a_predictor_of_its_own_that_says_nothing_may_still_load(executor, made, monkeypatch):
    monkeypatch.setattr(module, "ASK_SECONDS", 0.05)
    executor.submit(make_task(0, isolation="predict"))
    assert executor.abandon(make_task(0, isolation="predict")) == "lost"
    assert made[2].is_given_up


def test_groups_and_finishes_that_are_given_up_end_their_process_and_inspections_do_not(executor, made):
    executor.submit(group_task(0))
    executor.submit(inspection(1))  # of the other one
    assert executor.abandon(inspection(1)) == "group"
    assert made[1].taken_back == [made[1].future("do")]
    executor.submit(finish_task())
    assert executor.abandon(finish_task()) == "finish"
    assert executor.abandon(group_task(0)) == "group"
    assert [child.is_given_up for child in made[:2]] == [True, True]
    assert results(executor) == []


def test_a_lease_that_nobody_began_is_lost(executor, made):
    made[0].die()
    executor.submit(make_task(1))
    assert executor.abandon(make_task(1)) == "lost"


def test_a_lease_that_is_taken_back_leaves_its_predictor_in_peace(executor, made):
    executor.submit(make_task(0))
    executor.submit(make_task(1, isolation="predict"))
    for number, isolation in enumerate(("none", "predict")):
        executor.withdraw(make_task(number, isolation=isolation))
    assert made[0].taken_back == [made[0].future("do")]
    assert [child.is_given_up for child in made] == [False, False, True]
    assert [failure.kind for failure in results(executor)] == ["lost"]  # the one whose process was ended
    made[0].future("do").set_exception(TakenBackError())
    assert [failure.kind for failure in results(executor)] == ["lost"]
    assert not made[0].is_given_up


def test_a_finish_over_which_a_process_died_is_done_alone(executor, made):
    tasks = [finish_task("a.tif"), finish_task("b.tif")]
    for task in tasks:
        executor.submit(task)
    for child in made[:2]:
        child.die()
    assert [failure.kind for failure in results(executor)] == ["crash", "crash"]
    for child in made[2:]:
        child.future("load").set_result("avx2")
    results(executor)
    before = len(made)
    for task in tasks:
        executor.submit(task)
    one, other = made[before:]
    assert [what for child in (one, other) for (what, *_), _ in child.asked] == ["load", "do"] * 2
    other.die()
    assert [failure.kind for failure in results(executor)] == ["crash"]
    assert not one.is_given_up


def test_a_lease_that_nobody_was_given_is_lost_when_it_is_taken_back(executor, made):
    made[0].die()
    executor.submit(make_task(1))
    executor.withdraw(make_task(1))
    assert [failure.kind for failure in results(executor)] == ["lost"]
    executor.withdraw(make_task(1))  # its outcome came


def test_a_lease_that_hangs_when_it_is_taken_back_can_be_given_up(executor, made):
    executor.submit(make_task(0))
    executor.withdraw(make_task(0))
    executor.abandon(make_task(0))
    assert made[0].is_given_up


def test_an_error_that_nobody_foresaw_is_told(executor, made):
    executor.submit(make_task(0))
    made[0].future("do").set_exception(RuntimeError("a defect"))
    (failure,) = results(executor)
    assert (failure.kind, "a defect" in failure.reason) == ("crash", True)


def test_gpus_are_refused_in_words(unloaded):
    with pytest.raises(ConfigError, match="executor: ray"):
        unloaded.start(make_recipe(device="gpu"), "product")


def test_a_close_ends_all(executor, made):
    executor.submit(make_task(0, isolation="predict"))
    executor.close()
    assert [child.is_given_up for child in made] == [True, True, True]


def test_a_start_under_way_ends_with_the_run(unloaded):
    threading.Timer(0.1, unloaded.close).start()
    with pytest.raises(StoppedError, match="not ready in time"):
        unloaded.start(make_recipe(), "product")

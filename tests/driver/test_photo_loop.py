"""Groups that crash, get lost or end early, and whose fault it is: an executor that fails on purpose."""

from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchseg.driver import photo_inspection
from batchseg.driver.given_up import GivenUpError
from batchseg.driver.photo_failures import MOST_ATTEMPTS
from batchseg.driver.photo_loop import PhotoLoop
from batchseg.driver.tasks import (
    Failure,
    Group,
    GroupAnswer,
    GroupOutcome,
    GroupTask,
    Inspected,
    InspectionOutcome,
    InspectionTask,
    Slot,
    SlotsChanged,
    from_stream,
)
from batchseg.errors import OutputError, StoppedError
from batchseg.inputs.source import LISTING, Doubt
from batchseg.output.ledger import Ledger
from batchseg.output.record import PhotoRecord, to_table


def listing(*names: str) -> pa.Table:
    rows = [
        {
            "source_id": n,
            "uri": f"/in/{n}",
            "tag": "t",
            "size": 9,
            "young": False,
            "problem": "",
            "attributes": "",
        }
        for n in names
    ]
    return pa.Table.from_pylist(rows, schema=LISTING)


def doubts_of(names: set[str], is_own: bool = False) -> tuple[Doubt, ...]:
    return tuple(
        Doubt(source_id=n, reason=f"bad: {n}", transient=False, is_own=is_own) for n in sorted(names)
    )


class Executor:
    """Answers at once: `kills` end a predictor, `bad` cannot be decoded, `slow` groups do one image each."""

    def __init__(
        self, *, kills=(), decoder_kills=(), bad=(), is_own=False, lost=0, slow=False, most_inspected=1000
    ):
        self.kills, self.decoder_kills, self.bad = set(kills), set(decoder_kills), set(bad)
        self.is_own, self.lost, self.slow = is_own, lost, slow
        self.outcomes = []
        self.abandoned, self.silent_inspections, self.most_inspected = 0, 0, most_inspected
        self.groups: list[list[str]] = []

    def submit(self, task: GroupTask | InspectionTask) -> None:
        if isinstance(task, InspectionTask):
            self.inspect(task.group)
        else:
            self.do_group(task.group, task.slot)

    def do_group(self, group: Group, slot: Slot) -> None:
        names = from_stream(group.images)["source_id"].to_pylist()
        self.groups.append(names)
        self.outcomes.append(GroupOutcome(group_id=group.id, result=self._answer(names)))

    def _answer(self, names):
        if self.lost:
            self.lost -= 1
            return Failure(kind="lost", step="group", reason="the node went away")
        if self.kills & set(names) or self.decoder_kills & set(names):
            return Failure(kind="crash", step="group", reason="its process ended")
        begun, left = (names[:1], names[1:]) if self.slow else (names, [])
        good = [name for name in begun if name not in self.bad]
        done = [PhotoRecord(status="done", source_id=n, tag="t", verdict="PASS") for n in good]
        doubts = doubts_of(set(begun) & self.bad, self.is_own)
        return GroupAnswer(rows=to_table(done), doubts=doubts, left=tuple(left), predict_seconds=0.1)

    def inspect(self, group: Group) -> None:
        if self.silent_inspections:
            self.silent_inspections -= 1
            return
        listed = from_stream(group.images)["source_id"].to_pylist()
        names, left = listed[: self.most_inspected], tuple(listed[self.most_inspected :])
        doubts = doubts_of(set(names) & (self.bad | self.decoder_kills), self.is_own)
        self.outcomes.append(InspectionOutcome(group_id=group.id, result=Inspected(doubts=doubts, left=left)))

    def abandon(self, task: GroupTask | InspectionTask) -> str:
        assert isinstance(task, InspectionTask)
        self.abandoned += 1
        return "group"

    def poll(self, timeout: float):
        outcomes, self.outcomes = self.outcomes, []
        return outcomes


def run(folder, executor, names=(), *, listed=None, stop_after=10, lease_timeout=60):
    ledger = Ledger(str(folder))
    ledger.claim("run")
    loop = PhotoLoop(
        output=str(folder),
        ledger=ledger,
        executor=executor,
        slots=[Slot(id=0, cpu_class="avx2"), Slot(id=1, cpu_class="avx2")],
        emit=lambda event: None,
        stop=lambda: None,
        lease_timeout=lease_timeout,
        stop_after=stop_after,
        epoch=1,
        superseded={},
    )
    loop.predict(listing(*names) if listed is None else listed)
    return {record.source_id: record.status for record in ledger.sources()}


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_only_those_at_fault_are_refused_whatever_fails(tmp_path_factory, data):
    names = [f"{number:03d}.png" for number in range(data.draw(st.integers(1, 90)))]
    some = st.sets(st.sampled_from(names), max_size=3)
    kills, decoder_kills, bad = data.draw(some), data.draw(some), data.draw(some)
    executor = Executor(
        kills=kills,
        decoder_kills=decoder_kills,
        bad=bad,
        lost=data.draw(st.integers(0, 3)),
        slow=data.draw(st.booleans()),
        most_inspected=data.draw(st.integers(1, 40)),
    )
    statuses = run(tmp_path_factory.mktemp("out"), executor, names)
    wrong = kills | decoder_kills | bad
    assert statuses == {name: "quarantined" if name in wrong else "done" for name in names}


class Careful(Executor):
    """Leaves `large` photographs unless they come alone; answers in the order of the slots, one per poll."""

    def __init__(self, large, **changes):
        super().__init__(**changes)
        self.large, self.alone_out, self.most_alone = set(large), set(), 0

    def do_group(self, group, slot):
        names = from_stream(group.images)["source_id"].to_pylist()
        self.groups.append(names)
        if group.alone:
            assert len(names) == 1
            self.begin(names[0])
        left = tuple(name for name in names if name in self.large and not group.alone)
        answer = self._answer([name for name in names if name not in left])
        if isinstance(answer, GroupAnswer):
            answer = replace(answer, large=left)
        self.outcomes.append(GroupOutcome(group_id=group.id, result=answer))

    def inspect(self, group):
        if group.alone:
            self.begin(from_stream(group.images)["source_id"][0].as_py())
        super().inspect(group)

    def begin(self, name):
        self.alone_out.add(name)
        self.most_alone = max(self.most_alone, len(self.alone_out))

    def poll(self, timeout):
        self.alone_out.clear()
        return super().poll(timeout)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_large_photographs_are_done_alone_and_in_turn_whatever_fails(tmp_path_factory, data):
    names = [f"{number:03d}.png" for number in range(data.draw(st.integers(1, 60)))]
    large = data.draw(st.sets(st.sampled_from(names), max_size=8))
    some = st.sets(st.sampled_from(names), max_size=3)
    kills, bad = data.draw(some), data.draw(some)
    executor = Careful(large, kills=kills, bad=bad, lost=data.draw(st.integers(0, 3)))
    statuses = run(tmp_path_factory.mktemp("out"), executor, names)
    assert statuses == {name: "quarantined" if name in kills | bad else "done" for name in names}
    assert executor.most_alone <= 1
    assert all([name] in executor.groups for name in large - kills - bad)


def test_images_that_were_not_begun_come_next_and_once(tmp_path):
    executor = Executor(slow=True)
    names = [f"{number:02d}.png" for number in range(40)]
    assert set(run(tmp_path, executor, names).values()) == {"done"}
    begun = [group[0] for group in executor.groups]
    assert sorted(begun) == names


def test_a_photograph_that_ends_its_predictor_is_tried_a_few_times(tmp_path):
    executor = Executor(kills=["1.png"])
    assert run(tmp_path, executor, ["1.png"]) == {"1.png": "quarantined"}
    assert len(executor.groups) == MOST_ATTEMPTS


def test_the_same_error_on_many_blames_none(tmp_path):
    names = [f"{number:02d}.png" for number in range(32)]
    with pytest.raises(StoppedError, match=r"10 sources in a row failed alike, from 00\.png to 09\.png"):
        run(tmp_path, Executor(bad=names), names)
    assert statuses_in(tmp_path) == dict.fromkeys(names[:10], "failed")


def test_faults_of_content_end_no_run_however_many_there_are(tmp_path):
    names = [f"{number:02d}.png" for number in range(90)]
    statuses = run(tmp_path, Executor(bad=names[:60], is_own=True), names, stop_after=2)
    assert list(statuses.values()) == ["quarantined"] * 60 + ["done"] * 30


@pytest.mark.parametrize(("missing", "ends"), [(60, True), (59, False)])
def test_a_list_of_which_no_row_names_a_file_may_be_a_mounts_fault(tmp_path, missing, ends):
    names = [f"{number:02d}.png" for number in range(60)]
    executor = Executor(bad=names[:missing], is_own=True)
    listed = listing(*names)
    problems = ["there is no such file"] * missing + [""] * (60 - missing)
    listed = listed.set_column(listed.schema.get_field_index("problem"), "problem", pa.array(problems))
    if ends:
        with pytest.raises(StoppedError, match="10 sources in a row"):
            run(tmp_path, executor, listed=listed)
        assert statuses_in(tmp_path) == dict.fromkeys(names[:10], "failed")
    else:
        statuses = run(tmp_path, executor, listed=listed)
        assert list(statuses.values()) == ["quarantined"] * missing + ["done"]


def statuses_in(folder):
    return {record.source_id: record.status for record in Ledger(str(folder)).sources()}


def test_bad_ones_among_good_ones_are_single_cases(tmp_path):
    names = [f"{number:02d}.png" for number in range(32)]
    statuses = run(tmp_path, Executor(bad=names[:20]), names)
    assert list(statuses.values()).count("quarantined") == 20


def test_work_that_is_lost_again_and_again_ends_the_run(tmp_path):
    with pytest.raises(StoppedError, match="was lost 21 times"):
        run(tmp_path, Executor(lost=10**6), ["a.png"])


def test_a_machine_without_room_to_look_at_photographs_ends_the_run_at_once(tmp_path):
    class Full(Executor):
        looked = 0

        def inspect(self, group):
            self.looked += 1
            failure = Failure.of(StoppedError("no room"), "group")
            self.outcomes.append(InspectionOutcome(group_id=group.id, result=failure))

    full = Full(kills=["a.png"])
    with pytest.raises(StoppedError, match="no room"):
        run(tmp_path, full, ["a.png", "b.png"])
    assert full.looked == 1
    assert not len(Ledger(str(tmp_path)).table())


def test_an_output_that_fails_is_nobodys_fault(tmp_path):
    class Full(Executor):
        def _answer(self, names):
            error = OutputError("no space left")
            return Failure.of(error, "group")

    with pytest.raises(OutputError, match="no space left"):
        run(tmp_path, Full(), ["a.png", "b.png"])
    assert not len(Ledger(str(tmp_path)).table())


class Silent(Executor):
    """The first slot's host is cut off: what it is given is never answered, and lost when it is given up."""

    def do_group(self, group: Group, slot: Slot) -> None:
        if slot.id == 0:
            self.groups.append(from_stream(group.images)["source_id"].to_pylist())
            return
        super().do_group(group, slot)

    def abandon(self, task: GroupTask | InspectionTask) -> str:
        self.outcomes.append(SlotsChanged(slots=(Slot(id=1, cpu_class="avx2"),)))
        return "lost"

    def inspect(self, group: Group) -> None:
        raise AssertionError


def test_a_group_whose_host_gives_no_answer_is_done_by_another(tmp_path):
    names = [f"{number:02d}.png" for number in range(40)]
    statuses = run(tmp_path, Silent(), names, lease_timeout=0.05)
    assert statuses == dict.fromkeys(names, "done")


def test_a_predictor_that_comes_is_used_and_a_run_waits_for_one(tmp_path):
    class Joined(Executor):
        def do_group(self, group, slot):
            used.add(slot.id)
            super().do_group(group, slot)

        def poll(self, timeout):
            if len(self.groups) == 2:
                self.groups.append([])
                return [SlotsChanged(slots=())]
            if len(self.groups) == 3:
                self.groups.append([])
                return [SlotsChanged(slots=(Slot(id=7, cpu_class="avx2"),))]
            return super().poll(timeout)

    used = set()
    executor = Joined(slow=True)
    names = [f"{number:02d}.png" for number in range(40)]
    assert set(run(tmp_path, executor, names).values()) == {"done"}
    assert used == {0, 1, 7}


def test_few_look_at_photographs_alone_at_once(tmp_path):
    class Counting(Executor):
        """Looks at photographs alone when all else is done."""

        most = 0

        def inspect(self, group):
            pending.append(group)
            self.most = max(self.most, len(pending))

        def poll(self, timeout):
            outcomes = super().poll(timeout)
            if not outcomes and pending:
                super().inspect(pending.pop(0))
            return outcomes

    names = [f"{number:03d}.png" for number in range(200)]
    pending = []
    executor = Counting(bad=names[::3], slow=True)
    statuses = run(tmp_path, executor, names, stop_after=1000)
    assert {statuses[name] for name in names[::3]} == {"quarantined"}
    assert 1 <= executor.most <= 2


def test_who_looks_at_photographs_alone_may_hang(tmp_path, monkeypatch):
    monkeypatch.setattr(photo_inspection, "START_SECONDS", -60)
    executor = Executor(bad=["1.png"])
    executor.silent_inspections = 3
    assert run(tmp_path, executor, ["0.png", "1.png"]) == {"0.png": "done", "1.png": "quarantined"}
    assert executor.abandoned == 3


def test_groups_that_all_end_their_predictors_blame_none(tmp_path):
    names = [f"{number:02d}.png" for number in range(40)]
    with pytest.raises(StoppedError, match="predictors died or hung over 11 groups in a row"):
        run(tmp_path, Executor(kills=names), names)
    assert set(statuses_in(tmp_path).values()) == {"failed"}


def test_what_an_inline_run_hung_over_is_done_last_by_the_next(tmp_path):
    class Hung(Executor):
        def _answer(self, names):
            fatal = GivenUpError("the network gave no answer")
            return Failure(kind="timeout", step="group", reason="no answer", fatal=fatal)

    with pytest.raises(StoppedError, match="the network gave no answer"):
        run(tmp_path, Hung(), ["a.png", "b.png"])
    assert statuses_in(tmp_path) == {"a.png": "failed", "b.png": "failed"}

"""Steps that hang in the one process of an inline run."""

import re
import threading
import time
from types import SimpleNamespace

import pyarrow as pa
import pytest
from factories import make_recipe, make_scene, make_source

from batchseg.driver import lease_worker
from batchseg.driver.executors import inline, steps
from batchseg.driver.executors.inline import InlineExecutor
from batchseg.driver.given_up import GivenUpError
from batchseg.driver.scene_worker import Lease
from batchseg.driver.tasks import Failure, FinishTask, Group, GroupTask, LeaseTask, LotTask, Slot, to_stream
from batchseg.errors import SourceError, StoppedError
from batchseg.inputs.source import Refusal
from batchseg.pixels import header
from batchseg.pixels.fit import tile_grid
from batchseg.pixels.grid import ShardGrid
from batchseg.system.threads import Helper

PLACES = {
    "read_lease": lease_worker,
    "predict_lease": lease_worker,
    "write_lease": lease_worker,
    "finished": steps,
}
"""Modules that call the steps."""

SLOT = Slot(id=0, cpu_class="avx2")


def hang(*_: object) -> None:
    threading.Event().wait()


def lease(number: int, name: str) -> Lease:
    scene, recipe = make_scene(27, 43, source=make_source(name)), make_recipe()
    shards = tuple(ShardGrid(tiles=tile_grid(recipe, 27, 43), tiles_hw=(9, 9)))
    return Lease(id=number, scene=scene, grid="9 x 9", cpu_class="avx2", shards=shards)


def group(number: int, name: str) -> Group:
    return Group(
        id=number, work="predict", images=to_stream(pa.table({"source_id": [name, "other.png"]})), count=2
    )


@pytest.fixture
def executor(monkeypatch):
    """One whose steps do nothing, for `hanging.tif` and `hanging.png` for ever."""
    monkeypatch.setattr(Helper, "given_up", 0)
    monkeypatch.setattr(steps, "cpu_class", lambda: "avx2")
    monkeypatch.setattr(steps, "load_predictor", lambda *_, **__: SimpleNamespace(is_busy=False))
    for step, module in PLACES.items():
        monkeypatch.setattr(module, step, lambda *_: "done")
    made = InlineExecutor("out", threads=1, batch_size=1, timeout=0.3, stop=lambda: False)
    made.start(make_recipe(), SimpleNamespace(photographs=None))
    return made


def outcome_of(executor):
    until = time.monotonic() + 20
    while not (outcomes := executor.poll(0.05)):
        assert time.monotonic() < until
    return outcomes[0].result


def test_a_read_that_hangs_is_left_to_its_thread_and_others_go_on(executor, monkeypatch):
    monkeypatch.setattr(
        lease_worker, "read_lease", lambda _, lease: hang() if "hang" in lease.scene.source.uri else 1
    )
    executor.submit(LeaseTask(lease=lease(0, "hanging.tif"), slot=SLOT))
    executor.submit(LeaseTask(lease=lease(1, "fine.tif"), slot=SLOT))
    failure = outcome_of(executor)
    assert (failure.kind, failure.step) == ("timeout", "read")
    assert outcome_of(executor) == "done"
    assert Helper.given_up == 1


def test_a_lot_of_which_a_read_hangs_is_left_to_its_thread_and_others_go_on(executor, monkeypatch):
    monkeypatch.setattr(
        lease_worker, "read_lease", lambda _, lease: hang() if "hang" in lease.scene.source.uri else 1
    )
    executor.submit(LotTask(leases=(lease(0, "fine.tif"), lease(1, "hanging.tif")), slot=SLOT))
    executor.submit(LotTask(leases=(lease(2, "b.tif"), lease(3, "c.tif")), slot=SLOT))
    failure = outcome_of(executor)
    assert (failure.kind, failure.step) == ("timeout", "read")
    assert outcome_of(executor) == ("done", "done")


@pytest.mark.parametrize(
    ("step", "word"), [("predict_lease", "predict"), ("write_lease", "write"), ("finished", "finish")]
)
def test_what_only_the_end_of_the_process_ends_stops_the_run_with_the_sources_name(
    executor, monkeypatch, step, word
):
    monkeypatch.setattr(PLACES[step], step, hang)
    monkeypatch.setattr(inline, "finish_limit", lambda scene, timeout: timeout)
    if word == "finish":
        executor.submit(FinishTask(scene=lease(0, "a.tif").scene, shards=(), epoch=1))
    else:
        executor.submit(LeaseTask(lease=lease(0, "a.tif"), slot=SLOT))
    words = rf"a\.tif: the step `{word}` gave no answer.*executor: auto"
    if word == "predict":  # the next run does it last
        failure = outcome_of(executor)
        assert isinstance(failure.fatal, GivenUpError)
        assert re.search(words, str(failure.fatal))
        return
    with pytest.raises(StoppedError, match=words):
        outcome_of(executor)


@pytest.mark.parametrize("is_busy", [False, True])
def test_a_group_is_given_up_unless_the_network_hangs_itself(executor, monkeypatch, is_busy):
    monkeypatch.setattr(executor._steps, "_worker", hang)
    monkeypatch.setattr(executor._steps, "_new_worker", lambda: lambda group: "done")
    executor._steps._predictor.is_busy = is_busy
    executor.submit(GroupTask(group=group(0, "hanging.png"), slot=SLOT))
    executor.submit(GroupTask(group=group(1, "fine.png"), slot=SLOT))
    if is_busy:
        fatal = outcome_of(executor).fatal
        assert isinstance(fatal, GivenUpError)
        assert "hanging.png and 1 more: the step `group`" in str(fatal)
        return
    failure = outcome_of(executor)
    assert (failure.kind, failure.step) == ("timeout", "group")
    assert outcome_of(executor) == "done"


def test_a_header_that_hangs_is_looked_at_alone(executor, monkeypatch):
    def read_header(source):
        return hang() if "hang" in source.uri else make_scene(9, 9, source=source)

    monkeypatch.setattr(header, "read_header", read_header)
    monkeypatch.setattr(
        header,
        "read_headers_alone",
        lambda sources, _: [Refusal.of(source, SourceError("hung")) for source in sources],
    )
    sources = [make_source(name) for name in ("a.tif", "hanging.tif", "b.tif")]
    answers = list(executor.headers(iter(sources)))
    assert [answer.source.uri for answer in answers] == [sources[i].uri for i in (0, 2, 1)]
    assert isinstance(answers[-1], Refusal)


def test_a_header_over_which_an_error_comes_up_ends_no_run(executor, monkeypatch, tmp_path):
    monkeypatch.setattr(executor, "_timeout", 60)
    monkeypatch.setattr(header, "open_source", lambda source: 1 / 0)
    (tmp_path / "a.tif").write_bytes(b"II*\0 and no more")
    source = make_source(str(tmp_path / "a.tif"))
    (answer,) = executor.headers(iter([source]))  # the fresh process has GDAL's own answer
    assert isinstance(answer, Refusal)


def test_what_waits_behind_a_slow_step_is_not_late(executor, monkeypatch):
    monkeypatch.setattr(lease_worker, "read_lease", lambda *_: time.sleep(0.2))
    for number in range(3):
        executor.submit(LeaseTask(lease=lease(number, f"{number}.tif"), slot=SLOT))
    assert not any(isinstance(outcome_of(executor), Failure) for _ in range(3))


def test_samples_that_do_not_come_in_time_are_left_out(monkeypatch):
    given_up = Helper.given_up
    monkeypatch.setattr(inline, "sample_scenes", hang)
    executor = InlineExecutor("/out", threads=1, batch_size=None, timeout=0.05, stop=lambda: False)
    assert executor.samples([], make_recipe()) == []
    assert Helper.given_up == given_up + 1
    Helper.given_up = given_up

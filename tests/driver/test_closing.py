"""How a run ends on its output: what it says, writes and reports."""

from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
from factories import make_config, make_product, make_source

from batchseg.driver.closing import Closing
from batchseg.driver.commit import refusal_record
from batchseg.driver.events import WorkEnded
from batchseg.driver.gone import Gone
from batchseg.driver.loop import Tally
from batchseg.errors import ConfigError, ModelError, OutputError, StoppedError
from batchseg.output.class_sums import ClassSums
from batchseg.output.layout import ITEMS_TABLE
from batchseg.output.ledger import Ledger


@pytest.fixture
def events():
    return []


@pytest.fixture
def closing(tmp_path, events):
    """Of a run that refused one scene."""
    ledger = Ledger(str(tmp_path))
    ledger.append([refusal_record(make_source("a.tif"), "torn", transient=False)])
    context = SimpleNamespace(
        config=make_config(output=str(tmp_path)),
        lock=SimpleNamespace(check=lambda: events.append("check"), guard=lambda: events.append("guard")),
        emit=events.append,
        way_on="the same command goes on",
        log=str(tmp_path / "runs/7/log"),
        sums=None,
    )
    return Closing(
        context=context,
        ledger=ledger,
        product=make_product("soil", "water"),
        choice=None,
        gone=Gone(ids=("b.tif",)),
        triaged=SimpleNamespace(done=3, quarantined=1, young=2),
        seams_remedy="",
    )


def items(closing) -> list[str]:
    return pq.read_table(f"{closing.context.config.output}/{ITEMS_TABLE}").column("source_id").to_pylist()


@pytest.mark.parametrize("kind", [StoppedError, ModelError])
def test_a_run_that_ends_early_shows_what_there_is_and_says_how_to_go_on(closing, events, kind):
    with pytest.raises(kind) as ended, closing.told(lambda: "7 shards"):
        raise kind("the disk is full")
    expected = "the disk is full [7 shards recorded in this run; the same command goes on]"
    assert str(ended.value) == expected
    assert items(closing) == ["a.tif"]
    assert events == ["check"]  # the merged ledger waits


def test_an_output_that_was_taken_over_is_left_alone(closing, monkeypatch):
    def lost():
        raise OutputError("another run took over")

    closing.context.lock.check = lost
    with pytest.raises(StoppedError, match="deadline"), closing.told(lambda: "1 shard"):
        raise StoppedError("deadline")
    with pytest.raises(FileNotFoundError):
        items(closing)


def test_another_error_passes_as_it_is(closing, events):
    with pytest.raises(ConfigError, match="no such key"), closing.told(lambda: "1 shard"):
        raise ConfigError("no such key")
    assert events == []


def test_the_ledger_is_merged_after_the_tables_and_then_the_work_has_ended(closing, events):
    merge = Ledger.merge
    order = []

    def merged(ledger):
        order.append(items(closing))
        merge(ledger)

    closing.ledger.merge = lambda: merged(closing.ledger)
    closing.publish()
    assert order == [["a.tif"]]
    assert events[:-1] == ["guard", "guard"]
    assert isinstance(events[-1], WorkEnded)


def test_a_report_has_what_both_kinds_have_and_what_one_adds(closing):
    worked = closing.ledger.table()["source_id"].combine_chunks()
    report = closing.report(Tally(quarantined=1), worked, ClassSums(), refused=(), copied=4)
    assert (report.skipped, report.still_quarantined, report.young, report.copied) == (3, 1, 2, 4)
    assert report.vanished == ("b.tif",)
    assert report.classes.shares == {}

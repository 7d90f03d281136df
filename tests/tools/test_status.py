"""What `status` says of an output, against what was put there."""

import dataclasses
import json
from pathlib import Path

import pytest
from factories import make_state
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import WINDOWS, batches

from batchseg.errors import ConfigError
from batchseg.output.ledger import Ledger
from batchseg.output.lock import hold
from batchseg.output.record import PhotoRecord, SceneRecord, ShardRecord
from batchseg.output.state import save_state
from batchseg.tools.status import RUNS_LOOKED_AT, RefusedSource, read_status


def ledger_of(output: Path, **state: object) -> Ledger:
    save_state(str(output), make_state(**state))
    ledger = Ledger(str(output))
    ledger.claim("20260101-000000-abcdef")
    return ledger


def shard(source_id: str, number: int) -> ShardRecord:
    window = WINDOWS[number]
    return ShardRecord(
        source_id=source_id,
        tag="t",
        pixel="p",
        grid="1x1",
        cpu_class="avx2",
        row_off=window.row_off,
        col_off=window.col_off,
        height=window.height,
        width=window.width,
    )


def done(source_id: str, **fields: object) -> SceneRecord:
    return dataclasses.replace(SceneRecord(status="done", source_id=source_id, tag="t"), **fields)


def test_an_archive_half_done(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path, vanished=("old.tif",))
    ledger.append([shard("c.tif", 0), shard("c.tif", 1), shard("d.tif", 2)])
    ledger.append(
        [
            done("a.tif", height=70_000, width=90_000),
            done("b.tif", height=10, width=50, bad_pixels=100),
            done("d.tif", height=3, width=4),
            SceneRecord(status="quarantined", source_id="e.tif", tag="t", error="is cut off"),
            SceneRecord(status="failed", source_id="f.tif", tag="t", error="no answer"),
        ]
    )
    found = read_status(str(tmp_path))
    assert (found.done, found.pixels_done, found.verdicts) == (3, 70_000 * 90_000 + 512, None)
    (unfinished,) = found.unfinished
    assert (unfinished.source_id, unfinished.shards_done, unfinished.pixels_done) == ("c.tif", 2, 70)
    assert found.refused == (
        RefusedSource(source_id="e.tif", status="quarantined", error="is cut off"),
        RefusedSource(source_id="f.tif", status="failed", error="no answer"),
    )
    (damaged,) = found.damaged
    assert (damaged.source_id, damaged.bad_pixels, damaged.bad_share) == ("b.tif", 100, 0.2)
    assert (found.gone, found.running, found.last_run) == (("old.tif",), None, None)


@settings(deadline=None, max_examples=25)
@given(st.lists(batches, max_size=3))
def test_every_source_is_counted_once(tmp_path_factory: pytest.TempPathFactory, appended: list) -> None:
    output = tmp_path_factory.mktemp("output")
    ledger = ledger_of(output)
    for records in appended:
        ledger.append(records)
    found = read_status(str(output))
    ends = list(Ledger(str(output)).sources())
    assert found.done == sum(record.status == "done" for record in ends)
    assert found.pixels_done == sum(r.height * r.width for r in ends if r.status == "done")
    refused = {(r.source_id, r.status, r.error) for r in ends if r.status != "done"}
    assert {dataclasses.astuple(source) for source in found.refused} == refused
    assert len(found.refused) == len(refused)


def test_photographs_are_counted_by_verdict(tmp_path: Path) -> None:
    verdicts = ["PASS", "FAIL", "PASS", "REVIEW", "PASS"]
    ledger = ledger_of(tmp_path, pixel={"fit": "tile"})
    ledger.append(
        PhotoRecord(status="done", source_id=f"{number}.jpg", tag="t", verdict=verdict)
        for number, verdict in enumerate(verdicts)
    )
    assert read_status(str(tmp_path)).verdicts == {"PASS": 3, "FAIL": 1, "REVIEW": 1}


def summary_of(output: Path, run_id: str, **values: object) -> None:
    folder = output / "_batchseg" / "runs" / run_id
    folder.mkdir(parents=True)
    usual = {"predictor_shares": {"predict": 0.9}, "tiles": 7, "bound_by": "predictors", "advice": run_id}
    (folder / "summary.json").write_text(json.dumps(usual | values))


def test_the_last_run_is_the_latest_that_did_some_work(tmp_path: Path) -> None:
    ledger_of(tmp_path)
    summary_of(tmp_path, "20260101-000000-aaaaaa")
    summary_of(tmp_path, "20260102-000000-bbbbbb")
    summary_of(tmp_path, "20260103-000000-cccccc", tiles=0)
    summary_of(tmp_path, "20260104-000000-dddddd", predictor_shares={})
    (tmp_path / "_batchseg" / "runs" / "20260105-000000-eeeeee").mkdir()
    summary_of(tmp_path, "20260106-000000-ffffff")
    (tmp_path / "_batchseg" / "runs" / "20260106-000000-ffffff" / "summary.json").write_text('{"tiles": ')
    told = read_status(str(tmp_path)).last_run
    assert told is not None
    assert (told.run_id, told.advice) == ("20260102-000000-bbbbbb",) * 2
    assert (told.shares, told.bound_by) == ({"predict": 0.9}, "predictors")
    for number in range(RUNS_LOOKED_AT):
        (tmp_path / "_batchseg" / "runs" / f"2026020{number}-000000-eeeeee").mkdir()
    assert read_status(str(tmp_path)).last_run is None


@pytest.mark.parametrize(
    "values",
    [
        {"predictor_shares": [1]},
        {"predictor_shares": {"predict": "0.9"}},
        {"advice": None},
        {"bound_by": {"a": 1}},
        {"bound_by": [[[]]]},
    ],
)
def test_a_summary_of_other_types_is_passed_over(tmp_path: Path, values: dict[str, object]) -> None:
    ledger_of(tmp_path)
    summary_of(tmp_path, "20260101-000000-aaaaaa")
    summary_of(tmp_path, "20260102-000000-bbbbbb", **values)
    for number, text in enumerate(("[" * 100_000, "[]", "7", "null")):
        summary_of(tmp_path, f"2026020{number}-000000-cccccc")
        (tmp_path / "_batchseg" / "runs" / f"2026020{number}-000000-cccccc" / "summary.json").write_text(text)
    (tmp_path / "_batchseg" / "runs" / "20260203-000000-cccccc" / "summary.json").unlink()
    (tmp_path / "_batchseg" / "runs" / "20260203-000000-cccccc").rmdir()
    told = read_status(str(tmp_path)).last_run
    assert told is not None
    assert told.run_id == "20260101-000000-aaaaaa"


def test_who_holds_the_output_is_said_and_nothing_is_touched(tmp_path: Path) -> None:
    ledger_of(tmp_path)

    def held() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    before = held()
    assert read_status(str(tmp_path)).running is None
    assert held() == before
    with hold(str(tmp_path), "night"):
        running = read_status(str(tmp_path)).running
        assert running is not None
        assert "night" in running
    assert read_status(str(tmp_path)).running is None


def test_a_folder_without_results_has_no_status(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no results"):
        read_status(str(tmp_path))


@pytest.mark.parametrize(
    "planted",
    [
        b"[]",
        b"[" * 100_000,
        b"\xff",
        b'{"predictor_shares": 5, "tiles": 1}',
        b'{"predictor_shares": {"a": 1}}',
    ]
    + [json.dumps({"predictor_shares": {"a": share}, "tiles": 1}).encode() for share in ("x", [], 10**400)],
)
def test_a_planted_summary_of_a_run_is_passed_over(tmp_path: Path, planted: bytes) -> None:
    ledger_of(tmp_path)
    summary_of(tmp_path, "20260101-000000-aaaaaa")
    summary_of(tmp_path, "20260102-000000-bbbbbb")
    (tmp_path / "_batchseg" / "runs" / "20260102-000000-bbbbbb" / "summary.json").write_bytes(planted)
    told = read_status(str(tmp_path)).last_run
    assert told is not None
    assert told.run_id == "20260101-000000-aaaaaa"

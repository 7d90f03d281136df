"""Verdicts derived again against verdicts of the same regions in memory."""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rules import box, criterion, tables_of

from batchseg.errors import OutputError
from batchseg.job.recipe import Ruleset
from batchseg.output.ledger import SCHEMA
from batchseg.output.record import Output, PhotoRecord, to_records, to_table
from batchseg.output.rejudge import rejudge, review_counts
from batchseg.regions.verdicts import judge

OLD = Ruleset(criteria=(criterion(name="large", min_area=9.0),))
NEW = Ruleset(
    criteria=(
        criterion(name="right", classes=(1, 3), min_area=6.0, interest=box(0.5, 0, 1, 1, unit="share")),
        criterion(name="many", then="REVIEW", count=9),
    )
)
PART = "annotations/crs=none/part-{:016x}.parquet"


@dataclasses.dataclass
class Rows:
    """What a ledger gives."""

    records: list[PhotoRecord]

    def table(self):
        return to_table(self.records)


@pytest.fixture
def output(tmp_path):
    """Photographs in three parts of several row groups, judged by OLD, and their regions and sizes."""
    random = np.random.default_rng(5)
    masks = {}
    for number in range(60):
        shape = (5 + number % 4, 12 + number % 3)
        masks[f"line/{number:02d}.jpg"] = (random.random(shape) < number / 120).astype(np.uint8) * (
            1 + number % 3
        )
    regions, images = tables_of(masks)
    names = images["source_id"].to_pylist()
    for part in range(3):
        path = tmp_path / PART.format(part)
        path.parent.mkdir(parents=True, exist_ok=True)
        members = regions.filter(pa.compute.is_in(regions["source_id"], pa.array(names[part::3])))
        pq.write_table(members, path, row_group_size=16)
    judged = judge(OLD, regions, images).to_pylist()
    held = regions["source_id"].to_pylist()
    records = [
        PhotoRecord(
            status="done",
            source_id=name,
            tag="t",
            product="p",
            height=len(masks[name]),
            width=masks[name].shape[1],
            valid_pixels=masks[name].size,
            outputs=(
                *(Output(path=f"masks/{name}.png", nbytes=9, sha256="m"),)
                * (judged[number]["rule"] is not None),
                Output(path=PART.format(number % 3), nbytes=99, sha256="s"),
            ),
            region_count=held.count(name),
            verdict=judged[number]["verdict"],
            rule=judged[number]["rule"] or "",
            rule_px=judged[number]["rule_px"],
            rule_class=judged[number]["rule_class"],
            judged=OLD.digest,
        )
        for number, name in enumerate(names)
    ]
    return str(tmp_path), records, judge(NEW, regions, images).to_pylist()


def test_verdicts_are_those_of_judging_anew(output):
    root, records, expected = output
    rows = rejudge(root, Rows(records[::-1]), NEW).to_pylist()[::-1]
    wanted = [
        dataclasses.replace(
            record,
            verdict=new["verdict"],
            rule=new["rule"] or "",
            rule_px=new["rule_px"],
            rule_class=new["rule_class"],
            judged=NEW.digest,
        )
        for record, new in zip(records, expected, strict=True)
    ]
    assert rows == to_table(wanted).to_pylist()
    assert {row["verdict"] for row in rows} == {"PASS", "FAIL", "REVIEW"}
    assert rejudge(root, Rows(records), NEW).schema.equals(SCHEMA)


def test_verdicts_go_with_the_rules(output):
    root, records, _ = output
    rows = rejudge(root, Rows(records), Ruleset()).to_pylist()
    assert {(row["verdict"], row["rule"], row["judged"]) for row in rows} == {("", "", "")}


def test_photographs_without_regions_need_no_part(output, tmp_path):
    _, records, _ = output
    empty = [dataclasses.replace(r, outputs=(), region_count=0) for r in records]
    rows = rejudge(str(tmp_path / "elsewhere"), Rows(empty), NEW)
    assert set(rows["verdict"].to_pylist()) == {"PASS"}


def test_what_is_not_due_is_not_read(output, tmp_path):
    root, records, _ = output
    done = dataclasses.replace(records[0], judged=NEW.digest)
    bad = dataclasses.replace(records[1], status="quarantined")
    other = dataclasses.replace(records[2], product="q")
    for number in (0, 1, 2):
        (tmp_path / PART.format(number)).write_bytes(b"no Parquet")
    rows = rejudge(root, Rows([done, bad, other]), NEW, product="p")
    assert (len(rows), rows.schema) == (0, SCHEMA)


def test_photographs_whose_part_is_gone_are_left_to_be_made_again(output, tmp_path):
    root, records, expected = output
    (tmp_path / PART.format(1)).unlink()
    rows = rejudge(root, Rows(records), NEW)
    there = [number for number in range(60) if number % 3 != 1]
    assert rows["source_id"].to_pylist() == [records[number].source_id for number in there]
    assert rows["verdict"].to_pylist() == [expected[number]["verdict"] for number in there]


def test_a_part_without_the_regions_that_were_recorded_is_an_error(output, tmp_path):
    root, records, _ = output
    path = tmp_path / PART.format(2)
    pq.write_table(pq.read_table(path).slice(1), path)
    with pytest.raises(OutputError, match=r"part-0+2\.parquet holds \d+ regions of 20 images.*verify"):
        rejudge(root, Rows(records), NEW)
    path.write_bytes(b"PAR1")
    with pytest.raises(OutputError, match=r"part-0+2"):
        rejudge(root, Rows(records), NEW)


UNSEEN = {"height": 6, "width": 4, "tag": "t", "status": "done", "judged": NEW.digest, "verdict": "PASS"}


def test_what_passed_without_inspection_is_judged_again(tmp_path):
    """By the same rules: earlier versions did not ask how much of an image has data."""
    told = {"interests": NEW.interests, "interest_valid": (12.0,)}
    records = [
        PhotoRecord(source_id="all.jpg", valid_pixels=24, **UNSEEN),
        PhotoRecord(source_id="nothing.bmp", valid_pixels=0, **UNSEEN),
        PhotoRecord(source_id="right half.png", valid_pixels=12, **UNSEEN, **told),
        PhotoRecord(source_id="who knows.png", valid_pixels=23, **UNSEEN),
        PhotoRecord(source_id="found.png", valid_pixels=0, **UNSEEN | {"verdict": "REVIEW", "rule": "many"}),
    ]
    rows = rejudge(str(tmp_path), Rows(records), NEW)
    assert rows["source_id"].to_pylist() == ["nothing.bmp", "right half.png", "who knows.png"]
    assert rows["verdict"].to_pylist() == ["REVIEW"] * 3
    assert rows["rule"].to_pylist() == ["min_valid"] * 3
    assert rows["review_reason"].to_pylist() == [
        "right: nothing of the region of interest has data",
        "many: 50 % of the image has data, min_valid is 100 %",
        "right: it was not recorded how much of the region of interest has data",
    ]
    lenient = Ruleset(criteria=tuple(dataclasses.replace(one, min_valid=0.5) for one in NEW.criteria))
    again = list(to_records(rows))
    rows = rejudge(str(tmp_path), Rows(again), lenient)
    assert list(zip(rows["verdict"].to_pylist(), rows["review_reason"].to_pylist(), strict=True)) == [
        ("REVIEW", "right: nothing of the region of interest has data"),
        ("PASS", ""),
        ("REVIEW", "right: it was not recorded how much of the region of interest has data"),
    ]


def test_what_is_unlike_the_first_photographs_passes_only_where_the_job_means_it(output):
    root, records, *_ = output
    passed = [record for record in records if record.verdict == "PASS"]
    odd = [dataclasses.replace(record, unlike="its values end at 4095") for record in passed]
    rows = rejudge(root, Rows(odd), OLD).to_pylist()
    assert {(row["verdict"], row["rule"]) for row in rows} == {("REVIEW", "check_values")}
    assert {row["review_reason"] for row in rows} == {"its values end at 4095"}
    assert len(rows) == len(odd) > 0
    judged = [
        PhotoRecord(**{**dataclasses.asdict(one), "outputs": one.outputs} | chosen(row))
        for one, row in zip(odd, rows, strict=True)
    ]
    assert rejudge(root, Rows(judged), OLD).num_rows == 0
    meant = rejudge(root, Rows(judged), dataclasses.replace(OLD, check_values=False)).to_pylist()
    assert [row["verdict"] for row in meant] == ["PASS"] * len(odd)
    failed = [dataclasses.replace(r, unlike="odd", judged="") for r in records if r.verdict == "FAIL"]
    again = rejudge(root, Rows(failed), OLD)
    assert set(again["verdict"].to_pylist()) == {"FAIL"}
    assert review_counts(rejudge(root, Rows(odd), OLD)) == (0, len(odd))


def chosen(row):
    return {name: row[name] for name in ("verdict", "rule", "review_reason")}

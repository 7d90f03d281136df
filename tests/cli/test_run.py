"""What `batchseg run` says when it ends; tests/integration/test_command_line.py runs it."""

import dataclasses

from batchseg.cli.run import report_lines
from batchseg.driver.class_shares import ClassShares
from batchseg.driver.loop import Tally
from batchseg.driver.progress import Sums
from batchseg.driver.report import Report
from batchseg.output.record import SceneRecord
from batchseg.predict.engine_choice import Choice

REPORT = Report(
    output="/out",
    log="/out/_batchseg/runs/20260101-000000-abcdef/log.txt",
    choice=Choice(engine="paddle", precision="fp32", device="cpu", baked=True, asked={}),
    tally=Tally(done=3),
    skipped=2,
    still_quarantined=1,
    vanished=(),
    young=4,
    sums=Sums(),
    refused=(),
)


def refused(status: str, count: int) -> tuple[SceneRecord, ...]:
    return tuple(
        SceneRecord(status=status, source_id=f"{n:03}.tif", tag="", error=f"reason {n}") for n in range(count)
    )


def test_all_that_was_done_before_is_counted() -> None:
    assert report_lines(REPORT, quiet=False) == [
        "run 20260101-000000-abcdef: 3 scenes done, 2 done before, 1 quarantined before, 4 too young",
        "  masks: /out/masks   table: /out/items/items.parquet",
        "  log:   /out/_batchseg/runs/20260101-000000-abcdef/log.txt",
    ]
    assert report_lines(REPORT, quiet=True) == []


def test_photographs_have_verdicts_and_copies() -> None:
    report = dataclasses.replace(
        REPORT, verdicts={"PASS": 5, "FAIL": 1}, copied=2, rejudged=1, skipped=0, still_quarantined=0, young=0
    )
    lines = report_lines(report, quiet=False)
    assert lines[0].endswith(": 3 photographs done, 2 of them known by content, 1 judged again")
    assert lines[1] == "  verdicts of all: 5 PASS, 1 FAIL   batchseg summary /out"
    assert not any("min_valid" in line for line in lines)
    seen = dataclasses.replace(report, uninspected=3)
    assert report_lines(seen, quiet=False)[2] == (
        "  3 of these are REVIEW because too little has data (min_valid)"
    )


def test_speed_is_told_where_tiles_were_predicted() -> None:
    report = dataclasses.replace(REPORT, sums=Sums(tiles=6, pixels=10))
    lines = report_lines(report, quiet=False)
    assert lines[1].startswith("  6 tiles in 0 s: ")
    assert lines[3:5] == [
        "  too short a run to tell",
        "  engine: paddle in fp32 on cpu, normalisation and classes inside the network",
    ]


def test_the_first_hundred_refusals_are_named_even_where_all_else_is_quiet() -> None:
    report = dataclasses.replace(REPORT, refused=refused("quarantined", 102) + refused("failed", 1))
    lines = report_lines(report, quiet=True)
    assert lines[:2] == ["102 sources quarantined (until the file changes):", "  000.tif: reason 0"]
    assert lines[100:] == [
        "  099.tif: reason 99",
        "  and 2 more: batchseg status /out",
        "1 source failed (the next run tries again):",
        "  000.tif: reason 0",
    ]


def test_damage_is_told_in_shares() -> None:
    damaged = SceneRecord(status="done", source_id="d.tif", tag="", height=10, width=10, bad_pixels=25)
    lines = report_lines(dataclasses.replace(REPORT, damaged=(damaged,)), quiet=False)
    assert lines[-2] == "1 scene done with damaged blocks (nodata in the mask):"
    assert lines[-1].startswith("  d.tif: ")


def test_what_was_odd_about_the_scenes_is_told() -> None:
    report = dataclasses.replace(REPORT, odd_sources=("bands: the network gets blue, green, red",))
    assert report_lines(report, quiet=False)[-1] == "warning: bands: the network gets blue, green, red"
    assert report_lines(report, quiet=True) == []


def test_one_class_that_has_everything_is_told_once_and_where_all_else_is_quiet() -> None:
    report = dataclasses.replace(REPORT, classes=ClassShares(shares={"good": 1.0}, warning="every pixel"))
    for quiet in (False, True):
        assert report_lines(report, quiet=quiet).count("warning: every pixel") == 1

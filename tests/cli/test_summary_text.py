"""A summary in words is as wide as a terminal; tests/tools/test_summary.py has its numbers."""

import dataclasses
import json
from pathlib import Path

import numpy as np
from factories import Photo, make_photo_output
from hypothesis import given, settings
from names import NAMES, acts
from rich.cells import cell_len

from batchseg.cli.summary_text import COLUMNS, as_json, summary_lines
from batchseg.system.escape import shown
from batchseg.tools.summary import ClassCounts, ImageCounts, Summary, Suspect, Unread, summarize


def test_words_and_json_say_the_same(tmp_path: Path) -> None:
    photos = [Photo(source_id=f"图片{n}" + "x" * 90, mask=np.full((9, 9), n % 2, np.uint8)) for n in range(4)]
    found = summarize(make_photo_output(tmp_path / "out", photos), since="all")
    lines = summary_lines(found)
    assert max(map(cell_len, lines[1:])) <= COLUMNS
    document = json.loads("".join(as_json(found)))
    assert document["total"]["images"] == 4
    assert document["total"]["fail"] == len(document["worst"]) == 2
    assert any("4 images in all" in line for line in lines)


@given(NAMES)
@settings(max_examples=20, deadline=None)
def test_no_name_breaks_a_line_of_a_summary(name: str) -> None:
    counts = ImageCounts(
        name=name, images=9, fail=3, review=2, uninspected=1, passed=1, unjudged=1, quarantined=1, failed=1
    )
    found = Summary(
        output="s3://key:SEC/RET@bucket/out",
        since=None,
        last=None,
        running=name,
        total=counts,
        by=name,
        groups=(counts, counts),
        classes=(ClassCounts(name=name, images=1, regions=1, pixels=1, area_m2=None),),
        worst=(
            Suspect(
                source_id=name,
                uri=name,
                tag="t",
                verdict=name,
                rule=name,
                reason=name,
                rule_class=name,
                rule_px=1,
                largest_class=name,
                largest_px=1,
                region_count=1,
                confidence=None,
                attributes={name: name},
            ),
        ),
        uninspected=((name, name),),
        unread=(Unread(source_id=name, status=name, error=f"{name} https://u:{'p' * 60}@h/"),),
    )
    usual = dataclasses.replace(found, by="line", groups=(dataclasses.replace(counts, name="a"),) * 2)
    lines = [shown(line) for line in summary_lines(found)]
    assert len(lines) == len(summary_lines(usual))
    assert not any(map(acts, lines))
    assert "RET" not in "".join(lines)
    assert "ppp" not in "".join(lines), "a password is hidden before a cell is cut"
    assert json.loads("".join(as_json(found)))["worst"][0]["source_id"] == name


def test_ids_and_reasons_are_whole_and_the_rest_is_said_to_be_elsewhere(tmp_path: Path) -> None:
    reason = "is no raster, " * 30 + "END"
    unread = tuple(
        Unread(source_id=f"{'folder/' * 9}{n}.tif", status="failed", error=reason) for n in range(3)
    )
    photos = [Photo(source_id="a.png", mask=np.zeros((9, 9), np.uint8))]
    found = summarize(make_photo_output(tmp_path / "out", photos), since="all")
    total = dataclasses.replace(found.total, failed=8, uninspected=4)
    found = dataclasses.replace(
        found, unread=unread, total=total, uninspected=((unread[0].source_id, reason),)
    )
    lines = summary_lines(found)
    for one in unread:
        assert f"  {one.source_id}: failed: {reason}" in lines
    assert f"  {unread[0].source_id}: {reason}" in lines
    assert f"  and 5 more: batchseg status {found.output}" in lines
    assert f"  and 3 more: column review_reason of {found.output}/items/items.parquet" in lines

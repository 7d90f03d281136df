"""What people at the line are told in the morning, against counting by hand."""

import datetime as dt
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from factories import Photo, make_photo_output, make_state
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from batchseg.cli.main import main
from batchseg.cli.summary_text import COLUMNS, GROUPS, as_json, summary_lines
from batchseg.errors import ConfigError, OutputError
from batchseg.output.state import save_state
from batchseg.system.location import join
from batchseg.tools.outlines import cut
from batchseg.tools.summary import _class_counts, _counts, _worst, summarize
from batchseg.tools.tables import ITEM_COLUMNS

NOW = dt.datetime(2026, 11, 20, 7, tzinfo=dt.UTC)
CLASSES = ("good", "hole", "crack", "fray")


def items_table(rows: list[dict], **attributes: list[str]) -> pa.Table:
    whole = [dict.fromkeys(ITEM_COLUMNS) | row for row in rows]
    table = pa.Table.from_pylist(whole, schema=pa.schema(list(ITEM_COLUMNS.items())))
    for name, values in attributes.items():
        table = table.append_column(name, pa.array(values, pa.string()))
    return table


CLASS = st.fixed_dictionaries(
    {
        "class_id": st.integers(0, 3),
        "pixels": st.integers(1, 900),
        "regions": st.integers(0, 2) | st.none(),
        "area_m2": st.floats(0, 1) | st.none(),
    }
).map(lambda c: c | {"class_name": CLASSES[c["class_id"]]})
NO_VERDICT = {"min_valid": "unseen", "check_values": "unlike"}
"""Rules that no region breaks."""
ITEM = st.fixed_dictionaries(
    {
        "source_id": st.sampled_from(["a/1", "a/b/2", "c.png", "", "ä/3", "a"]),
        "status": st.sampled_from(["done", "done", "done", "quarantined", "failed"]),
        "verdict": st.sampled_from(["PASS", "FAIL", "REVIEW", "", None]),
        "largest_px": st.integers(0, 3) | st.none(),
        "rule_px": st.integers(1, 3) | st.none(),
        "rule": st.sampled_from([None, "hole", "min_valid", "check_values"]),
        "classes": st.lists(CLASS, max_size=4, unique_by=lambda c: c["class_id"]),
    }
).map(lambda row: row | {"review_reason": "why" if row["rule"] in NO_VERDICT else None})


@settings(max_examples=50, deadline=None)
@given(st.lists(ITEM, max_size=12))
def test_images_are_counted_by_folder_and_state(rows: list[dict]) -> None:
    expected: dict[str, Counter[str]] = {}
    for row in rows:
        folder = row["source_id"].split("/")[0] if "/" in row["source_id"] else ""
        state = (row["verdict"] or "unjudged") if row["status"] == "done" else row["status"]
        state = NO_VERDICT.get(row["rule"], state) if row["status"] == "done" else state
        expected.setdefault(folder, Counter())[state] += 1
    found = {counts.name: counts for counts in _counts(items_table(rows), "folder")}
    assert found.keys() == expected.keys()
    for name, states in expected.items():
        counts = found[name]
        assert counts.images == sum(states.values())
        assert (counts.fail, counts.uninspected, counts.unlike, counts.passed, counts.unjudged) == tuple(
            states[key] for key in ("FAIL", "unseen", "unlike", "PASS", "unjudged")
        )
        assert counts.review == states["REVIEW"] + states["unseen"] + states["unlike"]
        assert (counts.quarantined, counts.failed) == (states["quarantined"], states["failed"])


@settings(max_examples=50, deadline=None)
@given(st.lists(ITEM, max_size=12))
def test_classes_are_summed_over_images_that_have_regions_of_them(rows: list[dict]) -> None:
    entries = [entry for row in rows for entry in row["classes"]]
    kept = [e for e in entries if e["regions"]] or [e for e in entries if e["class_id"]]
    found = _class_counts(items_table(rows))
    assert [counts.name for counts in found] == [CLASSES[i] for i in sorted({e["class_id"] for e in kept})]
    for counts in found:
        own = [e for e in kept if e["class_name"] == counts.name]
        areas = [e["area_m2"] for e in own if e["area_m2"] is not None]
        assert (counts.images, counts.pixels) == (len(own), sum(e["pixels"] for e in own))
        assert counts.regions == sum(e["regions"] or 0 for e in own)
        assert counts.area_m2 == (pytest.approx(sum(areas)) if areas else None)


@settings(max_examples=50, deadline=None)
@given(st.lists(ITEM, max_size=12), st.integers(1, 5))
def test_the_worst_come_first(rows: list[dict], count: int) -> None:
    judged = any(row["verdict"] for row in rows)
    rank = {"FAIL": 0, "REVIEW": 1}
    suspects = [row for row in rows if (row["verdict"] in rank if judged else row["largest_px"])]

    def px(row):
        """An output of before a rule's region was known has the largest; what nobody saw has none."""
        return row["rule_px"] or (0 if row["review_reason"] else row["largest_px"] or 0)

    suspects.sort(key=lambda r: (rank.get(r["verdict"], 0), -px(r), r["source_id"]))
    found = _worst(items_table(rows), (), count)
    expected = [(r["source_id"], r["verdict"] or "", r["largest_px"] or 0) for r in suspects[:count]]
    assert [(s.source_id, s.verdict, s.largest_px) for s in found] == expected


def blot(size: int = 3) -> np.ndarray:
    mask = np.zeros((20, 30), np.uint8)
    mask[2 : 2 + size, 4:9] = 2
    return mask


@pytest.fixture
def output(tmp_path: Path) -> str:
    """Three images of last night, one of the week before, one that could not be read."""
    before = {"recorded_at": dt.datetime(2026, 11, 12, 3, tzinfo=dt.UTC)}
    return make_photo_output(
        tmp_path / "out",
        [
            Photo(source_id="p1/a.png", mask=blot(), item={"line": "seven", "shift": "night"}),
            Photo(source_id="p1/b.png", mask=blot(0), item={"line": "seven"}),
            Photo(source_id="p2/c.png", mask=blot(9), item={"line": "eight", "verdict": "REVIEW"}),
            Photo(source_id="p2/d.png", mask=blot(2), item={"line": "eight", **before}),
            Photo(
                source_id="p2/e.png",
                mask=blot(0),
                item={"status": "quarantined", "error": "cut off", "verdict": None, "line": "eight"},
            ),
        ],
    )


def test_last_night_is_what_was_recorded_within_a_day(output: str) -> None:
    found = summarize(output, now=NOW)
    assert (found.by, found.since) == ("line", NOW - dt.timedelta(hours=24))
    assert [(c.name, c.images, c.fail, c.review, c.passed, c.quarantined) for c in found.groups] == [
        ("seven", 2, 1, 0, 1, 0),
        ("eight", 2, 0, 1, 0, 1),
    ]
    assert [(c.name, c.images, c.regions, c.pixels) for c in found.classes] == [("crack", 2, 2, 60)]
    assert [(s.source_id, s.largest_px, s.attributes) for s in found.worst] == [
        ("p1/a.png", 15, {"line": "seven", "shift": "night"}),
        ("p2/c.png", 45, {"line": "eight"}),
    ]
    assert [(u.source_id, u.status, u.error) for u in found.unread] == [
        ("p2/e.png", "quarantined", "cut off")
    ]
    assert summarize(output, since="all").total.images == 5
    assert [c.name for c in summarize(output, now=NOW, by="folder").groups] == ["p1", "p2"]
    with pytest.raises(ConfigError, match=r"'color'.* one of line, shift, folder"):
        summarize(output, by="color")


def test_a_quiet_night_says_when_the_last_image_came(output: str) -> None:
    found = summarize(output, now=NOW + dt.timedelta(days=3))
    lines = summary_lines(found)
    assert found.total.images == 0
    assert "nothing recorded since" in lines[0]
    last = dt.datetime(2026, 11, 20, 3, tzinfo=dt.UTC).astimezone()
    assert lines[0].endswith(f"last at {last:%Y-%m-%d %H:%M}")


def test_the_text_fits_the_terminal_and_shows_odd_names(tmp_path: Path) -> None:
    names = ["检查/" * 30 + "图片.png", "[red]x[/red]/a.png", "a\tb\n/c.png", "x" * 300]
    names += [f"press-{number:03}/part.png" for number in range(GROUPS + 9)]
    long = {"rule": "no scratch " * 9, "largest_class": "a class of a long name", "largest_px": 123_456_789}
    failed = {"status": "failed", "error": "the storage did not answer " * 9}
    photos = [Photo(source_id=name, mask=blot(), item=long) for name in names]
    output = make_photo_output(tmp_path / "out", [*photos, Photo(source_id="z", mask=blot(), item=failed)])
    lines = summary_lines(summarize(output, since="all", worst=60))
    tables = lines[1 : next(n for n, line in enumerate(lines) if line.startswith("no result of"))]
    assert max(map(cell_len, tables)) <= COLUMNS
    text = "\n".join(lines)
    for words in (
        cut("no scratch " * 9, 20, cell_len),
        "[red]x[/red]",
        r"a\tb\n",
        "图片.png",
        "and 13 more with 13 images",
        "1 failed",
        " 0.20",
    ):
        assert words in text


def test_the_command_prints_text_or_json(output: str, capfd: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--json"]):
        with pytest.raises(SystemExit) as ended:
            main(["summary", output, "--since", "all", *arguments])
        assert ended.value.code == 0
        said = capfd.readouterr().out
        if arguments:
            document = json.loads(said)
            assert (document["total"]["fail"], document["worst"][0]["source_id"]) == (2, "p1/a.png")
            assert document == json.loads("".join(as_json(summarize(output, since="all"))))
        else:
            assert "5 images in all" in said
            assert "p1/a.png" in said


def test_outputs_without_what_is_asked_for_are_refused(tmp_path: Path, output: str) -> None:
    with pytest.raises(ConfigError, match="holds no results"):
        summarize(str(tmp_path / "nothing"))
    save_state(str(tmp_path / "young"), make_state())
    with pytest.raises(ConfigError, match="no table of items yet"):
        summarize(str(tmp_path / "young"))
    table = Path(join(output, "items", "items.parquet"))
    table.write_bytes(table.read_bytes()[:-9])
    with pytest.raises(OutputError, match=r"items\.parquet"):
        summarize(output)


@pytest.mark.parametrize("time", [None, dt.datetime(1970, 1, 1, tzinfo=dt.UTC)])
def test_an_output_without_times_is_summed_up_as_a_whole_alone(
    tmp_path: Path, time: dt.datetime | None
) -> None:
    photos = [Photo(source_id="a", mask=blot(), item={"recorded_at": time})]
    output = make_photo_output(tmp_path / "old", photos)
    with pytest.raises(ConfigError, match="--since all"):
        summarize(output)
    assert summarize(output, since="all").total.images == 1


def test_an_output_without_images_has_nothing_to_tell(tmp_path: Path) -> None:
    output = make_photo_output(tmp_path / "empty", [])
    assert "nothing recorded yet" in summary_lines(summarize(output))[0]


def test_what_was_not_inspected_is_counted_and_named(tmp_path: Path) -> None:
    why = "any: 10 % of the image has data, min_valid is 100 %"
    unseen = {"verdict": "REVIEW", "rule": "min_valid", "review_reason": why}
    photos = [Photo(source_id=f"{n}.png", mask=blot(0), item=unseen) for n in range(30)]
    # Of the larger of two regions the rule asked nothing.
    hit = {"rule_px": 5, "rule_class": "hole"}
    photos += [Photo(source_id="small.png", mask=blot(9), item=hit), Photo(source_id="x.png", mask=blot(2))]
    found = summarize(make_photo_output(tmp_path / "out", photos), now=NOW)
    assert (found.total.review, found.total.uninspected) == (30, 30)
    assert len(found.uninspected) == 20 and found.uninspected[0] == ("0.png", why)
    assert [(s.source_id, s.rule_px, s.rule_class) for s in found.worst[:2]] == [
        ("x.png", 10, "crack"),
        ("small.png", 5, "hole"),
    ]
    lines = summary_lines(found)
    assert "  2 FAIL, 30 REVIEW (30 by min_valid), 0 PASS" in lines
    assert any(line.startswith("too little data in 30, first 20") for line in lines)
    assert any(line.endswith(why) for line in lines)
    assert json.loads("\n".join(as_json(found)))["uninspected"][0] == ["0.png", why]

"""`batchseg summary` of photographs: what was found lately, as people at the line ask for it in the morning.

`scene_summary` is that of scenes. The summary.json of a run is another one: `driver/report` writes it.
"""

import datetime as dt
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from batchseg.errors import ConfigError
from batchseg.output.layout import items_file
from batchseg.output.lock import holder
from batchseg.output.state import load_state
from batchseg.regions.inspected import CHECK_VALUES, MIN_VALID
from batchseg.tools.since import SINCE, local_time, start_of
from batchseg.tools.tables import CLASS, FAILURES, Items, column_of, is_done, nulls, open_items

FOLDER = "folder"
"""What images are counted by where the manifest says no `line`: the first folder of their id."""

LISTED = 20
"""Images in the list of the worst, and in that of those without a result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageCounts:
    """Images by what became of them."""

    name: str
    """Of the line, say."""
    images: int
    fail: int
    review: int
    uninspected: int
    """Of the REVIEWs, those that are none but for how little of them has data."""
    unlike: int = 0
    """Of the REVIEWs, those that are none but for their values."""
    passed: int
    unjudged: int
    """Done without rules."""
    quarantined: int
    failed: int
    """For a passing reason; not a verdict."""

    @property
    def fail_share(self) -> float | None:
        """Of the images with a verdict, 0..1; None where there are none."""
        judged = self.fail + self.review + self.passed
        return self.fail / judged if judged else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassCounts:
    """What was found of one class."""

    name: str
    images: int
    """That have a region of it; where the output holds no regions, that have a pixel of it."""
    regions: int
    pixels: int
    area_m2: float | None
    """None without a pixel size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """An image that somebody should look at."""

    source_id: str
    uri: str
    tag: str
    verdict: str
    rule: str
    reason: str
    """How little of it was inspected, where that decided; else empty."""
    rule_class: str
    """Of the largest region that the rule hit; where none did, or the output does not say, of all."""
    rule_px: int
    """Its pixels, as the rule measures them."""
    largest_class: str
    largest_px: int
    region_count: int
    confidence: float | None
    """The highest mean confidence of its regions, 0..1; None without scores."""
    attributes: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """An image without a result."""

    source_id: str
    status: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What an output says of the images that were recorded since some time."""

    output: str
    since: dt.datetime | None
    """UTC; None: everything."""
    last: dt.datetime | None
    """UTC: when the last of all images was recorded; None where the table does not say."""
    running: str | None
    """Who works on the output now: what that run does is counted when it ends."""
    total: ImageCounts
    by: str
    """The attribute that `groups` are values of, or `folder`."""
    groups: tuple[ImageCounts, ...]
    """The most FAILs first, then the most REVIEWs, then by name."""
    classes: tuple[ClassCounts, ...]
    """By class id; without class 0 unless it makes regions."""
    worst: tuple[Suspect, ...]
    """FAIL before REVIEW, then by the largest region that the rule hit; without rules all that have a region,
    the largest first."""
    uninspected: tuple[tuple[str, str], ...]
    """(source id, reason) of the first LISTED of which too little has data to pass."""
    unlike: tuple[tuple[str, str], ...] = ()
    """The same of those whose values may be of another unit."""
    unread: tuple[Unread, ...]
    """The first LISTED of those that were quarantined or failed."""
    broken_rows: tuple[str, ...] = ()
    """Rows of lists that the last run left out because they are broken, in lines."""

    @property
    def table(self) -> str:
        """Where all images are listed."""
        return str(items_file(self.output))


def summarize(
    output: str,
    *,
    since: str | None = None,
    by: str | None = None,
    worst: int = LISTED,
    now: dt.datetime | None = None,
) -> Summary:
    """Count what an output holds.

    Args:
        output: root of the results.
        since: what is counted, by the time when it was recorded: see `start_of`. None: SINCE.
        by: an attribute of the manifest, or `folder`; None: `line` where there is one, else `folder`.
        worst: images to name.
        now: for `since`; None: the clock's.

    Raises:
        ConfigError: there is nothing to count, or a value is wrong.
        OutputError: the output cannot be read.
    """
    items, state = open_items(output), load_state(output)
    by = _known(by, items)
    start = start_of(since or SINCE, now or dt.datetime.now(dt.UTC), output)
    times = column_of(items.read(["recorded_at"]), "recorded_at")
    last = pc.max(times).as_py()
    if start is not None and len(times) and (last is None or not last.timestamp()):
        msg = f"{output} was made before the time of recording was kept; ask for all with --since all"
        raise ConfigError(msg)
    chosen = _since(items, times, start)
    counts = _counts(chosen, by)
    return Summary(
        output=output,
        since=start,
        last=last,
        running=holder(output),
        total=_added(counts),
        by=by,
        groups=tuple(sorted(counts, key=lambda c: (-c.fail, -c.review, c.name))),
        classes=_class_counts(chosen),
        worst=_worst(chosen, items.attributes, worst),
        uninspected=_reviewed(chosen, MIN_VALID),
        unlike=_reviewed(chosen, CHECK_VALUES),
        unread=_unread(chosen),
        broken_rows=state.broken_rows if state else (),
    )


def _known(by: str | None, items: Items) -> str:
    if by is None:
        return "line" if "line" in items.attributes else FOLDER
    if by != FOLDER and by not in items.attributes:
        known = ", ".join((*items.attributes, FOLDER))
        msg = f"--by {by!r}: the manifest gave no such column; expected one of {known}"
        raise ConfigError(msg)
    return by


_COLUMNS = (
    *("source_id", "uri", "tag", "status", "error", "verdict", "rule", "review_reason"),
    *("rule_px", "rule_class", "region_count", "classes", "largest_px", "largest_class", "confidence"),
)


def _since(items: Items, times: Any, start: dt.datetime | None) -> pa.Table:
    """Rows recorded since then, batch by batch: of a year's table only a night's rows are held."""
    columns = [*_COLUMNS, "recorded_at", *items.attributes]
    tables = [items.read(columns).slice(0, 0)] if not len(times) else []
    for table in items.batches(columns):
        if start is not None:
            table = table.filter(pc.greater_equal(column_of(table, "recorded_at"), pa.scalar(start)))
        tables.append(table)
    return pa.concat_tables(tables)


def _states(table: pa.Table) -> Any:
    """The verdict of what is done, or that nobody saw enough for one; else the status."""
    verdict: Any = pc.fill_null(column_of(table, "verdict"), "")
    unjudged = pc.if_else(pc.equal(verdict, pa.scalar("")), "unjudged", verdict)
    for state, rule in (("uninspected", MIN_VALID), ("unlike", CHECK_VALUES)):
        unjudged = pc.if_else(_decided(table, rule), state, unjudged)
    return pc.if_else(is_done(table), unjudged, column_of(table, "status"))


def _keys(table: pa.Table, by: str) -> Any:
    if by != FOLDER or FOLDER in table.column_names:
        return pc.fill_null(column_of(table, by), "")
    ids = column_of(table, "source_id")
    return pc.if_else(pc.match_substring(ids, "/"), pc.replace_substring_regex(ids, r"(?s)/.*", ""), "")


def _counts(table: pa.Table, by: str) -> list[ImageCounts]:
    pairs = pa.table({"key": _keys(table, by), "state": _states(table)})
    grouped: dict[str, dict[str, int]] = {}
    for row in pairs.group_by(["key", "state"]).aggregate([([], "count_all")]).to_pylist():
        grouped.setdefault(row["key"], {})[row["state"]] = row["count_all"]
    return [
        ImageCounts(
            name=name,
            images=sum(states.values()),
            fail=states.get("FAIL", 0),
            review=sum(states.get(name, 0) for name in ("REVIEW", "uninspected", "unlike")),
            uninspected=states.get("uninspected", 0),
            unlike=states.get("unlike", 0),
            passed=states.get("PASS", 0),
            unjudged=states.get("unjudged", 0),
            quarantined=states.get("quarantined", 0),
            failed=states.get("failed", 0),
        )
        for name, states in grouped.items()
    ]


def _added(counts: list[ImageCounts]) -> ImageCounts:
    numbers = (
        "images",
        "fail",
        "review",
        "uninspected",
        "unlike",
        "passed",
        "unjudged",
        "quarantined",
        "failed",
    )
    return ImageCounts(name="", **{number: sum(getattr(c, number) for c in counts) for number in numbers})


def _class_counts(table: pa.Table) -> tuple[ClassCounts, ...]:
    found = pc.list_flatten(column_of(table, "classes"))
    rows = pa.table({name: _of_struct(found, name) for name in ("class_id", "class_name", "pixels")})
    regions: Any = pc.fill_null(_of_struct(found, "regions"), 0)
    rows = rows.append_column("regions", regions).append_column("area_m2", _of_struct(found, "area_m2"))
    with_regions = rows.filter(pc.greater(column_of(rows, "regions"), pa.scalar(0)))
    rows = (
        with_regions
        if len(with_regions)
        else rows.filter(pc.not_equal(column_of(rows, "class_id"), pa.scalar(0)))
    )
    sums = rows.group_by(["class_id"]).aggregate(
        [("class_name", "max"), ([], "count_all"), ("regions", "sum"), ("pixels", "sum"), ("area_m2", "sum")]
    )
    return tuple(
        ClassCounts(
            name=row["class_name_max"] or f"class {row['class_id']}",
            images=row["count_all"],
            regions=row["regions_sum"],
            pixels=row["pixels_sum"],
            area_m2=row["area_m2_sum"],
        )
        for row in sums.sort_by("class_id").to_pylist()
    )


def _of_struct(found: Any, name: str) -> Any:
    there = found.type.get_field_index(name) >= 0
    return pc.struct_field(found, name) if there else pa.chunked_array([nulls(len(found), CLASS[name])])


def _worst(table: pa.Table, attributes: tuple[str, ...], count: int) -> tuple[Suspect, ...]:
    rank: Any = pc.index_in(column_of(table, "verdict"), value_set=pa.array(FAILURES))
    judged = pc.any(pc.not_equal(pc.fill_null(column_of(table, "verdict"), ""), pa.scalar(""))).as_py()
    largest: Any = pc.fill_null(column_of(table, "largest_px"), 0)
    suspects = pc.is_valid(rank) if judged else pc.greater(largest, pa.scalar(0))
    # An output of before it was known which region a rule hit has the largest of all.
    seen = pc.is_null(column_of(table, "review_reason"))
    px = pc.coalesce(column_of(table, "rule_px"), pc.if_else(seen, largest, 0))
    ranked = table.append_column("rank", pc.fill_null(rank, 0)).append_column("px", px)
    order: Any = [("rank", "ascending"), ("px", "descending"), ("source_id", "ascending")]
    chosen = ranked.filter(suspects)
    rows = chosen.take(pc.sort_indices(chosen, order)[:count]).to_pylist()
    return tuple(
        Suspect(
            source_id=row["source_id"],
            uri=row["uri"] or "",
            tag=row["tag"] or "",
            verdict=row["verdict"] or "",
            rule=row["rule"] or "",
            reason=row["review_reason"] or "",
            rule_class=(row["largest_class"] if row["rule_px"] is None else row["rule_class"]) or "",
            rule_px=row["px"],
            largest_class=row["largest_class"] or "",
            largest_px=row["largest_px"] or 0,
            region_count=row["region_count"] or 0,
            confidence=row["confidence"] or None,
            attributes={name: row[name] for name in attributes if row[name]},
        )
        for row in rows
    )


def _decided(table: pa.Table, rule: str) -> Any:
    """Where one of the names decided that stand in place of a rule's: they give a reason."""
    named: Any = pc.fill_null(pc.equal(column_of(table, "rule"), pa.scalar(rule)), False)
    return pc.and_(pc.is_valid(column_of(table, "review_reason")), named)


def _reviewed(table: pa.Table, rule: str) -> tuple[tuple[str, str], ...]:
    rows = table.filter(_decided(table, rule)).slice(0, LISTED)
    return tuple((row["source_id"], row["review_reason"]) for row in rows.to_pylist())


def _unread(table: pa.Table) -> tuple[Unread, ...]:
    rows = table.filter(pc.invert(is_done(table))).slice(0, LISTED)
    columns = ("source_id", "status", "error")
    found = rows.select(columns).to_pylist()
    return tuple(Unread(**{name: row[name] or "" for name in columns}) for row in found)


def describe_counts(total: ImageCounts) -> str:
    """
    Such as `1 FAIL, 0 REVIEW, 1 PASS, 1 quarantined`.
    """
    by = [(total.uninspected, MIN_VALID), (total.unlike, CHECK_VALUES)]
    words = ", ".join(f"{count:,} by {rule}" for count, rule in by if count)
    review = "REVIEW" + (f" ({words})" if words else "")
    verdicts = {"FAIL": total.fail, review: total.review, "PASS": total.passed}
    others = {
        "without a verdict": total.unjudged,
        "quarantined": total.quarantined,
        "failed": total.failed,
    }
    shown = [
        *(verdicts.items() if total.fail_share is not None else ()),
        *((k, v) for k, v in others.items() if v),
    ]
    return ", ".join(f"{count:,} {name}" for name, count in shown)


def describe_period(summary: Summary) -> str:
    """
    How many images, of which time, in local time.
    """
    images = f"{summary.total.images:,} image{'s' * (summary.total.images != 1)}"
    if summary.since is None:
        return f"{images} in all"
    return f"{images} recorded since {local_time(summary.since)}"

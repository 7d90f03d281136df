"""`batchseg summary` of scenes: how much was segmented, what of, and what was refused and why.

All of it is the ledger's, so it counts while a run goes on; regions by class are counted in their tables.
"""

import datetime as dt
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from batchseg.errors import ConfigError
from batchseg.output.items import items_of
from batchseg.output.ledger import Ledger
from batchseg.output.lock import holder
from batchseg.output.record import SourceRecord, sources_of
from batchseg.output.region_parts import read_part, read_rows
from batchseg.output.state import OutputState, require_results
from batchseg.tools.since import SINCE, start_of
from batchseg.tools.summary import LISTED, Unread
from batchseg.tools.tables import class_name, column_of, is_done, recorded_parts

_COUNTS: dict[str, pa.DataType] = {"source_id": pa.string(), "class_id": pa.int32(), "count_all": pa.int64()}
_REGIONS = pa.schema(_COUNTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneClass:
    """What was found of one class, class 0 too."""

    class_id: int
    name: str
    scenes: int
    """That have a pixel of it."""
    regions: int
    pixels: int
    share: float
    """Of the valid pixels of all scenes, 0..1."""
    area_m2: float | None
    """Of the scenes that have a place; None where none has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneRow:
    """One scene that is done."""

    source_id: str
    pixels: int
    nodata_share: float
    """Of all its pixels, 0..1."""
    bad_share: float
    """Of all its pixels, 0..1: in blocks that cannot be decoded; part of `nodata_share`."""
    regions: int
    largest_class: str
    """The class with the most pixels; empty where none is valid."""
    largest_share: float
    """Of its valid pixels, 0..1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneSummary:
    """What an output says of the scenes that were recorded since some time."""

    output: str
    since: dt.datetime | None
    """UTC; None: everything."""
    last: dt.datetime | None
    """UTC: when the last of all scenes was recorded; None where the ledger does not say."""
    running: str | None
    """Who works on the output now."""
    without_time: int
    """Scenes that an earlier version recorded, without the time: counted where `since` is None alone."""
    done: int
    quarantined: int
    failed: int
    """For a passing reason."""
    gone: int
    """Of those that are done: no more among the inputs at the last run, and kept until `prune`."""
    begun: int
    """With some of their pixels recorded, whenever that was."""
    pixels: int
    """Of the scenes that are done."""
    valid_pixels: int
    bad_pixels: int
    """Nodata because their blocks cannot be decoded."""
    regions: int
    placed: int
    """Scenes done that have areas in m2."""
    area_m2: float | None
    """Of their valid pixels; None where no scene has a place."""
    classes: tuple[SceneClass, ...]
    """By class id."""
    scenes: tuple[SceneRow, ...]
    """The largest share of nodata first."""
    unread: tuple[Unread, ...]
    """The first of those that were quarantined or failed."""
    broken_rows: tuple[str, ...] = ()
    """Rows of lists that the last run left out because they are broken, in lines."""


def is_of_scenes(output: str) -> bool:
    """Whether an output is known to be of scenes. Raises as `summarize_scenes` does."""
    state = require_results(output)
    return state is not None and not state.of_photographs


def summarize_scenes(
    output: str, *, since: str | None = None, scenes: int = LISTED, now: dt.datetime | None = None
) -> SceneSummary:
    """Count what an output of scenes holds.

    Args:
        output: root of the results.
        since: what is counted, by the time when it was recorded: see `since.start_of`. None: SINCE, or
            everything where no scene's time was recorded.
        scenes: to name, of those that are done and of those that are not.
        now: for `since`; None: the clock's.

    Raises:
        ConfigError: there is nothing to count, or a value is wrong.
        OutputError: the output cannot be read.
    """
    state = require_results(output)
    if state is None:
        msg = f"the first run to {output} has recorded nothing yet; run its job again"
        raise ConfigError(msg)
    start = start_of(since or SINCE, now or dt.datetime.now(dt.UTC), output)
    ledger = Ledger(output)
    table = ledger.table()
    times = column_of(table, "recorded")
    last = pc.max(times).as_py() or 0
    if start is not None and len(table) and not last:
        if since is not None:
            msg = f"{output} was made before the time of recording was kept; ask for all with --since all"
            raise ConfigError(msg)
        start = None
    if start is not None:
        table = table.filter(pc.greater_equal(times, pa.scalar(int(start.timestamp()), pa.int64())))
    is_failed = pc.equal(column_of(table, "status"), pa.scalar("failed"))
    done, undone = table.filter(is_done(table)), table.filter(pc.invert(is_done(table)))
    sizes = pc.multiply(column_of(done, "height").cast(pa.int64()), column_of(done, "width"))
    areas = pc.list_flatten(column_of(done, "class_area_m2"))
    regions = _regions(output, done)
    return SceneSummary(
        output=output,
        since=start,
        last=dt.datetime.fromtimestamp(last, dt.UTC) if last else None,
        running=holder(output),
        without_time=_sum(pc.equal(times, pa.scalar(0, pa.int64()))),
        done=len(done),
        quarantined=len(undone) - _sum(is_failed),
        failed=_sum(is_failed),
        broken_rows=state.broken_rows,
        gone=_sum(pc.is_in(column_of(done, "source_id"), value_set=pa.array(state.vanished, pa.string()))),
        begun=len(ledger.unfinished()),
        pixels=_sum(sizes),
        valid_pixels=_sum(column_of(done, "valid_pixels")),
        bad_pixels=_sum(column_of(done, "bad_pixels")),
        regions=_sum(column_of(regions, "count_all")),
        placed=_sum(pc.greater(pc.list_value_length(column_of(done, "class_area_m2")), pa.scalar(0))),
        area_m2=pc.sum(areas).as_py(),
        classes=_classes(done, _totals(regions, "class_id"), state),
        scenes=_emptiest(done, sizes, _totals(regions, "source_id"), state, scenes),
        unread=_unread(undone.slice(0, scenes)),
    )


def _unread(table: pa.Table) -> tuple[Unread, ...]:
    return tuple(
        Unread(source_id=record.source_id, status=record.status, error=record.error)
        for record in sources_of(table)
    )


def _sum(values: Any) -> int:
    return pc.sum(values).as_py() or 0


def _regions(output: str, done: pa.Table) -> pa.Table:
    """How many regions of which class each of these scenes has; those that were cut into rows count once."""
    found = [_REGIONS.empty_table()]
    chosen = column_of(done, "source_id").combine_chunks()
    parts = recorded_parts(output)
    for number, path in enumerate(parts.paths):
        members = parts.members(number)
        members = members.filter(pc.is_in(members, value_set=chosen))
        if not len(members):
            continue
        rows = read_rows(read_part(output, path), path, ["source_id", "class_id", "region_id"])
        rows = rows.filter(pc.is_in(rows.column("source_id"), value_set=members))
        each = rows.group_by(["source_id", "class_id", "region_id"]).aggregate([])
        counts = each.group_by(["source_id", "class_id"]).aggregate([([], "count_all")])
        found.append(counts.select(_REGIONS.names).cast(_REGIONS))
    return pa.concat_tables(found)


def _totals(regions: pa.Table, key: str) -> dict[Any, int]:
    sums = regions.group_by([key]).aggregate([("count_all", "sum")])
    return {row[key]: row["count_all_sum"] for row in sums.to_pylist()}


def _classes(done: pa.Table, regions: dict[int, int], state: OutputState) -> tuple[SceneClass, ...]:
    found = pc.list_flatten(column_of(items_of(done, (), (), photographs=False), "classes"))
    columns = {name: pc.struct_field(found, name) for name in ("class_id", "pixels", "area_m2")}
    sums = pa.table(columns).group_by(["class_id"])
    rows = sums.aggregate([([], "count_all"), ("pixels", "sum"), ("area_m2", "sum")]).sort_by("class_id")
    valid = max(_sum(columns["pixels"]), 1)
    return tuple(
        SceneClass(
            class_id=row["class_id"],
            name=class_name(state, row["class_id"]),
            scenes=row["count_all"],
            regions=regions.get(row["class_id"], 0),
            pixels=row["pixels_sum"],
            share=row["pixels_sum"] / valid,
            area_m2=row["area_m2_sum"],
        )
        for row in rows.to_pylist()
    )


def _emptiest(
    done: pa.Table, sizes: Any, regions: dict[str, int], state: OutputState, count: int
) -> tuple[SceneRow, ...]:
    shares: Any = pc.divide(column_of(done, "valid_pixels").cast(pa.float64()), sizes)
    keys = pa.table({"share": shares, "source_id": done.column("source_id")})
    order: Any = [("share", "ascending"), ("source_id", "ascending")]
    first = sources_of(done.take(pc.sort_indices(keys, order)[:count]))
    return tuple(_row(record, regions.get(record.source_id, 0), state) for record in first)


def _row(record: SourceRecord, regions: int, state: OutputState) -> SceneRow:
    size = max(record.height * record.width, 1)
    pixels, class_id = max(zip(record.class_pixels, record.class_ids, strict=True), default=(0, None))
    return SceneRow(
        source_id=record.source_id,
        pixels=record.height * record.width,
        nodata_share=1 - record.valid_pixels / size,
        bad_share=getattr(record, "bad_pixels", 0) / size,
        regions=regions,
        largest_class="" if class_id is None else class_name(state, class_id),
        largest_share=pixels / max(record.valid_pixels, 1),
    )

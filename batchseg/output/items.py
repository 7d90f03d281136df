"""The table of items: one row per source, made from the ledger's columns.

It is written at a run's end as a whole, so that each living source is there once, by construction.
"""

import io
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
import pyarrow.parquet as pq

from batchseg.output import layout, publish
from batchseg.output.columns import GROUP_ROWS, Column, first_output
from batchseg.output.record import Record, to_table

_CLASS: dict[str, pa.DataType] = {
    "class_id": pa.int32(),
    "class_name": pa.string(),
    "pixels": pa.int64(),
    "area_m2": pa.float64(),  # null without a CRS, and for photographs without `pixel_size`
}
_COLUMNS: dict[str, pa.DataType] = {
    "source_id": pa.string(),
    "uri": pa.string(),
    "status": pa.string(),  # done, quarantined or failed
    "error": pa.string(),  # null when done
    "mask": pa.string(),  # path below the output; null unless done, and where a photograph's is not kept
    "height": pa.int32(),
    "width": pa.int32(),
    "valid_share": pa.float64(),  # of all pixels, 0..1; null unless done
    "bad_pixels": pa.int64(),  # nodata because their blocks cannot be decoded; null unless done
    "classes": pa.list_(pa.struct(list(_CLASS.items()))),
    "tag": pa.string(),
    "gone": pa.bool_(),  # the last run did not find it any more; kept until `prune`
}
_PHOTOGRAPH: dict[str, pa.DataType] = {
    "verdict": pa.string(),  # PASS, FAIL or REVIEW; null without rules
    "rule": pa.string(),  # that decided, or `min_valid` or `check_values`; null for a PASS
    "review_reason": pa.string(),  # why, where one of these two decided; else null
    "rule_px": pa.int64(),  # pixels of the largest region that the rule hit, as it measures; null without
    "rule_class": pa.string(),  # its class's name
    "region_count": pa.int64(),  # null unless done
    "largest_px": pa.int64(),  # pixels of the largest region; null unless done
    "largest_class": pa.string(),  # its class's name; null without regions
    "confidence": pa.float32(),  # the highest mean one of a region, 0..1; null without regions or scores
    "same_as": pa.string(),  # id of the photograph whose results were copied; else null
    "content": pa.string(),  # digest of the file's bytes; null without `same_content`
    "recorded_at": pa.timestamp("ms", tz="UTC"),  # when this row was committed
}
SCHEMA = pa.schema(_COLUMNS)

_REGIONS: dict[str, pa.DataType] = {**_CLASS, "regions": pa.int64()}  # regions of the class
PHOTOGRAPHS = pa.schema({**_COLUMNS, "classes": pa.list_(pa.struct(list(_REGIONS.items()))), **_PHOTOGRAPH})
"""Of photographs. One text column per key of their attributes follows; a key that is the name of one of
these columns gets an underscore at its end."""


def write_items(
    output: str,
    rows: pa.Table | Iterable[Record],
    class_names: tuple[str, ...],
    gone: Collection[str] = (),
    *,
    photographs: bool = False,
) -> None:
    """Replace the table by the ledger's present state.

    Args:
        output: root of the results.
        rows: the latest of each source, sorted by id: `Ledger.table()`, or records.
        class_names: by class id.
        gone: ids of sources that the inputs no longer hold.
        photographs: write PHOTOGRAPHS even if no row shows that it is of one.

    Raises:
        OutputError: it cannot be written.
    """
    table = rows if isinstance(rows, pa.Table) else to_table(rows)
    items = items_of(table, class_names, gone, photographs=photographs or _of_photographs(table))
    sink = io.BytesIO()
    pq.write_table(items, sink, compression="zstd", row_group_size=GROUP_ROWS)
    publish.publish(layout.items_file(output), sink.getvalue())


def items_of(
    table: pa.Table, class_names: tuple[str, ...], gone: Collection[str], *, photographs: bool
) -> pa.Table:
    """Rows of SCHEMA, or of PHOTOGRAPHS and attributes, in the order of the ledger's rows."""
    done = pc.equal(table.column("status"), pa.scalar("done"))
    columns: dict[str, Any] = {name: table.column(name) for name in ("source_id", "uri", "status", "tag")}
    columns["error"] = _or_null(table.column("error"))
    columns["mask"] = first_output(table, layout.MASKS)
    for side in ("height", "width"):
        columns[side] = _only(pc.not_equal(table.column(side), pa.scalar(0)), table.column(side))
    size = pc.multiply(table.column("height").cast(pa.float64()), table.column("width"))
    columns["valid_share"] = _only(done, pc.divide(table.column("valid_pixels").cast(pa.float64()), size))
    columns["bad_pixels"] = _only(done, table.column("bad_pixels"))
    columns["classes"] = _classes(table, class_names, with_regions=photographs)
    columns["gone"] = pc.is_in(table.column("source_id"), value_set=pa.array(list(gone), pa.string()))
    numbers = _numbers_of(table)
    if not photographs:
        return _with_columns(_assembled(columns, SCHEMA), numbers)
    for name in ("verdict", "rule", "review_reason", "same_as", "content"):
        columns[name] = _or_null(table.column(name))
    for name in ("region_count", "largest_px"):
        columns[name] = _only(done, table.column(name))
    hit = pc.greater(table.column("rule_px"), pa.scalar(0))
    columns["rule_px"] = _only(hit, table.column("rule_px"))
    columns["rule_class"] = _names(class_names, table.column("rule_class"))
    sure = table.column("confidence")
    columns["confidence"] = _only(pc.and_(done, pc.greater(sure, pa.scalar(0, sure.type))), sure)
    when = table.column("recorded").cast(pa.timestamp("s", "UTC")).cast(pa.timestamp("ms", "UTC"))
    columns["recorded_at"] = _only(pc.not_equal(table.column("recorded"), pa.scalar(0)), when)
    columns["largest_class"] = _names(class_names, table.column("largest_class"))
    items = _with_columns(_assembled(columns, PHOTOGRAPHS), numbers)
    return _with_columns(items, attribute_columns(table.column("attributes"), set(items.column_names)))


def _with_columns(items: pa.Table, columns: dict[str, Any]) -> pa.Table:
    for name, values in columns.items():
        items = items.append_column(name, values)
    return items


def _numbers_of(table: pa.Table) -> dict[str, Any]:
    """What is known of the network's numbers; nothing where no source has any.

    values: path of the raster, null where it is not kept. value_min, value_mean, value_max: of all pixels.
    clipped_pixels: at an end of what uint16 holds.
    """
    spread: Any = table.column("value_spread").combine_chunks()
    known = np.asarray(spread.value_lengths().fill_null(0)) > 0
    if not known.any():
        return {}
    ends = np.cumsum(known) * 3
    found: dict[str, Any] = {"values": first_output(table, layout.VALUES).cast(pa.string())}
    for number, name in enumerate(("value_min", "value_mean", "value_max")):
        rows: Any = pa.array(ends - 3 + number, mask=~known)
        found[name] = spread.flatten().take(rows)
    found["clipped_pixels"] = _only(pa.array(known), table.column("clipped_pixels").combine_chunks())
    return found


def attribute_columns(attributes: Column, taken: Collection[str]) -> dict[str, Any]:
    """One text column per key of JSON objects of strings; null where an object does not have the key.

    Args:
        attributes: objects as text, "" for none.
        taken: names that columns must not have; a key of that name gets an underscore.
    """
    is_said: Any = pc.not_equal(attributes, pa.scalar(""))
    said = is_said.to_numpy()
    if not said.any():
        return {}
    lines = "\n".join(attributes.filter(pa.array(said)).to_pylist()).encode()
    keys = _read_lines(lines, None).column_names
    parsed = _read_lines(lines, pa.schema([(key, pa.string()) for key in keys]))
    rows: Any = pa.array(np.cumsum(said) - 1, mask=~said)
    columns, names = {}, set(taken)
    for key in sorted(keys):
        name = key
        while name in names:
            name += "_"
        names.add(name)
        columns[name] = parsed.column(key).take(rows)
    return columns


def _read_lines(lines: bytes, schema: pa.Schema | None) -> pa.Table:
    """Without a schema texts that look like times become times; their names are what is wanted then."""
    options = pyarrow.json.ParseOptions(explicit_schema=schema)
    return pyarrow.json.read_json(io.BytesIO(lines), parse_options=options)


def _of_photographs(table: pa.Table) -> bool:
    regions = pc.list_value_length(table.column("class_regions"))
    said = [pc.not_equal(table.column(name), pa.scalar("")) for name in ("verdict", "attributes")]
    return any(pc.any(column).as_py() for column in (pc.greater(regions, pa.scalar(0)), *said))


def _assembled(columns: dict[str, Any], schema: pa.Schema) -> pa.Table:
    arrays = [columns[field.name].cast(field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def _only(where: Any, values: Any) -> Any:
    """Null where not."""
    return pc.if_else(where, values, pa.scalar(None, values.type))


def _or_null(texts: Any) -> Any:
    texts = texts.cast(pa.string())
    return _only(pc.not_equal(texts, pa.scalar("")), texts)


def _names(class_names: tuple[str, ...], ids: Any) -> Any:
    ids = ids.to_numpy()
    unknown = (ids < 0) | (ids >= len(class_names))
    rows: Any = pa.array(np.where(unknown, 0, ids), mask=unknown)
    return pa.array(class_names, pa.string()).take(rows)


def _classes(table: pa.Table, class_names: tuple[str, ...], *, with_regions: bool) -> Any:
    """Lists of structs, from lists side by side; those of areas and regions may be empty instead."""
    lists: Any = table.column("class_ids").combine_chunks()
    counts = pc.list_value_length(lists).to_numpy()
    ids = lists.flatten()
    pixels: Any = table.column("class_pixels").combine_chunks()
    fields = {
        "class_id": ids,
        "class_name": _names(class_names, ids),
        "pixels": pixels.flatten(),
        "area_m2": _spread(table.column("class_area_m2"), counts),
    }
    if with_regions:
        fields["regions"] = _spread(table.column("class_regions"), counts)
    kinds = _REGIONS if with_regions else _CLASS
    structs = pa.StructArray.from_arrays(
        list(fields.values()), fields=[pa.field(*kind) for kind in kinds.items()]
    )
    offsets: Any = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
    return pa.ListArray.from_arrays(offsets, structs)


def _spread(column: Column, counts: Any) -> Any:
    """Values of lists, with nulls where a list is empty instead of having `counts` values."""
    lists: Any = column.combine_chunks()
    there = np.repeat(pc.list_value_length(lists).to_numpy() > 0, counts)
    rows: Any = pa.array(np.cumsum(there) - 1, mask=~there)
    return lists.flatten().take(rows)

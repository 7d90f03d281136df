"""What an output of photographs holds, read for people: items by column, regions of chosen images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from batchseg.errors import ConfigError, OutputError
from batchseg.models.package import PALETTE
from batchseg.output import layout
from batchseg.output.columns import first_output, open_parquet
from batchseg.output.items import PHOTOGRAPHS
from batchseg.output.ledger import Ledger
from batchseg.output.region_parts import read_part, read_rows
from batchseg.output.state import OutputState, require_results
from batchseg.regions.rows import PHOTO_COLUMNS

CLASS: dict[str, pa.DataType] = {
    "class_id": pa.int32(),
    "class_name": pa.string(),
    "pixels": pa.int64(),
    "area_m2": pa.float64(),
    "regions": pa.int64(),
}
"""Of an item's `classes`; where regions are none, what the mask holds."""

ITEM_COLUMNS: dict[str, pa.DataType] = {
    "source_id": pa.string(),
    "uri": pa.string(),
    "status": pa.string(),
    "error": pa.string(),
    "height": pa.int32(),
    "width": pa.int32(),
    "verdict": pa.string(),
    "rule": pa.string(),
    "review_reason": pa.string(),
    "rule_px": pa.int64(),
    "rule_class": pa.string(),
    "region_count": pa.int64(),
    "classes": pa.list_(pa.struct(list(CLASS.items()))),
    "largest_px": pa.int64(),
    "largest_class": pa.string(),
    "confidence": pa.float32(),
    "same_as": pa.string(),
    "content": pa.string(),
    "tag": pa.string(),
    "gone": pa.bool_(),
    "recorded_at": pa.timestamp("ms", tz="UTC"),
}
"""Columns of the items table that are read here; one that an older output lacks is read as null."""

FAILURES = ("FAIL", "REVIEW")
"""Verdicts of images that somebody should look at, the worse first."""

BATCH_ROWS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """The items table of an output."""

    output: str
    state: OutputState
    file: pq.ParquetFile
    attributes: tuple[str, ...]
    """Columns that came from a manifest: strings, in the table's order."""

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Whole columns, of the types of ITEM_COLUMNS; attributes are strings."""
        there = [name for name in columns if name in self.file.schema_arrow.names]
        return _filled(self.file.read(columns=there), columns)

    def batches(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """The same, a few thousand rows at a time."""
        there = [name for name in columns if name in self.file.schema_arrow.names]
        for batch in self.file.iter_batches(BATCH_ROWS, columns=there):
            yield _filled(pa.Table.from_batches([batch]), columns)


def open_items(output: str) -> Items:
    """The items table of an output.

    Raises:
        ConfigError: there are no results, or no run has come to where it writes the table.
        OutputError: it cannot be read.
    """
    state = require_results(output)
    place = layout.items_file(output)
    try:
        file = open_parquet(place)
    except FileNotFoundError as e:
        msg = f"{output} has no table of items yet: it is written when a run ends; see `batchseg status`"
        raise ConfigError(msg) from e
    except (OSError, pa.ArrowException) as e:
        msg = f"cannot read {place}: {e}"
        raise OutputError(msg) from e
    if state is None:
        msg = f"the first run to {output} has recorded nothing yet; run its job again"
        raise ConfigError(msg)
    if strange := [n for n in ("source_id", "status") if not _is_text(file.schema_arrow, n)]:
        msg = f"{place} is no table of items: its column {strange[0]} is missing or no text"
        raise OutputError(msg)
    known = {*PHOTOGRAPHS.names}
    fields = (field for field in file.schema_arrow if field.name not in known)
    attributes = tuple(field.name for field in fields if pa.types.is_string(field.type))
    return Items(output=output, state=state, file=file, attributes=attributes)


def _is_text(schema: pa.Schema, name: str) -> bool:
    return name in schema.names and pa.types.is_string(schema.field(name).type)


def _filled(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    arrays = []
    for name in columns:
        kind = ITEM_COLUMNS.get(name, pa.string())
        if name == "classes":  # structs are read by field, as they are: older ones lack some
            kind = table.schema.field(name).type if name in table.schema.names else kind
        there = name in table.schema.names
        arrays.append(table.column(name).cast(kind) if there else nulls(len(table), kind))
    return pa.Table.from_arrays(arrays, names=list(columns))


def nulls(length: int, kind: Any) -> Any:
    """Untyped: see `column_of`."""
    return pa.nulls(length, kind)


def column_of(table: pa.Table, name: str) -> Any:
    """Untyped, because pyarrow's stubs do not follow a column through its compute functions."""
    return table.column(name)


def is_done(table: pa.Table) -> Any:
    """Of each item, whether it has a result."""
    return pc.equal(column_of(table, "status"), pa.scalar("done"))


def class_color(state: OutputState, class_id: int) -> str:
    """#rrggbb: what the job says, else the palette's."""
    if 0 <= class_id < len(state.colors):
        return state.colors[class_id]
    return PALETTE[class_id % len(PALETTE)]


def class_name(state: OutputState, class_id: int) -> str:
    return state.classes[class_id] if 0 <= class_id < len(state.classes) else f"class {class_id}"


def is_of_photographs(schema: pa.Schema) -> bool:
    """Whether a region table is one of photographs: pixels, and no GeoParquet."""
    return "box_x" in schema.names


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedParts:
    """Which region table holds the rows of which image, as the ledger has it.

    A table may still hold rows of an image that was done again since, until the end of a run tidies it:
    only the one that the ledger names counts.
    """

    paths: tuple[str, ...]
    """Below the output, sorted."""
    source_ids: pa.StringArray
    """Of all images that have regions, or may have; strings, in the order of the tables."""
    starts: NDArray[np.int64]
    """(paths + 1,) offsets of the tables in `source_ids`."""

    def members(self, number: int) -> pa.StringArray:
        """Ids of the images whose rows are in `paths[number]`."""
        start, stop = self.starts[number : number + 2].tolist()
        return self.source_ids.slice(start, stop - start)


def recorded_parts(output: str) -> RecordedParts:
    """Raises OutputError where the ledger cannot be read."""
    table = Ledger(output).table().select(["source_id", "outputs"])
    found: Any = first_output(table, layout.ANNOTATIONS).dictionary_decode()
    order = pc.sort_indices(found).slice(0, len(found) - found.null_count)  # nulls are last
    parts = found.take(order)
    paths = pc.unique(parts)
    counts = np.bincount(pc.index_in(parts, value_set=paths).to_numpy(), minlength=len(paths))
    return RecordedParts(
        paths=tuple(paths.to_pylist()),
        source_ids=column_of(table, "source_id").combine_chunks().take(order),
        starts=np.concatenate([[0], np.cumsum(counts)]),
    )


def rows_of(output: str, path: str, source_ids: pa.StringArray, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Rows of some images in one table, row group by row group.

    Raises:
        ConfigError: the table is of scenes.
        OutputError: it cannot be read.
    """
    part = read_part(output, path)
    if not is_of_photographs(part.schema_arrow):
        msg = f"{output} holds regions of scenes, not of photographs; export them as .gpkg, say"
        raise ConfigError(msg)
    for number in range(part.num_row_groups):
        rows = read_rows(part, path, columns, group=number)
        yield rows.filter(pc.is_in(rows.column("source_id"), value_set=source_ids))


def regions_of(output: str, source_ids: Sequence[str], columns: Sequence[str]) -> pa.Table:
    """Rows of a few images, wherever they are. Raises as `rows_of` does."""
    wanted = pa.array(source_ids, pa.string())
    parts = recorded_parts(output)
    tables: list[Any] = [pa.schema([PHOTO_COLUMNS.field(name) for name in columns]).empty_table()]
    chosen: Any = pc.is_in(parts.source_ids, value_set=wanted)
    for at in np.flatnonzero(chosen.to_numpy(zero_copy_only=False)).tolist():
        number = int(np.searchsorted(parts.starts, at, side="right")) - 1
        tables += rows_of(output, parts.paths[number], parts.source_ids.slice(at, 1), columns)
    return pa.concat_tables([table.replace_schema_metadata(None) for table in tables])

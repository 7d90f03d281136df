"""The ledger's rows as Arrow columns: what memory holds, its Parquet form, and which rows count.

In memory a column that repeats is a dictionary, and so are the paths and checksums of outputs, which
hundreds of photographs share. A row of a photograph takes about 180 bytes and the bytes of its id, URI,
tag, attributes and of outputs that are its own; 280 to 330 for usual names.
"""

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from batchseg.errors import ConfigError
from batchseg.output.layout import ANNOTATIONS, RESULTS, result_problem
from batchseg.output.parquet_footer import column_chunks
from batchseg.output.parquet_limits import (
    Allowance,
    bytes_of,
    check_size,
    claimed_bytes,
    is_small,
    repeating_texts,
)
from batchseg.output.record import SCHEMA, Output, filled
from batchseg.system import fetch, rooted
from batchseg.system.location import PATH_BYTES, Location, shortened

Column = Any
"""pa.ChunkedArray, which takes the type of its values in the stubs and none at run time."""
Constants = dict[tuple[str, Any], Any]

REPEATING = (
    "kind",
    "status",
    "pixel",
    "product",
    "encoding",
    "cpu_class",
    "grid",
    "verdict",
    "rule",
    "judged",
)
"""Columns of few values: dictionaries in memory, as are the paths and checksums of `outputs`."""

GROUP_ROWS = 2**16
"""Rows written and read at once."""

SHARED_ROWS = 2**13
"""Of the array that stands for a column of one value, again and again; shorter tables have none."""

_DICTIONARY = pa.dictionary(pa.int32(), pa.string())
_SHARED = [f"outputs.list.element.{name}" for name in ("path", "sha256")]
PLAIN_OUTPUT = pa.schema(list(SCHEMA.field("outputs").type.value_type))
"""An output's columns without dictionaries."""

_OUTPUT = pa.struct([("path", _DICTIONARY), ("nbytes", pa.int64()), ("sha256", _DICTIONARY)])


def _held_field(field: Any) -> Any:
    if field.name == "outputs":
        return field.with_type(pa.list_(_OUTPUT))
    return field.with_type(_DICTIONARY) if field.name in REPEATING else field


HELD = pa.schema([_held_field(field) for field in SCHEMA])
"""SCHEMA as it is in memory: `REPEATING` columns and the strings of `outputs` as dictionaries."""

OUTPUTS = pa.schema([("row", pa.int64()), *_OUTPUT])
"""One row per output of a table's rows; `row` is the number of the row that it is of."""


def to_parquet(tables: Iterable[pa.Table], run_id: str, schema: pa.Schema = SCHEMA) -> bytes:
    """Tables one after the other as one file of plain columns, row group by row group.

    The run's id makes equal rows of two runs different bytes: see publish.create.
    """
    sink = io.BytesIO()
    named = schema.with_metadata({"run": run_id})
    options: dict[str, Any] = {"use_dictionary": [*REPEATING, *_SHARED], "store_schema": False}
    options["write_page_checksum"] = True  # a flipped bit may else decode to other values
    with pq.ParquetWriter(sink, named, compression="zstd", **options) as writer:
        for table in tables:
            for start in range(0, len(table), GROUP_ROWS):
                rows = table.slice(start, GROUP_ROWS).select(schema.names)
                writer.write_table(rows.cast(named))
    return sink.getvalue()


def from_parquet(source: bytes | Location, allowance: Allowance | None = None) -> Iterator[pa.Table]:
    """Row groups as HELD. Columns that the file's version did not know have their defaults.

    Args:
        source: the file, or its content.
        allowance: what the tables may take in memory; None: one for this file alone.

    Raises:
        ConfigError: a newer version wrote it, whose columns would be lost.
        OSError: it cannot be read.
        pyarrow.ArrowException: it is damaged, or would become too large.
    """
    opened = io.BytesIO(source) if isinstance(source, bytes) else _opened(source)
    constants: Constants = {}
    with opened as file:
        parquet = _ledger_file(file)
        _check_names(parquet.schema_arrow.names)
        allowance = allowance or Allowance(file.seek(0, io.SEEK_END))
        chunks = [] if is_small(parquet.metadata) else column_chunks(file)
        allowance.check(claimed_bytes(chunks))
        if odd := repeating_texts(chunks, [*REPEATING, *_SHARED]):
            parquet = _ledger_file(file, odd)
        for number in range(parquet.num_row_groups):
            table = parquet.read_row_group(number)
            allowance.take(bytes_of(table, odd))
            known = dict(zip(table.column_names, table.columns, strict=True))
            held = filled(known, len(table), HELD)
            _check_outputs(held)
            yield _thrifty(held, constants)


def _ledger_file(file: Any, more: Sequence[str] = ()) -> pq.ParquetFile:
    """`more`: columns that are read as dictionaries, beside those that always are.

    A file of an earlier version may lack some, and pyarrow refuses names that are not there.
    """
    plain = pq.ParquetFile(file)
    known = {plain.schema.column(number).path for number in range(len(plain.schema))}
    names = [name for name in (*REPEATING, *_SHARED, *more) if name in known]
    file.seek(0)
    return pq.ParquetFile(
        file, metadata=plain.metadata, read_dictionary=names, page_checksum_verification=True
    )


def open_parquet(file: Location) -> pq.ParquetFile:
    """A table of an output, of which a local file gives what is asked for and another storage all.

    Raises:
        OSError: it cannot be read.
        pyarrow.ArrowException: it is damaged, or would become too large.
    """
    opened = _opened(file)
    parquet = pq.ParquetFile(opened)
    check_size(parquet.metadata, opened.seek(0, io.SEEK_END))
    return parquet


def _opened(file: Location) -> Any:
    if not file.is_local:
        return io.BytesIO(fetch.read_bytes(file))
    with rooted.native_path(file) as path:
        return pa.OSFile(path, "rb")


def _check_names(names: Sequence[str]) -> None:
    missing = [name for name in ("status", "source_id", "tag") if name not in names]
    if missing:
        msg = f"it has no column {missing[0]}"
        raise pa.ArrowInvalid(msg)
    strange = [name for name in names if name not in HELD.names]
    if strange:
        msg = (
            f"the ledger has columns that this batchseg does not know ({', '.join(strange)}): a newer "
            f"version wrote it; use that version, or another output"
        )
        raise ConfigError(msg)


def _check_outputs(table: pa.Table) -> None:
    """Recorded paths are removed, replaced and read. Raises ValueError where one is that of no result."""
    outputs = outputs_of(table)
    if not len(outputs):
        return
    paths: Any = outputs.column("path").chunk(0)
    problems: dict[int, str] = {}
    words = paths.dictionary
    odd: Any = pc.invert(pc.match_substring_regex(words, _SOUND))
    odd = pc.or_(odd, pc.greater(pc.binary_length(words), pa.scalar(PATH_BYTES)))
    for number in np.flatnonzero(odd.to_numpy(zero_copy_only=False)).tolist():
        if problem := result_problem(str(words[number])):
            problems[number] = problem
    if found := np.flatnonzero(np.isin(paths.indices.to_numpy(), list(problems))).tolist():
        source = table.column("source_id")[outputs.column("row")[found[0]].as_py()]
        problem = problems[paths.indices[found[0]].as_py()]
        msg = f"the row of {source} names the result {shortened(str(paths[found[0]]))!r}: {problem}"
        raise ValueError(msg)


_SOUND = rf"^({'|'.join(RESULTS)})(/[^/.\x00-\x1f\x7f-\x{{9f}}][^/\x00-\x1f\x7f-\x{{9f}}]*)+$"
"""Nearly all paths, quickly; the others are looked at one by one."""


def latest(tables: list[pa.Table]) -> pa.Table:
    """The last row of each source, sorted by id, without sources whose last row says `removed`.

    Args:
        tables: HELD, in the order in which they were appended. The list is emptied: where nobody else
            holds them, the memory of each column goes as soon as its new one is there.
    """
    table = pa.concat_tables(tables)
    tables.clear()
    ids = table.column("source_id")
    order: Any = pc.sort_indices(ids)  # stable: rows of one source stay in their order
    ordered = ids.take(order)
    is_last = np.ones(len(table), bool)
    if len(table) > 1:
        is_last[:-1] = pc.not_equal(ordered.slice(1), ordered.slice(0, len(table) - 1)).to_numpy()
    removed = pc.equal(table.column("status"), pa.scalar("removed")).to_numpy()
    rows = order.to_numpy()[is_last]
    indices: Any = pa.array(rows[~removed[rows]])
    constants: Constants = {}
    columns = []
    del ids, ordered
    # Column by column, each old one dropped before the next is made: else a million rows are in memory twice.
    for name in HELD.names:
        columns.append(_shared(name, table.column(name).take(indices), constants))
        table = table.drop_columns(name)
    return pa.Table.from_arrays(columns, schema=HELD)


def _thrifty(table: pa.Table, constants: Constants) -> pa.Table:
    columns = [_shared(name, table.column(name), constants) for name in table.column_names]
    return pa.Table.from_arrays(columns, schema=HELD)


def _shared(name: str, column: Column, constants: Constants) -> Column:
    """A column of one value as slices of one array: a photograph uses half of the columns."""
    value = _only_value(column) if len(column) >= SHARED_ROWS else None
    if value is None:
        return column
    if (name, value) not in constants:
        constants[name, value] = column.slice(0, 1).take(np.zeros(SHARED_ROWS, np.int64)).combine_chunks()
    whole = constants[name, value]
    starts = range(0, len(column), SHARED_ROWS)
    chunks = [whole.slice(0, min(SHARED_ROWS, len(column) - start)) for start in starts]
    return pa.chunked_array(chunks, column.type)


def _only_value(column: Column) -> Any:
    """The value that all rows have; None where they differ, or where telling would cost too much."""
    if pa.types.is_list(column.type):
        return None if column.combine_chunks().flatten() else ()
    if pa.types.is_string(column.type):
        return None if pc.any(pc.not_equal(column, pa.scalar(""))).as_py() else ""
    if pa.types.is_dictionary(column.type):
        values = pc.unique(column.cast(pa.string()))
        return values[0].as_py() if len(values) == 1 else None
    limits: Any = pc.min_max(column).as_py()
    return limits["min"] if limits["min"] == limits["max"] else None


def outputs_of(table: pa.Table) -> pa.Table:
    """OUTPUTS of a table's rows, in their order, dictionaries joined."""
    row, batches = 0, []
    chunks: Sequence[Any] = table.column("outputs").chunks
    for chunk in chunks:
        fields = chunk.flatten().flatten()
        rows = pc.add(pc.list_parent_indices(chunk).cast(pa.int64()), row)
        batches.append(pa.RecordBatch.from_arrays([rows, *fields], schema=OUTPUTS))
        row += len(chunk)
    return pa.Table.from_batches(batches, OUTPUTS).unify_dictionaries().combine_chunks()


def is_below(paths: Any, folder: str) -> NDArray[np.bool_]:
    """Whether paths of OUTPUTS start with `folder/`."""
    if not len(paths):
        return np.zeros(0, bool)
    (only,) = paths.chunks
    starts: Any = pc.starts_with(only.dictionary, f"{folder}/")
    found: NDArray[np.bool_] = starts.to_numpy(zero_copy_only=False)[only.indices.to_numpy()]
    return found


def first_output(table: pa.Table, folder: str) -> Any:
    """Path of each row's first output below a folder, a dictionary array; null where it has none."""
    outputs = outputs_of(table)
    codes = np.full(len(table), -1, np.int32)
    found = np.flatnonzero(is_below(outputs.column("path"), folder))[::-1]
    if not len(found):
        return pa.nulls(len(table), _DICTIONARY)
    paths: Any = outputs.column("path").chunk(0)
    # Of equal rows the last assignment stays: the first output, as they come in reverse.
    codes[outputs.column("row").to_numpy()[found]] = paths.indices.to_numpy()[found]
    indices: Any = pa.array(codes, mask=codes < 0)
    return pa.DictionaryArray.from_arrays(indices, paths.dictionary)


def with_part(table: pa.Table, part: Output) -> pa.Table:
    """Rows whose outputs of regions are replaced by one, which comes last."""
    outputs = outputs_of(table)
    kept = outputs.filter(pa.array(~is_below(outputs.column("path"), ANNOTATIONS)))
    own = np.bincount(kept.column("row").to_numpy(), minlength=len(table))
    ends = np.cumsum(own + 1)
    last = np.zeros(int(ends[-1]) if len(ends) else 0, bool)
    last[ends - 1] = True
    where = np.full(len(last), len(kept))
    where[~last] = np.arange(len(kept))
    new = pa.Table.from_pylist([asdict(part)], PLAIN_OUTPUT)
    values = pa.concat_tables([kept.drop_columns("row").cast(PLAIN_OUTPUT), new])
    structs = values.take(pa.array(where)).to_struct_array().combine_chunks()
    lists = pa.ListArray.from_arrays(pa.array(np.concatenate([[0], ends]), pa.int32()), structs)
    at = table.schema.get_field_index("outputs")
    return table.set_column(at, SCHEMA.field("outputs"), lists)


def verdict_counts(table: pa.Table) -> dict[str, int]:
    """How many of those that are done have which verdict; empty where nothing is judged."""
    done = table.filter(pc.equal(table.column("status").cast(pa.string()), pa.scalar("done")))
    counts: Any = pc.value_counts(done.column("verdict").cast(pa.string()))
    return {item["values"]: item["counts"] for item in counts.to_pylist() if item["values"]}

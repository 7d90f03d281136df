"""Manifests of photographs in columns: paths, and what else their rows say, as text."""

import json
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from batchseg.inputs.csv_lists import CsvList
from batchseg.inputs.left_out import LeftOut
from batchseg.inputs.manifest import LONGEST, absolute, ending_of, replaced, unit_of
from batchseg.inputs.manifest_parts import (
    check_cells,
    check_count,
    check_whole,
    parquet_batches,
    plain,
    spoken,
)
from batchseg.inputs.source import Column
from batchseg.inputs.source import compute as pc
from batchseg.inputs.text_lists import OddLines, path_blocks
from batchseg.system import fetch
from batchseg.system.redact import MAY_HOLD_CREDENTIALS, public

NAMES_BYTES = 2**26
"""Of the names that the attributes of some rows repeat."""

_PANDAS_INDEX = "__index_level_"
"""What pandas calls an index that it writes as a column: it says nothing of an image, and changes."""

_MUST_BE_ESCAPED = r'[\x00-\x1f"\\]'
"""In JSON's strings."""


def read_manifest(uri: str, left_out: LeftOut | None = None) -> Iterator[pa.Table]:
    """Rows of a manifest, in batches.

    Text has a path per line (# comments); CSV (with a header) and Parquet have a column `uri`. All
    other columns are what the manifest says of an image: numbers and dates as text, empty cells left out.

    Args:
        uri: of the manifest.
        left_out: told which rows are left out.

    Yields:
        uri: string, absolute; attributes: string, a JSON object of strings with sorted keys, or empty.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no manifest, or too large for one.
    """
    odd, unit = OddLines(), unit_of(uri)
    with fetch.open_file(uri) as file:
        count, nbytes = 0, 0
        for numbers, whole in _READERS.get(ending_of(uri), _lines)(file, odd):
            count += len(whole)
            check_count(count)
            batch = _with_paths(whole, numbers, odd)
            paths = absolute(batch["uri"], uri)
            said = [name for name in batch.column_names if name != "uri" and _PANDAS_INDEX not in name]
            # Each row says the columns' names again.
            step = max(1, NAMES_BYTES // (1 + sum(len(name.encode()) for name in said)))
            for at in range(0, len(batch), step):
                part = {name: batch[name].slice(at, step) for name in said}
                uris = paths.slice(at, step)
                table = pa.table({"uri": uris, "attributes": attributes_of(part, len(uris))})
                nbytes += table.nbytes
                check_whole(nbytes)
                yield table
    if left_out is not None:
        odd.tell(left_out, uri, unit)


_Numbered = Iterator[tuple[Sequence[int], pa.Table]]
"""Rows, and the numbers by which messages name them."""


def _parquet_rows(file: BinaryIO, odd: OddLines) -> _Numbered:
    _check_header(pq.read_schema(file).names)
    file.seek(0)
    first = 1
    for batch in parquet_batches(file):
        yield range(first, first + batch.num_rows), pa.Table.from_batches([batch])
        first += batch.num_rows


def _csv_rows(file: BinaryIO, odd: OddLines) -> _Numbered:
    """All cells as text: 007 stays 007."""
    listed = CsvList(file, ["uri"], odd)
    try:
        _check_header(listed.names)
        place = listed.names.index("uri")
        for numbers, table in listed.tables():
            at = 0
            for part in table.to_batches():
                check_cells(part, numbers[at : at + part.num_rows], "line")
                at += part.num_rows
            yield numbers, table.set_column(place, "uri", pc.utf8_trim_whitespace(table["uri"]))
    finally:
        listed.close()


def _lines(file: BinaryIO, odd: OddLines) -> _Numbered:
    for paths in path_blocks(file, odd):
        yield range(len(paths)), pa.table({"uri": pa.chunked_array([pa.array(paths, pa.string())])})


_READERS = {".parquet": _parquet_rows, ".csv": _csv_rows, ".tsv": _csv_rows}


def _check_header(names: list[str]) -> None:
    if names.count("uri") == 1 and len(set(names)) == len(names):
        return
    twice = next((name for name in names if names.count(name) > 1), None)
    wrong = "no column 'uri'" if twice is None else f"several columns {twice!r}"
    msg = f"has {wrong}; its columns are {spoken(map(repr, names))}"
    if alike := next((name for name in names if twice is None and name.strip().lower() == "uri"), None):
        msg += f"; perhaps you meant {alike!r} to be 'uri': rename it"
    raise ValueError(msg)


def _with_paths(rows: pa.Table, numbers: Sequence[int], odd: OddLines) -> pa.Table:
    """Rows that have a path; the numbers of the others are noted."""
    column = plain(rows["uri"])
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        msg = f"its column uri holds {column.type}; expected paths"
        raise ValueError(msg)
    paths = column.cast(pa.string())
    longest = pc.max(pc.binary_length(paths)).as_py() or 0
    if longest > LONGEST:
        msg = f"one of its paths has {longest:,} bytes"
        raise ValueError(msg)
    rows = rows.set_column(rows.schema.get_field_index("uri"), "uri", paths)
    empty = pc.fill_null(pc.equal(paths, ""), fill_value=True)
    if not pc.any(empty).as_py():
        return rows
    without = [numbers[int(at)] for at in np.flatnonzero(empty)]
    odd.without += without
    others = rows.filter(empty).to_pylist()
    cells = ([str(cell) for cell in row.values() if cell is not None] for row in others)
    odd.blank |= {n for n, row in zip(without, cells, strict=True) if not any(map(str.strip, row))}
    return rows.filter(pc.invert(empty))


def attributes_of(columns: dict[str, Column], count: int) -> Column:
    """JSON objects, one per row, of columns of any simple type; empty where all cells of a row are.

    Raises:
        ValueError: a column holds lists, structures or bytes.
    """
    pieces = [_members(name, columns[name]) for name in sorted(columns)]
    nothing = pa.chunked_array([pa.repeat("", count)])
    if not pieces:
        return nothing
    # With `skip` a row of nulls alone would go without a trace (pyarrow 26): each begins with an empty text.
    inner = pc.binary_join_element_wise(nothing, *pieces, ", ", null_handling="skip")
    whole = pc.binary_join_element_wise("{", pc.utf8_slice_codeunits(inner, 2), "}", "")
    return pc.if_else(pc.equal(inner, ""), "", whole)


def _members(name: str, column: Column) -> Column:
    """`"name": "value"` per row; null where the cell is empty."""
    try:
        column = plain(column)
        if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
            raise pa.ArrowNotImplementedError
        texts = column.cast(pa.string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as e:
        msg = f"its column {name!r} holds {column.type}; expected text, numbers or dates"
        raise ValueError(msg) from e
    texts = pc.if_else(pc.equal(texts, ""), None, texts)
    if pc.any(pc.match_substring(texts, "://")).as_py():
        private = pc.fill_null(pc.match_substring_regex(texts, MAY_HOLD_CREDENTIALS), fill_value=False)
        texts = replaced(texts, private, public)  # here, so that a later run finds them as they are recorded
    odd = pc.fill_null(pc.match_substring_regex(texts, _MUST_BE_ESCAPED), fill_value=False)
    texts = replaced(texts, odd, lambda text: json.dumps(text, ensure_ascii=False)[1:-1])
    label = json.dumps(name, ensure_ascii=False)
    return pc.binary_join_element_wise(f'{label}: "', texts, '"', "")

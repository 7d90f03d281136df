"""Manifests of photographs in columns: paths, and what else their rows say, as text."""

import csv
import json
from collections.abc import Callable, Iterator
from itertools import chain
from typing import BinaryIO, Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from batchseg.inputs.left_out import LeftOut, rows_left_out, some_left_out
from batchseg.inputs.manifest import LONGEST, ending_of, member_uri
from batchseg.inputs.manifest_parts import (
    LINE,
    check_cells,
    check_columns,
    check_count,
    check_whole,
    csv_rows,
    lines_of,
    parquet_batches,
    plain,
    spoken,
)
from batchseg.inputs.source import Column
from batchseg.inputs.source import compute as pc
from batchseg.system import fetch
from batchseg.system.redact import MAY_HOLD_CREDENTIALS, public

NAMES_BYTES = 2**26
"""Of the names that the attributes of some rows repeat."""

TEXT_SHOWN = 80
"""Characters of a row that is left out."""

_PANDAS_INDEX = "__index_level_"
"""What pandas calls an index that it writes as a column: it says nothing of an image, and changes."""

_ODD_PATH = r"//|(^|/)\.\.?(/|$)|/$"
"""Not normal: `os.path.normpath` would change it."""

_MUST_BE_ESCAPED = r'[\x00-\x1f"\\]'
"""In JSON's strings."""


def read_manifest(uri: str, left_out: LeftOut | None = None) -> Iterator[pa.Table]:
    """Rows of a manifest, in batches.

    Text has a path per line (# comments); CSV (with a header) and Parquet have a column `uri`. All
    other columns are what the manifest says of an image: numbers and dates as text, empty cells left out.

    Args:
        uri: of the manifest.
        left_out: told which rows have no path, or more cells than there are columns.

    Yields:
        uri: string, absolute; attributes: string, a JSON object of strings with sorted keys, or empty.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no manifest, or too large for one.
    """
    suffix, odd = ending_of(uri), _OddRows()
    without: list[int] = []
    with fetch.open_file(uri) as file:
        batches = {".parquet": _parquet_rows, ".csv": _csv_rows}.get(suffix, _lines)(file, odd)
        first_row, nbytes = 1, 0
        for whole in _in_words(batches, uri, is_csv=suffix == ".csv"):
            batch = _with_paths(whole, first_row, without)
            paths = _absolute(batch["uri"], uri)
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
            first_row += len(whole)
            check_count(first_row - 1)
    if left_out is not None:
        left_out.rows += _told(uri, without, odd)


def _told(uri: str, without: list[int], odd: "_OddRows") -> Iterator[str]:
    """Which rows are left out; Arrow does not count those of another length: numbers behind one are wrong."""
    if without and odd.count:
        yield some_left_out(uri, len(without), "no path")
    elif without:
        yield rows_left_out(uri, without, "no path")
    if odd.longer:
        yield some_left_out(uri, len(odd.longer), f"more cells than columns, the first {odd.longer[0]!r}")


def _in_words(batches: Iterator[pa.Table], uri: str, *, is_csv: bool) -> Iterator[pa.Table]:
    """Raises ValueError where they are of a text in another encoding, or have a row that never ends."""
    try:
        yield from batches
    except (UnicodeDecodeError, pa.ArrowInvalid) as e:
        if "straddl" in str(e):  # Arrow does not say which row has no room in its block
            with fetch.open_file(uri) as file:  # anew: a thread of Arrow's may still read the other one
                for _ in csv_rows(file) if is_csv else lines_of(file):
                    pass
            msg = f"one of its rows has more than {LINE:,} bytes"
            raise ValueError(msg) from e
        if not isinstance(e, UnicodeDecodeError) and "invalid UTF8" not in str(e):
            raise
        msg = f"it is not UTF-8 ({e}); save it as UTF-8"
        raise ValueError(msg) from e


class _OddRows:
    """Rows of another length than the header: those that end early have empty cells at their end."""

    def __init__(self) -> None:
        self.longer: list[str] = []
        """The beginnings of rows that have cells too many."""
        self.count = 0
        self._shorter: list[list[str]] = []
        self._columns = 0

    def __call__(self, row: pacsv.InvalidRow) -> Literal["skip"]:
        self._columns = row.expected_columns
        self.count += 1
        cells = next(csv.reader([row.text]), [])
        while len(cells) > self._columns and not cells[-1].strip():
            cells.pop()
        if len(cells) > self._columns:
            self.longer.append(row.text[:TEXT_SHOWN])
        else:
            self._shorter.append(cells)
        return "skip"

    def take(self, names: list[str]) -> pa.Table | None:
        """Those that end early, whole; None: none came since the last time."""
        rows, self._shorter = self._shorter, []
        if not rows:
            return None
        cells = [[*row, *[""] * (self._columns - len(row))] for row in rows]
        columns = ([cell or None for cell in column] for column in zip(*cells, strict=True))
        return pa.table({name: pa.array(c, pa.string()) for name, c in zip(names, columns, strict=True)})


def _parquet_rows(file: BinaryIO, odd: _OddRows) -> Iterator[pa.Table]:
    _check_header(pq.read_schema(file).names)
    file.seek(0)
    for batch in parquet_batches(file):
        yield pa.Table.from_batches([batch])


def _csv_rows(file: BinaryIO, odd: _OddRows) -> Iterator[pa.Table]:
    """All cells as text: 007 stays 007."""
    rows = csv_rows(file)
    header = next(rows, [])
    rows.close()
    check_columns(header)
    if len(header) == 1 and ";" in header[0]:
        msg = f"its columns seem to be separated by semicolons ({header[0][:100]!r}); save it with commas"
        raise ValueError(msg)
    _check_header(header)
    file.seek(0)
    reader = pacsv.open_csv(
        file,
        read_options=pacsv.ReadOptions(block_size=LINE),
        parse_options=pacsv.ParseOptions(newlines_in_values=True, invalid_row_handler=odd),
        convert_options=pacsv.ConvertOptions(
            column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=True, null_values=[""]
        ),
    )
    first_row, place = 1, header.index("uri")
    for batch in chain(reader, (None,)):  # at the end too: rows of another length alone make no batch
        for table in (batch and pa.Table.from_batches([batch]), odd.take(header)):
            for part in table.to_batches() if table else ():
                check_cells(part, first_row)
                first_row += part.num_rows
            if table:
                yield table.set_column(place, "uri", pc.utf8_trim_whitespace(table["uri"]))


def _lines(file: BinaryIO, odd: _OddRows) -> Iterator[pa.Table]:
    if not file.read(1):
        return
    file.seek(0)
    reader = pacsv.open_csv(
        file,
        read_options=pacsv.ReadOptions(column_names=["uri"], block_size=LINE),
        # Paths do not hold this character, so a line is one cell whatever commas and quotes are in it.
        parse_options=pacsv.ParseOptions(delimiter="\x1f", quote_char=False, invalid_row_handler=odd),
        convert_options=pacsv.ConvertOptions(column_types={"uri": pa.string()}),
    )
    for batch in reader:
        lines = pc.utf8_trim_whitespace(batch["uri"])
        kept = pc.invert(pc.or_(pc.equal(lines, ""), pc.starts_with(lines, "#")))
        yield pa.table({"uri": lines.filter(kept)})


def _check_header(names: list[str]) -> None:
    if names.count("uri") == 1 and len(set(names)) == len(names):
        return
    twice = next((name for name in names if names.count(name) > 1), None)
    wrong = "no column 'uri'" if twice is None else f"several columns {twice!r}"
    msg = f"has {wrong}; its columns are {spoken(map(repr, names))}"
    if alike := next((name for name in names if twice is None and name.strip().lower() == "uri"), None):
        msg += f"; perhaps you meant {alike!r} to be 'uri': rename it"
    raise ValueError(msg)


def _with_paths(rows: pa.Table, first_row: int, without: list[int]) -> pa.Table:
    """Rows that have a path; the numbers of the others are added to `without`."""
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
    without += [first_row + int(at) for at in np.flatnonzero(empty)]
    return rows.filter(pc.invert(empty))


def _absolute(paths: Column, manifest: str) -> Column:
    """As `manifest.member_uri` makes one path absolute, in columns where a path is normal."""
    has_protocol = pc.match_substring(paths, "://")
    is_file = pc.starts_with(paths, "file://")
    odd = pc.or_(pc.and_not(pc.match_substring_regex(paths, _ODD_PATH), has_protocol), is_file)
    relative = pc.invert(pc.or_(has_protocol, pc.starts_with(paths, "/")))
    if pc.any(relative).as_py():
        folder = manifest.rpartition("/")[0]
        paths = pc.if_else(pc.and_not(relative, odd), pc.binary_join_element_wise(folder, paths, "/"), paths)
    return _replaced(paths, odd, lambda path: member_uri(path, manifest))


def _replaced(texts: Column, where: Column, function: Callable[[str], str]) -> Column:
    """A column in which a few texts are replaced one by one."""
    if not pc.any(where).as_py():
        return texts
    others = [function(text) for text in texts.filter(where).to_pylist()]
    return pa.chunked_array(
        [pc.replace_with_mask(texts.combine_chunks(), where.combine_chunks(), pa.array(others, pa.string()))]
    )


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
        texts = _replaced(texts, private, public)  # here, so that a later run finds them as they are recorded
    odd = pc.fill_null(pc.match_substring_regex(texts, _MUST_BE_ESCAPED), fill_value=False)
    texts = _replaced(texts, odd, lambda text: json.dumps(text, ensure_ascii=False)[1:-1])
    label = json.dumps(name, ensure_ascii=False)
    return pc.binary_join_element_wise(f'{label}: "', texts, '"', "")

"""Manifests: files that list rasters, one per line, or one per column of a table."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import PurePosixPath
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from batchseg.inputs.csv_lists import CsvList
from batchseg.inputs.left_out import LeftOut
from batchseg.inputs.manifest_parts import BATCH_ROWS, check_count, parquet_batches, plain, spoken
from batchseg.inputs.source import Column
from batchseg.inputs.source import compute as pc
from batchseg.inputs.text_lists import OddLines, path_blocks
from batchseg.system import fetch

LONGEST = 2**16
"""Characters of a path; what has more is no list of paths."""

_ODD_PATH = r"//|(^|/)\.\.?(/|$)|/$"
"""Not normal: `os.path.normpath` would change it."""


def ending_of(uri: str) -> str:
    """Of a manifest, which decides how it is read, in small letters: Windows writes `LIST.CSV`."""
    return PurePosixPath(uri).suffix.lower()


def paths_of(uri: str, left_out: LeftOut | None = None) -> Iterator[list[str]]:
    """Lines of a text file (# comments), or the column `uri` of a Parquet or CSV file, in batches.

    Args:
        uri: of the manifest.
        left_out: told which rows have no path.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no such file, or too large for one.
    """
    odd = OddLines()
    if ending_of(uri) in (".csv", ".tsv"):
        named = ((number, (row["uri"] or "").strip()) for number, row in read_rows(uri, ["uri"], odd))
        while batch := list(islice(named, BATCH_ROWS)):
            numbers, names = zip(*batch, strict=True)
            yield _texts(numbers, names, odd)
    else:
        with fetch.open_file(uri) as file:
            blocks: Iterator[list[Any]] = path_blocks(file, odd)
            if ending_of(uri) == ".parquet":
                blocks = (plain(batch.column("uri")).to_pylist() for batch in _parquet_batches(file, ["uri"]))
            count = 0
            for names in blocks:
                yield _texts(range(count + 1, count + len(names) + 1), names, odd)
                count += len(names)
                check_count(count)
    if left_out is not None:
        odd.tell(left_out, uri, unit_of(uri))


def unit_of(uri: str) -> str:
    """What messages number in a manifest: the first row of a table below its header is row 1."""
    return "row" if ending_of(uri) == ".parquet" else "line"


def _texts(numbers: Sequence[int], names: Sequence[Any], odd: OddLines) -> list[str]:
    """Those that are there; the numbers of the others are noted."""
    strange = next((name for name in names if name is not None and not isinstance(name, str)), None)
    if strange is not None:
        msg = f"uri: expected paths, found {strange!r}"
        raise ValueError(msg)
    odd.without += (number for number, name in zip(numbers, names, strict=True) if not name)
    texts = [name for name in names if name]
    longest = max(map(len, texts), default=0)
    if longest > LONGEST:
        msg = f"one of its paths has {longest:,} characters"
        raise ValueError(msg)
    return texts


def read_rows(
    uri: str, columns: Sequence[str], odd: OddLines, paths: Sequence[str] = ("uri",)
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Rows of a table, .parquet or CSV, each with its number in the unit of `unit_of`.

    Args:
        uri: of the table.
        columns: that are wanted.
        odd: told which lines are no rows.
        paths: those of the columns that hold paths.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no table, lacks a column, or is too large for a manifest.
    """
    with fetch.open_file(uri) as file:
        if ending_of(uri) == ".parquet":
            rows: Iterator[tuple[int, Mapping[str, Any]]] = enumerate(_parquet_rows(file, columns), start=1)
        else:
            rows = _csv_rows(file, columns, odd, paths)
        for count, row in enumerate(rows, start=1):
            check_count(count)
            yield row


def _csv_rows(
    file: BinaryIO, columns: Sequence[str], odd: OddLines, paths: Sequence[str]
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    # Blanks around names in the header are none of the names: jobs may have been written with them.
    listed = CsvList(file, [name.strip() for name in paths], odd)
    try:
        _check_columns([name.strip() for name in columns], listed.names)
        places = {name: place for place, name in enumerate(listed.header)}
        wanted = [(column, places[column.strip()]) for column in columns]
        for number, row in listed.rows():
            yield number, {column: row[place] for column, place in wanted}
    finally:
        listed.close()


def _parquet_rows(file: BinaryIO, columns: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    for batch in _parquet_batches(file, columns):
        cells = [plain(column).to_pylist() for column in batch.columns]
        for row in zip(*cells, strict=True):
            yield dict(zip(batch.schema.names, row, strict=True))


def _parquet_batches(file: BinaryIO, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    _check_columns(columns, pq.read_schema(file).names)
    file.seek(0)
    return parquet_batches(file, columns)


def _check_columns(wanted: Sequence[str], there: Sequence[str]) -> None:
    missing = next((column for column in wanted if column not in there), None)
    if missing is not None:
        msg = f"has no column {missing!r}; it has {spoken(there)}"
        raise ValueError(msg)


def path_in(row: Mapping[str, Any], column: str, number: int) -> str:
    """A cell of row `number` of a table; empty where it is. Raises ValueError where it is no text."""
    value = row[column]
    if value is not None and not isinstance(value, str):
        msg = f"row {number}, column {column}: expected a path, found {value!r}"
        raise ValueError(msg)
    return (value or "").strip()


def member_uri(name: str, listing: str) -> str:
    """A path as a manifest holds it, made absolute against the manifest's folder."""
    name = name.removeprefix("file://")
    if "://" in name:
        return name
    if name.startswith("/"):
        return os.path.normpath(name)
    folder = listing.rpartition("/")[0]
    protocol, separator, path = folder.partition("://")
    if not separator:
        return os.path.normpath(f"{folder}/{name}")
    return protocol + separator + os.path.normpath(f"{path}/{name}")


def absolute(paths: Column, manifest: str) -> Column:
    """As `member_uri` makes one path absolute, in columns where a path is normal."""
    has_protocol = pc.match_substring(paths, "://")
    is_file = pc.starts_with(paths, "file://")
    odd = pc.or_(pc.and_not(pc.match_substring_regex(paths, _ODD_PATH), has_protocol), is_file)
    relative = pc.invert(pc.or_(has_protocol, pc.starts_with(paths, "/")))
    if pc.any(relative).as_py():
        folder = manifest.rpartition("/")[0]
        paths = pc.if_else(pc.and_not(relative, odd), pc.binary_join_element_wise(folder, paths, "/"), paths)
    return replaced(paths, odd, lambda path: member_uri(path, manifest))


def replaced(texts: Column, where: Column, function: Callable[[str], str]) -> Column:
    """A column in which a few texts are replaced one by one."""
    if not pc.any(where).as_py():
        return texts
    others = [function(text) for text in texts.filter(where).to_pylist()]
    return pa.chunked_array(
        [pc.replace_with_mask(texts.combine_chunks(), where.combine_chunks(), pa.array(others, pa.string()))]
    )

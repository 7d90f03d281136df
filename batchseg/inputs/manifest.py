"""Manifests: files that list rasters, one per line, or one per column of a table."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from batchseg.inputs.left_out import LeftOut, rows_left_out
from batchseg.inputs.manifest_parts import (
    check_columns,
    check_count,
    csv_rows,
    lines_of,
    parquet_batches,
    plain,
    spoken,
)
from batchseg.system import fetch

LONGEST = 2**16
"""Characters of a path; what has more is no list of paths."""


def ending_of(uri: str) -> str:
    """Of a manifest, which decides how it is read, in small letters: Windows writes `LIST.CSV`."""
    return PurePosixPath(uri).suffix.lower()


def paths_of(uri: str, left_out: LeftOut | None = None) -> list[str]:
    """Lines of a text file (# comments), or the column `uri` of a Parquet or CSV file.

    Args:
        uri: of the manifest.
        left_out: told which rows have no path.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no such file, or too large for one.
    """
    without: list[int] = []
    if ending_of(uri) == ".csv":
        texts = _texts(((row["uri"] or "").strip() for row in read_rows(uri, ["uri"])), without)
    else:
        with fetch.open_file(uri) as file:
            if ending_of(uri) == ".parquet":
                columns = (batch.column("uri") for batch in _parquet_batches(file, ["uri"]))
                texts = _texts((name for column in columns for name in plain(column).to_pylist()), without)
            else:
                lines = (line.strip() for line in lines_of(file))
                texts = _texts((line for line in lines if line and not line.startswith("#")), without)
    if without and left_out is not None:
        left_out.rows.append(rows_left_out(uri, without, "no path"))
    return texts


def _texts(names: Iterator[object], without: list[int]) -> list[str]:
    """Those that are there; the numbers of the others are added to `without`."""
    texts: list[str] = []
    for number, name in enumerate(names, start=1):
        check_count(number)
        if name is None or name == "":
            without.append(number)
            continue
        if not isinstance(name, str):
            msg = f"uri: expected paths, found {name!r}"
            raise ValueError(msg)
        if len(name) > LONGEST:
            msg = f"one of its paths has {len(name):,} characters"
            raise ValueError(msg)
        texts.append(name)
    return texts


def read_rows(uri: str, columns: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """Rows of a table, .parquet or CSV.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no table, lacks a column, or is too large for a manifest.
    """
    with fetch.open_file(uri) as file:
        rows = _parquet_rows(file, columns) if ending_of(uri) == ".parquet" else _csv_rows(file, columns)
        for number, row in enumerate(rows, start=1):
            check_count(number)
            yield row


def _csv_rows(file: BinaryIO, columns: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """Cells that a short row has not are None."""
    rows = csv_rows(file)
    header = next(rows, [])
    check_columns(header)
    _check_columns(columns, header)
    places = {name: place for place, name in enumerate(header)}
    wanted = [(column, places[column]) for column in columns]
    for row in rows:
        if row:
            yield {column: row[place] if place < len(row) else None for column, place in wanted}


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
    """A cell of row `number`; empty where it is. Raises ValueError where it is no text."""
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

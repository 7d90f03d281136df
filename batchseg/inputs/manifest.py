"""Manifests: files that list rasters, one per line, or one per column of a table."""

import csv
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow.parquet as pq

from batchseg.system import fetch


def paths_of(data: bytes, uri: str) -> list[str]:
    """Lines of a text file (# comments), or the column `uri` of a Parquet or CSV file.

    Raises:
        KeyError, ValueError: it is no such file.
    """
    if uri.endswith(".csv"):
        return _texts([(row["uri"] or "").strip() for row in _csv_rows(data, ["uri"])])
    if uri.endswith(".parquet"):
        column = pq.read_table(io.BytesIO(data), columns=["uri"]).column("uri")
        return _texts(column.to_pylist())
    lines = (line.strip() for line in data.decode("utf-8-sig").splitlines())
    return _texts([line for line in lines if line and not line.startswith("#")])


LONGEST = 2**16
"""Characters of a path; what has more is no list of paths."""


def _texts(names: list[object]) -> list[str]:
    wrong = next((name for name in names if not isinstance(name, str) or not name), None)
    if wrong is not None or None in names:
        msg = f"uri: expected paths, found {wrong!r}"
        raise ValueError(msg)
    texts = [str(name) for name in names]
    if texts and (longest := max(map(len, texts))) > LONGEST:
        msg = f"one of its paths has {longest:,} characters"
        raise ValueError(msg)
    return texts


def read_rows(uri: str, columns: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """Rows of a table, .parquet or CSV.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no table, or lacks a column.
    """
    data = fetch.read_bytes(uri)
    return _parquet_rows(data, columns) if uri.endswith(".parquet") else _csv_rows(data, columns)


def _csv_rows(data: bytes, columns: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""))
    try:
        _check_columns(columns, reader.fieldnames or ())
        yield from reader
    except csv.Error as e:
        msg = f"line {reader.line_num}: {e}"
        raise ValueError(msg) from e


def _parquet_rows(data: bytes, columns: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    file = pq.ParquetFile(io.BytesIO(data))
    _check_columns(columns, file.schema_arrow.names)
    for batch in file.iter_batches(columns=list(dict.fromkeys(columns))):
        yield from batch.to_pylist()


def _check_columns(wanted: Sequence[str], there: Iterable[str]) -> None:
    there = list(there)
    missing = next((column for column in wanted if column not in there), None)
    if missing is not None:
        msg = f"has no column {missing!r}; it has {', '.join(map(str, there)) or 'none'}"
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

"""Manifests piece by piece: no line, cell or table of one takes more memory than a list of paths needs."""

from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from batchseg.inputs.source import Column
from batchseg.inputs.source import compute as pc

LINE = 2**20
"""Characters of a line of text, or of a row of CSV, at most."""

CELL = 2**16
"""Bytes of a cell; a path that a system can open has 4,096."""

ROWS = 20_000_000
"""Of one manifest; listed they take some gigabytes."""

COLUMNS = 1000

BATCH_ROWS = 16_384
"""In one batch at most: about 10 MB."""

BATCH_BYTES = 2**28
"""Of a batch's cells."""

WHOLE_BYTES = 2**32
"""Of all cells, each counted where it stands; twenty million paths of 200 bytes."""

CHUNK_BYTES = 2**28
"""Of one column in one row group, unpacked: a million rows, as most writers make them, of 256 bytes."""

CHUNKS = 1_000_000
"""Columns of all row groups; each is looked at before anything is read."""

_DICTIONARIES = frozenset(("RLE_DICTIONARY", "PLAIN_DICTIONARY"))


def parquet_batches(file: BinaryIO, wanted: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Rows of a Parquet file; cells that repeat stay dictionaries.

    What the file says of its size is looked at before anything is read. A page takes what it really holds:
    a file that lies about it may take 2 GiB a column.

    Args:
        file: can be sought in.
        wanted: columns; None: all.

    Raises:
        ValueError: it is no such table, or too large a one; a column holds what is no text, number or date.
    """
    with pq.ParquetFile(file) as opened:
        metadata, schema = opened.metadata, opened.schema_arrow
    names = list(dict.fromkeys(schema.names if wanted is None else wanted))
    check_count(metadata.num_rows)
    if schema.names and max(len(schema.names), metadata.num_columns) > COLUMNS:
        msg = f"has {max(len(schema.names), metadata.num_columns):,} columns; at most {COLUMNS:,} are taken"
        raise ValueError(msg)
    for name in names:
        check_kind(name, schema.field(name).type)
    repeating = _check_chunks(metadata, set(names))
    texts = [name for name in names if name in repeating and is_text(schema.field(name).type)]
    file.seek(0)
    with pq.ParquetFile(file, metadata=metadata, read_dictionary=texts, buffer_size=LINE) as opened:
        row, total = 1, 0
        for batch in opened.iter_batches(batch_size=BATCH_ROWS, columns=names):
            total += check_cells(batch, range(row, row + batch.num_rows))
            check_whole(total)
            row += batch.num_rows
            yield batch


def _check_chunks(metadata: pq.FileMetaData, names: set[str]) -> set[str]:
    """Of the named columns those that have dictionaries. Raises ValueError where a chunk is too large."""
    if metadata.num_row_groups * metadata.num_columns > CHUNKS:
        msg = f"has {metadata.num_row_groups:,} row groups of {metadata.num_columns:,} columns, too many"
        raise ValueError(msg)
    repeating: set[str] = set()
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for column in range(metadata.num_columns):
            chunk = group.column(column)
            if (name := chunk.path_in_schema) not in names:
                continue
            # A page has levels and a dictionary has a header beside the cells.
            most = min(CHUNK_BYTES, group.num_rows * (CELL + 64) + LINE)
            if chunk.total_uncompressed_size > most:
                msg = (
                    f"its column {name!r} unpacks to {chunk.total_uncompressed_size:,} bytes in row group "
                    f"{number + 1} of {group.num_rows:,} rows, at most {most:,} are taken; are these paths? "
                    f"If so, write smaller row groups"
                )
                raise ValueError(msg)
            if not _DICTIONARIES.isdisjoint(chunk.encodings):
                repeating.add(name)
    return repeating


def is_text(kind: pa.DataType) -> bool:
    """Whether a column's cells are texts."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def check_kind(name: str, kind: pa.DataType) -> None:
    """Raises ValueError where a column holds lists, structures or bytes: they may be of any size."""
    values = kind.value_type if pa.types.is_dictionary(kind) else kind
    scalar = pa.types.is_primitive(values) or pa.types.is_decimal(values) or pa.types.is_null(values)
    if not (scalar or is_text(values)):
        msg = f"its column {name!r} holds {kind}; expected text, numbers or dates"
        raise ValueError(msg)


def check_cells(batch: pa.RecordBatch, numbers: Sequence[int], unit: str = "row") -> int:
    """Look at the lengths of a batch's texts, before any dictionary is expanded.

    Args:
        batch: columns of simple types.
        numbers: of the batch's rows, as a message names them.
        unit: what these are numbers of.

    Returns:
        Bytes of all texts together.

    Raises:
        ValueError: a cell has more than CELL bytes, or all together have more than BATCH_BYTES.
    """
    total = 0
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        lengths = _lengths(column)
        if lengths is None or (longest := pc.max(lengths).as_py() or 0) == 0:
            continue
        if longest > CELL:
            row = numbers[pc.index(lengths, longest).as_py()]
            msg = f"{unit} {row}, column {name!r}: a cell of {longest:,} bytes; at most {CELL:,} are taken"
            raise ValueError(msg)
        total += pc.sum(lengths).as_py()
    if total > BATCH_BYTES:
        msg = (
            f"its {unit}s from {numbers[0]} to {numbers[-1]} hold {total:,} bytes, at most "
            f"{BATCH_BYTES:,} are taken; leave out what says nothing of the files"
        )
        raise ValueError(msg)
    return total


def check_whole(nbytes: int) -> None:
    """Raises ValueError where a manifest says more than it may."""
    if nbytes > WHOLE_BYTES:
        msg = f"its rows hold more than {WHOLE_BYTES:,} bytes; divide it into several manifests"
        raise ValueError(msg)


def _lengths(cells: Column) -> Column:
    """Bytes of each cell; None where they are no texts."""
    if pa.types.is_dictionary(cells.type):
        values = _lengths(cells.dictionary)
        return None if values is None else values.take(cells.indices)
    return pc.binary_length(cells) if is_text(cells.type) else None


def plain(column: Column) -> Column:
    """A column without dictionary."""
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def check_count(rows: int) -> None:
    """Raises ValueError where a manifest has more rows than one may have."""
    if rows > ROWS:
        msg = f"has more than {ROWS:,} rows; divide it into several manifests"
        raise ValueError(msg)


def check_columns(names: Sequence[str]) -> None:
    """Raises ValueError where a header has more columns than a manifest may have."""
    if len(names) > COLUMNS:
        msg = f"has {len(names):,} columns; at most {COLUMNS:,} are taken"
        raise ValueError(msg)


def spoken(names: Iterable[object]) -> str:
    """Some names of columns, for messages.

    >>> spoken(["uri", "line"])
    'uri, line'
    """
    texts = [name if len(name) <= 60 else f"{name[:60]}..." for name in map(str, names)]
    more = f" and {len(texts) - 20:,} more in its header" if len(texts) > 20 else ""
    return (", ".join(texts[:20]) or "none") + more

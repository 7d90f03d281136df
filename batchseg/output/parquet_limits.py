"""What a table may become in memory, told from the bytes that its file has.

Parquet writes equal values once: half a megabyte can stand for gigabytes. Rows of photographs grow about 20
times, as their ids and tags differ; rows of shards, which nearly repeat, up to 1000 times. What a footer says
is believed: one that lies is found out after its first row group.
"""

from collections.abc import Collection, Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from batchseg.output.parquet_footer import ColumnChunk

FLOOR_BYTES = 2**30
"""More than two million shards take: those of the largest scene that is taken on."""

GROWTH = 256
"""Bytes in memory per byte of the file, at most, beside FLOOR_BYTES."""

SMALL_ROWS = 2**14

_WIDTHS = {0: 1, 1: 4, 2: 8, 3: 12, 4: 4, 5: 8, 6: 4}
"""Bytes of a value in memory by its kind; of a text those of its offset, or of its number in a dictionary."""

_TEXT = 6
_AS_THEY_ARE = frozenset((0, 3, 4))
"""Encodings of texts that write each of them in full, and of where they are null."""


class Allowance:
    """Bytes that the tables of a file, or of some files, may still take."""

    def __init__(self, file_bytes: int) -> None:
        """`file_bytes`: of the files."""
        self._left = FLOOR_BYTES + GROWTH * file_bytes
        self._file_bytes = file_bytes

    def take(self, count: int) -> None:
        """Raises pyarrow.ArrowInvalid where that is more than is left."""
        self.check(count)
        self._left -= count

    def check(self, count: int) -> None:
        """As `take`, of what is not there yet."""
        if count > self._left:
            msg = (
                f"its {self._file_bytes:,} bytes stand for tables of more than "
                f"{FLOOR_BYTES + GROWTH * self._file_bytes:,}, which batchseg does not write"
            )
            raise pa.ArrowInvalid(msg)


def check_size(metadata: Any, file_bytes: int) -> None:
    """Compare rows and uncompressed bytes with a file's size, before anything of it is read.

    Args:
        metadata: pyarrow.parquet.FileMetaData.
        file_bytes: of the file.

    Raises:
        pyarrow.ArrowInvalid: it would become too large.
    """
    allowance = Allowance(file_bytes)
    for number in range(metadata.num_row_groups):
        allowance.take(max(0, metadata.row_group(number).total_byte_size))
    allowance.take(max(0, metadata.num_rows) * metadata.num_columns)


def is_small(metadata: Any) -> bool:
    """Whether a file stays below FLOOR_BYTES even if each row had its longest text."""
    if metadata.num_rows > SMALL_ROWS:
        return False
    groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
    return bool(sum(group.total_byte_size for group in groups) * metadata.num_rows < FLOOR_BYTES)


def claimed_bytes(chunks: Iterable[ColumnChunk]) -> int:
    """The least that columns take in memory, as their file says."""
    return sum(max(chunk.uncompressed_bytes, chunk.values * _WIDTHS.get(chunk.kind, 1)) for chunk in chunks)


def repeating_texts(chunks: Iterable[ColumnChunk], known: Collection[str]) -> list[str]:
    """Columns of texts that are written once for many rows, beside those that are known to be."""
    found = {
        chunk.path for chunk in chunks if chunk.kind == _TEXT and not _AS_THEY_ARE.issuperset(chunk.encodings)
    }
    return sorted(found.difference(known))


def bytes_of(table: pa.Table, exactly: Collection[str] = ()) -> int:
    """Bytes of a table whose dictionaries are written out: each text as the longest of its column.

    Args:
        table: columns of texts and numbers, and lists of structs of them.
        exactly: columns of which each text counts as what it is.
    """
    columns = zip(table.column_names, table.columns, strict=True)
    chunks = ((name, chunk) for name, column in columns for chunk in column.chunks)
    return table.nbytes + sum(_text_bytes(chunk, exact=name in exactly) for name, chunk in chunks)


def _text_bytes(array: Any, *, exact: bool) -> int:
    if pa.types.is_list(array.type):
        return _text_bytes(array.values, exact=exact)
    if pa.types.is_struct(array.type):
        return sum(_text_bytes(array.field(number), exact=exact) for number in range(array.type.num_fields))
    if not pa.types.is_dictionary(array.type) or not len(array.dictionary):
        return 0
    lengths: Any = pc.binary_length(array.dictionary)
    if exact:
        return int(pc.sum(lengths.take(array.indices).cast(pa.int64())).as_py() or 0)
    return len(array) * int(pc.max(lengths).as_py() or 0)

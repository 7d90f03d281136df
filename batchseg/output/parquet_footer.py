"""What a Parquet file says of its columns, read without pyarrow, which ends the process over a damaged one.

The footer is a Thrift structure in the compact protocol (parquet-format's parquet.thrift): FileMetaData's
row_groups = 4, RowGroup's columns = 1, ColumnChunk's meta_data = 3.
"""

import io
import struct
from dataclasses import dataclass
from typing import Any

DEPTH = 32
"""Structures inside each other; the format needs eight."""

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_MAGIC = b"PAR1"


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnChunk:
    """A column of a row group, as the file describes it."""

    path: str
    """Such as `outputs.list.element.path`."""
    kind: int
    """parquet.thrift's Type: 0 BOOLEAN, 1 INT32, 2 INT64, 3 INT96, 4 FLOAT, 5 DOUBLE, 6 BYTE_ARRAY."""
    encodings: frozenset[int]
    """parquet.thrift's Encoding: 0 PLAIN, 3 RLE, 4 BIT_PACKED, and those that write equal values once."""
    values: int
    uncompressed_bytes: int


def column_chunks(file: Any) -> list[ColumnChunk]:
    """Those of all row groups.

    Args:
        file: opened to read bytes: Python's or pyarrow's.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no Parquet file, or its footer is damaged.
    """
    footer = _footer(file)
    try:
        groups = _Reader(footer).value(_STRUCT, 0)[4]
        return [_chunk(column[3]) for group in groups for column in group[1]]
    except (LookupError, TypeError, ValueError, AttributeError, struct.error) as e:
        msg = f"its footer is damaged ({type(e).__name__})"
        raise ValueError(msg) from e


def _footer(file: Any) -> bytes:
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - 8))
    tail = file.read(8)
    length = int.from_bytes(tail[:4], "little")
    if len(tail) < 8 or tail[4:] != _MAGIC or length > size - 8:
        msg = "it is no Parquet file, or is cut off"
        raise ValueError(msg)
    file.seek(size - 8 - length)
    footer: bytes = file.read(length)
    return footer


def _chunk(said: dict[int, Any]) -> ColumnChunk:
    return ColumnChunk(
        path=".".join(part.decode() for part in said[3]),
        kind=int(said[1]),
        encodings=frozenset(said[2]),
        values=max(0, int(said[5])),
        uncompressed_bytes=max(0, int(said[6])),
    )


class _Reader:
    """Values of Thrift's compact protocol: structures as dictionaries by the number of the field."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def value(self, kind: int, depth: int) -> Any:
        if depth > DEPTH:
            msg = "too deep"
            raise ValueError(msg)
        if kind == _STRUCT:
            return self._structure(depth)
        if kind in (_I16, _I32, _I64):
            number = self._varint()
            return number >> 1 ^ -(number & 1)
        if kind == _BINARY:
            return self._bytes(self._varint())
        if kind in (_LIST, _SET):
            return self._list(depth)
        if kind == _DOUBLE:
            return struct.unpack("<d", self._bytes(8))[0]
        if kind in (_TRUE, _FALSE, _BYTE):  # in a list; a field's own boolean is in its header
            return self._bytes(1)[0]
        if kind == _MAP:
            return self._map(depth)
        msg = f"type {kind}"
        raise ValueError(msg)

    def _structure(self, depth: int) -> dict[int, Any]:
        found: dict[int, Any] = {}
        number = 0
        while head := self._bytes(1)[0]:
            if head >> 4:
                number += head >> 4
            else:
                number = self.value(_I16, depth)
            kind = head & 15
            found[number] = kind == _TRUE if kind in (_TRUE, _FALSE) else self.value(kind, depth + 1)
        return found

    def _list(self, depth: int) -> list[Any]:
        head = self._bytes(1)[0]
        count = head >> 4 if head >> 4 < 15 else self._varint()
        if count > len(self._data) - self._at:  # each takes a byte at least
            msg = "a list is cut off"
            raise ValueError(msg)
        return [self.value(head & 15, depth + 1) for _ in range(count)]

    def _map(self, depth: int) -> dict[Any, Any]:
        count = self._varint()
        kinds = self._bytes(1)[0] if count else 0
        if count > len(self._data) - self._at:
            msg = "a map is cut off"
            raise ValueError(msg)
        return {self.value(kinds >> 4, depth + 1): self.value(kinds & 15, depth + 1) for _ in range(count)}

    def _bytes(self, count: int) -> bytes:
        start, self._at = self._at, self._at + count
        if self._at > len(self._data):
            msg = "a value is cut off"
            raise ValueError(msg)
        return self._data[start : self._at]

    def _varint(self) -> int:
        number = shift = 0
        while shift < 70:
            byte = self._bytes(1)[0]
            number |= (byte & 127) << shift
            if byte < 128:
                return number
            shift += 7
        msg = "a number is too long"
        raise ValueError(msg)

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchseg.output import parquet_limits
from batchseg.output.parquet_footer import ColumnChunk, column_chunks
from batchseg.output.parquet_limits import (
    FLOOR_BYTES,
    GROWTH,
    Allowance,
    bytes_of,
    check_size,
    claimed_bytes,
    is_small,
    repeating_texts,
)


def chunk(**changes) -> ColumnChunk:
    usual = {"path": "a", "kind": 6, "encodings": frozenset((0, 3)), "values": 10, "uncompressed_bytes": 7}
    return ColumnChunk(**usual | changes)


def dictionary(count: int, *values: str):
    return pa.DictionaryArray.from_arrays(
        pa.array(np.arange(count) % len(values), pa.int32()), pa.array(values)
    )


def opened(table: pa.Table) -> tuple[pq.ParquetFile, bytes]:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", store_schema=False)
    return pq.ParquetFile(io.BytesIO(sink.getvalue())), sink.getvalue()


def test_what_is_taken_is_gone():
    allowance = Allowance(1000)
    allowance.check(FLOOR_BYTES + 1000 * GROWTH)
    allowance.take(FLOOR_BYTES)
    allowance.take(1000 * GROWTH)
    with pytest.raises(pa.ArrowInvalid, match="its 1,000 bytes stand for tables of more than"):
        allowance.take(1)


def test_columns_take_their_bytes_or_those_of_their_values():
    numbers = chunk(kind=2, values=1000, uncompressed_bytes=9)
    assert claimed_bytes([chunk(), chunk(uncompressed_bytes=500), numbers]) == 40 + 500 + 8000
    assert claimed_bytes([]) == 0


def test_texts_that_are_written_once_are_named():
    chunks = [
        chunk(),
        chunk(path="b", encodings=frozenset((0, 3, 8))),
        chunk(path="c", encodings=frozenset((7,))),
    ]
    chunks.append(chunk(path="d", kind=1, encodings=frozenset((8,))))
    assert repeating_texts(chunks, ["c"]) == ["b"]
    _, data = opened(pa.table({"text": dictionary(9, "a"), "n": [7] * 9}))
    assert repeating_texts(column_chunks(io.BytesIO(data)), []) == ["text"]


def test_each_text_counts_as_the_longest_or_as_what_it_is():
    table = pa.table({"a": dictionary(1000, "x", "y" * 999)})
    assert bytes_of(table) - table.nbytes == 999 * 1000
    assert bytes_of(table, ["a"]) - table.nbytes == 500 * (1 + 999)
    structs = pa.StructArray.from_arrays([dictionary(6, "xyz"), pa.array(range(6))], names=["path", "n"])
    lists = pa.table({"l": pa.ListArray.from_arrays(pa.array([0, 2, 6], pa.int32()), structs)})
    assert bytes_of(lists) - lists.nbytes == 18
    for plain in (
        pa.table({"a": ["x"]}),
        pa.table({"a": pa.nulls(3, pa.dictionary(pa.int32(), pa.string()))}),
    ):
        assert bytes_of(plain) == plain.nbytes


def test_a_file_of_few_rows_and_bytes_is_small():
    file, _ = opened(pa.table({"a": ["x" * 1000] * 100}))
    assert is_small(file.metadata)
    file, _ = opened(pa.table({"a": [f"{n:0>100}" for n in range(20_000)]}))
    assert not is_small(file.metadata)


def test_rows_that_no_bytes_stand_for_are_refused_before_they_are_read(monkeypatch):
    monkeypatch.setattr(parquet_limits, "FLOOR_BYTES", 1000)
    monkeypatch.setattr(parquet_limits, "GROWTH", 16)
    file, data = opened(pa.table({"n": np.zeros(10**6, np.int64)}))
    with pytest.raises(pa.ArrowInvalid, match="which batchseg does not write"):
        check_size(file.metadata, len(data))
    file, data = opened(pa.table({"n": np.arange(10**5)}))
    check_size(file.metadata, len(data))

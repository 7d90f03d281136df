import contextlib
import io
import random
import signal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchseg.output.columns import to_parquet
from batchseg.output.parquet_footer import ColumnChunk, column_chunks
from batchseg.output.record import Output, PhotoRecord, to_table

KINDS = ["BOOLEAN", "INT32", "INT64", "INT96", "FLOAT", "DOUBLE", "BYTE_ARRAY"]
ENCODINGS = {"PLAIN": 0, "PLAIN_DICTIONARY": 2, "RLE": 3, "BIT_PACKED": 4, "DELTA_BINARY_PACKED": 5,
             "DELTA_LENGTH_BYTE_ARRAY": 6, "DELTA_BYTE_ARRAY": 7, "RLE_DICTIONARY": 8}  # fmt: skip


def as_pyarrow_says(data: bytes) -> list[ColumnChunk]:
    metadata = pq.read_metadata(io.BytesIO(data))
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    chunks = [group.column(number) for group in groups for number in range(group.num_columns)]
    return [
        ColumnChunk(
            path=chunk.path_in_schema,
            kind=KINDS.index(chunk.physical_type),
            encodings=frozenset(ENCODINGS[name] for name in chunk.encodings),
            values=chunk.num_values,
            uncompressed_bytes=chunk.total_uncompressed_size,
        )
        for chunk in chunks
    ]


def ledger() -> bytes:
    outputs = (Output(path="masks/a.png", nbytes=3, sha256="0" * 64),)
    rows = [PhotoRecord(status="done", source_id=f"{n}.png", tag="t", outputs=outputs) for n in range(50)]
    return to_parquet([to_table(rows)] * 3, "run")


def written(**options) -> bytes:
    sink = io.BytesIO()
    table = pa.table({"text": ["a", None, "bb" * 99], "n": [1, 2, 3], "f": [0.5, None, 1], "b": [True] * 3})
    pq.write_table(table, sink, row_group_size=2, **options)
    return sink.getvalue()


FILES = {
    "ledger": ledger(),
    "plain": written(use_dictionary=False),
    "dictionary": written(),
    "delta": written(use_dictionary=False, column_encoding={"text": "DELTA_BYTE_ARRAY"}),
    "index": written(write_page_index=True, compression="zstd"),
    "old": written(version="1.0", data_page_version="2.0", write_statistics=False),
    "empty": to_parquet([], "run"),
}


@pytest.mark.parametrize("name", FILES)
def test_columns_are_as_pyarrow_says(name, tmp_path):
    data = FILES[name]
    assert column_chunks(io.BytesIO(data)) == as_pyarrow_says(data)
    (tmp_path / "a.parquet").write_bytes(data)
    with pa.OSFile(str(tmp_path / "a.parquet"), "rb") as file:
        assert column_chunks(file) == as_pyarrow_says(data)


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" * 3, b"\xff\xff\xff\x7fPAR1", b"x" * 100, b"\0" * 9])
def test_what_is_no_parquet_file_is_a_value_error(data):
    with pytest.raises(ValueError, match=r"no Parquet file|footer is damaged"):
        column_chunks(io.BytesIO(data))


@pytest.mark.parametrize("nested", [b"\x1c", b"\x19\x1c", b"\x1b\x01\xcc"])
def test_structures_inside_each_other_end(nested):
    footer = nested * 5000
    with pytest.raises(ValueError, match="footer is damaged"):
        column_chunks(io.BytesIO(footer + len(footer).to_bytes(4, "little") + b"PAR1"))


def test_damaged_footers_give_columns_or_a_value_error():
    chance = random.Random(5)
    signal.alarm(60)
    data = FILES["plain"]
    start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    for _ in range(3000):
        changed = bytearray(data)
        for _ in range(chance.choice((1, 1, 3))):
            changed[chance.randrange(start, len(data))] = chance.randrange(256)
        with contextlib.suppress(ValueError):
            assert all(chunk.values >= 0 for chunk in column_chunks(io.BytesIO(changed)))
    signal.alarm(0)

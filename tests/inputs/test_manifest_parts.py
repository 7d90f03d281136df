"""Manifests that are made to take memory are refused in words, and take none."""

import io
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchseg.inputs import manifest_parts
from batchseg.inputs.manifest import paths_of, read_rows
from batchseg.inputs.manifest_parts import (
    BATCH_ROWS,
    LINE,
    check_cells,
    csv_rows,
    lines_of,
    parquet_batches,
    spoken,
)
from batchseg.inputs.photo_manifest import read_manifest

MIB = 2**20


class Endless(io.RawIOBase):
    """A file of 4 GiB of one letter behind its beginning."""

    def __init__(self, beginning: bytes) -> None:
        self.left, self.beginning = 2**32, beginning

    def readable(self):
        return True

    def readinto(self, buffer):
        if self.beginning:
            part, self.beginning = self.beginning[: len(buffer)], self.beginning[len(buffer) :]
        else:
            part = b"a" * min(len(buffer), self.left)
            self.left -= len(part)
        buffer[: len(part)] = part
        return len(part)


@pytest.mark.parametrize("read", [lines_of, csv_rows])
def test_a_line_without_end_is_refused_by_its_number_and_takes_no_memory(read):
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"^line 3 has more than 1,048,576 characters"):
            list(read(io.BufferedReader(Endless(b"uri\n# a\n"))))
        assert tracemalloc.get_traced_memory()[1] < 16 * MIB
    finally:
        tracemalloc.stop()


def test_a_row_of_many_lines_is_a_row():
    cells = ",".join(f'"{"a" * 60}\n{"b" * 60}"' for _ in range(10_000))
    with pytest.raises(ValueError, match=r"ends or goes on in line .*is a quote left open"):
        list(csv_rows(io.BytesIO(f"uri\n{cells}\n".encode())))


def test_a_cell_without_end_is_refused():
    text = 'uri,note\na.tif,"' + "line\n" * 40_000 + '"\n'
    with pytest.raises(ValueError, match=r"line \d+: has a cell of more than 131,072 characters"):
        list(csv_rows(io.BytesIO(text.encode())))


@given(st.text(alphabet="ab \n\r\x0b\x0c\x1c\x85\u2028ü#", max_size=40))
def test_lines_are_those_of_splitlines(text):
    assert list(lines_of(io.BytesIO(text.encode()))) == text.splitlines()


def test_the_file_stays_open_and_can_be_read_again():
    file = io.BytesIO(b"\xef\xbb\xbfa,b\n1,2\n")
    rows = csv_rows(file)
    assert next(rows) == ["a", "b"]
    rows.close()
    file.seek(0)
    assert list(csv_rows(file)) == [["a", "b"], ["1", "2"]]


def parquet(table, **options) -> io.BytesIO:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    sink.seek(0)
    return sink


def test_rows_of_a_table_come_as_they_are():
    table = pa.table(
        {"uri": [f"{n}.tif" for n in range(40_000)], "n": range(40_000), "w": ["x", None] * 20_000}
    )
    for options in ({}, {"use_dictionary": False}, {"row_group_size": 7_000}):
        found = pa.Table.from_batches(parquet_batches(parquet(table, **options), ["uri", "w"]))
        assert found.to_pylist() == table.select(["uri", "w"]).to_pylist()


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"uri": ["a.tif", "b" * 70_000]}, "row 2, column 'uri': a cell of 70,000 bytes; at most 65,536"),
        ({"uri": ["a.tif"], "box": [[1, 2]]}, "its column 'box' holds list.*expected text"),
        ({"uri": ["a.tif"], "raw": [b"1"]}, "its column 'raw' holds binary"),
        ({"uri": ["a.tif"], **{f"c{n}": [n] for n in range(1000)}}, "has 1,001 columns; at most 1,000"),
    ],
)
def test_what_may_be_of_any_size_is_refused(table, words):
    with pytest.raises(ValueError, match=words):
        list(parquet_batches(parquet(pa.table(table))))


@pytest.mark.parametrize("letters", [60_000, 100_000])
def test_a_cell_that_repeats_is_not_expanded(letters):
    """A file of a few kilobytes that says 6 GB."""
    table = pa.table({"uri": pa.DictionaryArray.from_arrays(pa.array([0] * 100_000), ["a" * letters])})
    file = parquet(table.cast(pa.schema({"uri": table.schema.field("uri").type})))
    assert len(file.getvalue()) < 100_000
    before = pa.total_allocated_bytes()
    with pytest.raises(ValueError, match=r"rows from 1 to 16384 hold 983,040,000 bytes|a cell of 100,000"):
        list(parquet_batches(file))
    assert pa.total_allocated_bytes() - before < 16 * MIB


def test_a_column_that_unpacks_to_very_much_is_not_read(monkeypatch):
    monkeypatch.setattr(manifest_parts, "CHUNK_BYTES", 100_000)
    table = pa.table({"uri": [f"{n}.tif" for n in range(20_000)]})
    with pytest.raises(ValueError, match=r"its column 'uri' unpacks to .* bytes in row group 1.*row groups"):
        list(parquet_batches(parquet(table)))
    assert sum(len(b) for b in parquet_batches(parquet(table, row_group_size=2_000))) == 20_000


def test_a_cell_of_very_much_is_not_unpacked():
    file = parquet(pa.table({"uri": ["a" * 64 * MIB]}), compression="zstd")
    assert len(file.getvalue()) < 100_000
    before = pa.default_memory_pool().max_memory()
    with pytest.raises(ValueError, match=r"its column 'uri' unpacks to 67,.* of 1 rows.*are these paths"):
        list(parquet_batches(file))
    assert pa.default_memory_pool().max_memory() == before


def test_more_rows_or_bytes_than_a_manifest_may_have_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(manifest_parts, "ROWS", 20_000)
    names = [f"{n}.tif" for n in range(20_001)]
    pq.write_table(pa.table({"uri": names}), tmp_path / "m.parquet")
    (tmp_path / "m.csv").write_text("\n".join(["uri", *names]))
    (tmp_path / "m.txt").write_text("\n".join(names))
    for name in ("m.parquet", "m.csv", "m.txt"):
        for read in (paths_of, lambda uri: list(read_manifest(uri))):
            with pytest.raises(ValueError, match="more than 20,000 rows; divide it"):
                read(str(tmp_path / name))
    monkeypatch.setattr(manifest_parts, "ROWS", 30_000)
    monkeypatch.setattr(manifest_parts, "WHOLE_BYTES", 100_000)
    with pytest.raises(ValueError, match="hold more than 100,000 bytes; divide it"):
        paths_of(str(tmp_path / "m.parquet"))
    with pytest.raises(ValueError, match="hold more than 100,000 bytes; divide it"):
        list(read_manifest(str(tmp_path / "m.csv")))


def test_cells_are_counted_where_they_stand():
    words = pa.array(["a", "bcd"])
    batch = pa.record_batch(
        {
            "text": ["äb", None, ""],
            "some": pa.DictionaryArray.from_arrays(pa.array([1, 1, None]), words),
            "n": [1, 2, 3],
        }
    )
    assert check_cells(batch, 1) == 3 + 6
    assert BATCH_ROWS * LINE > manifest_parts.BATCH_BYTES


def test_a_short_row_has_empty_cells_and_a_name_that_stands_twice_means_the_last(tmp_path):
    (tmp_path / "m.csv").write_text("a,b,a\n1,2,3\n\n4\n5,6,7,8\n")
    rows = list(read_rows(str(tmp_path / "m.csv"), ["a", "b"]))
    assert rows == [{"a": "3", "b": "2"}, {"a": None, "b": None}, {"a": "7", "b": "6"}]


def test_messages_stay_short():
    text = spoken(f"{n}" * 100 for n in range(1000))
    assert len(text) < 2_000
    assert text.endswith("and 980 more")
    assert spoken([]) == "none"

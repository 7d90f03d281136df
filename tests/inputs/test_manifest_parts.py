"""Manifests that are made to take memory are refused in words, and take none."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchseg.inputs import manifest_parts
from batchseg.inputs.manifest import paths_of
from batchseg.inputs.manifest_parts import (
    BATCH_ROWS,
    LINE,
    check_cells,
    parquet_batches,
    spoken,
)
from batchseg.inputs.photo_manifest import read_manifest

MIB = 2**20


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
        for read in (lambda uri: list(paths_of(uri)), lambda uri: list(read_manifest(uri))):
            with pytest.raises(ValueError, match="more than 20,000 rows; divide it"):
                read(str(tmp_path / name))
    monkeypatch.setattr(manifest_parts, "ROWS", 30_000)
    monkeypatch.setattr(manifest_parts, "WHOLE_BYTES", 100_000)
    with pytest.raises(ValueError, match="hold more than 100,000 bytes; divide it"):
        list(paths_of(str(tmp_path / "m.parquet")))
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
    assert check_cells(batch, range(1, 4)) == 3 + 6
    assert BATCH_ROWS * LINE > manifest_parts.BATCH_BYTES


def test_messages_stay_short():
    text = spoken(f"{n}" * 100 for n in range(1000))
    assert len(text) < 2_000
    assert text.endswith("and 980 more in its header")
    assert spoken([]) == "none"

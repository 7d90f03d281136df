"""The ledger's rows as columns, against records."""

import gc
import io
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchseg.output.columns import (
    GROUP_ROWS,
    HELD,
    first_output,
    from_parquet,
    latest,
    outputs_of,
    to_parquet,
    with_part,
)
from batchseg.output.ledger import Ledger
from batchseg.output.parquet_limits import Allowance
from batchseg.output.record import SCHEMA, Output, PhotoRecord, ShardRecord, filled, to_records, to_table

properties = settings(deadline=None, max_examples=25)

paths = st.sampled_from(["masks/a.png", "masks/b.tif", "annotations/crs=none/p.parquet", "confidence/a.tif"])
outputs = st.builds(Output, path=paths, nbytes=st.integers(0, 2**40), sha256=st.sampled_from(["0", "1"]))
records = st.builds(
    PhotoRecord,
    recorded=st.integers(1, 9),
    status=st.sampled_from(["done", "quarantined", "failed", "removed"]),
    source_id=st.sampled_from(["a", "b", "ü/c d", "\U0001f600", "￿"]),
    tag=st.sampled_from(["t1", "t2"]),
    rule=st.sampled_from(["", "crack"]),
    judged=st.just("rules"),  # what says nothing that photographs alone have is read as a scene's
    class_ids=st.lists(st.integers(0, 3), max_size=3).map(tuple),
    outputs=st.lists(outputs, max_size=3).map(tuple),
    confidence=st.sampled_from([0.0, 0.5]),
)
tables = st.lists(st.lists(records, min_size=1, max_size=6), max_size=5)


def held(batch: list[PhotoRecord]) -> list[pa.Table]:
    return list(from_parquet(to_parquet([to_table(batch)], "run")))


@properties
@given(tables)
def test_the_last_row_of_each_source_counts(batches: list[list[PhotoRecord]]) -> None:
    expected = {record.source_id: record for batch in batches for record in batch}
    found = latest([HELD.empty_table(), *(table for batch in batches for table in held(batch))])
    assert found.schema.equals(HELD)
    assert list(to_records(found)) == [
        expected[key] for key in sorted(expected) if expected[key].status != "removed"
    ]


@properties
@given(tables)
def test_outputs_are_found_and_replaced_as_records_say(batches: list[list[PhotoRecord]]) -> None:
    rows = [record for batch in batches for record in batch]
    table = pa.concat_tables([HELD.empty_table(), *(table for batch in batches for table in held(batch))])
    assert first_output(table, "annotations").to_pylist() == [r.regions_part or None for r in rows]
    assert first_output(table, "masks").to_pylist() == [r.mask or None for r in rows]
    assert len(outputs_of(table)) == sum(len(record.outputs) for record in rows)
    part = Output(path="annotations/crs=none/new.parquet", nbytes=7, sha256="2")
    others = [tuple(o for o in r.outputs if not o.path.startswith("annotations/")) for r in rows]
    expected = [replace(r, outputs=(*kept, part)) for r, kept in zip(rows, others, strict=True)]
    assert list(to_records(with_part(table, part))) == expected


def output(path: str, number: int) -> dict[str, object]:
    return {"path": path, "nbytes": number, "sha256": f"{number:064x}"}


def photographs(count: int, first: int = 0) -> pa.Table:
    """Rows as a run records them: 16 in 100 with a mask of their own, 500 to a part."""
    numbers = range(first, first + count)
    ids = [f"line{number % 7}/IMG_{number:08d}.jpg" for number in numbers]
    made = [
        [
            {
                "path": f"annotations/crs=none/part-{n // 500:016x}.parquet",
                "nbytes": n,
                "sha256": f"{n // 500:064x}",
            }
        ]
        + [{"path": f"masks/{n}.png", "nbytes": 9, "sha256": f"{n:064x}"}] * (n % 6 == 0)
        for n in numbers
    ]
    random = np.random.default_rng(first)
    columns = {
        "status": ["done"] * count,
        "source_id": ids,
        "tag": [f"{n:016x}" for n in random.integers(0, 2**60, count)],
        "uri": [f"/mnt/incoming/{source_id}" for source_id in ids],
        "pixel": ["p" * 16] * count,
        "product": ["q" * 16] * count,
        "verdict": ["FAIL" if n % 6 == 0 else "PASS" for n in numbers],
        "height": np.full(count, 300),
        "width": np.full(count, 400),
        "valid_pixels": np.full(count, 120000),
        "class_ids": [[0, 3]] * count,
        "class_pixels": [[119000, n % 1000] for n in numbers],
        "class_regions": [[0, n % 4] for n in numbers],
        "largest_px": random.integers(0, 999, count),
        "outputs": made,
    }
    kinds = {name: SCHEMA.field(name).type for name in columns}
    return filled({name: pa.array(values, kinds[name]) for name, values in columns.items()}, count)


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    return photographs(30_000)


def grown(ledger_of) -> tuple[Ledger, int]:
    gc.collect()
    before = pa.total_allocated_bytes()
    ledger = ledger_of()
    ledger.table()
    gc.collect()
    return ledger, pa.total_allocated_bytes() - before


def test_a_source_takes_about_300_bytes_however_it_came(tmp_path, rows: pa.Table) -> None:
    text = sum(sum(map(len, rows.column(name).to_pylist())) for name in ("source_id", "tag", "uri"))
    own = sum(len(f"masks/{number}.png") + 64 + 16 + 8 for number in range(0, len(rows), 6))
    output = str(tmp_path)

    def appended() -> Ledger:
        ledger = Ledger(output)
        for start in range(0, len(rows), 2000):
            ledger.append_table(rows.slice(start, 2000))
        return ledger

    ledger, in_mid_run = grown(appended)
    ledger.merge()
    del ledger
    _, loaded = grown(lambda: Ledger(output))
    for nbytes in (in_mid_run, loaded):
        assert (nbytes - text - own) / len(rows) < 180
        assert 200 < nbytes / len(rows) < 300


def equal_rows(column: str, text: str, rows: int) -> bytes:
    """A ledger of one row again and again, in which a text of one column is written once for all of them."""
    row = to_table([PhotoRecord(status="done", source_id="a", tag="t", uri="/a")])

    def values(field):
        if pa.types.is_list(field.type):
            offsets = pa.array(np.zeros(rows + 1, np.int32))
            return pa.ListArray.from_arrays(offsets, pa.array([], field.type.value_type))
        if not pa.types.is_string(field.type):
            return pa.repeat(row.column(field.name)[0], rows)
        said = text if field.name == column else row.column(field.name)[0].as_py()
        return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([said]))

    sink = io.BytesIO()
    table = pa.table({field.name: values(field) for field in SCHEMA})
    pq.write_table(table, sink, compression="zstd", store_schema=False)
    return sink.getvalue()


@pytest.mark.parametrize("column", ["source_id", "uri", "attributes", "verdict", "pixel"])
def test_equal_rows_do_not_take_gigabytes(column):
    data = equal_rows(column, "x" * 3400, 400_000)
    assert len(data) < 2**18
    pool = pa.default_memory_pool()
    before = max(pool.max_memory(), pool.bytes_allocated())
    with pytest.raises(pa.ArrowInvalid, match="bytes stand for tables of more than"):
        list(from_parquet(data))
    assert pool.max_memory() - before < 2**28


def test_a_ledger_whose_texts_are_dictionaries_is_read_as_it_is():
    """As the first versions wrote it."""
    data = equal_rows("source_id", "ü" * 500, 100_000)
    table = pa.concat_tables(from_parquet(data))
    assert len(table) == 100_000
    assert table.column("source_id").type == pa.string()
    assert table.column("source_id").unique().to_pylist() == ["ü" * 500]


def test_a_million_shards_of_one_scene_are_a_ledger():
    """They compress a thousand times, and are what a run over a large sea leaves."""
    shard = ShardRecord(source_id="a" * 80, tag="t" * 30, uri="/archive/" + "a" * 80, grid="4x4", width=9)
    shards = to_table([shard] * GROUP_ROWS)
    data = to_parquet([shards] * 16, "run")
    assert sum(len(table) for table in from_parquet(data)) == 16 * GROUP_ROWS
    assert len(data) < 2**20


def test_many_parts_share_one_allowance():
    data = equal_rows("source_id", "x" * 1000, 400_000)
    allowance = Allowance(4 * len(data))
    with pytest.raises(pa.ArrowInvalid, match="which batchseg does not write"):
        for _ in range(4):
            list(from_parquet(data, allowance))


def test_rows_of_before_validity_was_recorded_say_nothing_of_it():
    late = ["review_reason", "rule_px", "rule_class", "interests", "interest_valid"]
    record = PhotoRecord(status="done", source_id="a.png", tag="t", verdict="PASS", valid_pixels=9)
    table = to_table([record]).drop_columns(late)
    (read,) = from_parquet(to_parquet([table], "r", table.schema))
    assert read.schema.names == SCHEMA.names
    assert next(iter(to_records(read))) == record


@pytest.mark.parametrize(
    "late", [[name] for name in SCHEMA.names if name not in ("status", "source_id", "tag")]
)
def test_a_ledger_that_lacks_a_later_column_is_read(late: list[str]) -> None:
    """As an earlier version wrote it, whatever columns came later."""
    record = PhotoRecord(status="done", source_id="a.png", tag="t", judged="rules", verdict="PASS")
    table = to_table([record, record]).drop_columns(late)
    (read,) = from_parquet(to_parquet([table], "r", table.schema))
    assert read.schema.names == SCHEMA.names
    assert [r.source_id for r in to_records(read)] == ["a.png"] * 2

import pytest
from stored import put

from batchseg.errors import OutputError
from batchseg.output import parquet_limits
from batchseg.output.columns import to_parquet
from batchseg.output.layout import ledger_file
from batchseg.output.ledger_files import parts_there, read_parts, read_snapshot
from batchseg.output.publish import publish
from batchseg.output.record import SceneRecord, to_table


def part(*names: str) -> bytes:
    return to_parquet([to_table(SceneRecord(status="done", source_id=n, tag="t") for n in names)], "run")


def ids_of(tables) -> list[str]:
    return [source_id for table in tables for source_id in table.column("source_id").to_pylist()]


def test_parts_are_told_apart_and_come_in_the_order_of_their_numbers(root):
    for number in (12, 3, 100):
        publish(ledger_file(root, "segment", number), b"x" * number)
    publish(ledger_file(root, "snapshot", 2), b"xx")
    put(f"{ledger_file(root, 'segment', 4)}.tmp", b"")
    snapshots, segments = parts_there(root)
    assert (snapshots, list(segments.items())) == ({2: 2}, [(3, 3), (12, 12), (100, 100)])


def test_an_output_without_a_ledger_has_no_parts(root):
    assert parts_there(root) == ({}, {})


def test_parts_and_snapshots_are_read_from_any_storage(root):
    uris = [ledger_file(root, "segment", number) for number in (1, 2)]
    for uri, names in zip(uris, (["b", "a"], ["c"]), strict=True):
        publish(uri, part(*names))
    assert [ids_of(tables) for tables in read_parts(uris)] == [["b", "a"], ["c"]]
    assert ids_of(read_snapshot(uris[0])) == ["b", "a"]


def test_a_damaged_part_says_what_to_do(root):
    uri = ledger_file(root, "segment", 1)
    publish(uri, part("a")[:-9])
    for read in (lambda: [list(tables) for tables in read_parts([uri])], lambda: list(read_snapshot(uri))):
        with pytest.raises(OutputError, match="restore it from a backup"):
            read()


def test_a_part_that_is_gone_is_told_apart_from_a_damaged_one(root):
    with pytest.raises(FileNotFoundError):
        list(read_parts([ledger_file(root, "segment", 1)]))
    with pytest.raises(FileNotFoundError):
        list(read_snapshot(ledger_file(root, "snapshot", 1)))


def test_parts_that_would_take_too_much_memory_are_an_error_of_the_output(root, monkeypatch):
    monkeypatch.setattr(parquet_limits, "FLOOR_BYTES", 0)
    monkeypatch.setattr(parquet_limits, "GROWTH", 0)
    uri = ledger_file(root, "segment", 1)
    publish(uri, part("a"))
    for read in (lambda: [list(tables) for tables in read_parts([uri])], lambda: list(read_snapshot(uri))):
        with pytest.raises(OutputError, match="which batchseg does not write; restore it from a backup"):
            read()


def test_a_segment_of_a_disk_that_was_only_begun_has_no_rows_and_a_snapshot_is_damaged(tmp_path):
    segment = ledger_file(str(tmp_path), "segment", 1)
    put(segment.uri, b"")
    assert [list(rows) for rows in read_parts([segment])] == [[]]
    snapshot = ledger_file(str(tmp_path), "snapshot", 1)
    put(snapshot.uri, b"")
    with pytest.raises(OutputError, match="restore it from a backup"):
        list(read_snapshot(snapshot))


def test_a_segment_of_a_bucket_that_holds_nothing_is_damaged():
    segment = ledger_file("memory://root", "segment", 1)
    put(segment.uri, b"")
    with pytest.raises(OutputError, match="restore it from a backup"):
        list(next(read_parts([segment])))

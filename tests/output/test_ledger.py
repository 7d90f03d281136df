import dataclasses
import hashlib
import shutil
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import WINDOWS, batches

from batchseg.errors import ConfigError, OutputError
from batchseg.output import ledger as ledger_module
from batchseg.output.ledger import Ledger
from batchseg.output.record import Output, PhotoRecord, SceneRecord, ShardRecord, to_table
from batchseg.pixels.own_values import VALUES_REFUSED
from batchseg.predict.moved import SeamSample

properties = settings(deadline=None, max_examples=15)


def shard(number: int = 0, **changes) -> ShardRecord:
    window = WINDOWS[number]
    record = ShardRecord(
        source_id="a.tif",
        tag="t1",
        pixel="p",
        grid="2x3",
        cpu_class="avx2",
        row_off=window.row_off,
        col_off=window.col_off,
        height=window.height,
        width=window.width,
    )
    return dataclasses.replace(record, **changes)


def end(status: str, **changes) -> SceneRecord:
    return dataclasses.replace(SceneRecord(status=status, source_id="a.tif", tag="t1"), **changes)


def content(ledger: Ledger):
    shards = {key: found for key in ledger.unfinished() if (found := ledger.shards(key))}
    return list(ledger.sources()), shards


def replayed(records):
    """What the records say, worked out from the rules alone."""
    sources, shards = {}, {}
    for record in records:
        key = record.source_id
        if record.status == "shard":
            generation = (record.tag, record.pixel, record.grid, record.cpu_class)
            if shards.get(key, (generation, {}))[0] != generation:
                del shards[key]
            shards.setdefault(key, (generation, {}))[1][record.window] = record
        else:
            sources[key] = record
            if record.status != "failed":
                shards.pop(key, None)
    ordered = {key: [held[window] for window in sorted(held)] for key, (_, held) in sorted(shards.items())}
    return [sources[key] for key in sorted(sources)], ordered


@properties
@given(st.lists(st.one_of(batches, st.sampled_from(["merge", "reopen"])), max_size=8))
def test_memory_and_disk_hold_what_was_appended(steps):
    with tempfile.TemporaryDirectory() as output:
        ledger, appended = Ledger(output), []
        for step in steps:
            if step == "merge":
                ledger.merge()
            elif step == "reopen":
                ledger = Ledger(output)
            else:
                ledger.append(step)
                appended += step
            assert content(ledger) == replayed(appended)
        assert content(Ledger(output)) == replayed(appended)


@properties
@given(st.lists(batches, min_size=1, max_size=4), st.lists(batches, min_size=1, max_size=3), st.data())
def test_a_merge_interrupted_at_its_removals_loses_nothing(first, second, data):
    with tempfile.TemporaryDirectory() as folder:
        output, before = f"{folder}/out", f"{folder}/before"
        ledger = Ledger(output)
        for batch in first:
            ledger.append(batch)
        ledger.merge()
        for batch in second:
            ledger.append(batch)
        parts = Path(output, "_batchseg", "ledger")
        shutil.copytree(parts, before)
        ledger.merge()
        removed = sorted({path.name for path in Path(before).iterdir()} - {p.name for p in parts.iterdir()})
        for name in data.draw(st.sets(st.sampled_from(removed))):
            shutil.copy(Path(before, name), parts / name)
        again = Ledger(output)
        assert content(again) == content(ledger)
        more = [shard(source_id="later.tif")]
        again.append(more)
        again.merge()
        expected = replayed([record for batch in [*first, *second, more] for record in batch])
        assert content(Ledger(output)) == expected
        assert len(list(parts.iterdir())) == 1


SHARED = {
    "source_id": "ordner/überflug 1.tif",
    "tag": "t",
    "pixel": "p",
    "cpu_class": "avx512",
    "height": 4,
    "width": 5,
    "predicted": 6,
    "uri": "s3://bucket/a.tif",
}
OF_SOURCES = SHARED | {
    "status": "done",
    "product": "q",
    "encoding": "0" * 16,
    "valid_pixels": 2**40,
    "class_ids": (0, 65534),
    "class_pixels": (2**40, 1),
    "class_area_m2": (0.1, 1e15),
    "outputs": (Output(path="masks/a.tif", nbytes=2**33, sha256="f" * 64),),
    "region_count": 7,
    "error": "line one\nline two",
    "recorded": 2**40,
    "value_spread": (-0.5, 0.1, 1e9),
    "clipped_pixels": 2**40,
}
SEAMS = tuple(
    SeamSample(
        row_off=1, col_off=2, height=3, width=4, class_id=n, pixels=2**40, changed=n, lon=-179.5, lat=1.25
    )
    for n in (0, 65534)
)
FULL = [
    ShardRecord(
        **SHARED,
        grid="2x3",
        row_off=2**31 - 1,
        col_off=3,
        empty=True,
        bad_pixels=2**41,
        fragment_bytes=2**33,
        seams=SEAMS,
    ),
    SceneRecord(**OF_SOURCES, grid="2x3", bad_pixels=2**41, seams=SEAMS),
    PhotoRecord(
        **OF_SOURCES,
        empty=True,
        class_regions=(0, 2**40),
        verdict="FAIL",
        rule="crack",
        review_reason="nothing of the image has data",
        unlike="its values end at 4095",
        rule_px=2**40,
        rule_class=2,
        judged="1" * 16,
        interests="3" * 16,
        interest_valid=(0.5, 1e9),
        largest_px=2**40,
        largest_class=3,
        confidence=0.5,
        attributes='{"line":"7"}',
        content="2" * 16,
        same_as="b.tif",
    ),
]


@pytest.mark.parametrize("record", FULL, ids=lambda record: type(record).__name__)
def test_every_field_survives_the_disk(tmp_path, record):
    defaults = {field.name: field.default for field in dataclasses.fields(record)}
    assert all(getattr(record, name) != value for name, value in defaults.items())
    Ledger(str(tmp_path)).append([record])
    again = Ledger(str(tmp_path))
    assert [*again.sources(), *again.shards(record.source_id)] == [record]


def test_a_ledger_from_before_a_column_was_known_is_read(tmp_path, monkeypatch):
    record = shard()
    earlier = ledger_module.SCHEMA.remove(ledger_module.SCHEMA.get_field_index("bad_pixels"))
    with monkeypatch.context() as patch:
        patch.setattr(ledger_module, "SCHEMA", earlier)
        Ledger(str(tmp_path)).append([record])
    ledger = Ledger(str(tmp_path))
    assert ledger.shards("a.tif") == [record]
    ledger.append([shard(1, bad_pixels=7)])
    ledger.merge()
    assert [r.bad_pixels for r in Ledger(str(tmp_path)).shards("a.tif")] == [0, 7]


@pytest.mark.parametrize(
    "change", [{"tag": "t2"}, {"pixel": "q"}, {"grid": "1x1"}, {"cpu_class": "avx512"}], ids=str
)
def test_a_shard_of_another_generation_voids_the_earlier_ones(tmp_path, change):
    ledger = Ledger(str(tmp_path))
    ledger.append([shard(0), shard(1), shard(0, source_id="b.tif")])
    ledger.append([shard(2, **change)])
    for view in (ledger, Ledger(str(tmp_path))):
        assert view.shards("a.tif") == [shard(2, **change)]
        assert view.shards("b.tif") == [shard(0, source_id="b.tif")]


def test_a_shard_recorded_twice_counts_once(tmp_path):
    ledger = Ledger(str(tmp_path))
    ledger.append([shard(0, predicted=1), shard(0, predicted=2)])
    assert ledger.shards("a.tif") == [shard(0, predicted=2)]


def test_values_that_may_be_meant_void_no_shards(tmp_path):
    ledger = Ledger(str(tmp_path))
    ledger.append([shard(0), shard(1)])
    ledger.append([end("quarantined", error=f"{VALUES_REFUSED}: fractions")])
    for read in (ledger, Ledger(str(tmp_path))):
        assert read.shards("a.tif") == [shard(0), shard(1)]
    ledger.merge()
    assert Ledger(str(tmp_path)).shards("a.tif") == [shard(0), shard(1)]


@pytest.mark.parametrize(("status", "kept"), [("done", []), ("quarantined", []), ("failed", [shard(0)])])
def test_an_end_voids_the_shards_unless_it_is_transient(tmp_path, status, kept):
    ledger = Ledger(str(tmp_path))
    ledger.append([shard(0), end(status)])
    ledger.merge()
    for view in (ledger, Ledger(str(tmp_path))):
        assert view.shards("a.tif") == kept
        assert view.source("a.tif") == end(status)


def test_a_done_source_that_is_done_again_keeps_its_record_until_then(tmp_path):
    ledger = Ledger(str(tmp_path))
    ledger.append([end("done"), shard(0, tag="t2")])
    ledger.merge()
    again = Ledger(str(tmp_path))
    assert again.source("a.tif") == end("done")
    assert again.shards("a.tif") == [shard(0, tag="t2")]


def test_of_two_who_append_at_once_one_is_refused(tmp_path):
    one, two = Ledger(str(tmp_path)), Ledger(str(tmp_path))
    one.append([shard(0)])
    with pytest.raises(OutputError, match="segment 1 exists already"):
        two.append([shard(1)])
    assert Ledger(str(tmp_path)).shards("a.tif") == [shard(0)]
    assert two.shards("a.tif") == []


def test_a_long_tail_is_merged_in_mid_run(tmp_path, monkeypatch):
    monkeypatch.setattr(ledger_module, "MERGE_AFTER", 4)
    ledger = Ledger(str(tmp_path))
    for number in range(11):
        ledger.append([end("done", source_id=f"{number:02d}.tif")])
    names = sorted(path.name for path in (tmp_path / "_batchseg" / "ledger").iterdir())
    assert names == [
        "segment-00000009.parquet",
        "segment-00000010.parquet",
        "segment-00000011.parquet",
        "snapshot-00000008.parquet",
    ]
    assert len(list(Ledger(str(tmp_path)).sources())) == 11


def test_looking_at_a_ledger_writes_nothing(tmp_path):
    ledger = Ledger(str(tmp_path / "out"))
    ledger.append([])
    ledger.merge()
    assert content(ledger) == ([], {})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: b"no parquet"])
def test_a_damaged_part_is_an_error_of_the_output(tmp_path, damage):
    Ledger(str(tmp_path)).append([shard(0)])
    (part,) = (tmp_path / "_batchseg" / "ledger").iterdir()
    part.write_bytes(damage(part.read_bytes()))
    with pytest.raises(OutputError, match="segment-00000001"):
        Ledger(str(tmp_path))


@pytest.mark.parametrize("name", ["plain", "mit Leerzeichen", "2024 [new]", "what?", "a*b", "100%"])
def test_an_output_of_any_name_is_found_again(tmp_path, name):
    output = str(tmp_path / name)
    ledger = Ledger(output)
    ledger.append([shard(0)])
    ledger.merge()
    ledger.append([shard(1)])
    assert Ledger(output).shards("a.tif") == [shard(0), shard(1)]


ends = st.lists(
    st.builds(
        PhotoRecord,
        status=st.sampled_from(["done", "quarantined", "failed"]),
        source_id=st.sampled_from(["a.tif", "b/ü.tif"]),
        tag=st.sampled_from(["t1", "t2"]),
        verdict=st.sampled_from(["PASS", "FAIL"]),
    ),
    min_size=1,
    max_size=4,
)


@settings(properties, max_examples=8)
@given(st.lists(st.one_of(batches, ends.map(tuple), st.sampled_from(["merge", "reopen"])), max_size=8))
def test_rows_appended_as_tables_count_like_records(steps):
    with tempfile.TemporaryDirectory() as output:
        ledger, appended = Ledger(output), []
        for step in steps:
            if step == "merge":
                ledger.merge()
            elif step == "reopen":
                ledger = Ledger(output)
            elif isinstance(step, tuple):
                ledger.append_table(to_table(step))
                appended += step
            else:
                ledger.append(step)
                appended += step
            sources, shards = replayed(appended)
            by_id = {record.source_id: record for record in sources}
            for key in ("a.tif", "b/ü.tif", "none"):
                assert ledger.source(key) == by_id.get(key)
            assert content(ledger) == (sources, shards)
        assert content(Ledger(output)) == replayed(appended)


def test_a_removed_source_is_gone_until_it_comes_again(tmp_path):
    ledger = Ledger(str(tmp_path))
    ledger.append_table(to_table([end("done"), end("done", source_id="b.tif")]))
    ledger.append([end("removed")])
    assert (ledger.source("a.tif"), len(ledger.table())) == (None, 1)
    ledger.append_table(to_table([end("removed", source_id="b.tif"), end("done", tag="t2")]))
    for view in (ledger, Ledger(str(tmp_path))):
        assert list(view.sources()) == [end("done", tag="t2")]
        assert view.source("b.tif") is None


def random_text(seed: int) -> str:
    return hashlib.sha256(str(seed).encode()).hexdigest()


def test_a_tail_that_is_small_beside_the_snapshot_waits(tmp_path, monkeypatch):
    monkeypatch.setattr(ledger_module, "MERGE_AFTER", 2)
    ledger = Ledger(str(tmp_path))
    many = [end("done", source_id=f"{number}.tif", error=random_text(number)) for number in range(6000)]
    ledger.append_table(to_table(many))
    ledger.merge()
    for number in range(4):
        ledger.append([end("done", source_id=f"{number}.tif")])
    names = {path.name for path in (tmp_path / "_batchseg" / "ledger").iterdir()}
    assert {"snapshot-00000001.parquet", "segment-00000005.parquet"} < names
    ledger = Ledger(str(tmp_path))
    ledger.append_table(to_table(many))
    assert ledger.is_settled


@pytest.mark.parametrize("rows", [[shard(0)], [end("done"), end("strange")]])
def test_tables_hold_sources_alone(tmp_path, rows):
    with pytest.raises(ValueError, match="none of a source"):
        Ledger(str(tmp_path)).append_table(to_table(rows))


def test_a_row_appended_after_a_record_counts(tmp_path):
    ledger = Ledger(str(tmp_path))
    ledger.append([end("done"), end("failed", source_id="b.tif")])
    ledger.append_table(to_table([end("done", tag="t2")]))
    ledger.append([end("done", source_id="b.tif")])
    for view in (ledger, Ledger(str(tmp_path))):
        assert list(view.sources()) == [end("done", tag="t2"), end("done", source_id="b.tif")]


def test_a_newer_ledger_is_refused_and_stays(tmp_path):
    ledger = Ledger(str(tmp_path))
    ledger.append([SceneRecord(status="failed", source_id="a", tag="1")])
    (path,) = (tmp_path / "_batchseg" / "ledger").iterdir()
    table = pq.read_table(path)
    pq.write_table(table.append_column("mood", pa.array(["fine"])), path)
    with pytest.raises(ConfigError, match=r"does not know \(mood\).*newer version"):
        Ledger(str(tmp_path))


def test_no_flipped_bit_goes_unseen(tmp_path):
    """One that changed what is recorded without an error would lose a source, or its mask."""
    ledger = Ledger(str(tmp_path))
    ledger.append([SceneRecord(status="done", source_id=f"s{n}", tag="1", valid_pixels=n) for n in range(40)])
    (path,) = (tmp_path / "_batchseg" / "ledger").iterdir()
    right, before = path.read_bytes(), ledger.table().to_pylist()
    for at in range(4, len(right), 53):
        path.write_bytes(right[:at] + bytes([right[at] ^ 4]) + right[at + 1 :])
        try:
            after = Ledger(str(tmp_path)).table().to_pylist()
        except (OutputError, ConfigError):
            continue
        assert after == before, at


@properties
@given(st.lists(batches, max_size=5), st.integers(0, 3))
def test_few_records_are_kept_as_objects_and_all_are_found(tmp_path_factory, drawn, most):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger_module, "RECENT_ROWS", most)
        folder = tmp_path_factory.mktemp("out")
        ledger, plain = Ledger(str(folder / "a")), Ledger(str(folder / "b"))
        for batch in drawn:
            ledger.append(batch)
            assert len(ledger._recent) <= most
            patch.setattr(ledger_module, "RECENT_ROWS", 10**6)
            plain.append(batch)
            patch.setattr(ledger_module, "RECENT_ROWS", most)
        for name in {record.source_id for batch in drawn for record in batch}:
            assert ledger.source(name) == plain.source(name)
        assert content(ledger) == content(plain)

"""Region tables of photographs: shared parts, changed, removed and joined."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from factories import make_facts

from batchseg.output import region_parts as region_parts_module
from batchseg.output.columns import with_part
from batchseg.output.ledger import Ledger
from batchseg.output.record import SCHEMA, Output, PhotoRecord, SceneRecord, filled, to_table
from batchseg.output.region_parts import COMPACT_FROM, MEMBERS, part_path, region_parts, tidy
from batchseg.output.state import OutputState, save_state
from batchseg.regions.rows import PHOTO_COLUMNS
from batchseg.tools.maintain import prune, retry
from batchseg.tools.verify import verify

GROUP = 5


def region_rows(ids: list[str], schema: pa.Schema = PHOTO_COLUMNS) -> pa.Table:
    """Two regions per source."""
    twice = [source_id for source_id in ids for _ in range(2)]
    columns = {field.name: pa.nulls(len(twice), field.type) for field in schema}
    columns["source_id"] = pa.array(twice)
    return pa.table(columns, schema.with_metadata({MEMBERS: json.dumps(ids)}))


def publish_group(output: Path, ledger: Ledger, ids: list[str], tag: str) -> str:
    """What a worker does with a group: masks of some, one part, the rows that name it."""
    records = []
    for source_id in ids:
        mask = output / "masks" / f"{source_id}.png"
        mask.parent.mkdir(parents=True, exist_ok=True)
        mask.write_bytes(tag.encode())
        masks = (Output(path=f"masks/{source_id}.png", nbytes=len(tag), sha256=""),)
        verdict = {"verdict": "FAIL", "outputs": masks} if source_id.endswith("0") else {"verdict": "PASS"}
        record = PhotoRecord(status="done", source_id=source_id, tag=tag, region_count=2, **verdict)
        records.append(record)
        if not record.outputs:
            mask.unlink()
    rows = to_table(records)
    path = part_path("none", rows)
    (output / path).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(region_rows(ids), output / path)
    made = Output(path=path, nbytes=(output / path).stat().st_size, sha256="")
    ledger.append_table(with_part(rows, made).cast(SCHEMA))
    return path


def groups_of(count: int) -> list[list[str]]:
    return [[f"{number:03d}.jpg{place}" for place in range(GROUP)] for number in range(count)]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    state = OutputState(pixel={}, device="cpu", facts=make_facts(), roots={}, classes=("ok", "crack"))
    save_state(str(tmp_path / "out"), state)
    return tmp_path / "out"


def night(output: Path, count: int) -> tuple[Ledger, list[str]]:
    ledger = Ledger(str(output))
    ledger.claim("night")
    return ledger, [publish_group(output, ledger, ids, "t1") for ids in groups_of(count)]


@pytest.mark.parametrize("said", ["[" * 100_000, '{"a": 1}', "[[]]", "7", "{", "[null, {}]"])
def test_a_part_whose_members_are_damaged_is_written_again(output: Path, said: str) -> None:
    ledger, (path, *_) = night(output, 1)
    table = pq.read_table(output / path)
    ids = groups_of(1)[0]
    other = f"annotations/crs=none/part-{'0' * 16}.parquet"
    pq.write_table(table.replace_schema_metadata({MEMBERS: said}), output / other)
    made = Output(path=other, nbytes=(output / other).stat().st_size, sha256="")
    ledger.append_table(with_part(ledger.table(), made).cast(SCHEMA))
    tidy(str(output), ledger)
    assert living(output) == {path: ids}


def living(output: Path) -> dict[str, list[str]]:
    """Ids with rows, by part; each has two in one part."""
    found: dict[str, list[str]] = {}
    for path in region_parts(str(output)):
        ids = sorted(pq.read_table(output / path)["source_id"].to_pylist())
        assert ids[::2] == ids[1::2] == sorted(set(ids))
        found[path] = ids[::2]
        assert json.loads(pq.read_schema(output / path).metadata[MEMBERS]) == found[path]
    return found


def problems(output: Path) -> tuple[str, ...]:
    return verify(str(output), quick=True, say=lambda line: None).problems


def test_only_parts_with_a_changed_source_are_opened_and_written_again(output: Path) -> None:
    ledger, paths = night(output, 4)
    untouched = output / paths[3]
    sound = untouched.read_bytes()
    changed, gone = groups_of(4)[0][2], groups_of(4)[1][0]
    new = publish_group(output, ledger, [changed], "t2")
    ledger.append_table(filled({"status": ["removed"], "source_id": [gone], "tag": [""]}, 1))
    untouched.write_bytes(b"not to be opened")
    tidy(str(output), ledger)
    assert untouched.read_bytes() == b"not to be opened"
    untouched.write_bytes(sound)
    found = living(output)
    everything = [source_id for ids in groups_of(4) for source_id in ids]
    assert sorted(i for ids in found.values() for i in ids) == [i for i in everything if i != gone]
    assert found[new] == [changed]
    assert set(paths[2:]) < set(found)
    assert not set(paths[:2]) & set(found)
    ledger.merge()
    assert [p for p in problems(output) if "items" not in p] == []
    before = {path: (output / path).stat().st_mtime_ns for path in found}
    tidy(str(output), Ledger(str(output)))
    assert {path: (output / path).stat().st_mtime_ns for path in living(output)} == before


def test_small_parts_of_one_schema_are_joined_and_scenes_stay_apart(output: Path) -> None:
    ledger, _ = night(output, COMPACT_FROM)
    scene = "annotations/crs=none/scene-0.parquet"
    pq.write_table(region_rows(["z.tif"], PHOTO_COLUMNS.remove(5)), output / scene)
    made = Output(path=scene, nbytes=(output / scene).stat().st_size, sha256="")
    ledger.append([SceneRecord(status="done", source_id="z.tif", tag="t", region_count=2, outputs=(made,))])
    tidy(str(output), ledger)
    found = living(output)
    joined = next(path for path in found if path != scene)
    assert len(found) == 2
    assert found[joined] == [source_id for ids in groups_of(COMPACT_FROM) for source_id in ids]
    assert all(record.regions_part in (joined, scene) for record in ledger.sources())
    first = ledger.source("000.jpg0")
    assert (first.mask, first.verdict) == ("masks/000.jpg0.png", "FAIL")
    ledger.merge()
    assert [p for p in problems(output) if "items" not in p] == []


def test_the_name_of_a_part_tells_its_members() -> None:
    ids = ["a", "b", "c"]
    rows = to_table(PhotoRecord(status="done", source_id=i, tag="t", pixel="p") for i in ids)
    path = part_path("none", rows)
    assert path == part_path("none", rows.take(pa.array([2, 0, 1])))
    assert path != part_path("none", rows.slice(1))
    for name in ("tag", "pixel", "product"):
        at = rows.schema.get_field_index(name)
        other = rows.set_column(at, SCHEMA.field(name), pa.array(["t", "other", "t"]))
        assert path != part_path("none", other)


def test_pruned_photographs_leave_their_masks_and_parts(output: Path) -> None:
    ledger, _ = night(output, 3)
    ledger.append([PhotoRecord(status="quarantined", source_id="broken.jpg", tag="t", error="cut off")])
    ledger.merge()
    gone = groups_of(3)[1]
    state = OutputState(pixel={}, device="cpu", facts=make_facts(), roots={}, vanished=tuple(gone))
    save_state(str(output), state)
    assert retry(str(output), "retry", []) == ("broken.jpg",)
    assert Ledger(str(output)).source("broken.jpg").status == "failed"
    pruned = prune(str(output), "prune", dry_run=False, everything=False)
    assert (pruned.sources, len(pruned.files), pruned.nbytes) == (tuple(gone), 1, 2)
    assert sorted(path.name for path in (output / "masks").iterdir()) == ["000.jpg0.png", "002.jpg0.png"]
    assert sorted(i for ids in living(output).values() for i in ids) == [*groups_of(3)[0], *groups_of(3)[2]]
    assert problems(output) == ()
    items = pq.read_table(output / "items" / "items.parquet")
    assert items["verdict"].to_pylist() == ["FAIL", *["PASS"] * 4] * 2 + [None]


def test_verify_counts_the_rows_of_shared_parts(output: Path) -> None:
    _, paths = night(output, 2)
    ids = groups_of(2)[0]
    short = region_rows([*ids[1:], "strange.jpg"])
    pq.write_table(short, output / paths[0])
    found = [p for p in problems(output) if "bytes" not in p]
    assert found == [
        f"{paths[0]}: 0 rows of {ids[0]}, recorded are 2",
        f"{paths[0]}: 2 rows of strange.jpg, whose record does not name this table",
    ]
    result = verify(str(output), quick=True, say=lambda line: None)
    assert (result.sources, result.rows, result.files) == (10, 20, 4)


@pytest.mark.parametrize(("nbytes", "groups"), [(2**20, 1), (1, COMPACT_FROM)])
def test_rows_that_are_joined_are_few_row_groups(
    output: Path, monkeypatch: pytest.MonkeyPatch, nbytes: int, groups: int
) -> None:
    monkeypatch.setattr(region_parts_module, "GROUP_BYTES", nbytes)
    ledger, _ = night(output, COMPACT_FROM)
    tidy(str(output), ledger)
    ((path, ids),) = living(output).items()
    assert pq.ParquetFile(output / path).metadata.num_row_groups == groups
    assert ids == sorted(name for group in groups_of(COMPACT_FROM) for name in group)

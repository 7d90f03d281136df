from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from factories import (
    make_config,
    make_photographs,
    make_recipe,
    make_scene,
    make_shard_record,
    make_source,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from planned_scenes import triage_of
from scene_runs import done

from batchseg.driver import triage as module
from batchseg.driver.stored_outputs import GONE, MASK_ALONE, WHOLE, StoredOutputs
from batchseg.driver.triage import ENCODE, PREDICT, REMAKE, triage, worth_another_try
from batchseg.inputs.formats import VRT_REFUSED
from batchseg.inputs.source import LISTING
from batchseg.job.resolution import Resolution
from batchseg.output.ledger import Ledger
from batchseg.output.record import Output, PhotoRecord, SceneRecord, to_table
from batchseg.pixels.fit import RESOLUTION_REFUSED, tile_grid
from batchseg.pixels.gdal import UNDECODABLE
from batchseg.pixels.grid import ShardGrid
from batchseg.pixels.model_grid import UNREADABLE
from batchseg.pixels.own_values import VALUES_REFUSED

IDS = [f"{folder}/{n}" for folder in ("a", "a b", "ü") for n in range(5)]

PHOTOGRAPHS = st.dictionaries(
    st.sampled_from(IDS),
    st.fixed_dictionaries(
        {
            "tag": st.sampled_from("12"),
            "young": st.booleans(),
            "attributes": st.sampled_from(["", '{"line": "1"}']),
            "problem": st.sampled_from(["", "gone"]),
        }
    ),
)
RECORDS = st.dictionaries(
    st.sampled_from(IDS),
    st.builds(
        PhotoRecord,
        source_id=st.just(""),
        status=st.sampled_from(["done", "done", "done", "quarantined", "failed"]),
        tag=st.sampled_from("12"),
        pixel=st.sampled_from("pppq"),
        product=st.sampled_from("rrrs"),
        attributes=st.sampled_from(["", '{"line": "1"}']),
        outputs=st.lists(
            st.builds(Output, path=st.sampled_from(["there", "gone"]), nbytes=st.just(1), sha256=st.just("")),
            max_size=2,
        ).map(tuple),
    ),
)
PLAIN = st.booleans()


def listing_of(photographs: dict[str, dict]) -> pa.Table:
    same = {"size": 1, "more": ""}
    rows = [{"source_id": i, "uri": f"/{i}", **same, **photographs[i]} for i in sorted(photographs)]
    return pa.Table.from_pylist(rows, schema=LISTING)


def ledger_of(records: dict[str, PhotoRecord], *, as_held: bool) -> pa.Table:
    """The ledger's table; `as_held`: what repeats as dictionaries, as memory has it."""
    table = to_table(replace(records[i], source_id=i) for i in sorted(records))
    if as_held:
        for name in ("status", "pixel", "product"):
            place = table.column_names.index(name)
            table = table.set_column(place, name, table[name].dictionary_encode())
    return table


def there(outputs: pa.ChunkedArray) -> np.ndarray:
    codes = [WHOLE if all(o["path"] == "there" for o in row) else GONE for row in outputs.to_pylist()]
    return np.array(codes, np.int8)


def expected(photographs, records) -> dict[str, str]:
    """What becomes of each photograph, one by one."""
    fate = {}
    for i, photograph in photographs.items():
        record = records.get(i)
        same = record is not None and record.tag == photograph["tag"]
        if same and record.status == "quarantined":
            fate[i] = "quarantined"
        elif (
            same
            and record.status == "done"
            and (record.pixel, record.product) == ("p", "r")
            and all(o.path == "there" for o in record.outputs)
        ):
            fate[i] = "done"
        else:
            fate[i] = "young" if photograph["young"] else "todo"
    return fate


def is_failed(photograph, record) -> bool:
    return record is not None and record.status == "failed" and record.tag == photograph["tag"]


def ids(table: pa.Table) -> list[str]:
    return table["source_id"].to_pylist()


@settings(deadline=None)
@given(PHOTOGRAPHS, RECORDS, st.integers(1, 7), st.booleans())
def test_triage_says_what_one_by_one_comparison_says(photographs, records, rows, as_held):
    listing, ledger = listing_of(photographs), ledger_of(records, as_held=as_held)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ROWS", rows)
        result = triage(listing, ledger, pixel="p", product="r", outputs_there=there)
    fate = expected(photographs, records)
    todo = [i for i in ids(listing) if fate[i] == "todo"]
    failed = {i for i in todo if is_failed(photographs[i], records.get(i))}
    first = len(todo) - len(failed)
    assert ids(result.todo)[:first] == [i for i in todo if i not in failed]
    assert set(ids(result.todo)[first:]) == failed
    assert result.todo.sort_by("source_id").equals(
        listing.filter(pa.array([i in todo for i in ids(listing)], pa.bool_()))
    )
    counts = {name: list(fate.values()).count(name) for name in ("done", "quarantined", "young")}
    assert {name: getattr(result, name) for name in counts} == counts
    assert result.vanished.to_pylist() == sorted(set(records) - set(photographs))
    settled = [i for i in ids(listing) if fate[i] in ("done", "quarantined")]
    assert ids(result.changed_attributes) == [
        i for i in settled if records[i].attributes != photographs[i]["attributes"]
    ]


def test_without_a_ledger_all_is_to_do():
    listing = listing_of({i: {"tag": "1", "young": i == "a/0", "attributes": "", "problem": ""} for i in IDS})
    result = triage(listing, None, pixel="p", product="r")
    assert ids(result.todo) == sorted(set(IDS) - {"a/0"})
    assert (result.done, result.young, len(result.vanished)) == (0, 1, 0)
    assert result.todo.schema == LISTING


def test_what_is_quarantined_for_a_reason_that_fell_away_is_to_do():
    listing = listing_of({i: {"tag": "1", "young": False, "attributes": "", "problem": ""} for i in IDS[:2]})
    known = to_table(
        PhotoRecord(status="quarantined", source_id=i, tag="1", error=error)
        for i, error in zip(sorted(IDS[:2]), ("odd values: 3", "damaged"), strict=True)
    )
    result = triage(listing, known, pixel="p", product="r", try_again=["odd values"])
    assert (ids(result.todo), result.quarantined) == (sorted(IDS[:2])[:1], 1)
    assert triage(listing, known, pixel="p", product="r").quarantined == 2


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    return Ledger(str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("record", "verdict"),
    [
        ({}, "done"),
        ({"tag": "old"}, "todo"),
        ({"pixel": "other"}, "todo"),
        ({"product": "other"}, "todo"),
        ({"status": "failed"}, "todo"),
        ({"status": "quarantined", "pixel": "", "product": ""}, "quarantined"),
        ({"status": "quarantined", "tag": "old"}, "todo"),
        (None, "todo"),
    ],
)
def test_triage_of_a_scene_follows_the_ledger(ledger, record, verdict):
    source = make_source()
    if record is not None:
        ledger.append([done(source, **record)])
    answer = triage_of([source], ledger)
    assert ids(answer.todo) == ([source.source_id] if verdict == "todo" else [])
    assert (answer.done, answer.quarantined) == (verdict == "done", verdict == "quarantined")


@pytest.mark.parametrize(
    ("change", "there", "stored"),
    [
        ({"product": "old"}, WHOLE, ENCODE),
        ({"product": "old"}, MASK_ALONE, REMAKE),
        ({}, MASK_ALONE, REMAKE),
        ({"product": "old"}, GONE, PREDICT),
        ({}, GONE, PREDICT),
        ({"product": "old", "tag": "old"}, WHOLE, PREDICT),
        ({"pixel": "old"}, WHOLE, PREDICT),
    ],
)
def test_only_what_is_made_of_a_mask_is_made_again_where_its_pixels_are_right(ledger, change, there, stored):
    source = make_source()
    ledger.append([done(source, **change)])
    answer = triage_of([source], ledger, outputs_there=lambda column: np.full(len(column), there, np.int8))
    assert (ids(answer.todo), answer.stored.tolist()) == ([source.source_id], [stored])


def test_scenes_that_were_begun_come_first_and_what_failed_last_in_any_order(ledger):
    names = ["a.tif", "b.tif", "c.tif", "d.tif"]
    scenes = [make_scene(source=make_source(name)) for name in names]
    ledger.append([done(scene.source, status="failed") for scene in scenes[:2]])
    shard = ShardGrid(tiles=tile_grid(make_recipe(), 27, 43), tiles_hw=(1, 2)).shard(0)
    ledger.append([make_shard_record(scene, make_recipe(), shard, "1x2") for scene in scenes[::3]])
    orders = set()
    for _ in range(50):
        answer = triage_of([scene.source for scene in scenes], ledger)
        assert ids(answer.todo)[:2] == ["d.tif", "c.tif"]
        assert (answer.failed, len(answer.stored)) == (2, 4)
        orders.add(tuple(ids(answer.todo)[2:]))
    assert orders == {("a.tif", "b.tif"), ("b.tif", "a.tif")}  # none stands before the other for ever


@pytest.mark.parametrize("status", ["done", "failed", "quarantined", None])
def test_a_young_source_is_left_alone_unless_it_is_done(ledger, status):
    source = make_source(young=True)
    for tag, changed in ((source.tag, False), ("old", True)):
        if status is not None:
            ledger.append([done(source, status=status, tag=tag)])
        answer = triage_of([source], ledger)
        waits = changed or status in ("failed", None)
        assert (ids(answer.todo), len(answer.vanished)) == ([], 0)
        assert answer.young == waits
        assert (answer.done, answer.quarantined) == (
            status == "done" and not changed,
            status == "quarantined" and not changed,
        )


def test_what_was_refused_is_tried_again_where_the_job_has_a_way():
    def tried(**keys) -> set[str]:
        return {*worth_another_try(make_config(**keys))} - {UNREADABLE}

    assert UNREADABLE in worth_another_try(make_config())
    assert tried() == set()
    assert tried(resolution="any") == {RESOLUTION_REFUSED}
    assert tried(resolution=Resolution(10.0)) == {RESOLUTION_REFUSED}
    assert tried(check_values=False) == {VALUES_REFUSED}
    assert tried(allow_vrt=True) == {VRT_REFUSED}
    assert tried(on_bad_block="nodata") == {UNDECODABLE}
    photographs = make_config(
        photographs=make_photographs(), check_values=False, on_bad_block="nodata", allow_vrt=True
    )
    assert worth_another_try(photographs) == (VALUES_REFUSED,)


def test_a_deleted_result_is_made_again(tmp_path):
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "a.png").write_bytes(b"mask")
    output = Output(path="masks/a.png", nbytes=4, sha256="")
    record = PhotoRecord(source_id="a", status="done", tag="1", pixel="p", product="r", outputs=(output,))
    listing = listing_of({"a": {"tag": "1", "young": False, "attributes": "", "problem": ""}})

    def todo() -> int:
        known = ledger_of({"a": record}, as_held=False)
        stored = StoredOutputs(str(tmp_path))
        return len(triage(listing, known, pixel="p", product="r", outputs_there=stored).todo)

    assert todo() == 0
    (tmp_path / "masks" / "a.png").unlink()
    assert todo() == 1


def test_what_a_resolution_refused_is_tried_again_where_another_one_or_ratio_is_asked_for():
    ratios = {"a": 8, "b": 80}
    table = to_table(
        SceneRecord(
            status="quarantined",
            source_id=name,
            tag="1",
            error=f"cannot be read at 1 m (max_ratio {ratio}): its pixels",
        )
        for name, ratio in ratios.items()
    )
    row = {"tag": "1", "young": False, "attributes": "", "problem": ""}
    listing = listing_of(dict.fromkeys(ratios, row))
    for refused, todo in (((), ["a", "b"]), (("cannot be read at 1 m (max_ratio 8)",), ["b"])):
        answer = triage(
            listing, table, pixel="p", product="r", try_again=(UNREADABLE,), still_refused=refused
        )
        assert ids(answer.todo) == todo
        assert answer.quarantined == 2 - len(todo)

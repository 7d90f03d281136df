from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchseg.driver import photo_triage
from batchseg.driver.photo_triage import StoredOutputs, triage_photographs
from batchseg.inputs.source import LISTING
from batchseg.output.record import Output, PhotoRecord, to_table

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
    rows = [{"source_id": i, "uri": f"/{i}", "size": 1, **photographs[i]} for i in sorted(photographs)]
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
    return np.array([all(o["path"] == "there" for o in row) for row in outputs.to_pylist()], dtype=bool)


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
        patch.setattr(photo_triage, "ROWS", rows)
        result = triage_photographs(listing, ledger, pixel="p", product="r", outputs_there=there)
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
    result = triage_photographs(listing, None, pixel="p", product="r")
    assert ids(result.todo) == sorted(set(IDS) - {"a/0"})
    assert (result.done, result.young, len(result.vanished)) == (0, 1, 0)
    assert result.todo.schema == LISTING


@pytest.fixture(params=["disk", "bucket"])
def output(request, tmp_path):
    """An output with a few results, and what deletes one."""
    names = {"masks/a/1.png": 3, "masks/a b/照#1%.png": 4, "annotations/crs=none/part-1.parquet": 5}
    if request.param == "disk":
        root, fs = str(tmp_path / "out"), fsspec.filesystem("file")
    else:
        root, fs = "memory:///out", fsspec.filesystem("memory")
    for name, size in names.items():
        fs.makedirs(f"{root}/{name}".rpartition("/")[0], exist_ok=True)
        fs.pipe_file(f"{root}/{name}", b"x" * size)
    yield root, names
    fs.rm(root, recursive=True)


@pytest.mark.parametrize("as_held", [False, True])
def test_results_are_there_if_all_files_have_their_size(output, monkeypatch, as_held):
    root, names = output
    mask, other, part = names
    rows = [
        [mask, part],
        [],
        [other, part],
        [mask, "masks/gone.png"],
        [(other, 9)],
        [part],
        [mask, (part, 1)],
        [],
    ]
    flags = [True, True, True, False, False, True, False, True]
    cells = [
        [
            {"path": o, "nbytes": names.get(o, 7)}
            if isinstance(o, str)
            else dict(zip(("path", "nbytes"), o, strict=True))
            for o in row
        ]
        for row in rows
    ]
    path = pa.dictionary(pa.int32(), pa.string()) if as_held else pa.string()
    kind = pa.list_(pa.struct([("path", path), ("nbytes", pa.int64()), ("sha256", pa.string())]))
    monkeypatch.setattr(photo_triage, "ROWS", 3)
    whole = pa.array(cells, kind)
    for column in (pa.chunked_array([whole]), pa.chunked_array([whole.slice(0, 2), whole.slice(2)])):
        assert StoredOutputs(root)(column).tolist() == flags
    assert StoredOutputs(root)(pa.chunked_array([], kind)).tolist() == []


def test_a_deleted_result_is_made_again(tmp_path):
    (tmp_path / "masks").mkdir()
    Path(tmp_path / "masks" / "a.png").write_bytes(b"mask")
    output = Output(path="masks/a.png", nbytes=4, sha256="")
    record = PhotoRecord(source_id="a", status="done", tag="1", pixel="p", product="r", outputs=(output,))
    listing = listing_of({"a": {"tag": "1", "young": False, "attributes": "", "problem": ""}})

    def todo() -> int:
        known = ledger_of({"a": record}, as_held=False)
        stored = StoredOutputs(str(tmp_path))
        return len(triage_photographs(listing, known, pixel="p", product="r", outputs_there=stored).todo)

    assert todo() == 0
    (tmp_path / "masks" / "a.png").unlink()
    assert todo() == 1

import pytest
from listings import job, listed

from batchseg.errors import ConfigError
from batchseg.inputs.found import FOUND
from batchseg.inputs.ids import InputRoot
from batchseg.inputs.row_ids import each_once, with_ids


def found(*uris):
    rows = [
        {"uri": u, "tag": "t", "size": 1, "young": False, "problem": "", "attributes": "", "more": ""}
        for u in uris
    ]
    return FOUND.empty_table().from_pylist(rows, schema=FOUND)


def root(name: str, prefix: str) -> InputRoot:
    return InputRoot(pattern=prefix, name=name, prefix=prefix)


def test_files_of_one_input_that_share_an_id_are_one_photograph_with_a_problem():
    roots = [root("", "/in")]
    table = with_ids(found("/in/a.jpg", "/in//a.jpg", "/in/b.jpg"), roots[0])
    once = each_once(table.sort_by("source_id"), roots, job("/in"))
    rows = {row["source_id"]: row for row in once.to_pylist()}
    assert list(rows) == ["a.jpg", "b.jpg"]
    assert "would both be called a.jpg" in rows["a.jpg"]["problem"]
    assert (rows["a.jpg"]["tag"], rows["b.jpg"]["tag"]) == ("t-twice", "t")


def test_files_of_two_inputs_that_share_an_id_are_the_job_s_mistake():
    roots = [root("x", "/one"), root("", "/two")]
    tables = with_ids(found("/one/a.jpg"), roots[0]), with_ids(found("/two/x/a.jpg"), roots[1])
    table = tables[0].from_batches([batch for t in tables for batch in t.to_batches()])
    with pytest.raises(ConfigError, match=r"would both be called x/a\.jpg; give the inputs names"):
        each_once(table, roots, job("/one", "/two"))


def test_one_bad_row_of_a_list_spares_all_others(tmp_path):
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "m.csv").write_text("uri,serial\na.jpg,1\nb.jpg,2\na.jpg,3\nc.jpg,4\n")
    rows = {row["source_id"]: row for row in listed(tmp_path / "m.csv").to_pylist()}
    assert [name for name, row in rows.items() if row["problem"]] == ["a.jpg"]
    assert rows["c.jpg"]["attributes"] == '{"serial": "4"}'

from dataclasses import fields, replace

import pyarrow as pa
import pytest

from batchseg.output.record import (
    SCHEMA,
    Output,
    PhotoRecord,
    SceneRecord,
    ShardRecord,
    filled,
    sources_of,
    to_records,
    to_table,
)

KEY = {"source_id": "a", "tag": "t"}
SHARD = ShardRecord(**KEY, grid="2x3", row_off=4, col_off=5, height=6, width=7, fragment_bytes=8)
SCENE = SceneRecord(**KEY, status="done", grid="2x3", bad_pixels=9, height=6, width=7)
PHOTO = PhotoRecord(**KEY, status="done", recorded=1, class_ids=(0,), class_regions=(3,))

OUTPUTS = (
    Output(path="masks/a.tif", nbytes=1, sha256=""),
    Output(path="masks/a.tif.aux.xml", nbytes=1, sha256=""),
    Output(path="confidence/a.tif", nbytes=1, sha256=""),
    Output(path="annotations/crs=none/part-0.parquet", nbytes=1, sha256=""),
)


def test_each_kind_comes_back_from_one_table():
    table = to_table([SHARD, SCENE, PHOTO])
    assert table.schema.equals(SCHEMA)
    assert list(to_records(table)) == [SHARD, SCENE, PHOTO]


def test_columns_of_other_kinds_are_empty():
    (row,) = to_table([SCENE]).to_pylist()
    names = {field.name for field in fields(SceneRecord)}
    others = {name: value for name, value in row.items() if name not in names}
    assert {name for name, value in others.items() if value} == {"kind", "largest_class", "rule_class"}
    assert row["kind"] == "scene"
    assert row["largest_class"] == -1


def test_together_the_kinds_have_all_columns():
    names = {field.name for kind in (ShardRecord, SceneRecord, PhotoRecord) for field in fields(kind)}
    assert names | {"kind", "status"} == set(SCHEMA.names)


@pytest.mark.parametrize("status", ["done", "quarantined", "failed", "removed"])
def test_a_row_says_what_it_is_of_whatever_else_it_says(status):
    """A photograph without attributes, rules and regions has nothing that scenes lack."""
    records = [kind(**KEY, status=status) for kind in (SceneRecord, PhotoRecord)]
    assert list(map(type, to_records(to_table(records)))) == [SceneRecord, PhotoRecord]


@pytest.mark.parametrize(
    "said", [{"verdict": "PASS"}, {"attributes": "{}"}, {"empty": True}, {"largest_class": 0}]
)
def test_a_photographs_row_of_an_earlier_version_is_known_by_what_scenes_lack(said):
    """`recorded` came later than the other columns."""
    record = PhotoRecord(**KEY, status="failed", **said)
    table = to_table([record]).drop_columns("kind")
    columns = dict(zip(table.column_names, table.columns, strict=True))
    assert list(to_records(filled(columns, 1))) == [record]


def test_some_columns_are_enough_where_no_more_is_wanted():
    schema = pa.schema([SCHEMA.field("source_id"), SCHEMA.field("height")])
    assert to_table([SHARD, PHOTO], schema).to_pylist() == [
        {"source_id": "a", "height": 6},
        {"source_id": "a", "height": 0},
    ]


def test_columns_that_are_not_known_are_filled():
    table = filled({"source_id": pa.array(["a"]), "tag": pa.array(["t"]), "status": pa.array(["done"])}, 1)
    assert list(sources_of(table)) == [SceneRecord(**KEY, status="done")]


def test_windows_of_a_shard_and_of_a_whole_scene():
    window = SHARD.window
    assert (window.row_off, window.col_off, window.height, window.width) == (4, 5, 6, 7)
    assert SHARD.grid_hw == (2, 3)
    assert (SCENE.window.row_off, SCENE.window.col_off, SCENE.window.size) == (0, 0, 42)


def test_outputs_are_told_apart_by_their_folders():
    record = SceneRecord(**KEY, status="done", outputs=OUTPUTS)
    assert record.mask == "masks/a.tif"
    assert record.predicted_mask == ""
    clean = replace(record, outputs=(*OUTPUTS, Output(path="predicted/a.tif", nbytes=1, sha256="0" * 64)))
    assert (clean.mask, clean.predicted_mask) == ("masks/a.tif", "predicted/a.tif")
    assert record.regions_part == "annotations/crs=none/part-0.parquet"
    assert (SCENE.mask, SCENE.regions_part) == ("", "")

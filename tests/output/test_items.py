import dataclasses

import pyarrow.parquet as pq

from batchseg.output.items import PHOTOGRAPHS, SCHEMA, write_items
from batchseg.output.record import Output, PhotoRecord, SceneRecord

DONE = SceneRecord(
    status="done",
    source_id="b.tif",
    tag="t",
    height=10,
    width=30,
    valid_pixels=75,
    bad_pixels=40,
    class_ids=(0, 2),
    class_pixels=(50, 25),
    class_area_m2=(5000.0, 2500.0),
    outputs=(Output(path="masks/b.tif", nbytes=1, sha256=""),),
    uri="/in/b.tif",
)
REFUSED = SceneRecord(status="quarantined", source_id="a.tif", tag="u", error="cut off", uri="/in/a.tif")


def written(folder, records, names=("soil", "water")):
    write_items(str(folder), records, names)
    return pq.read_table(folder / "items" / "items.parquet")


def test_a_row_says_all_of_a_finished_source(tmp_path):
    table = written(tmp_path, [DONE])
    assert table.schema.equals(SCHEMA)
    assert table.to_pylist() == [
        {
            "source_id": "b.tif",
            "uri": "/in/b.tif",
            "status": "done",
            "error": None,
            "mask": "masks/b.tif",
            "height": 10,
            "width": 30,
            "valid_share": 0.25,
            "bad_pixels": 40,
            "classes": [
                {"class_id": 0, "class_name": "soil", "pixels": 50, "area_m2": 5000.0},
                {"class_id": 2, "class_name": None, "pixels": 25, "area_m2": 2500.0},
            ],
            "tag": "t",
            "gone": False,
        }
    ]


def test_without_a_crs_there_are_no_areas(tmp_path):
    record = SceneRecord(
        status="done", source_id="c.tif", tag="t", height=3, width=5, class_ids=(1,), class_pixels=(9,)
    )
    (row,) = written(tmp_path, [record]).to_pylist()
    assert row["classes"] == [{"class_id": 1, "class_name": "water", "pixels": 9, "area_m2": None}]
    assert row["valid_share"] == 0.0


def test_a_refused_source_has_its_reason_and_no_mask(tmp_path):
    (row,) = written(tmp_path, [REFUSED]).to_pylist()
    assert (row["status"], row["error"]) == ("quarantined", "cut off")
    assert {row[key] for key in ("mask", "height", "width", "valid_share")} == {None}
    assert row["classes"] == []


def test_the_table_is_replaced_and_keeps_the_order_of_the_records(tmp_path):
    written(tmp_path, [REFUSED])
    table = written(tmp_path, [REFUSED, DONE])
    assert table["source_id"].to_pylist() == ["a.tif", "b.tif"]
    assert [path.name for path in (tmp_path / "items").iterdir()] == ["items.parquet"]


def test_a_table_of_nothing_has_its_columns(tmp_path):
    table = written(tmp_path, [])
    assert (table.num_rows, table.schema.equals(SCHEMA)) == (0, True)


PHOTOGRAPH = PhotoRecord(
    status="done",
    source_id="c.jpg",
    tag="t",
    height=30,
    width=40,
    valid_pixels=1200,
    class_ids=(0, 1),
    class_pixels=(1100, 100),
    class_area_m2=(0.0011, 0.0001),
    class_regions=(0, 3),
    region_count=3,
    largest_px=70,
    largest_class=1,
    confidence=0.75,
    verdict="FAIL",
    rule="large",
    attributes='{"day":"2026-11-02","line 1":"x\\ny","tag":"T-7"}',
    outputs=(
        Output(path="annotations/crs=none/part-0.parquet", nbytes=1, sha256=""),
        Output(path="masks/c.jpg.png", nbytes=1, sha256=""),
    ),
)


def test_a_photograph_has_a_verdict_and_what_its_manifest_says(tmp_path):
    plain = PhotoRecord(
        status="done", source_id="d.jpg", tag="t", height=3, width=4, attributes='{"shift":"2"}'
    )
    no, yes = written(tmp_path, [REFUSED, PHOTOGRAPH, plain]).slice(0, 2).to_pylist()
    own = [
        "verdict",
        "rule",
        "review_reason",
        "rule_px",
        "rule_class",
        "region_count",
        "largest_px",
        "largest_class",
        "confidence",
        "same_as",
        "content",
        "recorded_at",
    ]
    keys = ["day", "line 1", "shift", "tag_"]
    assert list(yes) == [*SCHEMA.names, *own, *keys]
    assert [yes[name] for name in own] == [
        "FAIL",
        "large",
        None,
        None,
        None,
        3,
        70,
        "water",
        0.75,
        None,
        None,
        None,
    ]
    assert [yes[name] for name in keys] == ["2026-11-02", "x\ny", None, "T-7"]
    assert (yes["mask"], yes["tag"]) == ("masks/c.jpg.png", "t")
    assert [c["regions"] for c in yes["classes"]] == [0, 3]
    assert [c["area_m2"] for c in yes["classes"]] == [0.0011, 0.0001]
    assert {no[name] for name in (*own, *keys)} == {None}


def test_without_regions_or_scores_nothing_is_said_of_confidence(tmp_path):
    unsure = dataclasses.replace(PHOTOGRAPH, source_id="d.jpg", confidence=0.0)
    assert written(tmp_path, [PHOTOGRAPH, unsure])["confidence"].to_pylist() == [0.75, None]


def test_mixed_rows_keep_their_own_classes(tmp_path):
    bare = dataclasses.replace(PHOTOGRAPH, source_id="d.jpg", class_area_m2=(), class_regions=())
    rows = written(tmp_path, [bare, REFUSED, PHOTOGRAPH]).to_pylist()
    assert [[c["area_m2"] for c in row["classes"]] for row in rows] == [[None, None], [], [0.0011, 0.0001]]
    assert [[c["regions"] for c in row["classes"]] for row in rows] == [[None, None], [], [0, 3]]


def test_a_night_of_refused_photographs_has_their_columns_too(tmp_path):
    write_items(str(tmp_path), [REFUSED], ("soil",), photographs=True)
    assert pq.read_table(tmp_path / "items" / "items.parquet").schema.equals(PHOTOGRAPHS)

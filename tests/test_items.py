import pyarrow.parquet as pq

from batchseg.items import SCHEMA, write_items
from batchseg.ledger import Output, Record

DONE = Record(
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
REFUSED = Record(status="quarantined", source_id="a.tif", tag="u", error="cut off", uri="/in/a.tif")


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
    record = Record(
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

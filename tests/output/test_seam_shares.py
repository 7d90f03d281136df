"""What moved tiles showed, summed up and as a map."""

import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely

from batchseg.output.layout import SEAMS_TABLE
from batchseg.output.record import SceneRecord, to_records, to_table
from batchseg.output.seam_shares import SeamShares, keep_seams, seam_shares, write_seams
from batchseg.predict.moved import SeamSample

NAMES = ("soil", "water", "")


def sample(row: int, class_id: int, pixels: int, changed: int, **more: float) -> SeamSample:
    return SeamSample(
        row_off=row, col_off=0, height=8, width=8, class_id=class_id, pixels=pixels, changed=changed, **more
    )


def record(name: str, *seams: SeamSample, status: str = "done") -> SceneRecord:
    return SceneRecord(status=status, source_id=name, tag="t", seams=seams)  # type: ignore[arg-type]


TABLE = to_table(
    [
        record("a", sample(0, 0, 4000, 40), sample(0, 1, 1000, 100), sample(8, 0, 4000, 0)),
        record("b", sample(0, 0, 900, 0, lon=7.5, lat=50.0), sample(0, 2, 100, 60, lon=7.5, lat=50.0)),
        record("c"),
        record("d", sample(0, 1, 5000, 5000), status="failed"),
    ]
)


def test_places_are_summed_by_class_and_by_scene_over_what_is_done() -> None:
    found = seam_shares(TABLE, NAMES)
    assert (found.places, found.pixels, found.changed) == (3, 10_000, 200)
    assert found.share == 0.02
    assert found.by_class == {"soil": 40 / 8900, "water": 0.1}  # of the third there are too few pixels
    assert list(found.by_scene.items()) == [("b", 0.06), ("a", 140 / 9000)]
    assert seam_shares(TABLE, NAMES, pa.array(["b"])).by_scene == {"b": 0.06}
    assert seam_shares(TABLE, NAMES, pa.array(["c", "d"])) == SeamShares()
    assert seam_shares(TABLE.slice(0, 0), NAMES) == SeamShares()


def test_words_name_the_worst() -> None:
    words = seam_shares(TABLE, NAMES).in_words
    assert words.startswith("2.00 % of the pixels depend on where tiles lie, looked at in 3 places")
    assert "by class water 10.00 %, soil 0.45 %; most in b 6.00 %, a 1.56 %" in words
    assert SeamShares().in_words == ""
    none = seam_shares(to_table([record("a", sample(0, 0, 64, 0))]), NAMES)
    assert none.in_words == "no pixel of 64 depends on where tiles lie, looked at in 1 place"


def test_samples_survive_the_ledger() -> None:
    again = list(to_records(TABLE))
    assert (
        again[1].seams
        == record(
            "b", sample(0, 0, 900, 0, lon=7.5, lat=50.0), sample(0, 2, 100, 60, lon=7.5, lat=50.0)
        ).seams
    )  # type: ignore[union-attr]
    assert math.isnan(again[0].seams[0].lon)  # type: ignore[union-attr]


def test_the_map_has_a_row_per_place_and_class(tmp_path: Path) -> None:
    geopandas = pytest.importorskip("geopandas")
    write_seams(str(tmp_path), TABLE, NAMES)
    rows = pq.read_table(tmp_path / SEAMS_TABLE).to_pylist()
    assert [(r["source_id"], r["class_name"], r["share"]) for r in rows] == [
        ("a", "soil", 0.01),
        ("a", "water", 0.1),
        ("a", "soil", 0.0),
        ("b", "soil", 0.0),
        ("b", "class 2", 0.6),
    ]
    assert rows[0]["geometry"] is None
    assert shapely.from_wkb(rows[3]["geometry"]) == shapely.Point(7.5, 50)
    shown = geopandas.read_parquet(tmp_path / SEAMS_TABLE)
    assert shown.crs == "OGC:CRS84"


def test_there_is_no_map_of_nothing(tmp_path: Path) -> None:
    write_seams(str(tmp_path), TABLE, NAMES)
    write_seams(str(tmp_path), to_table([record("c")]), NAMES)
    assert not (tmp_path / SEAMS_TABLE).exists()


def test_what_was_pruned_goes_from_the_map(tmp_path: Path) -> None:
    keep_seams(str(tmp_path), TABLE)  # there is none
    write_seams(str(tmp_path), TABLE, NAMES)
    keep_seams(str(tmp_path), TABLE.filter(pa.array([False, True, True, True])))
    rows = pq.read_table(tmp_path / SEAMS_TABLE)
    assert rows.column("source_id").to_pylist() == ["b", "b"]
    assert b"geo" in rows.schema.metadata
    keep_seams(str(tmp_path), TABLE.slice(2))
    assert not (tmp_path / SEAMS_TABLE).exists()

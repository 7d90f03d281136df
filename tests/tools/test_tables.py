"""Items and regions of an output of photographs, against what the photographs hold."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from factories import Photo, make_photo_output, make_state, region_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from batchseg.errors import ConfigError, OutputError
from batchseg.inputs.source import Georeference
from batchseg.models.package import PALETTE
from batchseg.output.ledger import Ledger
from batchseg.output.state import save_state
from batchseg.regions.rows import PHOTO_COLUMNS, region_schema
from batchseg.system.location import join
from batchseg.tools import tables
from batchseg.tools.tables import (
    ITEM_COLUMNS,
    class_color,
    class_name,
    is_done,
    is_of_photographs,
    open_items,
    recorded_parts,
    regions_of,
    rows_of,
)

CLASSES = ("good", "hole", "crack", "fray")
COLUMNS = ["source_id", "region_id", "class_id", "area_px"]
NOWHERE = Georeference(crs_wkt=None, transform=None, gcps=(), gcps_crs_wkt=None, rpcs=())


def photo(number: int, **item: object) -> Photo:
    """Every fourth shows nothing; the others have a few regions of several classes."""
    mask = np.random.default_rng(number).choice(4, (9, 13), p=(0.7, 0.1, 0.1, 0.1)).astype(np.uint8)
    return Photo(source_id=f"ä/{number:02d}.png", mask=mask * (number % 4 > 0), item=item)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Eight photographs in parts of three; the last part holds rows of versions that count no more."""
    photos = [photo(number, line="seven" if number % 2 else None) for number in range(8)]
    photos[5] = photo(5, status="quarantined", error="cut off")
    return make_photo_output(tmp_path_factory.mktemp("tables") / "out", photos, stale=[photo(1), photo(3)])


@settings(deadline=None, max_examples=25)
@given(st.sets(st.integers(0, 11)))
def test_regions_of_chosen_images_are_their_own_wherever_they_lie(output: str, chosen: set[int]) -> None:
    found = regions_of(output, [f"ä/{number:02d}.png" for number in chosen], COLUMNS)
    own = [region_rows(photo(number), CLASSES) for number in sorted(chosen) if number < 8]
    expected = pa.concat_tables([PHOTO_COLUMNS.empty_table(), *own]).select(COLUMNS)
    assert found.sort_by([("source_id", "ascending"), ("region_id", "ascending")]).equals(
        expected.sort_by([("source_id", "ascending"), ("region_id", "ascending")])
    )


def test_each_part_has_the_images_that_the_ledger_puts_there(output: str) -> None:
    recorded = {record.source_id: record.outputs for record in Ledger(output).sources()}
    expected = {
        path: [name for name, outputs in sorted(recorded.items()) if [o.path for o in outputs] == [path]]
        for path in sorted({out.path for outputs in recorded.values() for out in outputs})
    }
    parts = recorded_parts(output)
    found = {path: sorted(parts.members(n).to_pylist()) for n, path in enumerate(parts.paths)}
    assert found == expected
    assert list(found) == list(expected)
    assert len(found) == 3
    assert sum(map(len, found.values())) == len(parts.source_ids) == parts.starts[-1]


def test_an_output_without_regions_has_no_parts(tmp_path: Path) -> None:
    output = make_photo_output(tmp_path / "out", [photo(0), photo(4)])
    assert (recorded_parts(output).paths, recorded_parts(output).starts.tolist()) == ((), [0])
    assert regions_of(output, ["ä/00.png"], COLUMNS).equals(PHOTO_COLUMNS.empty_table().select(COLUMNS))


def test_items_are_read_whole_or_in_batches_with_their_attributes(
    output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = open_items(output)
    assert (items.attributes, items.state.classes) == (("line",), CLASSES)
    whole = items.read(["source_id", "status", "line", "verdict"])
    assert whole["source_id"].to_pylist() == [f"ä/{number:02d}.png" for number in range(8)]
    assert whole["line"].to_pylist() == [None, "seven", None, "seven", None, None, None, "seven"]
    assert is_done(whole).to_pylist() == [number != 5 for number in range(8)]
    monkeypatch.setattr(tables, "BATCH_ROWS", 3)
    batches = list(items.batches(["source_id", "status", "line", "verdict"]))
    assert [len(batch) for batch in batches] == [3, 3, 2]
    assert pa.concat_tables(batches).equals(whole)


def test_what_an_older_table_lacks_is_null_of_its_type(tmp_path: Path) -> None:
    output = make_photo_output(tmp_path / "out", [photo(1), photo(2)])
    path = Path(output, "items", "items.parquet")
    older = pq.read_table(path).select(["source_id", "height", "status"])
    pq.write_table(older.set_column(1, "height", older["height"].cast(pa.int64())), path)
    found = open_items(output).read(list(ITEM_COLUMNS))
    assert found.schema.equals(pa.schema(ITEM_COLUMNS))
    assert found["height"].to_pylist() == [9, 9]
    there = {"source_id", "height", "status"}
    assert all(found[name].null_count == 2 for name in ITEM_COLUMNS.keys() - there)


def test_tables_that_cannot_be_read_are_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no results"):
        open_items(str(tmp_path / "nothing"))
    save_state(str(tmp_path / "young"), make_state())
    with pytest.raises(ConfigError, match="no table of items yet"):
        open_items(str(tmp_path / "young"))
    output = make_photo_output(tmp_path / "out", [photo(1)])
    for path in ("items/items.parquet", recorded_parts(output).paths[0]):
        file = Path(join(output, path))
        file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(OutputError, match=r"cannot read .*items\.parquet"):
        open_items(output)
    with pytest.raises(OutputError, match=r"cannot read .*part-0{16}\.parquet"):
        regions_of(output, ["ä/01.png"], COLUMNS)


def test_regions_of_scenes_are_refused(tmp_path: Path) -> None:
    schema = region_schema(NOWHERE)
    assert is_of_photographs(PHOTO_COLUMNS)
    assert not is_of_photographs(schema)
    (tmp_path / "annotations").mkdir()
    pq.write_table(schema.empty_table(), tmp_path / "annotations" / "scene.parquet")
    with pytest.raises(ConfigError, match="holds regions of scenes, not of photographs"):
        list(rows_of(str(tmp_path), "annotations/scene.parquet", pa.array(["a"]), COLUMNS))


def test_rows_come_row_group_by_row_group(tmp_path: Path) -> None:
    rows = pa.concat_tables([region_rows(photo(number), CLASSES) for number in (1, 2, 3)])
    (tmp_path / "annotations").mkdir()
    pq.write_table(rows, tmp_path / "annotations" / "part.parquet", row_group_size=4)
    wanted = pa.array(["ä/01.png", "ä/03.png"])
    found = list(rows_of(str(tmp_path), "annotations/part.parquet", wanted, COLUMNS))
    assert len(found) == -(-len(rows) // 4)
    expected = rows.filter(pc.is_in(rows["source_id"], value_set=wanted)).select(COLUMNS)
    assert pa.concat_tables(found).equals(expected)


def test_a_class_has_its_name_and_colour_or_others_in_turn() -> None:
    state = make_state(classes=("good", "bad"), colors=("#000000", "#ff0000"))
    assert [class_name(state, number) for number in (0, 1, 2, -1)] == ["good", "bad", "class 2", "class -1"]
    assert [class_color(state, number) for number in (1, 2, 22)] == ["#ff0000", PALETTE[2], PALETTE[2]]

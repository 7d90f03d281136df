"""What is said of scenes in the morning, against counting by hand."""

import datetime as dt
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import JobWriter, read_mask, reflectance, write_raster
from factories import make_state
from rich.cells import cell_len
from runs import run

from batchseg.cli.main import main
from batchseg.cli.summary_text import COLUMNS, scene_lines
from batchseg.errors import ConfigError
from batchseg.output.ledger import Ledger
from batchseg.output.record import SceneRecord, sources_of
from batchseg.output.state import save_state
from batchseg.tools.scene_summary import summarize_scenes

NAMES = ("soil", "water", "vegetation", "bright")


@pytest.fixture
def output(tmp_path: Path, write_job: JobWriter) -> str:
    """Two scenes with a place, one of them half nodata, one without, and one that is no raster."""
    pixels = reflectance(70, 110, seed=1)
    pixels[:, :35] = 0
    write_raster(tmp_path / "in" / "half.tif", pixels, nodata=0)
    write_raster(tmp_path / "in" / "north.tif", reflectance(80, 60, seed=2), crs="EPSG:32633")
    write_raster(tmp_path / "in" / "placeless.tif", reflectance(66, 70, seed=3), crs=None, transform=None)
    (tmp_path / "in" / "text.tif").write_bytes(b"II*\0 no raster")
    run(write_job())
    return str(tmp_path / "out")


def command(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["summary", *words])
    said = capfd.readouterr()
    return int(ended.value.code or 0), said.out, said.err


def test_last_night_is_counted_with_class_0_and_all_regions(output: str) -> None:
    masks = {name: read_mask(Path(output), f"{name}.tif") for name in ("half", "north", "placeless")}
    pixels = Counter(np.concatenate([mask.ravel() for mask in masks.values()]).tolist())
    placed = Counter(np.concatenate([masks["half"].ravel(), masks["north"].ravel()]).tolist())
    found = summarize_scenes(output)
    tables = sorted((Path(output) / "annotations").rglob("*.parquet"))
    rows = pa.concat_tables([pq.ParquetFile(table).read(["class_id"]) for table in tables])
    regions = Counter(rows.column("class_id").to_pylist())
    assert found.since is not None
    assert (found.done, found.quarantined, found.failed, found.placed) == (3, 1, 0, 2)
    assert found.pixels == sum(mask.size for mask in masks.values())
    assert found.valid_pixels == found.pixels - pixels[255]
    assert found.regions == len(rows) == sum(c.regions for c in found.classes) > 0
    assert [c.name for c in found.classes] == list(NAMES)
    for c in found.classes:
        assert (c.pixels, c.regions) == (pixels[c.class_id], regions[c.class_id])
        assert c.area_m2 == pytest.approx(placed[c.class_id] * 100)
        assert c.share == pytest.approx(c.pixels / found.valid_pixels)
    assert found.scenes[0].source_id == "half.tif"
    assert found.scenes[0].nodata_share == pytest.approx(0.5)
    (refused,) = found.unread
    assert (refused.source_id, refused.status) == ("text.tif", "quarantined")
    assert refused.error


def test_the_command_says_all_of_it_in_words_and_in_json(
    output: str, capfd: pytest.CaptureFixture[str]
) -> None:
    code, said, _ = command(capfd, output)
    assert code == 0
    found = summarize_scenes(output, since="all")
    for words in (
        "4 scenes recorded since",
        "3 done, 1 quarantined",
        f"{found.pixels:,} px",
        "(of the 2 that have a CRS)",
        f"{found.regions:,} regions",
        "soil",
        "half.tif",
        "50.0%",
        "text.tif",
    ):
        assert words in said
    assert "image" not in said
    code, said, _ = command(capfd, output, "--json", "--since", "all")
    assert json.loads(said)["classes"][0] == {
        "class_id": 0,
        "name": "soil",
        "scenes": 3,
        "regions": 0,
        "pixels": found.classes[0].pixels,
        "share": found.classes[0].share,
        "area_m2": found.classes[0].area_m2,
    }


@pytest.mark.parametrize("words", [["--sheet", "s.png"], ["--by", "line"], ["--by", "folder"]])
def test_what_photographs_alone_have_is_refused(
    output: str, capfd: pytest.CaptureFixture[str], words: list[str]
) -> None:
    code, said, error = command(capfd, output, *words)
    assert (code, said) == (2, "")
    assert "holds scenes; leave it out" in error
    assert not Path("s.png").exists()


def test_times_are_kept_and_what_is_derived_keeps_its_time(
    output: str, tmp_path: Path, write_job: JobWriter
) -> None:
    later = dt.datetime.now(dt.UTC) + dt.timedelta(days=2)
    night = summarize_scenes(output, now=later)
    assert (night.done, night.quarantined, night.classes, night.scenes) == (0, 0, (), ())
    assert "nothing recorded since" in scene_lines(night)[0]
    before = Ledger(output).table().column("recorded").to_pylist()
    with_earlier = Ledger(output)
    with_earlier.claim("old")
    earlier = [replace(r, recorded=r.recorded - 86400 * 3) for r in sources_of(with_earlier.table())]
    with_earlier.append(earlier)
    run(write_job(classes=["soil", "water", "vegetation", "glare"]))
    after = Ledger(output).table().column("recorded").to_pylist()
    assert after == [time - 86400 * 3 for time in before]
    assert summarize_scenes(output).done == 0
    assert summarize_scenes(output, since="7d").classes[3].name == "glare"
    write_raster(tmp_path / "in" / "half.tif", reflectance(40, 50))
    run(write_job(classes=["soil", "water", "vegetation", "glare"]))
    assert [row.source_id for row in summarize_scenes(output).scenes] == ["half.tif"]


def test_an_output_without_times_is_counted_as_a_whole(tmp_path: Path) -> None:
    output = str(tmp_path / "out")
    save_state(output, replace(make_state(), pixel={}, classes=NAMES))
    (tmp_path / "out" / "_batchseg" / "locks").mkdir()
    (tmp_path / "out" / "_batchseg" / "locks" / "epoch-00000001.json").write_text("{}")
    ledger = Ledger(output)
    ledger.claim("old")
    scene = SceneRecord(status="done", source_id="a", tag="t", height=2, width=3, valid_pixels=6)
    ledger.append([replace(scene, class_ids=(0, 9), class_pixels=(4, 2))])
    found = summarize_scenes(output)
    assert (found.since, found.done, found.area_m2, found.without_time) == (None, 1, None, 1)
    assert [c.name for c in found.classes] == ["soil", "class 9"]
    with pytest.raises(ConfigError, match="--since all"):
        summarize_scenes(output, since="24h")
    ledger.append([replace(scene, source_id="b", recorded=int(dt.datetime.now(dt.UTC).timestamp()))])
    found = summarize_scenes(output)
    assert [row.source_id for row in found.scenes] == ["b"]
    assert any("1 were recorded by a version that kept no time" in line for line in scene_lines(found))
    assert summarize_scenes(output, since="all").done == 2


def test_the_text_fits_the_terminal(tmp_path: Path, output: str) -> None:
    ledger = Ledger(output)
    ledger.claim("odd")
    size = {"height": 10**6, "width": 10**6, "valid_pixels": 10**12, "recorded": 1}
    scene = SceneRecord(status="done", source_id="场景" * 90, tag="t", **size)
    many = {"class_ids": (0, 1), "class_pixels": (10**12 - 1, 1), "class_area_m2": (1e14, 0.5)}
    ledger.append([replace(scene, region_count=10**9, **many)])
    lines = scene_lines(summarize_scenes(output, since="all"))
    table = lines[: next(n for n, line in enumerate(lines) if line.startswith("no result of"))]
    assert max(cell_len(line) for line in table if output not in line) <= COLUMNS
    assert any("km2" in line for line in lines)


def test_a_region_that_was_cut_into_rows_counts_once(output: str) -> None:
    whole = summarize_scenes(output)
    table = min((Path(output) / "annotations").rglob("*.parquet"))
    rows = pq.ParquetFile(table).read()
    pq.write_table(pa.concat_tables([rows, rows.slice(0, 2)]), table)
    cut = summarize_scenes(output)
    assert (cut.regions, cut.classes, cut.scenes) == (whole.regions, whole.classes, whole.scenes)


def test_scenes_that_are_gone_are_named_as_such(output: str, tmp_path: Path, write_job: JobWriter) -> None:
    (tmp_path / "in" / "half.tif").unlink()
    run(write_job())
    found = summarize_scenes(output)
    assert (found.done, found.gone) == (3, 1)
    assert any("of them 1 gone from" in line for line in scene_lines(found))

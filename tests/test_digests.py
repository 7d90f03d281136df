"""Digests by which two versions of batchseg are compared: what is in them, and that no difference escapes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import REPOSITORY, SHARED, reflectance, write_raster

from benchmarks import digest_jobs, digests
from benchmarks.digest_output import differences, digest_output

MASK = "masks/naip/a.tif"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Path:
    """What `make` writes of one job, over one scene of four bands and one of three."""
    data, to = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("digests") / "to"
    folder = data / "opengeos" / "naip"
    pixels = (reflectance(90, 130) // 40).astype(np.uint8)
    write_raster(folder / "a.tif", pixels)
    write_raster(folder / "b.tif", pixels[:3])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digests, "find_models", lambda *_: {"spectral": models / "spectral"})
        given = ["--tree", str(REPOSITORY), "--data", str(data), "--to", str(to)]
        assert digests.main(["make", *given, "--jobs", "spectral-infrared"]) == 0
    return to


def test_a_job_is_run_by_the_command_line_and_digested(made: Path) -> None:
    (job,) = json.loads((made / "digests.json").read_text())["jobs"].values()
    assert (job["run"], job["verify"]) == (3, 0)
    assert {MASK, f"{MASK}.aux.xml", MASK.replace("masks", "confidence")} == set(job["files"])
    done, refused = (job["items"]["rows"][f"naip/{name}.tif"] for name in "ab")
    assert (done["status"], refused["status"]) == ("done", "quarantined")
    assert done["uri"] == "{data}/opengeos/naip/a.tif"
    rows = pq.read_table(made / "outputs" / "spectral-infrared" / "annotations" / "crs=EPSG-32633").num_rows
    assert job["regions"]["crs=EPSG-32633"]["rows"]["naip/a.tif"].startswith(f"{rows} ")
    assert rows > 1


def damage(output: Path, what: str) -> str:
    """Change one thing of an output; what a difference says of it."""
    (part,) = (output / "annotations").rglob("*.parquet")
    items = output / "items" / "items.parquet"
    if what == "a byte of a mask":
        data = bytearray((output / MASK).read_bytes())
        data[-1] ^= 1
        (output / MASK).write_bytes(data)
        return f"file {MASK}: "
    if what == "a file that is gone":
        (output / f"{MASK}.aux.xml").unlink()
        return f"file {MASK}.aux.xml: is no more"
    if what == "a region that is gone":
        table = pq.read_table(part, partitioning=None)
        pq.write_table(table.slice(1), part)
        return "crs=EPSG-32633: regions of naip/a.tif: "
    table = pq.read_table(items)
    if what == "a value of an item":
        at = table.column_names.index("bad_pixels")
        table = table.set_column(at, "bad_pixels", pa.array([7, None], pa.int64()))
        said = "item naip/a.tif: bad_pixels: 0 -> 7"
    elif what == "an item that is new":
        table, said = pa.concat_tables([table, table.slice(0, 1)]), ""
        table = table.set_column(0, "source_id", pa.array(["naip/a.tif", "naip/b.tif", "c"]))
        said = "item c: is new"
    else:
        table = table.append_column("more", pa.nulls(len(table), pa.string()))
        said = "column of items more: is new"
    pq.write_table(table, items)
    return said


@pytest.mark.parametrize(
    "what",
    [
        "a byte of a mask",
        "a file that is gone",
        "a region that is gone",
        "a value of an item",
        "an item that is new",
        "a column that is new",
    ],
)
def test_no_difference_escapes(made: Path, tmp_path: Path, what: str) -> None:
    output = tmp_path / "out"
    shutil.copytree(made / "outputs" / "spectral-infrared", output)
    before = digest_output(output, {})
    assert differences(before, digest_output(output, {})) == []
    said = damage(output, what)
    assert [line for line in differences(before, digest_output(output, {})) if line.startswith(said)]


def test_compare_prints_what_differs_and_exits_with_one(made: Path, tmp_path: Path, capsys) -> None:
    before, after = made / "digests.json", tmp_path / "after.json"
    assert digests.main(["compare", str(before), str(before)]) == 0
    document = json.loads(before.read_text())
    document["jobs"]["spectral-infrared"]["files"][MASK] = "0"
    document["jobs"]["other"] = {}
    after.write_text(json.dumps(document))
    capsys.readouterr()
    assert digests.main(["compare", str(before), str(after)]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "other: only after"
    assert said[1].startswith(f"spectral-infrared: file {MASK}: ")
    assert said[2:] == ["2 differences in 2 jobs"]
    assert digests.main(["compare", str(before), str(after), "--jobs", "spectral-infrared"]) == 1
    assert capsys.readouterr().out.splitlines()[1:] == ["1 differences in 1 jobs"]


def test_a_make_that_was_ended_goes_on(made: Path, tmp_path: Path, monkeypatch, models: Path) -> None:
    monkeypatch.setattr(digests, "find_models", lambda *_: {"spectral": models / "spectral"})
    monkeypatch.setattr(digests, "make_jobs", lambda *_: {"spectral-infrared": {}, "other": {}})
    monkeypatch.setattr(digests, "_run_job", lambda *_: {"run": 0, "verify": 0})
    to = tmp_path / "to"
    to.mkdir()
    shutil.copy(made / "digests.json", to)
    before = json.loads((to / "digests.json").read_text())
    given = ["make", "--data", str(tmp_path), "--to", str(to), "--tree"]
    assert digests.main([*given, str(REPOSITORY)]) == 0
    after = json.loads((to / "digests.json").read_text())
    assert after["jobs"] == before["jobs"] | {"other": {"run": 0, "verify": 0}}
    shutil.copytree(REPOSITORY / "batchseg", tmp_path / "tree" / "batchseg")
    with pytest.raises(SystemExit, match="of another tree"):
        digests.main([*given, str(tmp_path / "tree")])


def test_photographs_in_other_tables_are_the_same_regions() -> None:
    items = {"columns": {"source_id": "string", "verdict": "string"}, "rows": {}}
    regions = {"crs=none": {"schemas": ["a"], "rows": {"x": "1 f", "y": "2 g"}}}
    sides = [{"files": {}, "parts": {name: "0"}, "regions": regions, "items": items} for name in "ab"]
    assert differences(*sides) == []
    scenes = {"columns": {"source_id": "string"}, "rows": {}}
    said = differences(*(side | {"items": scenes} for side in sides))
    assert said == ["region table a: is no more", "region table b: is new"]


def test_a_tree_without_batchseg_is_refused(tmp_path: Path) -> None:
    given = ["--tree", str(tmp_path / "tree"), "--data", str(tmp_path), "--to", str(tmp_path / "to")]
    with pytest.raises(SystemExit, match="has no batchseg"):
        digests.main(["make", *given])


def test_a_folder_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    (tmp_path / "here").touch()
    given = ["--tree", str(REPOSITORY), "--data", str(tmp_path), "--to", str(tmp_path)]
    with pytest.raises(SystemExit, match="is not empty"):
        digests.main(["make", *given])


@pytest.mark.skipif(not SHARED.is_dir(), reason="no real imagery: set BATCHSEG_DATA")
def test_every_folder_of_scenes_and_photographs_is_in_a_job(tmp_path: Path) -> None:
    models = dict.fromkeys(("landcover", "magnetic-tile", "spectral", "ppocr", "csmask"), tmp_path)
    jobs = digest_jobs.make_jobs(SHARED, tmp_path, models)
    text = json.dumps(jobs)
    rasters = {".tif", ".tiff", ".jp2", ".jpg", ".png", ".vrt"}
    for folder in SHARED.iterdir():
        if any(path.suffix.lower() in rasters for path in folder.rglob("*")):
            assert f"{SHARED}/{folder.name}" in text, folder
    assert {job["executor"] for job in jobs.values()} == {"inline", "ray"}


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="no real imagery: set BATCHSEG_DATA")
def test_a_killed_run_is_resumed_to_the_same_digests(tmp_path: Path, capsys) -> None:
    given = ["--begun-by", str(REPOSITORY), "--tree", str(REPOSITORY), "--data", str(SHARED)]
    assert digests.main(["resume", *given, "--to", str(tmp_path / "to")]) == 0
    assert capsys.readouterr().out.endswith("no difference\n")


def test_masks_are_compared_whatever_they_are_called(made: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    shutil.copytree(made / "outputs" / "spectral-infrared", output)
    before = digest_output(output, {})
    for file in (MASK, f"{MASK}.aux.xml", MASK.replace("masks", "confidence")):
        (output / file).rename(output / file.replace("a.tif", "a.tif.tif"))
    items = output / "items" / "items.parquet"
    table = pq.read_table(items)
    masks = [mask and mask.replace("a.tif", "a.tif.tif") for mask in table["mask"].to_pylist()]
    column = pa.array(masks, table.schema.field("mask").type)
    pq.write_table(table.set_column(table.column_names.index("mask"), "mask", column), items)
    assert differences(before, digest_output(output, {})) == []
    (output / "masks" / "naip" / "a.tif.tif").write_bytes(b"")
    assert [line for line in differences(before, digest_output(output, {})) if f"file {MASK}: " in line]

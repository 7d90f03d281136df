"""What could not be read of the inputs is not gone: `prune` removes nothing of it."""

import json
import os
from pathlib import Path

import pyarrow as pa
import pytest
from conftest import Command, JobWriter, batchseg, reflectance, write_raster
from photo_runs import JobMaker, items, photograph, save
from product_trees import OLI, TM, landsat, packed
from runs import run, split

from batchseg.driver.gone import gone_of
from batchseg.inputs.left_out import LeftOut

BROKEN = {
    "a cell too many": "b.png,2,extra\n",
    "a quote left open": '"b.png,2\n',
    "another encoding": "b.png,f\udcfcnf\n",
    "no path": ",2\n",
}


def write_list(folder: Path, second: str) -> None:
    text = f"uri,line\na.png,1\n{second}c.png,3\n"
    (folder / "list.csv").write_bytes(text.encode(errors="surrogateescape"))


@pytest.mark.parametrize("row", BROKEN.values(), ids=BROKEN)
def test_a_row_that_breaks_keeps_what_it_named(
    tmp_path: Path, photo_job: JobMaker, command: Command, row: str
) -> None:
    for seed, name in enumerate("abc"):
        save(tmp_path / f"{name}.png", photograph(seed, red=1))
    job, output = photo_job(inputs="list.csv"), tmp_path / "out"
    write_list(tmp_path, "b.png,2\n")
    assert run(job).tally.done == 3
    write_list(tmp_path, row)
    report = run(job)
    assert report.vanished == ()
    assert "1 source of earlier runs may be among what could not be read" in report.left_out[-1]
    assert not items(output)["b.png"]["gone"]
    planned = command("plan", job)
    assert "3 done" not in planned.stdout and "0 gone" in planned.stdout
    for options in ([], ["--dry-run"], ["--all"]):
        refused = command("prune", output, *options)
        assert refused.returncode == 2
        assert "list.csv: line 3 is left out" in refused.stderr
        assert "Mend that, run the job again, and prune then" in refused.stderr
    assert (output / "masks" / "b.png").exists()
    write_list(tmp_path, "")  # the way on: the row is mended, or taken out
    assert run(job).vanished == ("b.png",)
    assert command("prune", output).returncode == 0
    assert not (output / "masks" / "b.png").exists()


def test_broken_rows_are_work_that_is_not_done(tmp_path: Path, photo_job: JobMaker, command: Command) -> None:
    for seed, name in enumerate("ac"):
        save(tmp_path / f"{name}.png", photograph(seed, red=1))
    job, output = photo_job(inputs="list.csv"), tmp_path / "out"
    write_list(tmp_path, ",\n")
    assert batchseg("run", job, "--quiet").returncode == 0
    write_list(tmp_path, "a.png,1,5\n")
    told = batchseg("run", job, "--quiet")
    row = "list.csv: line 3 is left out: more cells than columns; put a cell that holds a comma in quotes"
    said = ["rows of lists are not done (until the list is mended):", f"  {row}"]
    assert (told.returncode, told.stdout.splitlines()) == (3, said)
    report = run(job)
    assert report.broken_rows == (row,)
    loud = batchseg("run", job)
    assert (loud.returncode, loud.stdout.count(row)) == (3, 1)
    for name in ("status", "summary"):
        assert command(name, output).stdout.splitlines()[-2:] == said
        assert json.loads(command(name, output, "--json").stdout)["broken_rows"] == [row]
    assert json.loads(Path(report.log).with_name("summary.json").read_text())["broken_rows"] == [row]
    write_list(tmp_path, "")
    assert batchseg("run", job, "--quiet").returncode == 0
    assert "not done" not in command("status", output).stdout


def test_broken_rows_of_scenes_are_not_done(tmp_path: Path, write_job: JobWriter, command: Command) -> None:
    write_raster(tmp_path / "a.tif", reflectance(70, 110))
    (tmp_path / "list.csv").write_text("uri,line\na.tif,1\na.tif,1,5\n")
    told = batchseg("run", write_job(inputs="list.csv"), "--quiet")
    assert (told.returncode, told.stdout.count("line 3 is left out")) == (3, 1)
    for name in ("status", "summary"):
        assert "line 3 is left out" in command(name, tmp_path / "out").stdout


@pytest.mark.parametrize("scenes", [False, True])
def test_what_a_comment_names_is_not_gone(
    tmp_path: Path, photo_job: JobMaker, write_job: JobWriter, *, scenes: bool
) -> None:
    names = ["#1/a.tif", "#b.tif", "c.tif", "d.tif"]
    for seed, name in enumerate(names):
        if scenes:
            write_raster(tmp_path / "in" / name, reflectance(70, 110))
        else:
            save(tmp_path / "in" / name, photograph(seed, red=1))
    listed = tmp_path / "in" / "list.txt"
    listed.write_text("./#1/a.tif\n./#b.tif\nc.tif\nd.tif\n")
    write = write_job if scenes else photo_job
    job = write(inputs="in/list.txt")
    report = run(job)
    assert (report.tally.done, report.left_out) == (4, ())
    assert set(items(tmp_path / "out")) == {*names}, "ids are those of the folder's listing"
    listed.write_bytes("#1/a.tif\n#b.tif\nc.tif\n# gr\udcfcn\n".encode(errors="surrogateescape"))
    report = run(job)
    assert report.vanished == ("d.tif",)
    assert report.broken_rows == ()
    assert report.left_out == (
        "3 lines of list.txt begin with #: taken for comments; ./#name is a path",
        "2 sources of earlier runs may be among what could not be read (lines of list.txt begin with # "
        "and name them: where these are paths, write ./#name): they do not count as gone",
    )


def test_rows_of_nothing_as_spreadsheets_leave_them_keep_nothing_from_going(
    tmp_path: Path, photo_job: JobMaker
) -> None:
    for seed, name in enumerate("abc"):
        save(tmp_path / f"{name}.png", photograph(seed))
    write_list(tmp_path, "b.png,2\n")
    job = photo_job(inputs="list.csv")
    run(job)
    write_list(tmp_path, ",\n , \n\n")
    report = run(job)
    assert report.vanished == ("b.png",)
    assert report.left_out == ("list.csv: lines 3, 4 are left out: no path",)


def test_scenes_of_lists_are_kept_too(tmp_path: Path, write_job: JobWriter, command: Command) -> None:
    for number in range(3):
        write_raster(tmp_path / f"{number}.tif", reflectance(70, 110, seed=number))
    lines = ["id,red", "x,0.tif", "y,1.tif", "z,2.tif"]
    listed = tmp_path / "list.csv"
    listed.write_text("\n".join(lines))
    job = write_job(inputs={"manifest": "list.csv", "columns": ["red"], "id": "id"})
    assert run(job).tally.done == 3
    for broken in (",1.tif", "y,1.tif,"):
        listed.write_text("\n".join([*lines[:2], broken + "?" * broken.endswith(","), lines[3]]))
        assert run(job).vanished == ()
        assert command("prune", tmp_path / "out").returncode == 2
    listed.write_text("\n".join([*lines[:2], ",", lines[3]]))
    assert run(job).vanished == ("y",)


def close(patch: pytest.MonkeyPatch, closed: Path) -> None:
    """What a folder without permissions does to everybody but root."""
    scandir = os.scandir

    def refused(folder: str | int = ".") -> object:
        if str(folder) == str(closed):
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    patch.setattr(os, "scandir", refused)


@pytest.mark.parametrize("of_photographs", [True, False], ids=["photographs", "scenes"])
def test_what_lies_in_a_closed_folder_is_not_gone(
    tmp_path: Path,
    photo_job: JobMaker,
    write_job: JobWriter,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    of_photographs: bool,
) -> None:
    archive = tmp_path / "in"
    for seed, name in enumerate(("a", "goes", "closed/b")):
        if of_photographs:
            save(archive / f"{name}.png", photograph(seed))
        else:
            write_raster(archive / f"{name}.tif", reflectance(70, 110, seed=seed))
    ending = "png" if of_photographs else "tif"
    job = photo_job() if of_photographs else write_job(inputs="in")
    assert run(job).tally.done == 3
    (archive / f"goes.{ending}").unlink()
    with monkeypatch.context() as patch:
        close(patch, archive / "closed")
        report = run(job)
    assert report.vanished == (f"goes.{ending}",)
    assert any("1 folder closed to this user" in line for line in report.left_out)
    assert command("prune", tmp_path / "out").returncode == 0
    with monkeypatch.context() as patch:
        close(patch, archive / "closed")
        assert run(job).vanished == ()
    refused = command("prune", tmp_path / "out")
    assert refused.returncode == 2 and "1 folder closed to this user" in refused.stderr
    assert run(job).skipped == 2
    assert command("prune", tmp_path / "out").returncode == 0


def test_a_scene_whose_band_lies_in_a_closed_folder_keeps_its_results(
    tmp_path: Path, write_job: JobWriter, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was quarantined for the band that it lacked, and its results went with it."""
    for number, name in enumerate("xy"):
        scene = write_raster(tmp_path / f"{name}.tif", reflectance(70, 110, seed=number))
        red, nir, *_ = split(scene, tmp_path / "all")
        for band, path in (("red", red), ("nir", nir)):
            folder = tmp_path / "in" / band / name
            folder.mkdir(parents=True)
            path.rename(folder / f"{name}_{band}.tif")
    bands = {band: f"in/{band}/*/{{scene}}_{band}.tif" for band in ("red", "nir")}
    job = write_job(inputs={"bands": bands}, bands=["red", "nir", "red", "nir"])
    assert run(job).tally.done == 2
    close(monkeypatch, tmp_path / "in" / "nir" / "y")
    report = run(job)
    assert (report.refused, report.vanished, report.skipped) == ((), (), 1)
    assert "1 scene is left out: files of theirs may lie in a folder that is closed" in str(report.left_out)
    assert command("prune", tmp_path / "out").returncode == 2
    monkeypatch.undo()
    assert run(job).skipped == 2


def test_what_an_archive_held_that_cannot_be_read_is_not_gone(
    tmp_path: Path, write_job: JobWriter, command: Command
) -> None:
    """An archive that is only called in another way is the same source."""
    whole = {f"SR_B{number}": band for number in range(1, 6) for band in reflectance(70, 110)[:1]}
    named, other = (tmp_path / "in" / name for name in (f"{OLI}.tar", "download.tar"))
    packed(landsat(tmp_path / OLI, OLI, whole), named)
    packed(landsat(tmp_path / TM, TM, whole), other)
    given = {"landsat": "in", "assets": ["red", "green", "blue", "nir08"]}
    job = write_job(inputs=given, scale="metadata", check_values=False, allow_empty=True)
    assert run(job).tally.done == 2
    renamed = named.rename(tmp_path / "in" / "x.tar")
    report = run(job)
    assert (report.vanished, report.left_out, report.refused) == ((), (), ())
    renamed.unlink()
    other.write_bytes(other.read_bytes()[:5000])
    report = run(job)
    assert report.vanished == (OLI,)
    assert "1 archive that cannot be read: download.tar is a damaged archive" in report.left_out[0]
    assert "1 source of earlier runs may be among what could not be read" in report.left_out[-1]
    assert command("prune", tmp_path / "out").returncode == 0
    assert [path.stem for path in (tmp_path / "out" / "masks").glob("*.tif")] == [TM]
    other.unlink()
    assert run(job).vanished == (TM,)


def test_a_source_of_unknown_place_may_be_in_a_closed_folder() -> None:
    known = pa.table({"source_id": ["a", "b", "c"], "uri": ["/in/x/a", "", "/in/xy/c"]})
    found = gone_of(["a", "b", "c"], known, LeftOut(closed={"/in/x"}))
    assert (found.ids, found.unseen) == (("c",), 2)
    assert found.left_out[-1].endswith("(1 folder closed to this user: /in/x): they do not count as gone")
    assert gone_of([], known, LeftOut(unread=["a row"])).unseen == 0

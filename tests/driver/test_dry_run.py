"""What `batchseg plan` says is what a run then does, and nothing is written."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
from conftest import Command, JobWriter, reflectance, write_raster
from photo_runs import JobMaker, photograph, save
from rasterio import Affine
from runs import run

from batchseg.api.plans import plan_scenes
from batchseg.cli.run import report_lines
from batchseg.driver.dry_run import dry_run, plan_photographs
from batchseg.errors import ConfigError
from batchseg.job.file import load_job


def test_scenes_that_are_planned_are_those_that_are_done(tmp_path: Path, write_job: JobWriter) -> None:
    for name in "ab":
        write_raster(tmp_path / "in" / f"{name}.tif", reflectance(70, 90, seed=ord(name)))
    job, told = write_job(executor="inline", workers=1), []
    planned = dry_run(load_job(job), told.append)
    assert told
    assert not (tmp_path / "out").exists()
    report = run(job)
    assert (planned.numbers.scenes, planned.numbers.tiles) == (report.tally.done, report.tally.predicted)
    left = dry_run(load_job(job), told.append)
    assert (left.numbers.scenes, left.plan.triage.done) == (0, 2)


def test_photographs_that_are_planned_are_those_that_are_done(tmp_path: Path, photo_job: JobMaker) -> None:
    for number in range(3):
        save(tmp_path / "in" / f"{number}.png", photograph(number, red=1))
    job = photo_job(executor="inline", workers=1)
    planned = plan_photographs(load_job(job), lambda line: None)
    assert not (tmp_path / "out").exists()
    nbytes = sum(path.stat().st_size for path in (tmp_path / "in").iterdir())
    assert (planned.predict, planned.derive, planned.file_bytes) == (3, 0, nbytes)
    assert run(job).tally.done == 3
    left = plan_photographs(load_job(job), lambda line: None)
    assert (left.predict, left.done) == (0, 3)


@pytest.fixture
def job_with_odd_scenes(tmp_path: Path, write_job: JobWriter) -> Path:
    """Two sound products, and two whose metadata are no numbers."""
    for name, text in {"a": "10000", "b": "0", "c": "nan", "d": "10000"}.items():
        folder = tmp_path / "in" / f"{name}.SAFE"
        for number, band in enumerate(("B04", "B03", "B02", "B8A")):
            write_raster(folder / f"x_{band}.tif", reflectance(70, 90, seed=ord(name))[number : number + 1])
        (folder / "MTD_MSIL2A.xml").write_text(
            f"<a><BOA_QUANTIFICATION_VALUE>{text}</BOA_QUANTIFICATION_VALUE></a>"
        )
    bands = {band: f"in/{{scene}}.SAFE/x_{band}.tif" for band in ("B04", "B03", "B02", "B8A")}
    return write_job(inputs={"bands": bands}, scale="metadata", executor="inline", workers=1)


def test_metadata_that_are_no_numbers_are_their_scenes_problem(job_with_odd_scenes: Path) -> None:
    planned = dry_run(load_job(job_with_odd_scenes), lambda line: None)
    refused = {refusal.source.source_id: refusal.reason for refusal in planned.plan.refusals}
    assert refused.keys() == {"b", "c"}
    assert "BOA_QUANTIFICATION_VALUE is 0, expected a number above 0" in refused["b"]
    report = run(job_with_odd_scenes)
    assert report.tally.done == 2
    assert {record.source_id: record.error for record in report.refused} == refused


def test_a_type_that_numpy_does_not_know_is_its_scenes_problem(tmp_path: Path, write_job: JobWriter) -> None:
    pixels = reflectance(70, 90)
    write_raster(tmp_path / "in" / "a.tif", pixels)
    write_raster(
        tmp_path / "in" / "slc.tif", (pixels // 100 + 1j).astype(np.complex64), dtype="complex_int16"
    )
    job = write_job(executor="inline", workers=1)
    planned = dry_run(load_job(job), lambda line: None)
    assert [refusal.source.source_id for refusal in planned.plan.refusals] == ["slc.tif"]
    report = run(job)
    assert report.tally.done == 1
    assert "has complex pixels (complex_int16)" in report.refused[0].error


def made_for(folder: Path, models: Path, metres: float) -> str:
    """The spectral model, with an item beside it that says how large its pixels should be."""
    shutil.copytree(models / "spectral", folder / "model")
    item = {"type": "Feature", "properties": {"mlm:name": "spectral", "gsd": metres}}
    (folder / "model" / "item.json").write_text(json.dumps(item))
    return str(folder / "model")


def test_what_is_odd_about_scenes_is_in_the_plan_and_in_the_runs_report(
    tmp_path: Path, write_job: JobWriter, models: Path
) -> None:
    for name, metres in (("a", 10.0), ("b", 2.0), ("c", 100.0)):
        transform = (metres, 0.0, 500_000.0, 0.0, -metres, 4_600_000.0)
        write_raster(tmp_path / "in" / f"{name}.tif", reflectance(70, 90), transform=Affine(*transform))
    job = write_job(executor="inline", workers=1, model=made_for(tmp_path, models, 5.0))
    planned = dry_run(load_job(job), lambda line: None)
    text = str(plan_scenes(planned))
    assert "ground   2 to 10 m per pixel; the model was made for 5 m" in text
    assert "c.tif: has pixels of 100 m on the ground, the model was made for 5 m" in text
    report = run(job)
    (warning,) = report.warnings
    assert planned.warnings == plan_scenes(planned).warnings == report.warnings
    assert f"warning  {warning}" in text
    assert warning in Path(report.log).read_text()
    assert warning in Path(report.log).with_name("summary.json").read_text()
    assert run(job, "resolution=any").tally.done == 1  # what was refused for its resolution alone


def test_a_pixel_of_two_sizes_is_no_pixel_of_their_mean(
    tmp_path: Path, write_job: JobWriter, models: Path, command: Command
) -> None:
    for name, across, down in (("square", 10, 10), ("odd", 5, 20), ("far", 2.4, 41), ("wide", 41, 2.4)):
        transform = Affine(across, 0.0, 500_000.0, 0.0, -down, 4_600_000.0)
        write_raster(tmp_path / "in" / f"{name}.tif", reflectance(70, 90), transform=transform)
    done = command("run", write_job(executor="inline", model=made_for(tmp_path, models, 10.0)))
    assert done.returncode == 3
    assert "1 of 2 scenes have others (odd.tif: 5 x 20 m)" in done.stderr
    rows = pq.read_table(tmp_path / "out" / "items" / "items.parquet").to_pylist()
    errors = {row["source_id"]: row["error"] or "" for row in rows}
    assert "has pixels of 2.4 x 41 m on the ground, the model was made for 10 m" in errors["far.tif"]
    assert "has pixels of 41 x 2.4 m on the ground" in errors["wide.tif"]
    assert errors["odd.tif"] == errors["square.tif"] == ""


def test_what_is_no_input_is_told_by_plan_and_run(tmp_path: Path, write_job: JobWriter) -> None:
    """Another job's masks were scenes like any other, and what lies in the bin was done each night."""
    for name in ("a.tif", "results/masks/a.tif", ".Trash-1000/files/b.tif", "@eaDir/a.tif/c.tif"):
        write_raster(tmp_path / "in" / name, reflectance(70, 90))
    (tmp_path / "in" / "results" / "_batchseg").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("x")
    job = write_job(inputs="in", executor="inline", workers=1)
    planned = dry_run(load_job(job), lambda line: None)
    assert planned.numbers.scenes == 1
    assert planned.left_out == (
        "left out: 1 file of other kinds: .txt 1; 2 hidden or system folders: .Trash-1000, @eaDir; "
        f"results of other jobs: {tmp_path}/in/results",
    )
    report = run(job)
    assert (report.tally.done, report.refused, report.left_out) == (1, (), planned.left_out)
    assert planned.left_out[0] in Path(report.log).read_text()
    assert planned.left_out[0] in "\n".join(report_lines(report, quiet=False))


def test_photographs_with_a_place_are_refused_and_never_lose_it(tmp_path: Path, photo_job: JobMaker) -> None:
    profile = {"driver": "GTiff", "height": 90, "width": 130, "count": 3, "dtype": "uint8"}
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 4.6e6)}
    (tmp_path / "in").mkdir()
    for number in range(3):
        with rasterio.open(tmp_path / "in" / f"{number}.tif", "w", **profile, **place) as dataset:
            dataset.write(np.moveaxis(photograph(number, red=1)[:90, :130], 2, 0))
    job = photo_job(executor="inline", workers=1)
    for attempt in (lambda: plan_photographs(load_job(job), lambda line: None), lambda: run(job)):
        with pytest.raises(
            ConfigError, match=r"fits none of its inputs: 0\.tif has a place on the ground \(CRS"
        ):
            attempt()
    save(tmp_path / "in" / "p.png", photograph(3))
    save(tmp_path / "in" / "q.jpg", photograph(4))
    (tmp_path / "in" / "q.jgw").write_text("1\n0\n0\n-1\n5\n9\n")
    planned = plan_photographs(load_job(job), lambda line: None)
    assert [source_id for source_id, _ in planned.refused] == ["q.jpg"]
    report = run(job)
    assert report.tally.done == 1
    reasons = {record.source_id: record.error for record in report.refused}
    assert set(reasons) == {"0.tif", "1.tif", "2.tif", "q.jpg"}
    assert all("has a place on the ground" in reason for reason in reasons.values())

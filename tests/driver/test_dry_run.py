"""What `batchseg plan` says is what a run then does, and nothing is written."""

from pathlib import Path

import numpy as np
import pytest
from conftest import JobWriter, reflectance, write_raster
from photo_runs import JobMaker, photograph, save
from rasterio import Affine
from runs import run

from batchseg.api.plans import plan_scenes
from batchseg.driver.dry_run import dry_run, plan_photographs
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


def test_what_is_odd_about_scenes_is_in_the_plan_and_in_the_runs_report(
    tmp_path: Path, write_job: JobWriter
) -> None:
    for name, metres in (("a", 10.0), ("b", 2.0), ("c", 100.0)):
        transform = (metres, 0.0, 500_000.0, 0.0, -metres, 4_600_000.0)
        write_raster(tmp_path / "in" / f"{name}.tif", reflectance(70, 90), transform=Affine(*transform))
    job = write_job(executor="inline", workers=1, resolution=5.0)
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

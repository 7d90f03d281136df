"""What `batchseg plan` says is what a run then does, and nothing is written."""

from pathlib import Path

from conftest import JobWriter, reflectance, write_raster
from photo_runs import JobMaker, photograph, save
from runs import run

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

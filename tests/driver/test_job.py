"""One run of a job: who hears of it, what is left of it, and which error comes out."""

import json
from pathlib import Path

import pytest
from conftest import JobWriter, reflectance, write_raster

from batchseg.driver.begin import begin
from batchseg.driver.events import PlanReady, SceneDone, WorkEnded
from batchseg.driver.job import run_job
from batchseg.errors import ModelError, OutputError, StoppedError
from batchseg.job.file import load_job
from batchseg.output.lock import Lock


def job_of(folder: Path, write_job: JobWriter, **keys: object) -> Path:
    write_raster(folder / "in" / "a.tif", reflectance(70, 90))
    return write_job(executor="inline", workers=1, **keys)


def test_listeners_hear_everything_and_a_summary_is_left(tmp_path: Path, write_job: JobWriter) -> None:
    config, heard = load_job(job_of(tmp_path, write_job)), []
    with begin(config) as begun:
        report = run_job(config, begun, listeners=[heard.append], stop=lambda: None, replace=False)
    kinds = [type(event) for event in heard]
    assert [kind for kind in kinds if kind in (PlanReady, SceneDone, WorkEnded)] == [
        PlanReady,
        SceneDone,
        WorkEnded,
    ]
    folder = tmp_path / "out" / "_batchseg" / "runs" / begun.run_id
    assert json.loads((folder / "summary.json").read_text())["done"] == report.tally.done == 1
    assert "finished" in (folder / "log.txt").read_text()


def test_a_reason_to_stop_is_the_error_and_stands_in_the_log(tmp_path: Path, write_job: JobWriter) -> None:
    config = load_job(job_of(tmp_path, write_job))
    with begin(config) as begun, pytest.raises(StoppedError, match="the clock struck six"):
        run_job(config, begun, listeners=[], stop=lambda: "the clock struck six", replace=False)
    log = tmp_path / "out" / "_batchseg" / "runs" / begun.run_id / "log.txt"
    assert "StoppedError: the clock struck six" in log.read_text()


def test_an_output_that_another_run_took_over_is_why_all_else_fails(
    tmp_path: Path, write_job: JobWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_job(job_of(tmp_path, write_job, model=str(tmp_path)))
    with pytest.raises(ModelError), begin(config) as begun:
        run_job(config, begun, listeners=[], stop=lambda: None, replace=False)

    def taken_over(self: Lock) -> None:
        raise OutputError("another run holds it now")

    with begin(config) as begun, pytest.raises(OutputError, match="another run holds it now"):
        monkeypatch.setattr(Lock, "guard", taken_over)
        run_job(config, begun, listeners=[], stop=lambda: None, replace=False)

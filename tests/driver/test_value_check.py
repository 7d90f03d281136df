"""Runs and plans look at the data's values before anything is predicted."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import JobWriter, reflectance, write_raster
from runs import run

from batchseg.driver.dry_run import dry_run
from batchseg.errors import ConfigError
from batchseg.job.file import load_job

SCENE = reflectance(150, 170)
NAMES = ("a", "b")
NORMALIZE = {"mean": [0.2] * 4, "std": [0.1] * 4}


def write_scenes(folder: Path, pixels: np.ndarray, names: tuple[str, ...] = NAMES) -> None:
    for name in names:
        write_raster(folder / "in" / f"{name}.tif", pixels)


def test_reflectance_is_told_the_scale_that_it_has(tmp_path: Path, write_job: JobWriter) -> None:
    write_scenes(tmp_path, (SCENE / 10_000).astype(np.float32))
    for keys, words in (
        ({"scale": {"divide": 10000}}, "cannot be meant: in each band the network gets values within 1 %"),
        ({"scale": "transforms", "normalize": NORMALIZE}, "fits none of its inputs: a.tif has float32"),
    ):
        job = write_job(executor="inline", workers=1, **keys)
        for refuse in (run, lambda path: dry_run(load_job(path), lambda line: None)):
            with pytest.raises(ConfigError) as refused:
                refuse(job)
            assert words in str(refused.value)
            assert "scale: {divide: 1}" in str(refused.value)
        assert not (tmp_path / "out").exists()
    report = run(write_job(scale={"divide": 1}))
    assert len(report.classes.shares) == 4
    (summary,) = (tmp_path / "out" / "_batchseg" / "runs").glob("*/summary.json")
    assert json.loads(summary.read_text())["classes"].keys() == report.classes.shares.keys()
    assert "band 4: " in next(summary.parent.glob("log.txt")).read_text()


def test_a_job_may_say_that_its_values_are_meant(tmp_path: Path, write_job: JobWriter) -> None:
    write_scenes(tmp_path, (SCENE / 10_000).astype(np.float32))
    job = write_job(check_values=False, executor="inline", workers=1)
    looked = dry_run(load_job(job), lambda line: None).looked
    assert len(looked.lines) == 5
    assert "check_values: false" in looked.warning
    assert run(job).tally.done == 2


@pytest.mark.parametrize("value", [0, 3000])
def test_scenes_of_one_value_end_no_night(tmp_path: Path, write_job: JobWriter, value: int) -> None:
    write_scenes(tmp_path, np.full_like(SCENE, value))
    assert run(write_job()).tally.done == 2


def test_scenes_without_data_end_no_night(tmp_path: Path, write_job: JobWriter) -> None:
    write_scenes(tmp_path, np.zeros_like(SCENE))
    assert run(write_job(nodata=0)).tally.done == 2


def test_one_class_after_nights_of_several_is_told(tmp_path: Path, write_job: JobWriter) -> None:
    write_scenes(tmp_path, SCENE)
    job = write_job()
    assert run(job).classes.warning == ""
    write_scenes(tmp_path, np.full_like(SCENE, 200), ("c",))
    report = run(job)
    assert "earlier runs of this output found" in report.classes.warning
    assert report.warnings == (report.classes.warning,)
    assert run(job).classes.shares == {}

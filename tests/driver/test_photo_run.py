"""A run over photographs, before its predictors start."""

from pathlib import Path

import pytest
from photo_runs import JobMaker, photograph, save
from runs import run

from batchseg.errors import ConfigError


def test_a_job_that_fits_no_photograph_is_refused(tmp_path: Path, photo_job: JobMaker) -> None:
    for seed in range(8):
        save(tmp_path / "in" / f"{seed}.png", photograph(seed))
    job = photo_job(bands=[1, 2, 5])
    with pytest.raises(ConfigError, match="fits none of its inputs"):
        run(job)
    assert not (tmp_path / "out").exists()


def test_photographs_that_are_named_one_by_one_are_done_or_refused_as_those_of_a_folder(
    tmp_path: Path, photo_job: JobMaker
) -> None:
    save(tmp_path / "in" / "a.png", photograph(1, red=1))
    (tmp_path / "in" / "empty.png").touch()
    report = run(photo_job(inputs={"one": "in/a.png", "two": "in/empty.png"}))
    assert report.tally.done == 1
    assert [(r.source_id, r.status, r.error) for r in report.refused] == [
        ("two/empty.png", "quarantined", "the file is empty")
    ]
    alone = run(photo_job(inputs="in/empty.png"), "output=alone")
    assert [(r.source_id, r.status) for r in alone.refused] == [("empty.png", "quarantined")]

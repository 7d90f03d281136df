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

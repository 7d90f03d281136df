"""A run over scenes, before it begins with any."""

from pathlib import Path

import pytest
from conftest import JobWriter, reflectance, write_raster
from runs import run

from batchseg.errors import ConfigError


def test_a_job_that_fits_no_source_is_refused_and_one_that_fits_some_is_not(
    tmp_path: Path, write_job: JobWriter
) -> None:
    few = reflectance(70, 90)[:2]
    write_raster(tmp_path / "in" / "a.tif", few)
    with pytest.raises(ConfigError, match="fits none of its inputs"):
        run(write_job())
    write_raster(tmp_path / "in" / "b.tif", reflectance(70, 90))
    report = run(write_job())
    assert (report.tally.done, [record.source_id for record in report.refused]) == (1, ["a.tif"])

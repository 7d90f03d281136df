"""A run over scenes, inline: its steps in their order, and what its report holds."""

from pathlib import Path

import pytest
from conftest import JobWriter, reflectance, write_raster
from runs import run

from batchseg.errors import ConfigError
from batchseg.output.state import load_state


def test_what_is_refused_is_reported_once_and_the_rest_is_done(tmp_path: Path, write_job: JobWriter) -> None:
    write_raster(tmp_path / "in" / "good.tif", reflectance(70, 90))
    (tmp_path / "in" / "bad.tif").write_bytes(b"II*\0 no more")
    job = write_job()
    first = run(job)
    assert (first.tally.done, first.tally.quarantined) == (1, 1)
    assert [record.source_id for record in first.refused] == ["bad.tif"]
    again = run(job)
    assert (again.tally.done, again.refused, again.skipped, again.still_quarantined) == (0, (), 1, 1)


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


def test_sources_that_are_gone_are_remembered_for_prune(tmp_path: Path, write_job: JobWriter) -> None:
    for name in "ab":
        write_raster(tmp_path / "in" / f"{name}.tif", reflectance(70, 90, seed=ord(name)))
    run(write_job())
    (tmp_path / "in" / "a.tif").unlink()
    assert run(write_job()).vanished == ("a.tif",)
    state = load_state(str(tmp_path / "out"))
    assert state is not None
    assert state.vanished == ("a.tif",)

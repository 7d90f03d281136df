"""Whole runs that say how many pixels depend on where tiles lie."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import Command, JobWriter
from runs import conv_job, interrupted, run

from batchseg.driver import commit, scene_scheduler
from batchseg.output.layout import SEAMS_TABLE
from batchseg.tools.status import read_status

KEYS = {"tile_size": 32, "bands": [1, 2, 3], "shard_tiles": 6, "resolution": "any"}


@pytest.fixture
def job(tmp_path: Path, write_job: JobWriter, models: Path) -> Path:
    """A network of convolutions that sees a few pixels around each."""
    return conv_job(tmp_path, write_job, models, **KEYS, halo=8)


def test_a_halo_that_is_enough_leaves_nothing_to_their_places(job: Path) -> None:
    report = run(job)
    assert report.seams.places >= 1
    assert report.seams.pixels > 100
    assert report.seams.changed == 0
    assert report.warnings == ()


def test_without_a_halo_they_are_counted_warned_of_and_drawn(job: Path, command: Command) -> None:
    report = run(job, "halo=0", "output=narrow")
    output = job.parent / "narrow"
    assert report.seams.share > 0.005
    assert any("depend on where tiles lie" in warning for warning in report.warnings)
    summary = json.loads(next(output.glob("_batchseg/runs/*/summary.json")).read_text())
    assert summary["seams"]["share"] == pytest.approx(report.seams.share, abs=1e-6)
    rows = pq.read_table(output / SEAMS_TABLE).to_pylist()
    assert sum(row["changed"] for row in rows) == report.seams.changed
    assert read_status(str(output)).seams == report.seams
    shown = command("status", str(output))
    assert "places of tiles: " in shown.stdout


def test_nothing_is_predicted_twice_where_the_job_says_so(job: Path) -> None:
    report = run(job, "check_seams=false", "halo=0")
    assert report.seams.places == 0
    assert not (job.parent / "out" / SEAMS_TABLE).exists()


def test_a_run_that_goes_on_finds_the_same(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a killed run has recorded of places is not lost, nor counted twice."""
    monkeypatch.setattr(commit, "COMMIT_SECONDS", 0.0)
    monkeypatch.setattr(scene_scheduler, "LEASE_SECONDS", 1e-4)
    monkeypatch.setattr(scene_scheduler, "LEASES_PER_SECOND", 10**6)
    keys = "halo=0", "shard_tiles=2"
    run(job, *keys, "output=whole")
    interrupted(job, *keys, "output=stopped")
    run(job, *keys, "output=stopped")
    one, other = (read_status(str(job.parent / name)).seams for name in ("whole", "stopped"))
    assert one.places
    assert one == other

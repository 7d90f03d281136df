"""Photographs that end or stop what decodes them, and runs that are killed: real processes, real Ray."""

import signal
import subprocess
from pathlib import Path

import pytest
from conftest import BATCHSEG, batchseg
from killing import faults, wait_for
from photo_runs import JobMaker, check, items, night, photograph, save


@pytest.mark.slow
def test_a_decoder_that_crashes_takes_no_neighbour_along(tmp_path: Path, photo_job: JobMaker) -> None:
    images = night(tmp_path)
    for name in ("a poison.png", "line 0/poison too.png"):
        save(tmp_path / "in" / name, photograph(90))
    done = batchseg("run", photo_job(workers=2), env=faults(tmp_path, abort="poison"))
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    refused = {key: row["error"] for key, row in items(tmp_path / "out").items() if row["status"] != "done"}
    assert set(refused) == {"a poison.png", "line 0/poison too.png"}
    assert all("SIGABRT" in reason for reason in refused.values())
    check(tmp_path / "out", images)


@pytest.mark.slow
def test_a_decoder_that_hangs_is_given_up(tmp_path: Path, photo_job: JobMaker) -> None:
    images = night(tmp_path)
    save(tmp_path / "in" / "stuck.png", photograph(90))
    job = photo_job(workers=2, lease_timeout=12)
    done = batchseg("run", job, env=faults(tmp_path, hang="stuck"))
    assert done.returncode == 3, done.stderr
    rows = items(tmp_path / "out")
    assert "gave no answer" in rows["stuck.png"]["error"]
    check(tmp_path / "out", images)


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on(tmp_path: Path, photo_job: JobMaker) -> None:
    images = night(tmp_path, 60)
    job, parts = photo_job(workers=2), tmp_path / "out" / "annotations" / "crs=none"
    killed = subprocess.Popen([BATCHSEG, "run", str(job), "--quiet"], env=faults(tmp_path, slow=0.05))
    wait_for(lambda: parts.exists() and any(parts.iterdir()))
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    again = batchseg("run", job)
    assert again.returncode == 0, again.stderr
    check(tmp_path / "out", images)

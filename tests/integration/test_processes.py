"""Runs in plain processes of this machine: their results, and what ends them."""

import contextlib
import json
import os
import signal
import time
from pathlib import Path

import pytest
from conftest import JobWriter, batchseg, read_mask, reflectance, spectral_mask, write_raster
from faults.commands import Place, kill, said, start, wait_for
from faults.workload import place
from photo_runs import JobMaker, photograph, save
from runs import mask_bytes, run

from batchseg.driver.executors.processes.child import TITLE


def scenes(folder: Path, *names: str) -> None:
    for seed, name in enumerate(names):
        write_raster(folder / "in" / name, reflectance(190, 230, seed=seed))


def predictors(here: Place, driver: int) -> list[int]:
    """Processes of a run that hold, or will hold, a network."""
    found = []
    for pid in here.processes(TITLE):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == driver and fields[0] != "Z":
                found.append(pid)
    return found


def test_scenes_and_photographs_come_out_as_inline(
    tmp_path: Path, write_job: JobWriter, photo_job: JobMaker
) -> None:
    scenes(tmp_path, "a.tif", "b.tif", "c.tif")
    job = write_job(confidence=True)
    run(job, "shard_tiles=1")
    run(job, "executor=processes", "workers=2", "shard_tiles=1", "output=processes")
    assert mask_bytes(tmp_path / "processes") == mask_bytes(tmp_path / "out")
    for path in (tmp_path / "in").iterdir():
        path.unlink()
    for number in range(5):
        save(tmp_path / "in" / f"{number}.png", photograph(number, red=60 * (number % 2)))
    job = photo_job(masks="all")
    run(job, "output=photos")
    report = run(job, "executor=processes", "workers=2", "output=photos-in-processes")
    assert report.tally.done == 5
    assert mask_bytes(tmp_path / "photos-in-processes") == mask_bytes(tmp_path / "photos")


@pytest.mark.parametrize(("key", "value"), [("ray_address", "head:6379"), ("device", "gpu")])
def test_clusters_and_gpus_are_refused_in_words(write_job: JobWriter, key: str, value: str) -> None:
    refused = batchseg("run", write_job(executor="processes", **{key: value}))
    assert refused.returncode == 2
    assert "executor: ray" in refused.stderr


@pytest.mark.slow
@pytest.mark.parametrize("at", ["read segv b.tif", "header segv b.tif", "header hang b.tif"])
def test_a_file_that_ends_its_reader_or_hangs_is_quarantined_alone(
    tmp_path: Path, write_job: JobWriter, at: str
) -> None:
    scenes(tmp_path, "a.tif", "b.tif", "c.tif")
    job = write_job(executor="processes", workers=2, shard_tiles=1, lease_timeout=10)
    with place() as here:
        process = start(here, "run", job, at=at)
        assert process.wait(200) == 3, said(here)
        assert wait_for(lambda: not here.processes(), 10)
    status = json.loads(batchseg("status", tmp_path / "out", "--json").stdout)
    assert (status["done"], [one["source_id"] for one in status["refused"]]) == (2, ["b.tif"])
    mask = read_mask(tmp_path / "out", "a.tif")
    assert (mask == spectral_mask(reflectance(190, 230, seed=0), 10_000)).all()


@pytest.mark.slow
@pytest.mark.parametrize("step", ["predict", "write"])
def test_a_step_that_hangs_once_costs_its_process_and_blames_nobody(
    tmp_path: Path, write_job: JobWriter, step: str
) -> None:
    scenes(tmp_path, "a.tif", "b.tif", "c.tif")
    job = write_job(executor="processes", workers=2, shard_tiles=1, lease_timeout=6)
    with place() as here:
        once = here.folder.with_name(f"{here.folder.name}-once")
        process = start(here, "run", job, at=f"{step} hang b.tif", once=once)
        assert process.wait(200) == 0, said(here)
        assert once.exists()
        assert wait_for(lambda: not here.processes(), 10)


@pytest.mark.slow
def test_a_predictor_that_is_killed_is_replaced(tmp_path: Path, write_job: JobWriter) -> None:
    scenes(tmp_path, "a.tif", "b.tif", "c.tif")
    job = write_job(executor="processes", workers=2, shard_tiles=1)
    with place() as here:
        process = start(here, "run", job, slow=0.1)
        assert wait_for(lambda: bool(here.predicted()), 120), said(here)
        before = predictors(here, process.pid)
        assert len(before) == 2
        kill(before[:1])
        assert process.wait(200) == 0, said(here)
        assert wait_for(lambda: not here.processes(), 10)
    for seed, name in enumerate(("a.tif", "b.tif", "c.tif")):
        expected = spectral_mask(reflectance(190, 230, seed=seed), 10_000)
        assert (read_mask(tmp_path / "out", name) == expected).all()


def test_a_terminals_interrupt_drains_and_a_kill_leaves_no_process(
    tmp_path: Path, write_job: JobWriter
) -> None:
    """The interrupt goes to all processes of the terminal, as does the end of a session."""
    scenes(tmp_path, "a.tif", "b.tif", "c.tif")
    job = write_job(executor="processes", workers=2, shard_tiles=1)
    with place() as here:
        process = start(here, "run", job, slow=0.2)
        assert wait_for(lambda: bool(here.predicted()), 120), said(here)
        os.killpg(process.pid, signal.SIGHUP)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == 5
        assert "Traceback" not in said(here)
        assert wait_for(lambda: not here.processes(), 10)
        (recorded,) = [line for line in said(here).splitlines() if "recorded in this run" in line]
        assert "[0 shards" not in recorded

        process = start(here, "run", job, slow=0.2)
        assert wait_for(lambda: len(predictors(here, process.pid)) == 2, 120)
        time.sleep(0.5)
        process.kill()
        process.wait()
        assert wait_for(lambda: not here.processes(TITLE), 10)

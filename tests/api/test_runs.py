"""Runs from Python: what they give, what they leave alone, and how they end."""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import JobWriter, read_mask, reflectance, spectral_mask, write_raster
from killing import faults, processes, wait_for

import batchseg
from batchseg.driver.events import Event, PlanReady, SceneDone
from batchseg.errors import ConfigError, LockedError, StoppedError
from batchseg.output.lock import hold


def surroundings() -> dict[str, Any]:
    """What of a process a library could change."""
    loggers = [logging.getLogger(name) for name in (None, "batchseg", "ray")]
    return {
        "environment": dict(os.environ),
        "folder": Path.cwd(),
        "temporary": tempfile.tempdir,
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "streams": (sys.stdin, sys.stdout, sys.stderr),
        "descriptors": [os.fstat(number)[:2] for number in (1, 2)],
        "logging": [(log.level, log.propagate, list(log.handlers)) for log in loggers],
        "warnings": list(warnings.filters),
        "path": list(sys.path),
        "children": Path(f"/proc/self/task/{os.getpid()}/children").read_text(),
    }


@contextlib.contextmanager
def unchanged() -> Iterator[list[Event]]:
    """Before, after, and at each event in between. Yields a listener's list."""
    before, heard = surroundings(), []

    class Listener(list[Event]):
        def __call__(self, event: Event) -> None:
            self.append(event)
            now = surroundings()
            del now["children"]
            assert now == {key: value for key, value in before.items() if key != "children"}

    heard = Listener()
    yield heard
    assert surroundings() == before


@pytest.mark.parametrize(
    "executor", ["inline", *(pytest.param(name, marks=pytest.mark.slow) for name in ("processes", "ray"))]
)
def test_a_run_gives_results_and_leaves_the_process_as_it_was(
    tmp_path: Path, write_job: JobWriter, executor: str, capfd: pytest.CaptureFixture[str]
) -> None:
    pixels = reflectance(90, 130)
    write_raster(tmp_path / "in" / "a.tif", pixels)
    (tmp_path / "in" / "empty.tif").touch()
    with warnings.catch_warnings(), unchanged() as heard:
        job = batchseg.load_job(write_job(workers=1), executor=executor)
        report = batchseg.run(job, listeners=[heard])  # type: ignore[list-item]
    assert capfd.readouterr() == ("", "")
    assert (report.tally.done, [record.source_id for record in report.refused]) == (1, ["empty.tif"])
    assert [type(event) for event in heard if isinstance(event, PlanReady | SceneDone)] == [
        PlanReady,
        SceneDone,
    ]
    assert (tmp_path / "out" / "_batchseg" / "runs" / report.run_id / "log.txt").exists()

    with unchanged():
        output = batchseg.open(job)
        masks, regions = output.masks(), output.regions("EPSG:4326")
        assert output.verify().problems == ()
        assert output.retry() == ("empty.tif",)
        (tmp_path / "in" / "empty.tif").unlink()
    np.testing.assert_array_equal(read_mask(tmp_path / "out", "a.tif"), spectral_mask(pixels, 10_000))
    assert masks == {"a.tif": str(tmp_path / "out" / "masks" / "a.tif")}
    assert regions.crs.to_epsg() == 4326
    assert regions.total_bounds[0] == pytest.approx(16.27, abs=0.01)
    assert output.regions().crs.to_epsg() == 32633

    again: list[Any] = []  # in a thread, where no signal handler can be installed
    thread = threading.Thread(target=lambda: again.append(batchseg.run(job)))
    thread.start()
    thread.join()
    assert (again[0].tally.done, again[0].skipped) == (0, 1)
    assert [again[0].vanished, output.prune().sources] == [("empty.tif",)] * 2


SCRIPT = """
import sys, batchseg
try:
    batchseg.run(batchseg.load_job(sys.argv[1], executor=sys.argv[2], shard_tiles=1), progress=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize(
    "executor", ["inline", *(pytest.param(name, marks=pytest.mark.slow) for name in ("processes", "ray"))]
)
def test_an_interrupted_run_is_resumed(tmp_path: Path, write_job: JobWriter, executor: str) -> None:
    pixels = reflectance(90, 130)
    write_raster(tmp_path / "in" / "a.tif", pixels)
    job, environment = write_job(workers=1), faults(tmp_path, slow=1)
    # A script without `if __name__ == "__main__"`, which processes that run themselves would start again.
    (tmp_path / "script.py").write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py"), str(job), executor],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: any((tmp_path / "out").glob("_batchseg/ledger/*")) and (tmp_path / "count").exists())
    wait_for(lambda: (tmp_path / "count").stat().st_size > 2)
    process.send_signal(signal.SIGINT)
    printed, drawn = process.communicate(timeout=120)
    assert (printed, process.returncode) == ("interrupted\n", 0), drawn
    assert drawn.startswith("checking the model")
    wait_for(lambda: not processes(environment), seconds=30)
    (log,) = (tmp_path / "out" / "_batchseg" / "runs").glob("*/log.txt")
    assert "stopped by KeyboardInterrupt" in log.read_text()
    output = batchseg.open(job)
    assert output.status().running is None
    done_before = sum(scene.shards_done for scene in output.status().unfinished)
    report = batchseg.run(batchseg.load_job(job, executor="inline", shard_tiles=1))
    assert 0 < done_before == 6 - report.tally.predicted
    np.testing.assert_array_equal(read_mask(tmp_path / "out", "a.tif"), spectral_mask(pixels, 10_000))


def test_errors_are_those_of_the_package(tmp_path: Path, write_job: JobWriter) -> None:
    write_raster(tmp_path / "in" / "a.tif", reflectance(90, 130))
    job = batchseg.load_job(write_job(), executor="inline")
    with hold(job.output, "another"), pytest.raises(LockedError, match="another run holds"):
        batchseg.run(job)
    with pytest.raises(ConfigError, match="deadline 'tomorrow' is neither"):
        batchseg.run(job, deadline="tomorrow")
    with pytest.raises(StoppedError, match="stopped at the deadline 0s"):
        batchseg.run(job, deadline="0s")


@pytest.mark.parametrize("function", [batchseg.plan, batchseg.run])
def test_what_is_no_job_is_told_how_to_become_one(function: Any) -> None:
    with pytest.raises(TypeError, match=r"found 'job.yaml'; batchseg.load_job\(path\)"):
        function("job.yaml")

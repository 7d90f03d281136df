"""Runs as cron starts them: no home, no terminal, next to no environment, and perhaps two at once."""

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from conftest import BATCHSEG, REPOSITORY, JobWriter, read_mask, reflectance, spectral_mask, write_raster
from factories import make_config
from faults.kills import shared_memory
from hypothesis import HealthCheck, given, settings
from killing import wait_for
from names import NAMES, acts

from batchseg.driver.begin import RunLog, begin
from batchseg.driver.events import Note, Retried, SceneRefused
from batchseg.driver.progress import LogListener
from batchseg.errors import LockedError, ModelError, OutputError
from batchseg.output.layout import LIBRARIES, LOG, PROFILE
from batchseg.output.lock import STALE_SECONDS, hold

HEAVY = {"numpy", "rasterio", "pyarrow", "scipy", "shapely", "pyproj", "cv2", "ray", "paddle", "rich"}


def cron(tmp_path: Path, **more: str) -> dict[str, str]:
    """What cron gives a user whose home folder does not exist; temporary folders where the test sees them."""
    (tmp_path / "t").mkdir(exist_ok=True)
    return {
        "HOME": "/nonexistent",
        "PATH": "/usr/bin:/bin",
        "SHELL": "/bin/sh",
        "TMPDIR": str(tmp_path / "t"),
        "PYTHONPATH": str(REPOSITORY),
        **more,
    }


def start(job: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        f'exec "{BATCHSEG}" run "{job}" --quiet <&-',
        shell=True,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd="/",
    )


def left(tmp_path: Path) -> set[str]:
    """What runs left in temporary folders, but for the networks that they derived."""
    return {path.name for path in (tmp_path / "t").iterdir()} - {f"batchseg-models-{os.getuid()}"}


def unused_memory() -> set[str]:
    """What lies in /dev/shm and no living process has mapped."""
    found = {path.name for path in Path("/dev/shm").iterdir()}
    return found - shared_memory(int(path.name) for path in Path("/proc").glob("[0-9]*"))


@pytest.mark.parametrize("executor", ["inline", pytest.param("ray", marks=pytest.mark.slow)])
def test_two_starts_at_once_are_one_run_and_one_line(
    tmp_path: Path, write_job: JobWriter, executor: str
) -> None:
    pixels = reflectance(90, 130)
    write_raster(tmp_path / "in" / "a.tif", pixels)
    before = unused_memory()
    job = write_job(workers=1, bake=False, executor=executor)
    with tempfile.TemporaryDirectory(prefix="bq-", dir="/tmp") as folder:  # short enough for Ray's sockets
        environment = cron(Path(folder))
        running = [start(job, environment) for _ in range(2)]
        answers = {process.wait(timeout=300): process.communicate()[0] for process in running}
        assert left(Path(folder)) == set()
    assert sorted(answers) == [0, 6]
    assert answers[0] == ""
    assert answers[6].startswith("batchseg: another run holds")
    assert answers[6].count("\n") == 1
    (output,) = {path.parent for path in tmp_path.glob("*/masks")}
    assert (read_mask(output, "a.tif") == spectral_mask(pixels, 10_000)).all()
    wait_for(lambda: unused_memory() <= before)
    assert not Path("/nonexistent").exists()


def test_a_run_that_finds_the_output_held_has_imported_nothing_heavy(tmp_path: Path) -> None:
    modules = "batchseg.cli.main, batchseg.api.jobs, batchseg.api.runs"
    code = f"import sys, {modules}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert HEAVY & set(done.stdout.split()) == set()


def test_the_next_start_takes_over_from_a_killed_run_and_clears_up(tmp_path: Path) -> None:
    config = make_config(output=str(tmp_path / "out"))
    code = """
import os, sys, tempfile
sys.path[:0] = sys.argv[2:]
from factories import make_config
from batchseg.driver.begin import begin
from batchseg.output.layout import scratch_folder
with begin(make_config(output=sys.argv[1])) as begun:
    scratch_folder(sys.argv[1]).path.mkdir(exist_ok=True)
    tempfile.mkstemp()
    print("begun", flush=True)
    input()
"""
    holder = subprocess.Popen(
        [sys.executable, "-c", code, config.output, str(REPOSITORY / "tests")],
        env=cron(tmp_path),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "begun\n"
    with pytest.raises(LockedError), begin(config):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    assert len(left(tmp_path)) == 1
    killed = time.monotonic()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path / "t"))
        patch.setattr("tempfile.tempdir", None)
        with begin(config):
            assert time.monotonic() - killed < STALE_SECONDS
            assert len(left(tmp_path)) == 1, "this run's own"
            assert not (tmp_path / "out" / "_batchseg" / "scratch").exists()
    assert left(tmp_path) == set()


def test_a_refused_job_leaves_no_output_unless_there_was_one(tmp_path: Path) -> None:
    config = make_config(output=str(tmp_path / "out"))
    with pytest.raises(ModelError), begin(config):
        raise ModelError
    assert not (tmp_path / "out").exists()
    with hold(config.output, "earlier"):
        pass
    with contextlib.suppress(ModelError), begin(config):
        raise ModelError
    assert (tmp_path / "out" / "_batchseg").is_dir()


@given(NAMES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_name_adds_no_line_to_the_log(tmp_path: Path, name: str) -> None:
    log = RunLog(str(tmp_path / secrets.token_hex(8)), "run-1")
    with log.opened(tmp_path) as logger:
        hear = LogListener(logger)
        hear(SceneRefused(source_id=name, reason=f"cannot read {name}", transient=True, tiles=1))
        hear(Retried(source_id=name, reason=name))
        hear(Note(text=f"{name}: damaged"))
        try:
            raise ValueError(name)
        except ValueError:
            logger.exception("a defect of batchseg")
        lines = log.file(LOG).read_text(encoding="utf-8").split("\n")
    assert [" run-1 " in line for line in lines] == [True] * 4 + [False] * 5
    assert not any(map(acts, lines))


@pytest.mark.parametrize("name", [LOG, LIBRARIES, PROFILE])
def test_a_file_of_a_run_that_is_there_already_is_not_written(tmp_path: Path, name: str) -> None:
    (tmp_path / "victim.txt").write_text("keep")
    folder = tmp_path / "out" / "_batchseg" / "runs" / "run-1"
    folder.mkdir(parents=True)
    (folder / name).symlink_to(tmp_path / "victim.txt")
    log = RunLog(str(tmp_path / "out"), "run-1")
    with pytest.raises(OutputError, match=name), log.opened(tmp_path):
        log.file(name).write_text("line")
    assert (tmp_path / "victim.txt").read_text() == "keep"


def test_what_is_put_in_place_of_a_runs_files_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "victim.txt").write_text("keep")
    folder = tmp_path / "out" / "_batchseg" / "runs" / "run-1"
    log = RunLog(str(tmp_path / "out"), "run-1")
    with log.opened(tmp_path) as logger:
        log.file(LIBRARIES)
        folder.rename(tmp_path / "moved")
        folder.mkdir()
        for name in (LOG, LIBRARIES):
            (folder / name).symlink_to(tmp_path / "victim.txt")
        logger.info("line")
        log.file(LIBRARIES).write_text("line")
    assert (tmp_path / "victim.txt").read_text() == "keep"
    assert "line" in (tmp_path / "moved" / LOG).read_text()


def test_the_log_names_the_jobs_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchseg.system.redact._variables", {})
    config = make_config(output=str(tmp_path / "out"), variables={"WHERE": str(tmp_path)})
    with begin(config) as begun:
        begun.logger.info("job %s, output %s", config.path, config.output)
        assert begun.log.file(LOG).read_text().endswith(", output ${WHERE}/out\n")

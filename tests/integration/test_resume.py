"""Runs that are killed go on where they stopped, to the same bytes."""

import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import BATCHSEG, JobWriter, batchseg, reflectance, write_raster
from faults.commands import ROLES, kill
from killing import faults, processes, wait_for
from runs import mask_bytes, run

from batchseg.output.ledger import Ledger

CORE = 48
SHAPE_HW = (12 * CORE - 5, 13 * CORE + 11)
TILES = 12 * 14


def recorded(output: Path) -> set[tuple[int, int]]:
    shards = Ledger(str(output)).shards("scene.tif") if (output / "_batchseg").exists() else []
    return {(shard.row_off, shard.col_off) for shard in shards}


def predicted(environment: dict[str, str]) -> Counter[str]:
    path = Path(environment["FAULT_COUNT"])
    return Counter(path.read_text().splitlines()) if path.exists() else Counter()


@pytest.fixture
def job(tmp_path: Path, write_job: JobWriter) -> Path:
    """One scene of 168 shards of one tile each, of which none is predicted twice on purpose."""
    pixels = reflectance(*SHAPE_HW)
    pixels[:, 40:45, 60:200] = 0
    write_raster(tmp_path / "in" / "scene.tif", pixels, nodata=0)
    return write_job(shard_tiles=1, workers=2, confidence=True, check_seams=False)


WHOLE: dict[str, bytes] = {}
"""Of the job above: its scene and settings are the same in all tests, and nothing of a run is in a mask."""


def undisturbed(job: Path) -> dict[str, bytes]:
    if WHOLE:
        return WHOLE
    run(job, "output=whole", "shard_tiles=3")
    WHOLE.update(mask_bytes(job.parent / "whole"))
    return WHOLE


def start(job: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen([BATCHSEG, "run", str(job)], env=environment, stderr=subprocess.DEVNULL)


def check_repeats(before: Counter[str], known: set[tuple[int, int]], environment: dict[str, str]) -> str:
    """No tile that was recorded at the kill is predicted again."""
    repeated = {tile for tile, count in predicted(environment).items() if count > 1}
    unrecorded = {tile for tile in before if tuple(map(int, tile.split()[:2])) not in known}
    assert repeated <= unrecorded
    return (
        f"{len(repeated)} tiles predicted twice, {len(unrecorded)} predicted and not yet recorded at the kill"
    )


RESUMES = {
    "the same command": [],
    "inline, other shards": ["--executor", "inline", "--set", "shard_tiles=2", "--set", "batch_size=2"],
    "one worker": ["--set", "workers=1", "--set", "shard_tiles=5"],
}


@pytest.mark.parametrize(
    ("share", "how"),
    [
        pytest.param(0.2, "the same command", marks=pytest.mark.slow),
        pytest.param(0.5, "inline, other shards", marks=pytest.mark.slow),
        pytest.param(0.7, "one worker", marks=pytest.mark.slow),
    ],
)
def test_a_killed_driver_is_resumed_to_the_same_bytes(
    tmp_path: Path, job: Path, share: float, how: str, record_property: Callable[[str, object], None]
) -> None:
    expected = undisturbed(job)
    environment = faults(tmp_path, slow=0.12)
    process = start(job, environment)
    output = tmp_path / "out"
    wait_for(lambda: len(recorded(output)) >= share * TILES)
    process.kill()
    process.wait()
    kill(processes(environment))
    before, known = predicted(environment), recorded(output)
    assert TILES - len(known) >= 20

    again = batchseg("run", job, *RESUMES[how], env={**environment, "FAULT_SLOW": "0"})
    assert again.returncode == 0, again.stderr
    record_property("repeats", check_repeats(before, known, environment))
    assert mask_bytes(output) == expected
    assert not list((output / "_batchseg" / "fragments").glob("*/*"))


@pytest.mark.slow
def test_blended_tiles_of_a_killed_run_are_blended_with_those_of_the_next(
    tmp_path: Path, job: Path, write_job: JobWriter
) -> None:
    """Zones between shards of both runs are sums of what each stored."""
    blended = {"blend": "hann", "overlap": 16, "confidence": True, "workers": 2, "check_seams": False}
    run(write_job(**blended), "output=whole", "shard_tiles=3")
    write_job(**blended, shard_tiles=1)
    environment = faults(tmp_path, slow=0.05)
    process = start(job, environment)
    output = tmp_path / "out"
    wait_for(lambda: len(recorded(output)) >= 0.4 * TILES)
    process.kill()
    process.wait()
    kill(processes(environment))
    assert len(recorded(output)) <= TILES
    again = batchseg("run", job, "--executor", "inline", env={**environment, "FAULT_SLOW": "0"})
    assert again.returncode == 0, again.stderr
    assert mask_bytes(output) == mask_bytes(tmp_path / "whole")


@pytest.mark.slow
def test_a_killed_predictor_is_replaced(tmp_path: Path, job: Path) -> None:
    expected = undisturbed(job)
    environment = faults(tmp_path, slow=0.05)
    process = start(job, environment)
    output = tmp_path / "out"
    wait_for(lambda: len(recorded(output)) >= 20)
    victims = processes(environment, *ROLES["predictor"])
    assert len(victims) == 2
    kill(victims[:1])
    before, known = predicted(environment), recorded(output)
    assert process.wait(timeout=600) == 0
    check_repeats(before + predicted(environment), known, environment)
    assert mask_bytes(output) == expected


@pytest.mark.slow
def test_everything_killed_at_once(tmp_path: Path, job: Path) -> None:
    expected = undisturbed(job)
    environment = faults(tmp_path, slow=0.05)
    process = start(job, environment)
    output = tmp_path / "out"
    wait_for(lambda: len(recorded(output)) >= 0.4 * TILES)
    kill(processes(environment))
    process.wait()
    before, known = predicted(environment), recorded(output)
    again = batchseg("run", job, "--executor", "inline", env={**environment, "FAULT_SLOW": "0"})
    assert again.returncode == 0, again.stderr
    check_repeats(before, known, environment)
    assert mask_bytes(output) == expected


@pytest.mark.slow
def test_sigterm_records_and_leaves_within_25_seconds(tmp_path: Path, job: Path) -> None:
    expected = undisturbed(job)
    environment = faults(tmp_path, slow=0.15)
    process = subprocess.Popen(
        [BATCHSEG, "run", str(job)], env=environment, stderr=subprocess.PIPE, text=True
    )
    output = tmp_path / "out"
    wait_for(lambda: len(recorded(output)) >= 10)
    process.terminate()
    started = time.monotonic()
    _, message = process.communicate(timeout=40)
    assert process.returncode == 5
    assert time.monotonic() - started < 25
    assert "stopped by SIGTERM" in message
    assert "Traceback" not in message
    wait_for(lambda: not processes(environment), seconds=10)
    # What was predicted when the signal came has been recorded, but for the tiles of shards cut short.
    assert len(predicted(environment)) - len(recorded(output)) <= 2
    again = batchseg("run", job, "--executor", "inline", env={**environment, "FAULT_SLOW": "0"})
    assert again.returncode == 0, again.stderr
    assert mask_bytes(output) == expected


@pytest.fixture
def cut_short(tmp_path: Path, job: Path) -> Path:
    """The output of an inline run that was killed after twenty shards."""
    process = subprocess.Popen(
        [BATCHSEG, "run", str(job), "--executor", "inline"], env=faults(tmp_path, slow=0.02), stderr=-3
    )
    output = tmp_path / "out"
    wait_for(lambda: len(recorded(output)) >= 20)
    process.kill()
    process.wait()
    return output


def check_finishes(job: Path, output: Path) -> None:
    assert run(job).tally.done == 1
    assert mask_bytes(output) == undisturbed(job)


def test_fragments_that_are_missing_or_cut_off_are_predicted_again(job: Path, cut_short: Path) -> None:
    first, second, *_ = sorted((cut_short / "_batchseg" / "fragments").rglob("mask-*.tif"))
    first.unlink()
    second.write_bytes(second.read_bytes()[:-1])
    check_finishes(job, cut_short)


def test_fragments_written_but_not_recorded_are_overwritten(job: Path, cut_short: Path) -> None:
    segments = sorted((cut_short / "_batchseg" / "ledger").iterdir())
    segments[-1].unlink()
    check_finishes(job, cut_short)

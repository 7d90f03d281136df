"""The injectors against the code as it is: a changed name or parameter fails here, not in a campaign."""

import json
from pathlib import Path

import pytest
import seams
from conftest import JobWriter, reflectance, write_raster
from photo_runs import JobMaker, photograph, save

from batchseg.driver.executors.ray import predictors, tasks
from batchseg.output.region_parts import COMPACT_FROM
from faults.commands import ROLES, Place, run, said
from faults.workload import place

PHOTOGRAPHS = {
    seams.DECODE_PHOTOGRAPH,
    seams.FIT_PHOTOGRAPH,
    seams.RUN_BATCH,
    seams.PLACE_ANSWER,
    seams.DO_GROUP,
}
"""By which scenes do not come."""

EVERYWHERE = {
    "slow": 0,
    "slow_read": 0,
    "slow_published": 0,
    "fsync_seconds": 0,
    "stop": "a name that no file has:1",
    "stale": 4,
    "room": 1,
    "algorithm": 7,
}
"""Every injector is in place, and none does harm."""


def passed(here: Place, job: Path) -> set[str]:
    """Names of the seams that an inline run came by, and what could go wrong there: steps with source ids."""
    path = here.folder / "passed"
    assert run(here, "run", job, "--executor", "inline", passed=path, **EVERYWHERE) == 0, said(here)
    return set(path.read_text().splitlines())


def test_a_run_over_scenes_comes_by_every_seam(tmp_path: Path, write_job: JobWriter) -> None:
    names = [f"{number}.tif" for number in range(COMPACT_FROM)]  # so many small tables of regions are joined
    for number, name in enumerate(names):
        write_raster(tmp_path / "in" / name, reflectance(70, 90, number))
    job = write_job(
        regions=True, engine="paddle", batch_size=2, shard_tiles=1
    )  # or all were whole in a lease
    with place() as here:
        found = passed(here, job)
        tiles = [(row, col) for row in (0, 48) for col in (0, 48)]
        assert set(here.predicted()) == {f"{row} {col} {name}" for row, col in tiles for name in names}
    expected = {str(seam) for seam in seams.SEAMS if seam not in PHOTOGRAPHS}
    expected |= {f"{step} {name}" for step in ("header", "predict", "write", "finish") for name in names}
    assert found == expected | {f"read {tmp_path / 'in' / name}" for name in names}
    settings = json.loads((tmp_path / "out" / "_batchseg" / "output.json").read_text())
    assert settings["pixel"]["algorithm"] == 7


def test_a_run_over_photographs_comes_by_their_seams(tmp_path: Path, photo_job: JobMaker) -> None:
    names = {"a.png", "b.png", "c.png"}
    for number, name in enumerate(sorted(names)):
        save(tmp_path / "in" / name, photograph(number, red=1))
    with place() as here:
        found = passed(here, photo_job(engine="paddle", batch_size=2))
        assert {line.split()[2] for line in here.predicted()} == names
    assert found >= {str(seam) for seam in PHOTOGRAPHS}
    assert found >= {f"{step} {name}" for step in ("decode", "predict") for name in names}


@pytest.mark.parametrize(("role", "module"), [("predictor", predictors), ("finisher", tasks)])
def test_tasks_of_ray_have_the_names_by_which_their_processes_are_found(role: str, module: object) -> None:
    (name,) = (part for part in ROLES[role] if part.startswith("ray::"))
    assert hasattr(module, name.removeprefix("ray::"))


class Steps:
    def step(self, one: int, two: int = 2) -> tuple[int, int]:
        return one, two


def test_a_fault_reads_and_changes_the_arguments_that_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Steps, "step", Steps.step)
    seam = seams.Seam(Steps, "step")
    seam.around(lambda call, two: call(one=two))
    assert Steps().step(1) == (2, 2)
    assert Steps().step(one=1, two=5) == (5, 5)
    assert Steps.step.__name__ == "step"


def test_what_the_code_no_longer_has_is_said() -> None:
    with pytest.raises(TypeError, match="step has no parameter three"):
        seams.Seam(Steps, "step").around(lambda call, three: call())
    with pytest.raises(AttributeError):
        seams.Seam(Steps, "jump").around(lambda call: call())
    with pytest.raises(AttributeError):
        seams.Constant(Steps, "LIMIT").set(1)

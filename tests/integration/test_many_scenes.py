"""Hundreds of small scenes, which go out by the dozen: real processes, real Ray."""

import json
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import JobWriter, batchseg, read_mask, reflectance, spectral_mask, write_raster
from killing import faults
from runs import mask_bytes, run

from batchseg.driver.executors.steps import Steps
from batchseg.driver.tasks import LotTask


def many(folder: Path, count: int) -> None:
    for number in range(count):
        write_raster(folder / "in" / f"{number:03d}.tif", reflectance(50, 70, seed=number))


def regions(output: Path) -> list[dict[str, object]]:
    table = pq.read_table(output / "annotations")
    return table.sort_by([("source_id", "ascending"), ("region_id", "ascending")]).to_pylist()


def test_scenes_that_go_out_together_come_out_as_alone(
    tmp_path: Path, write_job: JobWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    many(tmp_path, 150)
    lots: list[LotTask] = []
    of = Steps.of
    monkeypatch.setattr(
        Steps, "of", lambda self, task: (isinstance(task, LotTask) and lots.append(task)) or of(self, task)
    )
    job = write_job(regions=True)
    assert run(job).tally.done == 150
    assert sum(len(task.leases) for task in lots) > 50, "an inline run has lots as well"
    for number in (0, 70, 149):
        expected = spectral_mask(reflectance(50, 70, seed=number), 10_000)
        assert (read_mask(tmp_path / "out", f"{number:03d}.tif") == expected).all()
    run(job, "executor=processes", "workers=2", "output=processes")
    assert mask_bytes(tmp_path / "processes") == mask_bytes(tmp_path / "out")
    one, other = (regions(tmp_path / name) for name in ("out", "processes"))
    assert len(one) > 150
    assert one == other


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["processes", "ray"])
def test_a_scene_whose_decoder_aborts_beside_two_hundred_costs_seconds(
    tmp_path: Path, write_job: JobWriter, executor: str
) -> None:
    many(tmp_path, 200)
    job = write_job(executor=executor, workers=2)
    began = time.monotonic()
    assert batchseg("run", job).returncode == 0
    usual = time.monotonic() - began
    write_raster(tmp_path / "in" / "100 poison.tif", reflectance(50, 70))
    began = time.monotonic()
    done = batchseg("run", job, "--set", f"output={tmp_path / 'again'}", env=faults(tmp_path, abort="poison"))
    print(f"{executor}: {usual:.1f} s, beside a file that aborts its reader {time.monotonic() - began:.1f} s")  # noqa: T201
    assert done.returncode == 3, done.stderr
    status = json.loads(batchseg("status", tmp_path / "again", "--json").stdout)
    assert (status["done"], [one["source_id"] for one in status["refused"]]) == (200, ["100 poison.tif"])
    assert mask_bytes(tmp_path / "again") == mask_bytes(tmp_path / "out")

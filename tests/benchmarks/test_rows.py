"""benchmarks.rows: which rows case a has here, and what their jobs say."""

from pathlib import Path

import pytest
from conftest import REPOSITORY

from batchseg.job.file import load_job
from benchmarks import rows
from benchmarks.options import Options
from benchmarks.record import SkippedError

BY_NAME = {row.name: row for row in rows.ROWS}


def test_every_row_has_a_name_of_its_own() -> None:
    assert len(BY_NAME) == len(rows.ROWS)
    assert BY_NAME["landcover-bf16-regions"].at_least == 0.78
    assert BY_NAME["landcover-bf16"].aim == 0.90


def test_the_job_of_land_cover_is_the_shipped_one_on_the_scene(tmp_path: Path) -> None:
    scene = tmp_path / "scene.tif"
    jobs = {
        name: load_job(rows.job_of(BY_NAME[name], Options(work=tmp_path), "a", scene, 3))
        for name in ("landcover-fp32", "landcover-bf16-regions")
    }
    plain, regions = jobs.values()
    assert [job.model.path for job in jobs.values()] == [str(REPOSITORY / "models" / "landcover")] * 2
    assert (plain.precision, regions.precision) == ("fp32", "bf16")
    assert (plain.tile_size, plain.halo, plain.workers) == (512, 64, 3)
    assert plain.regions is None
    assert regions.regions is not None
    assert regions.regions.min_area == 25


def test_a_row_that_lacks_its_network_or_instructions_says_so(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(rows, "has_fast_bf16", lambda: False)
    for name, reason in (
        ("landcover-bf16", "avx512_bf16 or AMX"),
        ("ppocr-fp32", "needs --data"),
        ("ppliteseg-fp32", "needs --model"),
    ):
        with pytest.raises(SkippedError, match=reason):
            rows.check(BY_NAME[name], Options(work=tmp_path, data=tmp_path))
    rows.check(BY_NAME["landcover-fp32"], Options(work=tmp_path))
    (tmp_path / rows.PPOCR_FOLDER).mkdir(parents=True)
    rows.check(BY_NAME["ppocr-fp32"], Options(work=tmp_path, data=tmp_path))

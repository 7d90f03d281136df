"""The warning that many pixels depend on where tiles lie, whose remedies the job can take."""

from pathlib import Path

import pytest
from conftest import JobWriter
from factories import make_facts, make_package, make_recipe

import batchseg
from batchseg.driver.seam_words import seams_remedy, seams_warning
from batchseg.output.seam_shares import SeamShares


def test_only_many_are_warned_of() -> None:
    few, many = (SeamShares(places=2, pixels=10_000, changed=n) for n in (50, 51))
    assert seams_warning(few, "Do.") == ""
    assert seams_warning(many, "Do.") == f"{many.in_words}. Do."


@pytest.fixture
def job(tmp_path: Path, write_job: JobWriter) -> batchseg.Job:
    (tmp_path / "in").mkdir(exist_ok=True)
    return batchseg.load_job(write_job())


def test_blending_and_larger_tiles_are_named_where_they_can_be_had(job: batchseg.Job) -> None:
    open_recipe = make_recipe(tile_size=512, halo=64)
    assert "Set blend: hann or tile_size: 1024," in seams_remedy(job, open_recipe)
    blended = make_recipe(tile_size=512, halo=96, rim=32, blend="hann")
    assert "Set tile_size: 1024," in seams_remedy(job, blended)
    ids = make_recipe(tile_size=512, halo=64, facts=make_facts(output="classes"))
    assert "Set tile_size: 1024," in seams_remedy(job, ids)
    fixed = make_recipe(tile_size=512, halo=64, model=make_package(size_hw=(512, 512), limits=("Reshape",)))
    assert "Set blend: hann," in seams_remedy(job, fixed)
    largest = make_recipe(tile_size=2048, halo=64, facts=make_facts(output="classes"))
    assert "Neither `blend` nor larger tiles" in seams_remedy(job, largest)
    assert "blends already" in seams_remedy(job, make_recipe(tile_size=2048, halo=96, rim=32, blend="hann"))

"""Halos of a model as `batchseg model halo` measures them."""

from pathlib import Path

import pytest
from conftest import JobWriter
from fixed_graphs import write_fixed
from runs import conv_job

from batchseg.driver.halo_table import halo_table
from batchseg.errors import ConfigError
from batchseg.job.file import load_job


def test_a_halo_that_the_network_cannot_have_is_refused_with_those_that_it_can(
    tmp_path: Path, write_job: JobWriter
) -> None:
    network = str(write_fixed(tmp_path / "a.onnx", "positions"))
    keys = {"model": network, "tile_size": None, "halo": None, "normalize": "none"}
    config = load_job(conv_job(tmp_path, write_job, tmp_path, **keys))
    said = r"--halos: of .*a\.onnx, which takes tiles of 64 alone, halos of 0 to 29 pixels .*; found 30"
    with pytest.raises(ConfigError, match=said):
        halo_table(config, (4, 30), lambda line: None, of_noise=True)
    found = halo_table(config, (4, 29), lambda line: None, of_noise=True)
    assert ([figure.halo for figure in found.figures], found.is_whole) == ([4, 29], False)
    found = halo_table(config, None, lambda line: None, of_noise=True)
    assert ([figure.halo for figure in found.figures], found.is_whole) == ([16], True)


def test_sources_that_cannot_be_read_are_no_matter_of_engines(
    tmp_path: Path, write_job: JobWriter, models: Path
) -> None:
    job = conv_job(tmp_path, write_job, models)
    (tmp_path / "in" / "a.tif").write_text("no raster")
    with pytest.raises(ConfigError) as refused:
        halo_table(load_job(job), None, lambda line: None, of_noise=False)
    assert str(refused.value) == (
        f"{job}: no source gave a tile: none can be read and fits the job; `batchseg plan` says why. Without "
        f"a job halos are measured on noise"
    )

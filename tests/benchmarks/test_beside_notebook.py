"""benchmarks.beside_notebook: what it compares is the same work, and what its jobs leave open."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import yaml
from conftest import REPOSITORY, read_mask, write_raster

from benchmarks import beside_notebook, scenes
from benchmarks.options import Options
from benchmarks.others import notebook_loop
from benchmarks.record import SkippedError
from benchmarks.rows import unset

MODEL = REPOSITORY / "models" / "landcover"


def test_the_loop_gives_batchsegs_mask(tmp_path: Path, monkeypatch, command) -> None:
    monkeypatch.setattr(scenes, "CROP", 820)
    pixels = scenes.smooth_noise(scenes.CITY)[:, :600]
    scene = write_raster(tmp_path / "scene.tif", pixels)
    job = unset("landcover", Options(work=tmp_path)) | {"inputs": str(scene), "output": "out"}
    job |= {"engine": "paddle", "precision": "fp32", "tile_size": 512, "halo": 64}
    job |= {"executor": "inline", "regions": False, "resolution": "any"}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    assert command("run", tmp_path / "job.yaml", "--quiet").returncode == 0
    mine = read_mask(tmp_path / "out", "scene.tif")
    network = beside_notebook.converted(MODEL, tmp_path)
    (tmp_path / "masks").mkdir()
    found = notebook_loop.main(
        str(network.onnx), str(tmp_path / "masks"), network.mean, network.std, str(scene)
    )
    assert found["pixels"] == pixels[0].size
    assert found["seconds"] > 0
    with rasterio.open(tmp_path / "masks" / "scene.tif") as dataset:
        loops = dataset.read(1)
        assert (dataset.compression.name, dataset.overviews(1)) == ("deflate", [])
        assert dataset.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") is None
        assert dataset.profile["tiled"]
    assert len(np.unique(mine)) >= 3
    assert np.mean(mine != loops) < 3e-4  # two engines; the borders are reflected in both
    border = np.ones(mine.shape, dtype=bool)
    border[64:-64, 64:-64] = False
    assert np.mean((mine != loops)[border]) < 3e-4


def test_the_job_says_what_its_owner_alone_knows(tmp_path: Path) -> None:
    settings = unset("landcover", Options(work=tmp_path))
    assert set(settings) == {"model", "bands", "classes"}
    assert Path(settings["model"]).resolve() == MODEL


def test_without_an_aerial_image_the_case_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(SkippedError, match="naip_big"):
        beside_notebook.measure(Options(work=tmp_path, data=tmp_path))


def test_copies_are_files_of_their_own_and_alone(tmp_path: Path) -> None:
    scene = tmp_path / "scene.tif"
    scene.write_bytes(b"pixels")
    beside_notebook.copies(scene, tmp_path / "ten", 10)
    found = beside_notebook.copies(scene, tmp_path / "ten", 2)
    assert sorted((tmp_path / "ten").iterdir()) == found
    assert [path.read_bytes() for path in found] == [b"pixels"] * 2

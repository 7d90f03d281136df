"""Jobs that name another `tile_size` than an ONNX file was exported for."""

from pathlib import Path

import numpy as np
import pytest
from conftest import SHARED, JobWriter, read_mask, write_raster
from fixed_graphs import write_fixed
from runs import run

from batchseg.errors import ConfigError, ModelError


def opened_job(tmp_path: Path, write_job: JobWriter, middle: str) -> Path:
    pixels = np.random.default_rng(1).integers(0, 256, (3, 181, 299), dtype=np.uint8)
    write_raster(tmp_path / "in" / "scene.tif", pixels)
    return write_job(
        model=str(write_fixed(tmp_path / "net.onnx", middle)),
        bands=[1, 2, 3],
        scale={"divide": 255},
        normalize="none",
        classes=["a", "b", "c", "d", "e"],
        tile_size=None,
        halo=8,
    )


@pytest.mark.slow
def test_larger_and_smaller_tiles_give_the_mask_of_the_networks_own(
    tmp_path: Path, write_job: JobWriter
) -> None:
    job = opened_job(tmp_path, write_job, "resize")
    run(job, "output=own")
    own = read_mask(tmp_path / "own", "scene.tif")
    assert len(np.unique(own)) > 2
    for number, words in enumerate(
        (
            ["tile_size=128"],
            ["tile_size=48"],
            ["tile_size=160", "engine=openvino"],
            ["tile_size=96", "bake=false"],
        )
    ):
        run(job, f"output=out-{number}", *words)
        mask = read_mask(tmp_path / f"out-{number}", "scene.tif")
        assert np.mean(mask != own) < 1e-4, words  # ties that the last bits decide


def test_a_network_of_one_size_alone_stops_the_job_with_what_to_do(
    tmp_path: Path, write_job: JobWriter
) -> None:
    job = opened_job(tmp_path, write_job, "reshape")
    with pytest.raises(ModelError, match=r"64 x 64 pixels alone: Reshape to a .* leave `tile_size` out"):
        run(job, "tile_size=128")
    run(job)


@pytest.mark.slow
def test_ukis_csmask_in_tiles_of_512(tmp_path: Path, write_job: JobWriter) -> None:
    folder = SHARED / "ukis-csmask"
    if not folder.exists():
        pytest.skip(f"no {folder}")
    with np.load(folder / "sentinel2.npz") as archive:
        write_raster(tmp_path / "in" / "scene.tif", np.moveaxis(archive["img"], -1, 0))
    job = write_job(
        model={"path": str(folder / "model_6b.onnx"), "layout": "NHWC"},
        bands=[1, 2, 3, 4, 5, 6],
        scale={"divide": 1},
        normalize={
            "mean": [0.19312, 0.18659, 0.18899, 0.30362, 0.23085, 0.16216],
            "std": [0.16431, 0.16762, 0.18230, 0.17409, 0.16020, 0.14164],
        },
        classes=["shadow", "water", "snow", "land", "cloud"],
        tile_size=None,
        halo=96,
    )
    run(job, "output=own")
    run(job, "output=large", "tile_size=512")
    own, large = (read_mask(tmp_path / name, "scene.tif") for name in ("own", "large"))
    assert len(np.unique(own)) > 2
    np.testing.assert_array_equal(large, own)
    with pytest.raises(ConfigError, match=r"network's stride is 16\. .* Set tile_size: 336$"):
        run(job, "output=odd", "tile_size=325")

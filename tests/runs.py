"""Runs of jobs as tests start them, and scenes of one file per band."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import models as test_models
import numpy as np
import pytest
import rasterio
from conftest import JobWriter, write_raster
from numpy.typing import NDArray
from rasterio.transform import Affine

from batchseg.driver.begin import begin
from batchseg.driver.events import Event, ShardsDone
from batchseg.driver.job import run_job
from batchseg.driver.report import Report
from batchseg.errors import StoppedError
from batchseg.job.file import load_job
from batchseg.job.settings import JobConfig


def run(job: Path, *overrides: str, replace: bool = False) -> Report:
    config = load_job(job, ["executor=inline", "workers=1", *(_beside(job, word) for word in overrides)])
    with begin(config) as begun:
        return run_job(config, begun, listeners=[], stop=lambda: None, replace=replace)


def _beside(job: Path, override: str) -> str:
    """Results below the job's folder, not the shell's."""
    name = override.removeprefix("output=")
    return f"output={job.parent / name}" if name != override and "://" not in name else override


def conv_job(tmp_path: Path, write_job: JobWriter, models: Path, **keys: object) -> Path:
    """A job over one raster of noise for the model `conv`; keyword arguments replace keys."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, 90, 130), dtype=np.uint8)
    write_raster(tmp_path / "in" / "a.tif", pixels)
    usual = {
        "model": str(models / "conv"),
        "bands": None,
        "classes": None,
        "scale": None,
        "executor": "inline",
    }
    return write_job(**(usual | keys))


def interrupted(job: Path, *overrides: str) -> JobConfig:
    """A run that is stopped after its first shards, which are recorded; what it was of.

    Whoever calls lets a commit follow each shard (`commit.COMMIT_SECONDS`), and a scene be several leases.
    """
    reasons: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, ShardsDone):
            reasons.append("the night is over")

    config = load_job(job, ["executor=inline", "workers=1", *(_beside(job, word) for word in overrides)])
    with begin(config) as begun, pytest.raises(StoppedError, match="the night is over"):
        run_job(config, begun, listeners=[listen], stop=lambda: next(iter(reasons), None), replace=False)
    return config


def run_on_ray(job: Path, address: str, *overrides: str) -> Report:
    return run(job, "executor=ray", f"ray_address={address}", "workers=2", *overrides)


def mask_bytes(output: Path) -> dict[str, bytes]:
    folders = [output / "masks", output / "confidence"]
    return {
        str(path.relative_to(output)): path.read_bytes()
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


ROTATED = Affine(8.0, 3.0, 600_000.125, 2.5, -7.0, 5_000_000.3)


BANDS = ["red", "green", "blue", "nir"]


def split(path: Path, folder: Path, names: Sequence[str] = BANDS) -> list[Path]:
    """A raster's bands as files of one band each: FOLDER/NAME_red.tif, ..."""
    with rasterio.open(path) as stacked:
        pixels, profile = stacked.read(), {"nodata": stacked.nodata, "crs": stacked.crs}
        profile |= {"transform": stacked.transform}
    return [
        write_raster(folder / f"{path.stem}_{name}.tif", band[None], **profile)
        for name, band in zip(names, pixels, strict=True)
    ]


def _rows(scenes: dict[str, list[Path]]) -> list[dict[str, str]]:
    return [
        {"name": scene, **dict(zip(BANDS, map(str, files), strict=True))} for scene, files in scenes.items()
    ]


def stac_items(path: Path, scenes: dict[str, list[Path]]) -> None:
    """An item collection whose assets are the files, in hrefs relative to it."""
    features = [
        {
            "type": "Feature",
            "id": scene,
            "properties": {},
            "assets": {
                name: {"href": os.path.relpath(file, path.parent)}
                for name, file in zip(BANDS, files, strict=True)
            },
        }
        for scene, files in scenes.items()
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))


def convolved(pixels: NDArray[np.uint8], pad: int) -> NDArray[np.uint8]:
    """The convolution model on the whole raster, reflected by `pad`; exact, in integers."""
    _, height, width = pixels.shape
    padded = np.pad(pixels.astype(np.int64), ((0, 0), (pad, pad), (pad, pad)), mode="reflect")
    radius = test_models.RADIUS
    scores = np.zeros((test_models.CONV_CLASSES, height, width), dtype=np.int64)
    for k, bands in enumerate(test_models.conv_weights()):
        for band, kernel in enumerate(bands):
            for i, row in enumerate(kernel):
                for j, weight in enumerate(row):
                    top, left = pad - radius + i, pad - radius + j
                    scores[k] += weight * padded[band, top : top + height, left : left + width]
    return scores.argmax(axis=0).astype(np.uint8)

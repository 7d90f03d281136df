"""The land-cover model of this repository, its card and its job agree, and it does what the card says."""

import re
from pathlib import Path

import dubai
import numpy as np
import pytest
import rasterio
from conftest import REPOSITORY, SHARED, read_mask, write_raster
from rasterio.windows import Window
from runs import run

from batchseg.driver.dry_run import dry_run
from batchseg.job.file import load_job
from batchseg.models.package import Normalize
from batchseg.models.reading import read_model

MODEL = REPOSITORY / "models" / "landcover"
JOB = REPOSITORY / "configs" / "landcover-rgb.yaml"
TILE = SHARED / "dubai-mbrsc" / "Semantic segmentation dataset" / dubai.HELD_OUT
CROP = Window(256, 1536, 640, 512)
"""Where image_part_005 of the held-out tile has a good share of every class."""

METRE = rasterio.Affine(1, 0, 500_000, 0, -1, 4_600_000)


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the job reads; its results go to `tmp_path / "landcover"`."""
    monkeypatch.setenv("ARCHIVE", str(tmp_path / "archive"))
    monkeypatch.setenv("RESULTS", str(tmp_path))
    return tmp_path / "archive"


def test_the_export_is_whole_small_and_says_how_to_normalise() -> None:
    model = read_model(str(MODEL))
    assert model.normalize == Normalize(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    assert model.bands == 3
    assert model.params is not None
    assert sum(Path(path).stat().st_size for path in (model.network, model.params)) <= 16_000_000
    assert {path.name for path in MODEL.iterdir()} == {
        "README.md",
        "curve.png",
        "deploy.yaml",
        "examples.png",
        "item.json",
        "model.json",
        "model.pdiparams",
    }
    assert all((MODEL / name).stat().st_size < 300_000 for name in ("curve.png", "examples.png"))


def test_it_says_for_which_resolution_it_was_made(archive: Path) -> None:
    assert read_model(str(MODEL)).pixel_size == 1.0
    pixels = np.random.default_rng(2).integers(0, 255, (3, 90, 90), dtype=np.uint8)
    for metres in (1.0, 2.0, 10.0):
        write_raster(archive / f"{metres:g}m.tif", pixels, transform=METRE @ rasterio.Affine.scale(metres))
    planned = dry_run(load_job(JOB), lambda _: None)
    (refused,) = planned.plan.refusals
    assert refused.source.source_id == "10m.tif"
    assert refused.reason.startswith("has pixels of 10 m on the ground, the model was made for 1 m")
    (line,) = planned.warnings
    assert "1 of 2 scenes have others (2m.tif: 2 m)" in line
    taken = dry_run(load_job(JOB, ["resolution=any"]), lambda _: None)
    assert len(taken.plan.jobs) == 3


def test_the_card_and_the_job_name_the_classes_in_the_order_of_training(archive: Path) -> None:
    job = load_job(JOB)
    card = (MODEL / "README.md").read_text()
    rows = re.findall(r"^\| (\d) \| (\w+) \| 0\.\d+ ", card, flags=re.MULTILINE)
    assert rows == [(str(number), name) for number, name in enumerate(dubai.CLASSES)]
    assert [known.name for known in job.classes] == list(dubai.CLASSES)
    assert (Path(job.model.path).resolve(), job.bands) == (MODEL, (1, 2, 3))


@pytest.mark.skipif(not TILE.is_dir(), reason="no Dubai scenes: set BATCHSEG_DATA")
def test_the_job_finds_the_classes_of_a_held_out_image(tmp_path: Path, archive: Path) -> None:
    with rasterio.open(TILE / "images" / "image_part_005.jpg") as image:
        write_raster(archive / "crop.tif", image.read(window=CROP), transform=METRE)
    truth = dubai.read_label(TILE / "masks" / "image_part_005.png")[CROP.toslices()]
    run(JOB, "confidence=false")
    mask = read_mask(tmp_path / "landcover", "crop.tif")
    known = truth != dubai.IGNORED
    assert np.mean(mask[known] == truth[known]) > 0.5

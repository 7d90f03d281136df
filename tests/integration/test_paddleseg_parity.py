"""The same images through PaddleSeg's own predict and through batchseg's reading, geometry and predictor.

Needs an interpreter with paddleseg in BATCHSEG_PADDLESEG_PYTHON. Differences are allowed only where
PaddleSeg's two best scores are nearly equal: it runs another version of OpenCV and no oneDNN.
`-o log_cli=true -o log_cli_level=INFO` shows the figures.
"""

import logging
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import REPOSITORY, batchseg, read_mask, write_raster

from batchseg.engines.paddle import Paddle
from batchseg.models import resize
from batchseg.models.package import ModelPackage, Network
from batchseg.models.reading import read_model

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)  # paddle raises the level of the root

INTERPRETER = os.environ.get("BATCHSEG_PADDLESEG_PYTHON", "")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not INTERPRETER, reason="BATCHSEG_PADDLESEG_PYTHON names no interpreter"),
]

NEAR_TIE = 1e-4
"""Difference of the two best scores, which have a standard deviation of 1."""

FORMS = ("2.6", "2.7", "2.8", "inference.yml")

CASES = (
    "plain",
    "resize",
    "resize_down",
    "keep_ratio",
    "area",
    "padding",
    "padding_late",
    "by_short",
    "by_long_padding",
    "limit_long",
    "square",
)

TILED = ("tiles_plain", "tiles_resize", "tiles_padding", "tiles_by_short")
TILE = 128


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("paddleseg")
    script = REPOSITORY / "tests" / "paddleseg_reference.py"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run([INTERPRETER, "-W", "ignore", str(script), str(folder)], check=True, env=environment)
    assert set(yaml.safe_load((folder / "cases.yaml").read_text())) == {*CASES, *TILED}
    return folder


def package(reference: Path, folder: Path, case: str, *, form: str, output_op: str) -> ModelPackage:
    """The export with its deploy file as a version of PaddleSeg writes it."""
    name = "inference" if form == "inference.yml" else "model"
    folder.mkdir()
    for suffix in (".json", ".pdiparams"):
        shutil.copy(reference / output_op / f"model{suffix}", folder / f"{name}{suffix}")
    deploy = {
        "model": f"{name}.pdmodel",
        "params": f"{name}.pdiparams",
        "transforms": yaml.safe_load((reference / "cases.yaml").read_text())[case],
    }
    if form not in ("2.6", "2.7"):
        dtype = "int32" if output_op == "argmax" else "float32"
        deploy |= {"input_shape": [-1, 3, -1, -1], "output_op": output_op, "output_dtype": dtype}
    text = {"Deploy": deploy}
    if form == "inference.yml":
        text |= {"Global": {"model_name": "PP-LiteSeg-T"}, "Hpi": {"backend_config": {}}}
    (folder / ("inference.yml" if form == "inference.yml" else "deploy.yaml")).write_text(
        yaml.safe_dump(text)
    )
    return read_model(str(folder))


def answer(model: ModelPackage, image: np.ndarray) -> np.ndarray:
    """Scores (K, H, W) or ids (H, W) for an image (H, W, 3)."""
    scaled = image.transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    seen = resize.apply(model.geometry, scaled)
    assert model.normalize is not None
    mean, std = (
        np.array(values or (0.5,), np.float32)[:, None, None]
        for values in (model.normalize.mean, model.normalize.std)
    )
    network = Network(format=model.format, path=model.network, params=model.params)
    session = Paddle().load(network, precision="fp32", device="cpu", threads=1)
    raw = session.run(((seen - mean) / std)[None])[0]
    return resize.undo(model.geometry, raw[0], image.shape[:2])


@pytest.mark.parametrize("number", range(len(CASES)), ids=CASES)
def test_the_mask_is_paddleseg_s_own_but_for_near_ties(reference, tmp_path, number):
    case, form = CASES[number], FORMS[number % len(FORMS)]
    expected = np.load(reference / f"{case}.npz")
    scores = answer(package(reference, tmp_path / "m", case, form=form, output_op="none"), expected["image"])
    assert scores.shape == expected["scores"].shape
    best = np.sort(expected["scores"], axis=0)
    margin = (best[-1] - best[-2])[scores.argmax(axis=0) != expected["ids"]]
    error = np.abs(scores - expected["scores"]).max()
    logger.info(
        "%s: %d of %d pixels differ, by %.1e at most; scores by %.1e",
        *(case, margin.size, best[0].size, margin.max(initial=0), error),
    )
    assert len(np.unique(expected["ids"])) >= 4
    assert margin.max(initial=0) < NEAR_TIE
    assert error < NEAR_TIE
    assert margin.size <= best[0].size // 10_000


def test_every_form_of_the_deploy_file_says_the_same(reference, tmp_path):
    models = [
        package(reference, tmp_path / form, "by_long_padding", form=form, output_op="none") for form in FORMS
    ]
    assert len({(model.geometry, model.normalize, model.bands) for model in models}) == 1
    assert [model.origin for model in models] == ["paddleseg"] * 3 + ["paddlex"]


@pytest.mark.parametrize("number", range(len(CASES)), ids=CASES)
def test_ids_of_an_argmax_export_come_back_as_paddleseg_brings_them(reference, tmp_path, number):
    case, form = CASES[number], FORMS[number % len(FORMS)]
    expected = np.load(reference / f"{case}.npz")
    model = package(reference, tmp_path / "m", case, form=form, output_op="argmax")
    assert model.output == "classes"
    assert "argmax is baked in: no confidence" in model.limits
    ids = answer(model, expected["image"])
    differing = np.count_nonzero(ids != expected["nearest"])
    logger.info("%s: %d of %d ids differ", case, differing, ids.size)
    assert differing <= ids.size // 10_000


@pytest.mark.parametrize("output_op", ["none", "argmax"])
@pytest.mark.parametrize("number", range(len(TILED)), ids=TILED)
def test_a_run_s_mask_is_paddleseg_s_predict_on_each_tile(reference, tmp_path, write_job, number, output_op):
    case, form = TILED[number], FORMS[number % len(FORMS)]
    expected = np.load(reference / f"{case}.npz")
    model = package(reference, tmp_path / "m", case, form=form, output_op=output_op)
    write_raster(tmp_path / "in" / "a.tif", expected["image"].transpose(2, 0, 1))
    job = write_job(model=model.path, tile_size=TILE, halo=0, bands=None, scale=None, classes=None)
    done = batchseg("run", job, "--executor", "inline")
    assert done.returncode == 0, done.stderr
    ids = read_mask(tmp_path / "out", "a.tif")
    differing = ids != expected["ids" if output_op == "none" else "nearest"]
    best = np.sort(expected["scores"], axis=0)
    margin = (best[-1] - best[-2])[differing].max(initial=0)
    logger.info("run, %s, %s: %d of %d differ", case, output_op, np.count_nonzero(differing), ids.size)
    assert np.count_nonzero(differing) <= ids.size // 10_000
    assert output_op == "argmax" or margin < NEAR_TIE

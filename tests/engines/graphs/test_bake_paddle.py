"""Baked Paddle networks give what the bare ones give, normalised and judged by numpy."""

import dataclasses
import functools
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packages import BANDS, bake_of, near_ties, normalized, paddle_package, plain, probabilities, tiles

from batchseg.engines.base import engine
from batchseg.engines.graphs.bake_paddle import bake
from batchseg.errors import ModelError
from batchseg.models.package import Bake, Network


def load(network: Network):
    return engine("paddle").load(network, precision="fp32", device="cpu", threads=1)


Baked = Callable[[str, Bake], Network]


@pytest.fixture(scope="module")
def baked(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Baked:
    """Bakes a model of tests/models.py, which takes a process of two seconds, once for all tests."""

    @functools.cache
    def once(name: str, spec: Bake) -> Network:
        return bake(paddle_package(models / name), spec, tmp_path_factory.mktemp("baked"))

    return once


@pytest.mark.parametrize("name", ["conv", "spectral", "one"])
def test_baked_scores_give_the_same_classes_and_confidences(name: str, models: Path, baked: Baked) -> None:
    package = paddle_package(models / name)
    # The network `one` tells scores above and below 100.
    fields = {"mean": (0.0,), "std": (1 / 255,)} if name == "one" else {}
    spec = bake_of(BANDS[name], confidence=name != "spectral", **fields)
    network = baked(name, spec)
    pixels = tiles(BANDS[name])
    scores = load(plain(package)).run(normalized(pixels, spec))[0]
    answers = load(network).run(pixels)
    assert (network.layout, network.dtype, network.bands) == ("NHWC", "uint8", BANDS[name])
    assert [answer.dtype for answer in answers] == [np.uint8] * (1 + spec.confidence)
    different = answers[0] != scores.argmax(axis=1)
    assert not np.any(different & ~near_ties(scores))
    assert len(np.unique(answers[0])) > 1
    if spec.confidence:
        expected = np.rint(probabilities(scores).max(axis=1) * 255)
        assert np.abs(answers[1] - expected).max() <= 1


@pytest.mark.parametrize("name", ["conv", "glow"])
def test_pixels_in_the_networks_own_layout_give_the_same(name: str, baked: Baked) -> None:
    spec = bake_of(3, output="logits" if name == "conv" else "sigmoid", confidence=True)
    last = load(baked(name, spec)).run(tiles(3))
    network = baked(name, dataclasses.replace(spec, layout="NCHW"))
    assert (network.layout, network.dtype) == ("NCHW", "uint8")
    for ours, theirs in zip(
        load(network).run(np.ascontiguousarray(tiles(3).transpose(0, 3, 1, 2))), last, strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(("name", "output"), [("conv", "logits"), ("glow", "sigmoid"), ("ids", "classes")])
def test_a_margin_is_cut_off_before_anything_is_classified(name: str, output: str, baked: Baked) -> None:
    spec = bake_of(BANDS[name], output=output, confidence=output != "classes")
    whole = load(baked(name, spec)).run(tiles(BANDS[name]))
    cut = load(baked(name, dataclasses.replace(spec, margin=7))).run(tiles(BANDS[name]))
    for kept, answer in zip(cut, whole, strict=True):
        np.testing.assert_array_equal(kept, answer[:, 7:-7, 7:-7])


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_ids_pass_through(models: Path, tmp_path: Path) -> None:
    package = paddle_package(models / "ids")
    spec = bake_of(1, output="classes", mean=(0.0,), std=(1 / 255,))
    (ids,) = load(bake(package, spec, tmp_path)).run(tiles(1))
    assert ids.dtype == np.int32
    np.testing.assert_array_equal(ids, tiles(1)[..., 0])


def test_prepared_pixels_stay_as_the_bare_network_takes_them(models: Path, tmp_path: Path) -> None:
    package, spec = paddle_package(models / "conv"), bake_of(3, pixels="float32")
    network = bake(package, spec, tmp_path)
    assert (network.layout, network.dtype) == ("NCHW", "float32")
    batch = normalized(tiles(3), spec)
    (ids,) = load(network).run(batch)
    np.testing.assert_array_equal(ids, load(plain(package)).run(batch)[0].argmax(axis=1))


def test_what_cannot_be_baked_says_why(models: Path, tmp_path: Path) -> None:
    package = dataclasses.replace(paddle_package(models / "conv"), network=str(models / "gone.json"))
    with pytest.raises(ModelError, match=r"gone\.json cannot be baked: "):
        bake(package, bake_of(3), tmp_path)
    with pytest.raises(ModelError, match="not a plain Paddle network"):
        bake(dataclasses.replace(package, encrypted=True), bake_of(3), tmp_path)


OLD_EXPORT = """
import sys, paddle
from paddle import nn
paddle.seed(1)
with paddle.pir_utils.DygraphOldIrGuard():
    network = nn.Sequential(nn.Conv2D(3, 8, 3, padding=1), nn.BatchNorm2D(8), nn.ReLU(), nn.Conv2D(8, 4, 1))
    network(paddle.rand([4, 3, 40, 56]))
    network.eval()
    spec = [paddle.static.InputSpec([-1, 3, -1, -1], "float32")]
    paddle.jit.save(paddle.jit.to_static(network, input_spec=spec, full_graph=True), sys.argv[1])
"""
"""What PaddleSeg 2 leaves: model.pdmodel, model.pdiparams, and model.pdiparams.info, which is a pickle."""


class MakesFolder:
    """Its pickle makes a folder when it is loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_a_pickle_beside_a_program_is_not_loaded(tmp_path: Path) -> None:
    folder = made(tmp_path / "model")
    subprocess.run([sys.executable, "-W", "ignore", "-c", OLD_EXPORT, str(folder / "model")], check=True)
    package, spec = paddle_package(folder, 3), bake_of(3)
    assert package.format == "pdmodel"
    names = folder / "model.pdiparams.info"
    names.write_bytes(pickle.dumps(MakesFolder(tmp_path / "was-loaded")))
    network = bake(package, spec, made(tmp_path / "baked"))
    assert not (tmp_path / "was-loaded").exists()
    pixels = tiles(3)
    scores = load(plain(package)).run(normalized(pixels, spec))[0]
    (found,) = load(network).run(pixels)
    assert not np.any((found != scores.argmax(axis=1)) & ~near_ties(scores))

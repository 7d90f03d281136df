"""The Paddle predictor and the probe, on real networks."""

from pathlib import Path

import numpy as np
import pytest
import spectral

from batchseg.errors import ModelError
from batchseg.model import read_model
from batchseg.predict import PaddlePredictor, cpu_class, probe


def probed(folder: Path, channels: int | None = None, precision: str = "fp32"):
    return probe(read_model(str(folder)), channels=channels, tile_size=64, precision=precision, device="auto")


def test_the_probe_finds_what_a_network_gives(models: Path) -> None:
    facts, device = probed(models / "spectral")
    assert device == "cpu"
    assert (facts.output, facts.class_count, facts.channels) == ("logits", 4, 4)
    assert facts.cpu_class == cpu_class()
    assert facts.engine.startswith("paddle ")
    ids, _ = probed(models / "ids")
    assert (ids.output, ids.class_count, ids.channels) == ("classes", None, 1)


def test_another_number_of_channels_is_refused(models: Path) -> None:
    with pytest.raises(ModelError, match=r"takes 4 channels, the job's `bands` names 3"):
        probed(models / "spectral", channels=3)


def test_a_network_that_does_not_segment_is_refused(models: Path) -> None:
    with pytest.raises(ModelError, match="one answer per image"):
        probed(models / "pooled")


def test_a_tile_has_the_same_answer_alone_and_in_any_batch(models: Path) -> None:
    predictor = PaddlePredictor(read_model(str(models / "spectral")), precision="fp32", device="cpu")
    tiles = np.random.default_rng(0).random((5, 4, 48, 64), dtype=np.float32)
    together = predictor.run(tiles)
    for tile, answer in zip(tiles, together, strict=True):
        np.testing.assert_array_equal(predictor.run(tile[None])[0], answer)
        np.testing.assert_array_equal(answer, spectral.scores(tile))


def test_an_empty_batch_never_reaches_paddle(models: Path) -> None:
    predictor = PaddlePredictor(read_model(str(models / "spectral")), precision="fp32", device="cpu")
    with pytest.raises(ValueError, match="empty batch"):
        predictor.run(np.empty((0, 4, 8, 8), dtype=np.float32))


def test_a_cpu_build_asked_for_a_gpu_is_refused(models: Path) -> None:
    with pytest.raises(ModelError, match="CPU build"):
        probe(read_model(str(models / "conv")), channels=3, tile_size=32, precision="fp32", device="gpu")

"""A network that was imported is held against what it answered before."""

from pathlib import Path

import numpy as np
import pytest
from packages import onnx_package
from probed import write_conv

from batchseg.engines.base import engine
from batchseg.engines.graphs.derive import own_network
from batchseg.errors import ModelError
from batchseg.predict.same_answers import compared


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda answer: answer, None),
        (lambda answer: answer * (1 + 5e-4), None),
        (lambda answer: answer * 1.01, r"differ by up to 0\.99% of the largest"),
        (lambda answer: answer[:, ::-1], "answers otherwise"),
        (lambda answer: answer[:, :2], r"gives \[1, 3, 40, 40\] for a tile, before \[1, 2, 40, 40\]"),
    ],
)
def test_another_answer_than_before_is_refused(change, words, tmp_path: Path) -> None:
    package = onnx_package(write_conv(tmp_path / "a.onnx", 2, gain=8.0), bands=3)
    pixels = np.random.default_rng(0).random((1, 3, 40, 40), dtype=np.float32)
    session = engine("onnxruntime").load(own_network(package), precision="fp32", device="cpu", threads=1)
    answer = np.array(session.run(pixels)[0])
    np.savez(tmp_path / "tile.npz", tile=pixels, answer=change(answer))
    if words is None:
        apart = compared(package, tmp_path / "tile.npz", tmp_path / "net.pt")
        assert apart is not None
        assert apart < 1e-3
        return
    with pytest.raises(ModelError, match=words):
        compared(package, tmp_path / "tile.npz", tmp_path / "net.pt")

"""Paddle networks as ONNX files: open sizes where they can be, fixed ones where they must."""

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
from packages import paddle_package, plain

from batchseg.engines.base import engine
from batchseg.engines.graphs.derive import prepare_network
from batchseg.engines.graphs.to_onnx import _what_it_said, to_onnx
from batchseg.errors import ModelError
from batchseg.models.package import Network


def test_batch_height_and_width_stay_open(models: Path) -> None:
    network = prepare_network(
        paddle_package(models / "conv"),
        engine=engine("onnxruntime"),
        bake=None,
        precision="fp32",
        device="cpu",
    )
    dims = onnx.load(network.path).graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_value for dim in dims] == [0, 3, 0, 0]


def test_a_network_that_pools_adaptively_is_converted_for_one_size(models: Path, tmp_path: Path) -> None:
    package = paddle_package(models / "adaptive", 3)
    with pytest.raises(ModelError, match="Adaptive only support static input shape"):
        to_onnx(package, tmp_path / "free.onnx")
    to_onnx(package, tmp_path / "fixed.onnx", size_hw=(32, 64))
    network = Network(format="onnx", path=str(tmp_path / "fixed.onnx"), bands=3)
    batch = np.random.default_rng(0).random((3, 3, 32, 64), dtype=np.float32)
    answers = [
        engine(name).load(which, precision="fp32", device="cpu", threads=1).run(batch)[0]
        for name, which in (("paddle", plain(package)), ("onnxruntime", network))
    ]
    np.testing.assert_allclose(*answers, atol=1e-5)


def test_what_is_no_paddle_network_is_refused(models: Path, tmp_path: Path) -> None:
    package = dataclasses.replace(paddle_package(models / "conv"), encrypted=True)
    with pytest.raises(ModelError, match="cannot be converted"):
        to_onnx(package, tmp_path / "x.onnx")


def test_the_telling_lines_are_quoted() -> None:
    text = "Start\n\x1b[31m[ERROR][Paddle2ONNX] [OP: pd_op.pool2d] Adaptive only support x.\x1b[0m\nmore\n"
    assert _what_it_said(text) == "[ERROR][Paddle2ONNX] [OP: pd_op.pool2d] Adaptive only support x."
    assert _what_it_said("") == "paddle2onnx gave no reason"


@pytest.mark.parametrize(("side", "conversion_is_right"), [(64, True), (50, False)])
def test_paddle_pools_to_cells_at_any_size_and_a_conversion_only_where_they_divide_it(
    models: Path, tmp_path: Path, side: int, conversion_is_right: bool
) -> None:
    """Which side is wrong where engines differ: paddle2onnx writes one kernel for cells of several sizes."""
    package = paddle_package(models / "adaptive", 3)
    to_onnx(package, tmp_path / "fixed.onnx", size_hw=(side, side))
    network = Network(format="onnx", path=str(tmp_path / "fixed.onnx"), bands=3)
    own = engine("paddle").load(plain(package), precision="fp32", device="cpu", threads=1)
    converted = engine("onnxruntime").load(network, precision="fp32", device="cpu", threads=1)
    image = np.random.default_rng(0).random((1, 3, side, side), dtype=np.float32)
    # The first of 2 x 4 cells is the mean of rows 0..ceil(side / 2) and columns 0..ceil(side / 4).
    cell = image[:, :, : -(-side // 2), : -(-side // 4)].mean(axis=(2, 3), keepdims=True)
    # At the first pixel the answer is conv(pixel) + conv(cell); an image of one colour has both alike.
    flat = [np.broadcast_to(colour, image.shape) for colour in (image[:, :, :1, :1], cell)]
    expected = sum(own.run(np.ascontiguousarray(colours))[0][0, :, 0, 0] for colours in flat) / 2
    first = [session.run(image)[0][0, :, 0, 0] for session in (own, converted)]
    np.testing.assert_allclose(first[0], expected, atol=1e-5)
    assert np.allclose(first[1], expected, atol=1e-5) is conversion_is_right

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from packages import paddle_package, plain

from batchseg.engines.base import engine
from batchseg.models.package import ModelPackage
from batchseg.system.machine import has_fast_bf16


@pytest.mark.skipif(not has_fast_bf16(), reason="no bf16 on this CPU")
@pytest.mark.parametrize("name", ["paddle", "openvino"])
def test_bf16_is_near_and_not_equal(name: str, models: Path, onnx_file: ModelPackage) -> None:
    network = plain(paddle_package(models / "conv") if name == "paddle" else onnx_file)
    batch = np.random.default_rng(0).random((1, 3, 64, 80), dtype=np.float32)
    exact, rounded = (
        engine(name).load(network, precision=p, device="cpu", threads=1).run(batch)[0]
        for p in ("fp32", "bf16")
    )
    difference = np.abs(exact - rounded).max() / np.abs(exact).max()
    assert 1e-6 < difference < 0.02


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_quantised_network_runs_as_int8(name: str, onnx_file: ModelPackage, tmp_path: Path) -> None:
    quantized = dataclasses.replace(
        plain(onnx_file), path=str(quantize(Path(onnx_file.network), tmp_path / "int8.onnx")), quantized=True
    )
    batch = np.random.default_rng(0).random((1, 3, 32, 40), dtype=np.float32)
    (exact,) = engine(name).load(plain(onnx_file), precision="fp32", device="cpu", threads=1).run(batch)
    (rounded,) = engine(name).load(quantized, precision="int8", device="cpu", threads=1).run(batch)
    assert 1e-4 < np.abs(exact - rounded).max() < 0.1
    # In fp32 ONNX Runtime rounds as the graph says and computes exactly: the reference of int8.
    (simulated,) = engine("onnxruntime").load(quantized, precision="fp32", device="cpu", threads=1).run(batch)
    stepped = np.rint(batch * np.float32(255)) / np.float32(255)
    (expected,) = engine(name).load(plain(onnx_file), precision="fp32", device="cpu", threads=1).run(stepped)
    np.testing.assert_allclose(simulated, expected, atol=1e-4)


def quantize(source: Path, target: Path) -> Path:
    """Rounds the image to 256 steps of 1/255 and back before the convolution, as exporters write it."""
    proto = onnx.load(str(source))
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["d"]),
    ]
    proto.graph.node[0].input[0] = "d"
    convolution = proto.graph.node.pop()
    proto.graph.node.extend([*nodes, convolution])
    constants = {"step": np.float32(1 / 255), "zero": np.uint8(0)}
    proto.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()
    )
    onnx.checker.check_model(proto)
    onnx.save(proto, str(target))
    return target

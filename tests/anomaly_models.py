"""An anomaly network as anomalib 2 exports it, made by hand: Padim's distances over a few fixed filters."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SIDE = 256
STRIDE = 4
FILTERS = 6
OUTPUTS = ("pred_score", "pred_label", "anomaly_map", "pred_mask")
"""In the order of anomalib 2's InferenceBatch, which its export keeps."""


def filters() -> NDArray[np.float32]:
    return np.random.default_rng(11).normal(0, 0.4, (FILTERS, 3, 5, 5)).astype(np.float32)


def features(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, 3, SIDE, SIDE) of 0..1 to (N, FILTERS, SIDE / STRIDE, SIDE / STRIDE), as the graph has them."""
    import onnxruntime

    nodes, weights = _features()
    graph = helper.make_graph(
        nodes,
        "features",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, None)],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: NDArray[np.float32] = session.run(None, {"input": images})[0]
    return found


def write_padim(path: Path, good: Sequence[NDArray[np.uint8]], *, limit: float = 0.5) -> Path:
    """An ONNX file whose inputs, outputs and normalisation are those of anomalib's Padim.

    Args:
        path: of the file.
        good: (SIDE, SIDE, 3) RGB, to which the Gaussians are fitted: one for all places.
        limit: anomalib's normalised threshold: what the graph's own label and mask are above.
    """
    stack = np.stack([image.transpose(2, 0, 1) for image in good]).astype(np.float32) / 255
    rows = features(stack).transpose(0, 2, 3, 1).reshape(-1, FILTERS)
    mean = rows.mean(axis=0)
    inverse = np.linalg.inv(np.cov(rows.T) + 0.01 * np.eye(FILTERS)).astype(np.float32)
    spread = np.einsum("ni,ij,nj->n", rows - mean, inverse, rows - mean) ** 0.5
    nodes, weights = _features()
    constants = {
        "mean": mean.reshape(1, FILTERS, 1, 1),
        "inverse": inverse.reshape(FILTERS, FILTERS, 1, 1),
        "sizes": np.array([1, 1, STRIDE, STRIDE], np.float32),
        "worst": np.array(2 * float(spread.max()), np.float32),
        "one": np.array(1, np.float32),
        "zero": np.array(0, np.float32),
        "limit": np.array(limit, np.float32),
    }
    nodes += [
        helper.make_node("Sub", ["features", "mean"], ["off"]),
        helper.make_node("Conv", ["off", "inverse"], ["turned"]),
        helper.make_node("Mul", ["off", "turned"], ["parts"]),
        helper.make_node("ReduceSum", ["parts", "axis"], ["squared"], keepdims=1),
        helper.make_node("Sqrt", ["squared"], ["distance"]),
        helper.make_node("Resize", ["distance", "", "sizes"], ["wide"], mode="linear"),
        helper.make_node("Div", ["wide", "worst"], ["scaled"]),
        helper.make_node("Clip", ["scaled", "zero", "one"], ["anomaly_map"]),
        helper.make_node("ReduceMax", ["anomaly_map"], ["pred_score"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Greater", ["pred_score", "limit"], ["pred_label"]),
        helper.make_node("Greater", ["anomaly_map", "limit"], ["pred_mask"]),
    ]
    weights += [
        numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()
    ]
    weights.append(numpy_helper.from_array(np.array([1], np.int64), "axis"))
    kinds = {
        "pred_score": (TensorProto.FLOAT, ["n"]),
        "pred_label": (TensorProto.BOOL, ["n"]),
        "anomaly_map": (TensorProto.FLOAT, ["n", 1, SIDE, SIDE]),
        "pred_mask": (TensorProto.BOOL, ["n", 1, SIDE, SIDE]),
    }
    graph = helper.make_graph(
        nodes,
        "padim",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info(name, *kinds[name]) for name in OUTPUTS],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    return path


def _features() -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """ImageNet's normalisation, which anomalib puts into the graph, filters, and means of 4 x 4 pixels."""
    mean = np.array([0.485, 0.456, 0.406], np.float32).reshape(1, 3, 1, 1)
    std = np.array([0.229, 0.224, 0.225], np.float32).reshape(1, 3, 1, 1)
    nodes = [
        helper.make_node("Sub", ["input", "rgb_mean"], ["centred"]),
        helper.make_node("Div", ["centred", "rgb_std"], ["normal"]),
        helper.make_node("Conv", ["normal", "filters"], ["raw"], pads=[2, 2, 2, 2]),
        helper.make_node("Relu", ["raw"], ["active"]),
        helper.make_node(
            "AveragePool", ["active"], ["features"], kernel_shape=[STRIDE, STRIDE], strides=[STRIDE, STRIDE]
        ),
    ]
    weights = {"rgb_mean": mean, "rgb_std": std, "filters": filters()}
    return nodes, [numpy_helper.from_array(value, name) for name, value in weights.items()]


def tile(seed: int, *, scratch: bool = False, shape_hw: tuple[int, int] = (SIDE, SIDE)) -> NDArray[np.uint8]:
    """(H, W, 3) RGB of a cloth; with a scratch, which no good one has."""
    rng = np.random.default_rng(seed)
    height, width = shape_hw
    rows, cols = np.mgrid[0:height, 0:width]
    weave = 120 + 20 * np.sin(rows / 3) + 20 * np.sin(cols / 3)
    image = weave[..., None] + rng.normal(0, 3, (height, width, 3))
    if scratch:
        row, col = height // 3 + seed % 20, width // 4
        image[row : row + height // 12, col : col + width // 3] = (250, 240, 20)
    return np.clip(image, 0, 255).astype(np.uint8)

"""ONNX files beside the Paddle network `spots` that answer as it does, or in one way otherwise."""

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

WEIGHTS = np.zeros((4, 3), np.float32)
WEIGHTS[1:] = np.eye(3, dtype=np.float32) / 16
BIAS = np.array([0, *3 * [-150 / 16]], np.float32)
"""Of tests/models.py: none, red, green and blue, by how far a raw band is above 150."""

BLUE = 3


def lie(how: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights and bias of a network that is wrong in one way."""
    weights, bias = WEIGHTS.copy(), BIAS.copy()
    if how == "classes shifted":
        weights, bias = np.roll(weights, 1, axis=0), np.roll(bias, 1)
    elif how == "other weights":
        weights = np.random.default_rng(0).normal(0, 0.05, weights.shape).astype(np.float32)
    elif how == "blue never predicted":
        bias[BLUE] = -1000
    elif how == "other confidences":  # scores of all classes by a factor: the best stays the best
        weights, bias = 0.4 * weights, 0.4 * bias
    else:
        assert how == "honest"
    return weights, bias


def write_liar(path: Path, how: str) -> Path:
    weights, bias = lie(how)
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["p"])]
    constants = {"w": weights.reshape(4, 3, 1, 1), "b": bias}
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", bands, "h", "w"])
        for name, bands in (("x", 3), ("p", 4))
    ]
    initial = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "net", values[:1], values[1:], initial)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path

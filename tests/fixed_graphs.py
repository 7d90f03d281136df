"""ONNX networks of one size, of which some run at others."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from batchseg.models.package import Layout

CHANNELS, CLASSES = 8, 5

REACH = 8
"""Pixels, at most, that `write_fixed` with MIDDLES that only look around sees far."""


def write_fixed(
    path: Path,
    middle: str = "nothing",
    *,
    side: int | None = 64,
    layout: Layout = "NCHW",
    kind: int = TensorProto.FLOAT,
    external: str | None = None,
) -> Path:
    """A convolution of stride 2, another one, `middle` at half the size, and scores of the full size.

    Args:
        path: of the file.
        middle: one of MIDDLES.
        side: of the input; None: free, which only some of MIDDLES allow.
        layout: of input and answer.
        kind: of the input, a TensorProto type.
        external: name of a file beside it that takes the weights.
    """
    nodes, weights = MIDDLES[middle]((side or 64) // 2)
    last = "h" if not nodes else "m"
    turned = layout == "NHWC"
    before = [helper.make_node("Transpose", ["x"], ["turned"], perm=[0, 3, 1, 2])] if turned else []
    image = "turned" if turned else "x"
    before += [
        helper.make_node("Cast", [image], ["c"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["c", "w1"], ["a"], strides=[2, 2], pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("Conv", ["r", "w2"], ["h"], pads=[1] * 4),
    ]
    scores = "scores" if turned else "p"
    after = [helper.make_node("ConvTranspose", [last, "w3"], [scores], strides=[2, 2])]
    if turned:
        after.append(helper.make_node("Transpose", ["scores"], ["p"], perm=[0, 2, 3, 1]))
    rng = np.random.default_rng(5)
    shapes = {"w1": (CHANNELS, 3, 3, 3), "w2": (CHANNELS, CHANNELS, 3, 3), "w3": (CHANNELS, CLASSES, 2, 2)}
    weights |= {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
    sides: list[Any] = ["h", "w"] if side is None else [side, side]
    given, answer = (["n", *sides, n] if turned else ["n", n, *sides] for n in (3, CLASSES))
    half = [CHANNELS, "hh" if side is None else side // 2, "ww" if side is None else side // 2]
    graph = helper.make_graph(
        [*before, *nodes, *after],
        "net",
        [helper.make_tensor_value_info("x", kind, given)],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, answer)],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
        value_info=[helper.make_tensor_value_info("h", TensorProto.FLOAT, ["n", *half])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if external:
        onnx.save(model, path, save_as_external_data=True, location=external, size_threshold=0)
    else:
        onnx.save(model, path)
    return path


Middle = tuple[list[Any], dict[str, np.ndarray]]


def _node(kind: str, *inputs: str, output: str = "m", **attributes: Any) -> Any:
    return helper.make_node(kind, list(inputs), [output], name=f"my_{kind.lower()}_{output}", **attributes)


def _sizes(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def _pooled(factor: int, *resize: Any) -> list[Any]:
    pool = _node("MaxPool", "h", output="few", kernel_shape=[factor] * 2, strides=[factor] * 2)
    return [pool, *resize, _node("Resize", "few", "", "", "sizes", mode="linear")]


def _reshape(side: int) -> Middle:
    flat, back = _sizes(1, CHANNELS, side * side), _sizes(1, CHANNELS, side, side)
    nodes = [_node("Reshape", "h", "flat", output="f"), _node("Reshape", "f", "back")]
    return nodes, {"flat": flat, "back": back}


def _reshape_with_batch(side: int) -> Middle:
    return [_node("Reshape", "h", "back")], {"back": _sizes(-1, CHANNELS, side, side)}


def _resize(side: int) -> Middle:
    return _pooled(2), {"sizes": _sizes(1, CHANNELS, side, side)}


def _resize_of_shape(side: int) -> Middle:
    """As PyTorch writes it: batch and bands are the input's, height and width are numbers."""
    nodes = [
        _node("Shape", "few", output="shape"),
        _node("Slice", "shape", "zero", "two", output="front"),
        _node("Concat", "front", "back", output="sizes", axis=0),
    ]
    return _pooled(2, *nodes), {"zero": _sizes(0), "two": _sizes(2), "back": _sizes(side, side)}


def _resize_uneven(side: int) -> Middle:
    return _pooled(3), {"sizes": _sizes(1, CHANNELS, side, side)}


def _mean_resized(side: int) -> Middle:
    """The mean of all, by Resize as large as what it is added to: DeepLab's pooling."""
    nodes = [
        _node("GlobalAveragePool", "h", output="mean"),
        _node("Resize", "mean", "", "", "sizes", output="spread"),
        _node("Add", "h", "spread"),
    ]
    return nodes, {"sizes": _sizes(1, CHANNELS, side, side)}


def _mean(side: int) -> Middle:
    return [_node("GlobalAveragePool", "h", output="mean"), _node("Add", "h", "mean")], {}


def _kernel(side: int) -> Middle:
    """A mean of all by the kernel's size: at half the size more it would be the mean of a corner."""
    pool = _node("AveragePool", "h", output="mean", kernel_shape=[side] * 2, strides=[side] * 2)
    return [pool, _node("Mul", "h", "mean")], {}


def _positions(side: int) -> Middle:
    embedding = np.random.default_rng(6).normal(size=(1, CHANNELS, side, side)).astype(np.float32)
    return [_node("Add", "h", "embedding")], {"embedding": embedding}


def declare_open(path: Path) -> Path:
    """The same file, which no longer says that it takes one size alone."""
    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        for axis, name in ((2, "h"), (3, "w")):
            value.type.tensor_type.shape.dim[axis].dim_param = name
    del model.graph.value_info[:]
    onnx.save(model, path)
    return path


def _mirrored(side: int) -> Middle:
    """Grows as the input does, and answers each pixel for another one."""
    weights = {"first": _sizes(-1), "end": _sizes(-(2**40)), "axis": _sizes(3), "step": _sizes(-1)}
    return [_node("Slice", "h", *weights)], weights


MIDDLES = {
    "nothing": lambda side: ([], {}),
    "reshape": _reshape,
    "reshape with batch": _reshape_with_batch,
    "resize": _resize,
    "resize of shape": _resize_of_shape,
    "resize uneven": _resize_uneven,
    "mean resized": _mean_resized,
    "mean": _mean,
    "kernel": _kernel,
    "positions": _positions,
    "mirrored": _mirrored,
}
"""Nodes from `h` to `m`, and their constants, for maps of a size."""

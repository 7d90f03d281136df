"""Small ONNX files for tests."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def write_onnx(
    path: Path,
    *,
    shape: Sequence[Any] = ("n", 3, "h", "w"),
    classes: int = 5,
    dtype: int = TensorProto.FLOAT,
    ends: Sequence[str] = (),
    output: tuple[int, Sequence[Any]] = (TensorProto.FLOAT, ("n", 5, "h", "w")),
    metadata: Mapping[str, Any] | None = None,
    inputs: int = 1,
    external: str | None = None,
) -> Path:
    """One 1 x 1 convolution and what `ends` names. Only its signature is meant to be read.

    Args:
        path: of the file.
        shape: of the input; words are free axes.
        classes: of the convolution.
        dtype: of the input, a TensorProto type.
        ends: operators after the convolution.
        output: type and shape of the output.
        metadata: values become JSON, but for texts.
        inputs: number of inputs.
        external: name of a file beside it that takes the weights.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = numpy_helper.from_array(np.ones((classes, 3, 1, 1), np.float32), "w0")
    nodes = [helper.make_node("Conv", ["x0", "w0"], ["y0"])]
    for number, kind in enumerate(ends):
        nodes.append(helper.make_node(kind, [f"y{number}"], [f"y{number + 1}"]))
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(f"x{number}", dtype, list(shape)) for number in range(inputs)],
        [helper.make_tensor_value_info(f"y{len(ends)}", output[0], list(output[1]))],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    for key, value in (metadata or {}).items():
        model.metadata_props.add(key=key, value=value if isinstance(value, str) else json.dumps(value))
    if external:
        onnx.save(model, path, save_as_external_data=True, location=external, size_threshold=0)
    else:
        onnx.save(model, path)
    return path


CLASSES = 5


def mixing(bands: int, classes: int = CLASSES) -> np.ndarray:
    return np.random.default_rng(7).normal(0, 0.5, (classes, bands)).astype(np.float32)


def write_nhwc(path: Path, bands: int = 6, *, opset: int = 17, kind: int = TensorProto.FLOAT) -> Path:
    """Softmax over a mixture of bands, channels last in and out, as TensorFlow exports it."""
    weights = mixing(bands).T.astype(helper.tensor_dtype_to_np_dtype(kind))
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"]),
        helper.make_node("Softmax", ["y"], ["p"], axis=-1),
    ]
    return _write(path, nodes, {"w": weights}, ["n", "h", "w", bands], ["n", "h", "w", CLASSES], opset, kind)


def write_nchw(path: Path, bands: int = 3, *, opset: int = 17, classes: int = CLASSES) -> Path:
    weights = mixing(bands, classes).reshape(classes, bands, 1, 1)
    nodes = [helper.make_node("Conv", ["x", "w"], ["p"])]
    return _write(path, nodes, {"w": weights}, ["n", bands, "h", "w"], ["n", classes, "h", "w"], opset)


def _write(
    path: Path,
    nodes: list[Any],
    weights: dict[str, np.ndarray],
    inputs: list[Any],
    outputs: list[Any],
    opset: int = 17,
    kind: int = TensorProto.FLOAT,
) -> Path:
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", kind, inputs)],
        [helper.make_tensor_value_info("p", kind, outputs)],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), str(path)
    )
    return path

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

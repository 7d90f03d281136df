"""A temperature in a network's own graph: its scores stay what they were, and mean what they say."""

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from batchseg.engines.base import telling_line
from batchseg.engines.graphs.bake_onnx import PREFIX, read_onnx
from batchseg.engines.graphs.bake_paddle import side_by_side
from batchseg.engines.paddle import import_paddle
from batchseg.errors import ModelError
from batchseg.models.package import Layout, ModelPackage, OutputKind
from batchseg.system.processes import captured_output

TINY = 1e-7
"""Probabilities that are rounded to 0 or 1 have no logarithm."""


def temper_onnx(source: Path, target: Path, temperature: float, kind: OutputKind, layout: Layout) -> None:
    """Write an ONNX file whose first output is divided.

    Args:
        source: the network's file.
        target: file to write, with its weights in it.
        temperature: above 0.
        kind: of the first output: logits, probabilities or sigmoid.
        layout: of it.

    Raises:
        ModelError: the file cannot be read.
    """
    import onnx
    from onnx import helper, numpy_helper

    proto = read_onnx(str(source))
    graph, output = proto.graph, proto.graph.output[0]
    half = output.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
    dtype = np.float16 if half else np.float32
    nodes: list[Any] = []

    def constant(name: str, value: float) -> str:
        graph.initializer.append(numpy_helper.from_array(np.array(value, dtype), f"{PREFIX}{name}"))
        return f"{PREFIX}{name}"

    def add(operator: str, *inputs: str, **attributes: int) -> str:
        name = f"{PREFIX}tempered_{len(nodes)}"
        nodes.append(helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        return name

    tensor = output.name
    if kind != "logits":
        tensor = add("Clip", tensor, constant("tiny", TINY), constant("nearly_one", 1 - TINY))
        logs = add("Log", tensor)
        if kind == "sigmoid":
            logs = add("Sub", logs, add("Log", add("Sub", constant("one", 1), tensor)))
        tensor = logs
    tensor = add("Div", tensor, constant("temperature", temperature))
    if kind == "sigmoid":
        tensor = add("Sigmoid", tensor)
    if kind == "probabilities":
        tensor = add("Softmax", tensor, axis=1 if layout == "NCHW" else 3)
    graph.node.extend(nodes)
    output.name = tensor
    onnx.save(proto, str(target))


def temper_paddle(
    package: ModelPackage, target: Path, temperature: float, kind: OutputKind, layout: Layout
) -> None:
    """Write the same of a Paddle network: `target` with .json and .pdiparams. To be called in a process of
    its own. Raises ModelError where Paddle cannot trace it."""
    with captured_output(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import_paddle()
        try:
            _trace(package, target, temperature, kind, layout)
        except Exception as e:  # Paddle's classes are many
            msg = f"model: {package.network} cannot be written with a temperature: {telling_line(e)}"
            raise ModelError(msg) from e


def _trace(package: ModelPackage, target: Path, temperature: float, kind: OutputKind, layout: Layout) -> None:
    import paddle

    from batchseg.engines.graphs.temperature_layer import Tempered

    with tempfile.TemporaryDirectory() as folder:
        program = side_by_side(package.network, str(package.params), Path(folder))
        net = paddle.jit.load(str(program.with_suffix("")))
    net.eval()
    layer = Tempered(net, temperature, kind, 1 if layout == "NCHW" else -1, TINY)
    layer.eval()
    height, width = package.size_hw
    sides = [package.bands, height, width] if package.layout == "NCHW" else [height, width, package.bands]
    spec = paddle.static.InputSpec([package.batch, *sides], package.dtype, name="x")
    traced = paddle.jit.to_static(layer, input_spec=[spec], full_graph=True)
    paddle.jit.save(traced, str(target))

"""Cast, normalisation, argmax and confidence inside an ONNX graph: uint8 pixels in, uint8 ids out."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from batchseg.errors import ModelError
from batchseg.models.onnx_file import external_files
from batchseg.models.package import Bake, Layout

PREFIX = "batchseg_"
"""Of the added nodes and tensors: fp16 conversion leaves them alone, and they meet no name of the owner's."""

PROTOBUF_LIMIT = 2 * 10**9
"""Bytes; a larger model keeps its weights in a file beside it."""


def bake_onnx(model: str | bytes, bake: Bake, layout: Layout, target: Path) -> None:
    """Write a graph that takes pixels and gives ids.

    Args:
        model: path, with external weights beside it where it has some, or the whole file's bytes.
        bake: what goes into the graph.
        layout: of the bare network's input.
        target: file to write.

    Raises:
        ModelError: the file cannot be read, or has not one image as input.
    """
    import onnx

    proto = read_onnx(model)
    graph = proto.graph
    opset = next((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset < 11:
        msg = (
            f"model: an ONNX file of opset {opset}; 11 and newer can be baked: convert it, or set bake: false"
        )
        raise ModelError(msg)
    steps = _Steps(opset)
    if bake.pixels == "uint8":
        _prepend(graph, steps, bake, layout)
    _append(graph, steps, bake)
    try:
        onnx.checker.check_model(proto) if proto.ByteSize() < PROTOBUF_LIMIT else None
        onnx.save(proto, str(target), save_as_external_data=proto.ByteSize() >= PROTOBUF_LIMIT)
    except (onnx.checker.ValidationError, ValueError) as e:
        msg = f"model: the baked ONNX graph is not valid: {str(e).splitlines()[0]}"
        raise ModelError(msg) from e


def read_onnx(model: str | bytes) -> Any:
    """The onnx.ModelProto with its weights. Raises ModelError."""
    import onnx

    try:
        return onnx.load_from_string(model) if isinstance(model, bytes) else onnx.load(model)
    except Exception as e:  # protobuf's own classes, OSError of external weights
        where = "the decrypted bytes" if isinstance(model, bytes) else os.fspath(model)
        msg = (
            f"model: {where} cannot be read as ONNX: {str(e).splitlines()[0] if str(e) else type(e).__name__}"
        )
        raise ModelError(msg) from e


def show_tensors(model: str | bytes, layout: Layout) -> bytes:
    """The graph with every tensor as an output, for inputs of any height and width.

    Sizes that a file fixes are opened: most such networks run at others as well.

    Raises:
        ModelError: the file cannot be read.
        ValueError: it is larger than protobuf's 2 GB.
    """
    import onnx

    proto = read_onnx(model)
    graph = proto.graph
    shown = {"", *(value.name for value in graph.output)}
    for node in graph.node:
        graph.output.extend(onnx.ValueInfoProto(name=name) for name in node.output if name not in shown)
    free_sides(graph, layout)
    content: bytes = proto.SerializeToString()
    return content


def free_sides(graph: Any, layout: Layout) -> None:
    """Let the inputs of an onnx.GraphProto be of any height and width."""
    weights = {tensor.name for tensor in graph.initializer}
    for image in (value for value in graph.input if value.name not in weights):
        for axis in (1, 2) if layout == "NHWC" else (2, 3):
            image.type.tensor_type.shape.dim[axis].dim_param = f"side{axis}"
    del graph.value_info[:]  # of the sizes that were fixed


def files_of(path: Path) -> list[Path]:
    """An ONNX file and the files beside it that hold its weights. Raises ModelError."""
    try:
        content = path.read_bytes()
    except OSError as e:
        msg = f"model: cannot read {path}: {e.strerror}"
        raise ModelError(msg) from e
    return [path, *(path.parent / name for name in external_files(content, path))]


class _Steps:
    """Nodes and constants in the making, in the spelling of one opset."""

    def __init__(self, opset: int) -> None:
        self._opset = opset
        self._count = 0
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Append a node; the name of its output."""
        from onnx import helper

        self._count += 1
        name = f"{PREFIX}{kind.lower()}_{self._count}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output or name], name=name, **attributes))
        return output or name

    def constant(self, values: Any, dtype: Any) -> str:
        from onnx import numpy_helper

        self._count += 1
        name = f"{PREFIX}constant_{self._count}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype=dtype), name))
        return name

    def over_axis(self, kind: str, tensor: str, axis: int, *, since: int, **attributes: Any) -> str:
        """An operator whose axes became an input with opset `since`."""
        if self._opset >= since:
            return self.add(kind, tensor, self.constant([axis], np.int64), **attributes)
        return self.add(kind, tensor, axes=[axis], **attributes)

    @property
    def any_axis(self) -> bool:
        """Whether a softmax may be over any axis alone; before opset 13 it is over the last."""
        return self._opset >= 13

    def squeeze(self, tensor: str, axis: int) -> str:
        return self.over_axis("Squeeze", tensor, axis, since=13)

    def reduce_max(self, tensor: str, axis: int, *, keepdims: int) -> str:
        return self.over_axis("ReduceMax", tensor, axis, since=18, keepdims=keepdims)

    def reduce_sum(self, tensor: str, axis: int) -> str:
        return self.over_axis("ReduceSum", tensor, axis, since=13, keepdims=0)


def _prepend(graph: Any, steps: _Steps, bake: Bake, layout: Layout) -> None:
    from onnx import TensorProto, helper

    image = image_input(graph)
    kind = image.type.tensor_type.elem_type
    if kind not in (TensorProto.FLOAT, TensorProto.FLOAT16):
        msg = (
            f"model: its input {image.name} takes {_kind_name(kind)}; pixels can be normalised for float ones"
        )
        raise ModelError(msg)
    dims = [dim.dim_value or dim.dim_param or None for dim in image.type.tensor_type.shape.dim]
    if len(dims) != 4:
        msg = f"model: its input {image.name} has the shape {dims}; expected four axes"
        raise ModelError(msg)
    bands = dims[1 if layout == "NCHW" else 3]
    if isinstance(bands, int) and bands != len(bake.mean):
        msg = (
            f"model: its input {image.name} takes {bands} bands; mean and std are given for {len(bake.mean)}"
        )
        raise ModelError(msg)
    turned = layout == "NCHW" and bake.layout == "NHWC"
    shape = [dims[i] for i in (0, 2, 3, 1)] if turned else dims
    per_band = (1, -1, 1, 1) if layout == "NCHW" else (1, 1, 1, -1)
    x = f"{PREFIX}image"
    if turned:
        x = steps.add("Transpose", x, perm=[0, 3, 1, 2])
    x = steps.add("Cast", x, to=TensorProto.FLOAT)
    mean, std = (255 * np.array(v, dtype=np.float64).reshape(per_band) for v in (bake.mean, bake.std))
    x = steps.add("Sub", x, steps.constant(mean, np.float32))
    # The last node's output has the name of the owner's input, so that the owner's nodes stay as they are.
    as_float16 = kind == TensorProto.FLOAT16
    x = steps.add("Div", x, steps.constant(std, np.float32), output=None if as_float16 else image.name)
    if as_float16:
        steps.add("Cast", x, to=TensorProto.FLOAT16, output=image.name)
    others = [given for given in graph.input if given.name != image.name]
    pixels = helper.make_tensor_value_info(f"{PREFIX}image", TensorProto.UINT8, shape)
    _replace(graph.input, [pixels, *others])
    _replace(graph.node, [*steps.nodes, *graph.node])
    steps.nodes.clear()
    graph.initializer.extend(steps.constants)
    steps.constants = []


def _append(graph: Any, steps: _Steps, bake: Bake) -> None:
    from onnx import TensorProto, helper

    output = graph.output[0]
    confidence: str | None = None
    ids_type = TensorProto.UINT8
    rank = len(output.type.tensor_type.shape.dim)
    kept = output.name
    if bake.margin:
        rows = 1 if rank == 4 and bake.output_layout == "NHWC" else rank - 2
        ends = ([bake.margin] * 2, [-bake.margin] * 2, [rows, rows + 1])
        kept = steps.add("Slice", kept, *(steps.constant(values, np.int64) for values in ends))
    if bake.output == "classes":
        ids = steps.add("Cast", kept, to=TensorProto.INT32)
        ids = steps.squeeze(ids, 1) if rank == 4 else ids
        ids_type = TensorProto.INT32
    else:
        axis = 1 if bake.output_layout == "NCHW" else 3
        scores = kept
        if output.type.tensor_type.elem_type != TensorProto.FLOAT:
            scores = steps.add("Cast", scores, to=TensorProto.FLOAT)
        if bake.output == "sigmoid":
            ids, confidence = _threshold(steps, scores, axis, bake)
        else:
            count = _axis_length(output, axis)
            ids_type = TensorProto.UINT8 if 0 < count <= 255 else TensorProto.INT32
            ids = _winner(steps, scores, axis, ids_type)
            confidence = _winning(steps, scores, axis, bake)
    outputs = [ids]
    if bake.confidence and confidence:
        outputs.append(_as_bytes(steps, confidence))
    ranks = [3] * len(outputs)
    if bake.probabilities and bake.output != "classes":
        outputs.append(_shares(steps, scores, axis, bake))
        ranks.append(4)
    graph.node.extend(_needed(steps.nodes, outputs))
    used = {name for node in graph.node for name in node.input}
    graph.initializer.extend(constant for constant in steps.constants if constant.name in used)
    kinds = (ids_type, TensorProto.UINT8, TensorProto.UINT8)
    _replace(
        graph.output,
        [
            helper.make_tensor_value_info(name, kind, [None] * rank)
            for name, kind, rank in zip(outputs, kinds, ranks, strict=False)
        ],
    )


def _threshold(steps: _Steps, scores: str, axis: int, bake: Bake) -> tuple[str, str]:
    from onnx import TensorProto

    band = steps.squeeze(scores, axis)
    above = steps.add("Greater", band, steps.constant(bake.threshold, np.float32))
    other = steps.add("Sub", steps.constant(1, np.float32), band)
    return steps.add("Cast", above, to=TensorProto.UINT8), steps.add("Where", above, band, other)


def _winner(steps: _Steps, scores: str, axis: int, kind: int) -> str:
    """Number of the highest score; of equal ones the first.

    A pixel's scores are laid side by side before: over 768 x 768 pixels of 5 classes OpenVINO takes 8.2 ms as
    they are, and 2.9 and 1.8 ms for laying and finding; ONNX Runtime the same time either way. Comparing
    class after class took 25 ms in OpenVINO (2026-11-30, one thread of an AMD EPYC).
    """
    if axis == 1:
        scores, axis = steps.add("Transpose", scores, perm=[0, 2, 3, 1]), 3
    return steps.add("Cast", steps.add("ArgMax", scores, axis=axis, keepdims=0), to=kind)


def _winning(steps: _Steps, scores: str, axis: int, bake: Bake) -> str:
    """Probability of the winner: for logits 1 / sum(exp(score - best)), which is its softmax."""
    if bake.output == "probabilities":
        return steps.reduce_max(scores, axis, keepdims=0)
    best = steps.reduce_max(scores, axis, keepdims=1)
    powers = steps.add("Exp", steps.add("Sub", scores, best))
    return steps.add("Reciprocal", steps.reduce_sum(powers, axis))


def _shares(steps: _Steps, scores: str, axis: int, bake: Bake) -> str:
    """255 x probability of every class, uint8 (N, K, H, W); of one band its own.

    Unlike a winner, a softmax is found faster plane by plane: over 448 x 448 pixels of 5 classes OpenVINO
    takes 2 ms so, and 17 ms with a pixel's scores side by side (2026-12-01, one thread of an AMD EPYC).
    """
    if bake.output == "logits" and axis == 1 and not steps.any_axis:
        scores, axis = steps.add("Transpose", scores, perm=[0, 2, 3, 1]), 3
    if bake.output == "logits":
        scores = steps.add("Softmax", scores, axis=axis)
    shares = _as_bytes(steps, scores)
    return shares if axis == 1 else steps.add("Transpose", shares, perm=[0, 3, 1, 2])


def _as_bytes(steps: _Steps, shares: str) -> str:
    from onnx import TensorProto

    scaled = steps.add("Round", steps.add("Mul", shares, steps.constant(255, np.float32)))
    return steps.add("Cast", scaled, to=TensorProto.UINT8)


def _needed(nodes: Sequence[Any], outputs: Sequence[str]) -> list[Any]:
    """The nodes that the outputs follow from, in order."""
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= set(node.input)
    return kept[::-1]


def image_input(graph: Any) -> Any:
    """The one input of an onnx.GraphProto that is no weight. Raises ModelError where there are several."""
    weights = {tensor.name for tensor in graph.initializer}
    images = [given for given in graph.input if given.name not in weights]
    if len(images) != 1:
        names = ", ".join(given.name for given in images) or "none"
        msg = f"model: an ONNX graph with the inputs {names}; expected one image"
        raise ModelError(msg)
    return images[0]


def _axis_length(value: Any, axis: int) -> int:
    dims = value.type.tensor_type.shape.dim
    return int(dims[axis].dim_value) if len(dims) == 4 else 0


def _kind_name(kind: int) -> str:
    from onnx import TensorProto

    return str(TensorProto.DataType.Name(kind)).lower()


def _replace(field: Any, values: Sequence[Any]) -> None:
    values = list(values)
    del field[:]
    field.extend(values)


def to_float16(model: str | bytes) -> bytes:
    """The graph in fp16, its inputs and outputs as they were; what `bake_onnx` added stays fp32.

    By the converter inside ONNX Runtime's wheel. Raises ModelError.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    proto = read_onnx(model)
    own = [node.name for node in proto.graph.node if node.name.startswith(PREFIX)]
    try:
        half = convert_float_to_float16(proto, keep_io_types=True, node_block_list=own)
    except Exception as e:
        msg = f"model: the ONNX graph cannot be converted to fp16: {type(e).__name__}: {e}"
        raise ModelError(msg) from e
    data: bytes = half.SerializeToString()
    return data


def add_metadata(path: Path, values: Mapping[str, str]) -> None:
    """Write key and value texts into an ONNX file, in place of those it has."""
    import onnx

    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, dict(values))
    onnx.save(model, str(path))

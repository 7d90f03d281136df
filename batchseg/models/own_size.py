"""Networks that bring their input to a size of their own, as anomalib's exports do: told from their graphs.

They take an image of any size and answer for it at theirs. A tile is brought to that size before, as for
networks of one size, and what the graph does to it then changes nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from batchseg.errors import ModelError

Shape = tuple[int | None, int | None, int | None, int | None]
"""Images, bands, rows, columns; None: free."""

_POINTWISE = frozenset(
    ("Add", "Cast", "Convert", "Div", "Divide", "Identity", "Mul", "Multiply", "Reshape", "Sub", "Subtract")
)
"""Operators of ONNX and OpenVINO by which exports normalise an image."""

_RESIZES = frozenset(("Interpolate", "Resize"))
_CROPS = frozenset(("Slice", "StridedSlice"))
_ASKS = frozenset(("Shape", "ShapeOf"))
"""They look at a tensor's shape, not at its pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """One of a graph, with the tensors that it joins."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


_Step = tuple[str, str, str]
"""The operator's kind, the tensor that it takes, and the one that it makes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What happens to an image before the first layer that looks at it."""

    resized_hw: tuple[int, int] | None = None
    cropped_hw: tuple[int, int] | None = None
    """What is left of it, where a part is cut out."""


def _steps(operators: Iterable[Operator], image: str) -> list[_Step]:
    """What is done to an image (N, K, H, W), in order, as long as one operator alone takes it."""
    takers: dict[str, list[Operator]] = {}
    for operator in operators:
        for name in operator.inputs:
            takers.setdefault(name, []).append(operator)
    steps: list[_Step] = []
    seen = set()
    while image not in seen:  # a damaged graph may be a circle
        seen.add(image)
        next_ones = [one for one in takers.get(image, []) if one.kind not in _ASKS]
        if len(next_ones) != 1 or next_ones[0].kind not in _POINTWISE | _RESIZES | _CROPS:
            break
        made = next_ones[0].outputs[0]
        steps.append((next_ones[0].kind, image, made))
        image = made
    return steps


def _reading(steps: Iterable[_Step], sizes: Mapping[str, tuple[int, int] | None]) -> Reading:
    """`sizes`: height and width of tensors by their names, where they are fixed."""
    resized = cropped = None
    for kind, taken, made in steps:
        before, after = sizes.get(taken), sizes.get(made)
        if kind in _RESIZES:
            resized = after
        elif before and after and after != before:
            if kind not in _CROPS:  # pixels are put elsewhere: it is no image any more
                break
            cropped = after
    return Reading(resized_hw=resized, cropped_hw=cropped)


def own_shape(shape: Shape, reading: Reading, answer: Sequence[int | None], path: Path) -> Shape:
    """The input's shape, with the size that the network itself brings an image to where it leaves it free.

    Args:
        shape: of the input (N, K, H, W).
        reading: of its graph.
        answer: shape of the output that counts.
        path: of the file, for messages.

    Raises:
        ModelError: it answers for a part of the image, or at another size than the one that it takes.
    """
    if reading.cropped_hw:
        rows, cols = reading.cropped_hw
        msg = (
            f"model: {path} cuts {rows} x {cols} pixels out of each image, and answers for those alone; "
            f"export it without the crop (anomalib: a pre_processor without CenterCrop)"
        )
        raise ModelError(msg)
    if not reading.resized_hw or tuple(answer[-2:]) != reading.resized_hw:
        return shape
    height, width = reading.resized_hw
    if shape[2:] == (height, width):
        return shape
    if shape[2:] == (None, None):
        return (*shape[:2], height, width)
    msg = (
        f"model: {path} takes {shape[2]} x {shape[3]} pixels, brings them to {height} x {width} and answers "
        f"at that size; export it for {height} x {width} (anomalib: input_size=({height}, {width})), or for "
        f"any size"
    )
    raise ModelError(msg)


def onnx_reading(model: Any, image: str) -> Reading:
    """Of an onnx.ModelProto; shapes that it does not hold are inferred, where something resizes the image."""
    graph = model.graph
    operators = [
        Operator(kind=node.op_type, inputs=tuple(node.input), outputs=tuple(node.output))
        for node in graph.node
    ]
    steps = _steps(operators, image)
    if not any(kind in _RESIZES | _CROPS for kind, _, _ in steps):
        return Reading()
    sizes = _onnx_sizes(graph)
    if not all(made in sizes for _, _, made in steps):
        sizes = _inferred_sizes(model) | sizes
    return _reading(steps, sizes)


def _onnx_sizes(graph: Any) -> dict[str, tuple[int, int]]:
    found = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if len(dims) == 4 and dims[2].dim_value > 0 and dims[3].dim_value > 0:
            found[value.name] = (dims[2].dim_value, dims[3].dim_value)
    return found


def _inferred_sizes(model: Any) -> dict[str, tuple[int, int]]:
    import onnx

    try:
        return _onnx_sizes(onnx.shape_inference.infer_shapes(model, data_prop=True).graph)
    except Exception:  # noqa: BLE001  onnx raises its own, and ValueError above 2 GB: a tile tells then
        return {}


def openvino_reading(root: Element, image: str) -> Reading:
    """Of an .xml, which has the shapes of all ports; `image` is the id of the input's layer."""
    layers = root.findall("layers/layer")
    makers: dict[str, tuple[str, ...]] = {}
    for edge in root.findall("edges/edge"):
        to = edge.get("to-layer", "")
        makers[to] = (*makers.get(to, ()), edge.get("from-layer", ""))
    operators = [
        Operator(
            kind=layer.get("type", ""),
            inputs=makers.get(layer.get("id", ""), ()),
            outputs=(layer.get("id", ""),),
        )
        for layer in layers
    ]
    sizes = {layer.get("id", ""): _port_size(layer.find("output/port")) for layer in layers}
    return _reading(_steps(operators, image), sizes)


def _port_size(port: Element | None) -> tuple[int, int] | None:
    dims = [] if port is None else [int(dim.text or -1) for dim in port.findall("dim")]
    return (dims[2], dims[3]) if len(dims) == 4 and min(dims[2:]) > 0 else None

"""An ONNX file of one size for inputs of any height and width, where its operators allow it.

Exports fix the size by writing it down, and often nowhere else than at the input. Whether a network runs at
other sizes is not read from its operators: it is run.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.engines.base import is_out_of_memory, telling_line
from batchseg.engines.graphs.bake_onnx import (
    PREFIX,
    PROTOBUF_LIMIT,
    free_sides,
    image_input,
    read_onnx,
)
from batchseg.engines.onnxruntime import plain_session
from batchseg.errors import ModelError, StoppedError
from batchseg.models.package import Layout

USUAL_STEP = 32
"""Pixels by which tiles grow at most networks; where one does not run at half its size more, it is tried at
three times its size as well."""

UNLIKE = 0.5
"""Of what answers to unrelated pixels differ by: where answers to the same pixels differ by more in a larger
tile, the network does something else there."""

SCALED, STANDARDISED = (0.0, 1.0), (-2.0, 2.0)
"""Lowest and highest value of noise. Of values that it never saw, a network that pools over all of the tile
may say other things in another tile: models/landcover differed by 88 % with the first, by 4 % with the other.
"""

BLOCK = 16
"""Pixels of a patch of noise: single pixels alone are all the same to a network that looks far."""

CARRYING = ("Cast", "Identity", "Unsqueeze")
"""Operators that change nothing in a constant but its form."""

Sides = tuple[int, int]
Answers = list[NDArray[Any]]


class NotOpenError(ModelError):
    """The network runs at its own size alone, now and later. Its text is the reason, in words."""


class _UnlikeError(NotOpenError):
    """It says something else in a larger tile."""


def open_sides(model: str | bytes, layout: Layout, target: Path, *, bands: int | None = None) -> None:
    """Write the graph with height and width left free.

    It is run at its own size, where it must give what the file gives, bit by bit, and at two larger ones.
    There its answer must grow as the input does, and say much the same of the pixels that are in both tiles.

    Args:
        model: path, with external weights beside it where it has some, or the whole file's bytes.
        layout: of the network's input.
        target: file to write.
        bands: of the input; used where the file leaves them free.

    Raises:
        NotOpenError: it runs at no other size, and why.
        ModelError: the file cannot be read, or has not one image as input.
        StoppedError: the machine has no memory for the larger tiles.
    """
    proto = read_onnx(model)
    if proto.ByteSize() >= PROTOBUF_LIMIT:
        msg = "its file is larger than 2 GB"
        raise NotOpenError(msg)
    image = _image(proto.graph, layout, bands)
    original = proto.SerializeToString()
    _scale_resizes(proto, image)
    free_sides(proto.graph, layout)
    declared = _free_answers(proto.graph)
    opened = proto.SerializeToString()
    try:
        axis = _proved(original, opened, image, SCALED)
    except _UnlikeError:
        axis = _proved(original, opened, image, STANDARDISED)
    _fix_answers(proto.graph, declared, axis)
    target.write_bytes(proto.SerializeToString())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Image:
    """The input of a network."""

    name: str
    layout: Layout
    batch: int
    bands: int
    sides: Sides
    dtype: np.dtype[Any]

    def noise(
        self, sides: Sides, values: tuple[float, float], corner: NDArray[Any] | None = None
    ) -> NDArray[Any]:
        """A batch of noisy patches, with a smaller one's pixels in its corner; of integers in 0..255."""
        rng = np.random.default_rng(0)
        height, width = sides
        shape = (self.batch, -(-height // BLOCK), -(-width // BLOCK), self.bands)
        patches = rng.random(shape, dtype=np.float32)
        noise: NDArray[Any] = patches.repeat(BLOCK, axis=1).repeat(BLOCK, axis=2)[:, :height, :width]
        noise = (noise + rng.random(noise.shape, dtype=np.float32)) / 2
        low, high = (0.0, 255.0) if self.dtype.kind in "iu" else values
        noise = noise * np.float32(high - low) + np.float32(low)
        batch = (noise if self.layout == "NHWC" else np.moveaxis(noise, 3, 1)).astype(self.dtype)
        if corner is not None:
            batch[tuple(slice(count) for count in corner.shape)] = corner
        return np.ascontiguousarray(batch)


def _image(graph: Any, layout: Layout, bands: int | None) -> _Image:
    from onnx import helper

    value = image_input(graph)
    dims = [dim.dim_value if dim.dim_value > 0 else None for dim in value.type.tensor_type.shape.dim]
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
    if len(dims) != 4 or dtype.name not in ("float32", "float16", "uint8"):
        msg = f"model: its input {value.name} is {dtype} {dims}; expected four axes of floats or uint8"
        raise ModelError(msg)
    first, *sides = (dims[axis] for axis in ((3, 1, 2) if layout == "NHWC" else (1, 2, 3)))
    height, width = sides[0] or sides[1], sides[1] or sides[0]
    if height is None or width is None:
        msg = f"model: its input {value.name} takes any size"
        raise ModelError(msg)
    return _Image(
        name=value.name,
        layout=layout,
        batch=dims[0] or 1,
        bands=first or bands or 3,
        sides=(height, width),
        dtype=dtype,
    )


def _run(content: bytes, image: _Image, tile: NDArray[Any]) -> Answers:
    """All outputs. Raises NotOpenError where an operator fails, and StoppedError without memory for it."""
    try:
        answers: Answers = plain_session(content).run(None, {image.name: tile})
    except Exception as e:  # ONNX Runtime's classes derive from Exception only
        sides = _spoken(tile.shape[1:3] if image.layout == "NHWC" else tile.shape[2:])
        if is_out_of_memory(e):
            msg = f"the machine has no memory to try the model at {sides} pixels: {telling_line(e)}"
            raise StoppedError(msg) from e
        raise NotOpenError(_failure(content, sides, telling_line(e))) from e
    return answers


def _failure(content: bytes, sides: str, said: str) -> str:
    """Which operator failed, by what ONNX Runtime says of it."""
    found = re.search(r"running (\w+) node\. Name:'([^']*)' *(?:Status Message: *)?(.*)", said)
    if found is None:
        return f"it fails at {sides} pixels: {said}"
    kind, name, why = found.groups()
    graph = read_onnx(content).graph
    node = next((node for node in graph.node if (node.op_type, node.name) == (kind, name)), None)
    if node is not None and kind == "Reshape" and _constant(node.input[1], _makers(graph)) is not None:
        return f"Reshape to a constant shape ({_label(node)})"
    return f"{kind} ({name or 'without a name'}) fails at {sides} pixels: {why}"


def _proved(original: bytes, opened: bytes, image: _Image, values: tuple[float, float]) -> int:
    """The axis of the first answer's height. Raises NotOpenError where the opened graph does not do."""
    old = image.sides
    tile = image.noise(old, values)
    given = _run(original, image, tile)
    if [_bits(answer) for answer in _run(opened, image, tile)] != [_bits(answer) for answer in given]:
        msg = f"opened, it gives other answers at {_spoken(old)} pixels"
        raise NotOpenError(msg)

    def grown(height: int, width: int) -> int:
        larger = image.noise((height, width), values, tile)
        return _checked(opened, image, given[0], _run(opened, image, larger)[0], (height, width))

    height, width = old
    axis = grown(2 * height, 2 * width)
    try:
        grown(*(side + max(side // 2 // USUAL_STEP, 1) * USUAL_STEP for side in old))
    except NotOpenError:  # another grid than the usual one
        grown(3 * height, 3 * width)
    return axis


def _checked(content: bytes, image: _Image, small: NDArray[Any], large: NDArray[Any], sides: Sides) -> int:
    """The axis of an answer's height.

    Args:
        content: of the graph that answered.
        image: its input.
        small: answer at its own size.
        large: answer to a tile with the same pixels in its corner.
        sides: of that tile.

    Raises:
        NotOpenError: the answer did not grow with the input, or says something else of the same pixels.
    """
    for axis in range(1, small.ndim - 1):
        after = axis + 2
        grown = (*small.shape[:axis], *sides, *small.shape[after:])
        if small.shape[axis:after] == image.sides and large.shape == grown:
            break
    else:
        found = _reshaped(read_onnx(content).graph)
        reason = f"Reshape to a constant shape ({found}): " if found else ""
        msg = (
            f"{reason}it answers {_spoken(image.sides)} pixels with {list(small.shape)}, and "
            f"{_spoken(sides)} with {list(large.shape)}"
        )
        raise NotOpenError(msg)
    if (unlike := _unlike(small, large, axis)) > UNLIKE:
        msg = (
            f"it says something else of the same pixels in a tile of {_spoken(sides)}: these answers differ "
            f"by {unlike:.0%} of what those to other pixels differ by"
        )
        raise _UnlikeError(msg)
    return axis


def _unlike(small: NDArray[Any], large: NDArray[Any], axis: int) -> float:
    """By what answers to the same pixels differ, in units of what those to other pixels differ by.

    Of the smaller tile's first quarter, which is as near to a border in both tiles.
    0 where a network says the same of all pixels, which tells nothing.
    """
    half = [side // 2 for side in small.shape[axis : axis + 2]]
    cut = (*(slice(None),) * axis, *map(slice, half))
    usual = _difference(small, np.roll(small, half, (axis, axis + 1)))
    return _difference(small[cut], large[cut]) / usual if usual else 0.0


def _difference(a: NDArray[Any], b: NDArray[Any]) -> float:
    if a.dtype.kind != "f":
        return float(np.mean(a != b))
    return float(np.mean(np.abs(np.nan_to_num(a.astype(np.float64)) - np.nan_to_num(b.astype(np.float64)))))


def _free_answers(graph: Any) -> list[Any]:
    """Leave the shapes of all outputs open; the first one's axes, as they were declared."""
    declared = [dim.dim_value for dim in graph.output[0].type.tensor_type.shape.dim]
    for value in graph.output:
        for dim in value.type.tensor_type.shape.dim:
            dim.Clear()
    return declared


def _fix_answers(graph: Any, declared: Sequence[int], axis: int) -> None:
    """Give the first output's axes their lengths again, but for height and width."""
    for number, (dim, length) in enumerate(
        zip(graph.output[0].type.tensor_type.shape.dim, declared, strict=True)
    ):
        if length > 0 and number not in (axis, axis + 1):
            dim.dim_value = length


def _scale_resizes(proto: Any, image: _Image) -> None:
    """Let each Resize to constant sizes resize by the factors that these are of its input, if they are whole.

    Raises:
        NotOpenError: another one, or of a single cell: whatever was pooled there is spread over all of the
            map, whose size nothing tells.
    """
    from onnx import helper, numpy_helper

    graph = proto.graph
    makers = _makers(graph)
    fixed = [
        (node, sizes)
        for node in graph.node
        if node.op_type == "Resize"
        and len(node.input) == 4
        and _constant(node.input[0], makers) is None
        and (sizes := _last_constants(node.input[3], makers))
    ]
    shapes = _shapes(proto, image, [node.input[0] for node, _ in fixed]) if fixed else []
    for number, ((node, sizes), shape) in enumerate(zip(fixed, shapes, strict=True)):
        axes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        before = [shape[at] for at in axes.get("axes", range(len(shape)))]
        tail = before[-len(sizes) :]
        factors = [size / side for size, side in zip(sizes, tail, strict=True)]
        is_whole = all(factor == int(factor) for factor in factors)
        is_cell = all(side == 1 for side in shape[2:])
        if not is_whole or is_cell or axes.get("keep_aspect_ratio_policy", b"stretch") != b"stretch":
            msg = f"Resize to constant sizes ({_label(node)})"
            raise NotOpenError(msg)
        values = np.array([1.0] * (len(before) - len(sizes)) + factors, dtype=np.float32)
        name = f"{PREFIX}scales_{number}"
        graph.initializer.append(numpy_helper.from_array(values, name))
        node.input[2] = name
        del node.input[3]


def _shapes(proto: Any, image: _Image, names: Sequence[str]) -> list[tuple[int, ...]]:
    """Of tensors inside the graph, in a run at its own size."""
    from onnx import ModelProto, ValueInfoProto

    shown = ModelProto()
    shown.CopyFrom(proto)
    del shown.graph.output[:]
    shown.graph.output.extend(ValueInfoProto(name=name) for name in dict.fromkeys(names))
    answers = _run(shown.SerializeToString(), image, image.noise(image.sides, SCALED))
    found = dict(zip(dict.fromkeys(names), answers, strict=True))
    return [found[name].shape for name in names]


def _makers(graph: Any) -> dict[str, Any]:
    """By a tensor's name the node that makes it, or its weights."""
    made = {name: node for node in graph.node for name in node.output}
    return made | {tensor.name: tensor for tensor in graph.initializer}


def _constant(name: str, makers: Mapping[str, Any]) -> NDArray[Any] | None:
    """The values of a tensor that is written down in the file."""
    from onnx import TensorProto, helper, numpy_helper

    maker = makers.get(name)
    if isinstance(maker, TensorProto):
        return np.asarray(numpy_helper.to_array(maker))
    if maker is None or not maker.output:
        return None
    if maker.op_type == "Constant":
        held = helper.get_attribute_value(maker.attribute[0])
        return np.asarray(numpy_helper.to_array(held) if isinstance(held, TensorProto) else held)
    return _constant(maker.input[0], makers) if maker.op_type in CARRYING else None


def _last_constants(name: str, makers: Mapping[str, Any]) -> list[int]:
    """The sizes that are written down: all of them, or behind those of batch and bands height and width."""
    if (values := _constant(name, makers)) is not None:
        return [int(value) for value in values.ravel()]
    maker = makers.get(name)
    if maker is None or maker.op_type in CARRYING:
        return _last_constants(maker.input[0], makers) if maker is not None else []
    found: list[int] = []
    for part in reversed(maker.input if maker.op_type == "Concat" else ()):
        if (values := _constant(part, makers)) is None:
            break
        found = [int(value) for value in values.ravel()] + found
    return found if len(found) > 1 else []


def _reshaped(graph: Any) -> str | None:
    """The last Reshape to a constant shape that the first answer comes from."""
    makers = _makers(graph)
    waiting, seen = [graph.output[0].name], set()
    while waiting:
        name = waiting.pop(0)
        node = makers.get(name)
        if name in seen or node is None or not hasattr(node, "op_type"):
            continue
        seen.add(name)
        if node.op_type == "Reshape" and _constant(node.input[1], makers) is not None:
            return _label(node)
        waiting.extend(node.input)
    return None


def _label(node: Any) -> str:
    return node.name or f"the one that makes {node.output[0]}"


def _bits(answer: NDArray[Any]) -> tuple[str, tuple[int, ...], bytes]:
    return str(answer.dtype), answer.shape, answer.tobytes()


def _spoken(sides: Sequence[int]) -> str:
    return " x ".join(map(str, sides))

"""Weights that an ONNX file keeps in other files: which tensors do, and whether those files are fit for it.

Whoever made the network says their names, offsets and lengths, and an engine opens what is named. So they
are looked for in the whole model: initializers, sparse ones too, attributes of operators such as Constant,
the graphs inside If, Loop and Scan, functions, and what is there for training.
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from batchseg.errors import ModelError
from batchseg.system.excerpt import excerpt

_ODD_NAME = re.compile(r"[\x00-\x1f*\\]|^/|(^|/)\.\.(/|$)|[^/]{256}")
"""ONNX Runtime takes `*/_ORT_MEM_ADDR_/*` for an address in its own memory."""

EXTERNAL = 1
"""onnx.TensorProto.DataLocation."""

_NUMBER = re.compile("[0-9]{1,18}")
"""What engines in C++ read as well: int() takes signs, blanks, underscores and the digits of all scripts."""


def external_files(model: Any, path: Path) -> list[str]:
    """Names of the files that hold weights of a model, relative to its folder, sorted.

    Args:
        model: onnx.ModelProto.
        path: of its file.

    Raises:
        ModelError: a name leads out of the folder, by a link too; a file is missing or too short; an entry
            is not made as ONNX says.
    """
    ends: dict[str, int] = {}
    for tensor in tensors_of(model):
        if tensor.data_location == EXTERNAL:
            name, end = _place(tensor, path)
            ends[name] = max(ends.get(name, 0), end)
    for name, end in ends.items():
        _check_file(name, end, path)
    return sorted(ends)


def tensors_of(model: Any) -> Iterator[Any]:
    """Every onnx.TensorProto of a model."""
    trained = (graph for info in model.training_info for graph in (info.initialization, info.algorithm))
    graphs = [model.graph, *trained]
    nodes = [node for function in model.functions for node in function.node]
    attributes = [attribute for function in model.functions for attribute in function.attribute_proto]
    while graphs or nodes or attributes:
        for graph in graphs:
            yield from graph.initializer
            yield from _of_sparse(graph.sparse_initializer)
            nodes += graph.node
        attributes += (attribute for node in nodes for attribute in node.attribute)
        # Attributes are looked at by what they hold: the type that one names may be another.
        inner = []
        for attribute in attributes:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("sparse_tensor"):
                yield from _of_sparse([attribute.sparse_tensor])
            yield from _of_sparse(attribute.sparse_tensors)
            inner += [attribute.g] if attribute.HasField("g") else []
            inner += attribute.graphs
        graphs, nodes, attributes = inner, [], []


def _of_sparse(tensors: Any) -> Iterator[Any]:
    for tensor in tensors:
        yield tensor.values
        yield tensor.indices


def _place(tensor: Any, path: Path) -> tuple[str, int]:
    """The file's name, and how many bytes it must have for this tensor."""
    keys = [item.key for item in tensor.external_data]
    entry = {item.key: item.value for item in tensor.external_data}
    numbers = [entry.get(key, "0") for key in ("offset", "length")]
    whole = all(isinstance(text, str) and _NUMBER.fullmatch(text) for text in numbers)
    if not whole or len(set(keys)) < len(keys) or any(axis < 0 for axis in tensor.dims):
        msg = (
            f"model: {path}: the tensor {excerpt(tensor.name)} says {excerpt(sorted(entry.items()))} of its "
            f"weights; expected one location, and offset and length as numbers of bytes"
        )
        raise ModelError(msg)
    offset, length = map(int, numbers)
    return entry.get("location", ""), offset + (length or _least_bytes(tensor))


def _least_bytes(tensor: Any) -> int:
    """Of a tensor that says no length; 0 for types of less than a byte, and for texts."""
    return int(math.prod(tensor.dims)) * _ELEMENT_BYTES.get(tensor.data_type, 0)


_ELEMENT_BYTES = {
    1: 4,
    2: 1,
    3: 1,
    4: 2,
    5: 2,
    6: 4,
    7: 8,
    9: 1,
    10: 2,
    11: 8,
    12: 4,
    13: 8,
    14: 8,
    15: 16,
    16: 2,
}
"""By onnx.TensorProto.DataType."""


def _check_file(name: Any, end: int, path: Path) -> None:
    odd = not isinstance(name, str) or not name or _ODD_NAME.search(name)
    beside = path.parent / name if not odd else path
    if odd or not beside.resolve().is_relative_to(path.parent.resolve()):
        msg = f"model: {path} keeps weights at {excerpt(name)}, outside its own folder; put them beside it"
        raise ModelError(msg)
    if not beside.is_file():
        msg = f"model: {path} keeps weights in {name}, which is missing; copy it beside the network"
        raise ModelError(msg)
    if beside.stat().st_size < end:
        msg = f"model: {beside} is cut off: {beside.stat().st_size} of {end} bytes; copy the whole file"
        raise ModelError(msg)

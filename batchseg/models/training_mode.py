"""Operators of an ONNX graph that work as in training: a pixel would depend on its tile, or on chance."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from batchseg.errors import ModelError

ATTRIBUTE_SINCE = 14
"""Opset from which BatchNormalization has `training_mode`; before it, more outputs than one mean training."""


def check_inference(model: Any, path: Path) -> None:
    """Refuse a network that was traced or exported while it was trained.

    Args:
        model: an onnx.ModelProto.
        path: of its file, for the message.

    Raises:
        ModelError: a BatchNormalization takes its statistics from each tile, or a Dropout drops.
    """
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    holders = [model.graph, *model.functions]
    found = [name for holder in holders for name in _in_training(holder, opset, {})]
    if found:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        msg = (
            f"model: {path} works as in training: {found[0]}{more}. Call network.eval() before "
            f"torch.jit.trace or the export, and write it again"
        )
        raise ModelError(msg)


def _in_training(graph: Any, opset: int, outer: Mapping[str, Any]) -> Iterator[str]:
    """In words; of graphs within too, which see the constants around them."""
    constants = {**outer, **_constants(graph)}
    for node in graph.node:
        if node.op_type == "BatchNormalization" and _normalizes_by_tile(node, opset):
            yield f"the BatchNormalization {_name(node)} takes its statistics from each tile"
        elif node.op_type == "Dropout" and len(node.input) > 2 and _is_true(constants.get(node.input[2])):
            yield f"the Dropout {_name(node)} drops values by chance"
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _in_training(attribute.g, opset, constants)


def _constants(graph: Any) -> dict[str, Any]:
    """Tensors by name."""
    found = {tensor.name: tensor for tensor in getattr(graph, "initializer", ())}
    for node in graph.node:
        if node.op_type == "Constant":
            tensors = [attribute.t for attribute in node.attribute if attribute.name == "value"]
            found |= {name: tensor for name in node.output for tensor in tensors}
    return found


def _normalizes_by_tile(node: Any, opset: int) -> bool:
    if opset < ATTRIBUTE_SINCE:
        return len([name for name in node.output if name]) > 1
    return any(attribute.name == "training_mode" and attribute.i for attribute in node.attribute)


def _is_true(tensor: Any) -> bool:
    """Of a constant of one boolean; None: its value is not known before the network runs."""
    return tensor is not None and (any(tensor.raw_data) or any(tensor.int32_data))


def _name(node: Any) -> str:
    return repr(node.name or next(iter(node.output), ""))

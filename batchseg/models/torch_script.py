"""A TorchScript or .pt2 network to ONNX: runs in an interpreter that has torch, by path.

    python torch_script.py REQUEST.json ANSWER.json

The answer holds either `error` and its `cause`, or what the network is. A tile and what the network says of
it are written beside the ONNX file, so that the caller can compare.
"""

import json
import sys
from pathlib import Path
from typing import Any

SEED = 1

LEAST_SIDE = 64
"""Pixels per side of the tile with which a network of any size is traced: most take a multiple of 32."""

OTHER_LESS = 64
"""Pixels by which the tile is smaller with which a network of any size is tried once more."""

OPSET = 17
"""ONNX operators that all runtimes of the last years have."""


class RefusedError(Exception):
    """The request cannot be done; the message is for the user."""

    def __init__(self, message: str, *, cause: str) -> None:
        """`cause`: environment, config or model."""
        super().__init__(message)
        self.cause = cause


def convert(request: dict[str, Any]) -> dict[str, Any]:
    """Write the ONNX file.

    Args:
        request: network, kind (torchscript or pt2), onnx and tile (paths to write), input_shape (NCHW with -1
            for what is free, or None), side (of the tile).

    Returns:
        What the network is.
    """
    try:
        import numpy
        import onnx  # torch.onnx needs it, and says so late
        import torch
    except ImportError as e:
        msg = f"torch, onnx or numpy cannot be imported: {e}"
        raise RefusedError(msg, cause="environment") from e
    torch.manual_seed(SEED)
    load = _load_torchscript if request["kind"] == "torchscript" else _load_program
    network, shape = load(torch, request)
    tile = torch.rand(_tile_shape(shape, request["side"]))
    answers = _answers(torch, _callable(network), tile, request)
    number = _dense(answers, request)
    fixed = _fixed_sides(torch, _callable(network), tile, shape, answers[number], request)
    if fixed:
        shape = [*shape[:2], *fixed]
        tile = torch.rand(_tile_shape(shape, request["side"]))
        answers = _answers(torch, _callable(network), tile, request)
    export = _export_torchscript if request["kind"] == "torchscript" else _export_program
    export(torch, network, tile, shape, request)
    _keep(onnx, request["onnx"], number)
    numpy.savez(request["tile"], tile=tile.numpy(), answer=answers[number].detach().float().numpy())
    weights = network.parameters()
    return {
        "torch": torch.__version__,
        "shape": shape,
        "fixed_by_trace": bool(fixed),
        "answers": [list(answer.shape) for answer in answers],
        "kept": number,
        "parameters": sum(int(value.numel()) for value in weights),
    }


def _keep(onnx: Any, path: str, number: int) -> None:
    """Of several outputs one: batchseg reads the first."""
    model = onnx.load(path)
    kept = model.graph.output[number]
    del model.graph.output[:]
    model.graph.output.append(kept)
    onnx.save(model, path)


def _load_torchscript(torch: Any, request: dict[str, Any]) -> tuple[Any, list[int]]:
    try:
        network = torch.jit.load(request["network"], map_location="cpu").eval()
    except Exception as e:  # a damaged archive raises anything
        msg = f"torch cannot load {request['network']}: {_last_line(e)}"
        raise RefusedError(msg, cause="model") from e
    shape = request["input_shape"] or [-1, _bands(network), -1, -1]
    if shape[1] < 1:
        msg = f"the bands of {request['network']} do not show; give the input's shape, such as -1 12 -1 -1"
        raise RefusedError(msg, cause="config")
    return network, shape


def _bands(network: Any) -> int:
    """Of the first convolution that is not depthwise: (out, in, h, w); -1: there is none."""
    weights = (value for name, value in network.named_parameters() if value.dim() == 4)
    first = next(weights, None)
    return -1 if first is None else int(first.shape[1])


def _load_program(torch: Any, request: dict[str, Any]) -> tuple[Any, list[int]]:
    try:
        program = torch.export.load(request["network"])
    except Exception as e:  # likewise
        msg = f"torch cannot load {request['network']}: {_last_line(e)}"
        raise RefusedError(msg, cause="model") from e
    names = program.graph_signature.user_inputs
    nodes = [node for node in program.graph.nodes if node.op == "placeholder" and node.name in names]
    if len(nodes) != 1:
        msg = f"{request['network']} takes {len(nodes)} inputs; expected one image"
        raise RefusedError(msg, cause="model")
    shape = [axis if isinstance(axis, int) else -1 for axis in nodes[0].meta["val"].shape]
    if request["input_shape"] and request["input_shape"] != shape:
        msg = f"{request['network']} was exported for an input of {shape}; leave the input's shape out"
        raise RefusedError(msg, cause="config")
    return program, shape


def _callable(network: Any) -> Any:
    return network.module() if hasattr(network, "module") and callable(network.module) else network


def _tile_shape(shape: list[int], side: int) -> list[int]:
    if len(shape) != 4:
        msg = f"it takes an input of {len(shape)} axes; expected batch, bands, height and width"
        raise RefusedError(msg, cause="model")
    usual = [1, 3, max(side, LEAST_SIDE), max(side, LEAST_SIDE)]
    return [own if own > 0 else given for own, given in zip(shape, usual, strict=True)]


def _answers(torch: Any, network: Any, tile: Any, request: dict[str, Any]) -> list[Any]:
    try:
        with torch.no_grad():
            answer = network(tile)
    except Exception as e:  # whatever the network's own code raises
        msg = f"{request['network']} fails on a tile of {list(tile.shape)}: {_last_line(e)}"
        if not request["input_shape"] and request["kind"] == "torchscript":
            bands = tile.shape[1]
            msg += f"; if it was traced for one size, give it: --input-shape -1 {bands} HEIGHT WIDTH"
        raise RefusedError(msg, cause="model") from e
    if isinstance(answer, dict) and request["kind"] == "torchscript":
        msg = (
            f"{request['network']} gives a dict ({', '.join(map(str, answer))}), which torch writes of no "
            f"trace as ONNX; return the tensor, or export the network as .pt2 (torch.export.save)"
        )
        raise RefusedError(msg, cause="model")
    found = list(answer.values()) if isinstance(answer, dict) else answer
    found = list(found) if isinstance(found, (tuple, list)) else [found]
    if not all(isinstance(one, torch.Tensor) for one in found):
        msg = f"{request['network']} gives no plain tensors"
        raise RefusedError(msg, cause="model")
    return found


def _dense(answers: list[Any], request: dict[str, Any]) -> int:
    """The first answer with values per pixel."""
    for number, answer in enumerate(answers):
        if answer.dim() in (3, 4) and min(answer.shape[-2:]) > 1:
            return number
    shapes = ", ".join(str(list(answer.shape)) for answer in answers)
    msg = f"{request['network']} gives {shapes}; expected scores or ids per pixel, (N, K, H, W) or (N, H, W)"
    raise RefusedError(msg, cause="model")


def _fixed_sides(
    torch: Any, network: Any, tile: Any, shape: list[int], answer: Any, request: dict[str, Any]
) -> list[int]:
    """Height and width that a trace fixed of what a network gives that takes any; empty: it fixed none.

    A size that Python computed is a number in a trace: the network brings every tile's answer to that one.
    """
    is_free = shape[2:] == [-1, -1]
    given, sides = list(tile.shape[-2:]), list(answer.shape[-2:])
    if sides == given:
        fixed = is_free and _sides_of(torch, network, [side - OTHER_LESS for side in given], tile, request)
        return sides if fixed == given else []
    if is_free and _sides_of(torch, network, sides, tile, request) == sides:
        return sides
    msg = (
        f"{request['network']} answers a tile of {given[0]} x {given[1]} with {sides[0]} x {sides[1]}; "
        f"expected an answer for each pixel: bring it to the input's size within the network"
    )
    raise RefusedError(msg, cause="model")


def _sides_of(
    torch: Any, network: Any, sides: list[int], tile: Any, request: dict[str, Any]
) -> list[int] | None:
    """Height and width of the answer to a tile of other sides; None: it fails."""
    try:
        answers = _answers(torch, network, torch.rand([*tile.shape[:2], *sides]), request)
        return list(answers[_dense(answers, request)].shape[-2:])
    except RefusedError:
        return None


def _export_torchscript(
    torch: Any, network: Any, tile: Any, shape: list[int], request: dict[str, Any]
) -> None:
    axes = {number: name for number, name in enumerate(("n", "k", "h", "w")) if shape[number] < 0}
    try:
        torch.onnx.export(
            network,
            (tile,),
            request["onnx"],
            input_names=["image"],
            dynamic_axes={"image": axes} if axes else None,
            opset_version=OPSET,
            dynamo=False,
        )
    except Exception as e:  # operators that ONNX has not, and more
        msg = f"torch cannot write {request['network']} as ONNX: {_last_line(e)}"
        if "size not accessible" in msg:
            msg += f"; give the size that it shall have: --input-shape -1 {shape[1]} HEIGHT WIDTH"
        raise RefusedError(msg, cause="model") from e


def _export_program(torch: Any, program: Any, tile: Any, shape: list[int], request: dict[str, Any]) -> None:
    try:
        import onnxscript  # noqa: F401
    except ImportError as e:
        msg = f"onnxscript cannot be imported, which .pt2 files need: {e}"
        raise RefusedError(msg, cause="environment") from e
    try:
        torch.onnx.export(program, dynamo=True).save(request["onnx"], external_data=False)
    except Exception as e:  # likewise
        msg = f"torch cannot write {request['network']} as ONNX: {_last_line(e)}"
        raise RefusedError(msg, cause="model") from e


def _last_line(error: BaseException) -> str:
    """What an error says: the summary of torch's exporter, the first line of its older one, which goes on
    with the graph; else the last line that is no remark on it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    for line in lines:
        if line.startswith("<class "):
            return line.removeprefix("<class ").replace("'", "").replace(">", "")[:300]
    if lines and type(error).__module__.startswith("torch.onnx"):
        return lines[0].partition("  [Caused by")[0].partition(" Please feel free")[0].rstrip(".")[:300]
    lines = [line for line in lines if not line.startswith("(")]
    return lines[-1][:300] if lines else type(error).__name__


def main(request_path: str, answer_path: str) -> None:
    request = json.loads(Path(request_path).read_text(encoding="utf-8"))
    try:
        answer = convert(request)
    except RefusedError as e:
        answer = {"error": str(e), "cause": e.cause}
    Path(answer_path).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])

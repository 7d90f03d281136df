"""The shapes of one tile size written into a Paddle program that leaves them open.

paddle2onnx ends its process for an adaptive pooling whose input size is open: PP-LiteSeg, MobileSeg.
Its shapes are not inferred but seen: two batches are run and the shape of every tensor is looked at.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from batchseg.errors import ModelError

INPUTS = ("1.data", "1.feed")
"""Operators that bring the image: of an export by Paddle 3, of a translated .pdmodel."""

BATCHES = (2, 3)
"""Two sizes: what differs between them is the batch's, and stays open."""


def fix_size(source: Path, target: Path, size_hw: tuple[int, int]) -> None:
    """Write a .json program for inputs of one size, any batch; its weights are those of the source.

    Args:
        source: path without suffix, of a .json and its .pdiparams.
        target: likewise.
        size_hw: height and width in pixels.

    Raises:
        ModelError: the program is nested, or its input has not four axes.
    """
    program = json.loads(source.with_suffix(".json").read_bytes())
    regions = program["program"]["regions"]
    if len(regions) != 1 or len(regions[0]["blocks"]) != 1:
        msg = "model: the program has branches; its size cannot be fixed"
        raise ModelError(msg)
    operators = regions[0]["blocks"][0]["ops"]
    data = [operator for operator in operators if operator["#"] in INPUTS]
    shape = _shape(data[0]["O"][0]) if len(data) == 1 else []
    if len(shape) != 4:
        msg = "model: the program has not one input of four axes; its size cannot be fixed"
        raise ModelError(msg)
    fixed = [shape[0], shape[1], *size_hw]
    for tensor, seen in _seen(source, operators, fixed):
        _shape(tensor)[:] = seen
    for attribute in data[0]["A"]:
        if attribute["N"] == "shape":
            attribute["AT"]["D"] = fixed
    _shape(data[0]["O"][0])[:] = fixed
    target.with_suffix(".json").write_text(json.dumps(program))
    shutil.copyfile(source.with_suffix(".pdiparams"), target.with_suffix(".pdiparams"))


def _shape(tensor: dict[str, Any]) -> list[int]:
    """Of a result in the file: {"%": number, "TT": {"#": "0.t_dtensor", "D": [dtype, shape, ...]}}."""
    shape: list[int] = tensor["TT"]["D"][1]
    return shape


def _seen(
    source: Path, operators: list[dict[str, Any]], shape: list[int]
) -> list[tuple[dict[str, Any], list[int]]]:
    """Each result with an open shape, and the shape that it had."""
    import paddle

    paddle.enable_static()
    executor = paddle.static.Executor(paddle.CPUPlace())
    program, feed, _ = paddle.static.load_inference_model(str(source), executor)
    loaded = list(program.global_block().ops)
    if len(loaded) != len(operators):
        msg = f"model: the program holds {len(operators)} operators, Paddle loaded {len(loaded)}"
        raise ModelError(msg)
    used = {given["%"] for operator in operators for given in operator.get("I", [])}
    tensors, values = [], []
    for operator, own in zip(operators, loaded, strict=True):
        if operator["#"] in ("p", "1.fetch", *INPUTS):
            continue
        for tensor, value in zip(operator["O"], own.results(), strict=True):
            if tensor["%"] in used and tensor["TT"]["#"] == "0.t_dtensor" and -1 in _shape(tensor):
                tensors.append(tensor)
                values.append(value)
    for own in loaded:  # Its column would be taken for the first of those that are asked for.
        if own.name() == "pd_op.fetch":
            program.global_block().remove_op(own)
    runs = []
    for count in BATCHES:
        image = np.random.default_rng(0).random((count, *shape[1:]), dtype=np.float32)
        results = executor.run(program, feed={feed[0]: image}, fetch_list=values, return_numpy=False)
        runs.append([list(result.shape()) for result in results])
    paddle.disable_static()
    return [
        (tensor, [first if first == second else -1 for first, second in zip(*pair, strict=True)])
        for tensor, *pair in zip(tensors, *runs, strict=True)
    ]

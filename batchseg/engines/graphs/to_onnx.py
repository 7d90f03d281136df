"""A Paddle network as an ONNX file, by paddle2onnx."""

import json
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from batchseg.engines.graphs.bake_paddle import side_by_side, to_pir
from batchseg.errors import ModelError
from batchseg.models.package import ModelPackage
from batchseg.system.json_text import parse_json
from batchseg.system.processes import ProcessDiedError, call_in_fresh_process, captured_output

OPSET = 17
"""Read by ONNX Runtime from 1.12, OpenVINO from 2022 and TensorRT from 8.6."""

TIMEOUT = 600.0


class NoConversionError(ModelError):
    """paddle2onnx cannot convert this network, now and later."""


def to_onnx(package: ModelPackage, target: Path, *, size_hw: tuple[int, int] | None = None) -> None:
    """Write the network as ONNX.

    paddle2onnx works in a process of its own: it prints, and it ends the process for some operators.

    Args:
        package: a Paddle network, not encrypted.
        target: file to write.
        size_hw: for inputs of this size only; None: height and width stay as open as they are.

    Raises:
        NoConversionError: paddle2onnx knows an operator not, or not with an open size.
        ModelError: it is not installed, or gave no answer.
    """
    if package.format == "onnx" or package.params is None or package.encrypted:
        msg = f"model: {package.network} is not a plain Paddle network; it cannot be converted"
        raise ModelError(msg)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        try:
            call_in_fresh_process(
                _convert, package.network, package.params, target, size_hw, log, timeout=TIMEOUT
            )
        except ProcessDiedError as e:
            said = _what_it_said(log.read_text(errors="replace") if log.exists() else "")
            msg = f"model: {package.network} cannot be converted to ONNX: {said}; the process that tried {e}"
            raise (NoConversionError if "SIGABRT" in str(e) else ModelError)(msg) from e


def _convert(network: str, params: str, target: Path, size_hw: tuple[int, int] | None, log: Path) -> None:
    with captured_output(log) as written, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import paddle2onnx
        except ImportError as e:
            msg = (
                f"a Paddle network runs here through paddle2onnx ({e}): `pip install '.[onnx]'` in "
                f"batchseg's clone"
            )
            raise ModelError(msg) from e
        with tempfile.TemporaryDirectory() as folder:
            program = side_by_side(network, params, Path(folder))
            if size_hw is not None:
                program = _fixed(program, size_hw)
            data: Any = None
            try:
                # Its default optimize_tool installs packages with pip at work; engines fold constants.
                data = paddle2onnx.export(
                    str(program),
                    str(program.with_suffix(".pdiparams")),
                    opset_version=OPSET,
                    optimize_tool="none",
                )
            except Exception:  # noqa: BLE001  it prints its own error, then fails on what is missing
                data = None
        if not isinstance(data, bytes):
            msg = f"model: {network} cannot be converted to ONNX: {_what_it_said(written())}"
            raise NoConversionError(msg)
    target.write_bytes(data)


def _fixed(program: Path, size_hw: tuple[int, int]) -> Path:
    if program.suffix == ".pdmodel":
        to_pir(program.with_suffix(""), program.with_name("pir"))
        program = program.with_name("pir.json")
    fix_size(program.with_suffix(""), program.with_name("fixed"), size_hw)
    return program.with_name("fixed.json")


def _what_it_said(text: str) -> str:
    """The lines about the failure: operators that have no ONNX counterpart come first."""
    lines = [line.strip() for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines() if line.strip()]
    for telling in (
        r"not support|only support|unsupported|no converter",
        r"Paddle2ONNX.*(error|fail)|\[ERROR",
    ):
        found = [line for line in lines if re.search(telling, line, re.IGNORECASE)]
        if found:
            return "; ".join(dict.fromkeys(found))[:500]
    return "paddle2onnx gave no reason"


INPUTS = ("1.data", "1.feed")
"""Operators that bring the image: of an export by Paddle 3, of a translated .pdmodel."""


BATCHES = (2, 3)
"""Two sizes: what differs between them is the batch's, and stays open."""

SMALL_SIDES = (256, 384, 512)
"""Pixels. Shapes of a larger square follow from those of two of them, if they do so for the third: a run of
1,408 pixels, with all its tensors kept, took half a minute."""


def fix_size(source: Path, target: Path, size_hw: tuple[int, int]) -> None:
    """Write a .json program for inputs of one size, any batch; its weights are those of the source.

    paddle2onnx ends its process for an adaptive pooling whose input size is open: PP-LiteSeg, MobileSeg.
    Shapes are not inferred but seen: two batches are run, and the shape of every tensor is looked at.

    Args:
        source: path without suffix, of a .json and its .pdiparams.
        target: likewise.
        size_hw: height and width in pixels.

    Raises:
        ModelError: the program is nested, or its input has not four axes.
    """
    program = parse_json(source.with_suffix(".json").read_bytes())
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

    def shapes(count: int, size_hw: Sequence[int]) -> list[list[int]]:
        image = np.random.default_rng(0).random((count, shape[1], *size_hw), dtype=np.float32)
        results = executor.run(program, feed={feed[0]: image}, fetch_list=values, return_numpy=False)
        return [list(result.shape()) for result in results]

    try:
        runs = _runs(shapes, shape[2:])
    finally:
        paddle.disable_static()
    return [
        (tensor, [first if first == second else -1 for first, second in zip(*pair, strict=True)])
        for tensor, *pair in zip(tensors, *runs, strict=True)
    ]


Shapes = list[list[int]]


def _runs(shapes: Callable[[int, Sequence[int]], Shapes], size_hw: Sequence[int]) -> tuple[Shapes, Shapes]:
    """Of every tensor the shape with either batch."""
    side, *others = size_hw
    small, middle, large = SMALL_SIDES
    if others == [side] and side > large and side % (middle - small) == 0:
        # At sides of one family: where a map is rounded up, it is so at each of them or at none.
        seen = [shapes(BATCHES[0], (at, at)) for at in SMALL_SIDES]
        grown = [_grown((one, two, three), side) for one, two, three in zip(*seen, strict=True)]
        if None not in grown:
            other = shapes(BATCHES[1], (small, small))
            first = [each for each in grown if each is not None]
            second = [
                [
                    of_other if of_other != of_small else of_grown
                    for of_small, of_other, of_grown in zip(*each, strict=True)
                ]
                for each in zip(seen[0], other, first, strict=True)
            ]
            return first, second
    return shapes(BATCHES[0], size_hw), shapes(BATCHES[1], size_hw)


def _grown(seen: tuple[list[int], list[int], list[int]], side: int) -> list[int] | None:
    """A tensor's shape for a square of `side`; None where it does not follow from three smaller ones.

    An axis stays, grows with the side, or with the square's area (tokens in a row).
    """
    grown = []
    for axis in zip(*seen, strict=True):
        by_side = [_line(axis[0], axis[1], at) for at in (SMALL_SIDES[2], side)]
        by_area = [axis[0] * at**2 // SMALL_SIDES[0] ** 2 for at in (*SMALL_SIDES, side)]
        if by_side[0] == axis[2] and by_side[1] is not None:
            grown.append(by_side[1])
        elif by_area[:3] == list(axis):
            grown.append(by_area[3])
        else:
            return None
    return grown


def _line(small: int, middle: int, side: int) -> int | None:
    """What grows evenly from one small side to the next; None where it would be no whole number."""
    grown, rest = divmod((middle - small) * (side - SMALL_SIDES[0]), SMALL_SIDES[1] - SMALL_SIDES[0])
    return None if rest else small + grown

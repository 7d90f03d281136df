"""A Paddle network as an ONNX file, by paddle2onnx."""

import re
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

from batchseg.engines.graphs.bake_paddle import to_pir
from batchseg.engines.graphs.shapes import fix_size
from batchseg.errors import ModelError
from batchseg.models.package import ModelPackage
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
            msg = f"a Paddle network runs here through paddle2onnx ({e}): `pip install batchseg[onnx]`"
            raise ModelError(msg) from e
        with tempfile.TemporaryDirectory() as folder:
            program = _side_by_side(network, params, Path(folder))
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


def _side_by_side(network: str, params: str, folder: Path) -> Path:
    """Links of one stem: paddle2onnx finds the weights of a .pdmodel by the program's name."""
    program, weights = folder / f"model{Path(network).suffix}", folder / "model.pdiparams"
    for source, link in ((network, program), (params, weights)):
        try:
            link.symlink_to(Path(source).resolve())
        except OSError:
            shutil.copyfile(source, link)
    return program


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

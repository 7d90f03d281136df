"""A Paddle network as an ONNX file, by paddle2onnx."""

import re
import shutil
import tempfile
import warnings
from pathlib import Path

from batchseg.errors import ModelError
from batchseg.isolate import ProcessDiedError, call_in_fresh_process, captured_output
from batchseg.package import ModelPackage

OPSET = 17
"""The newest that paddle2onnx 2.1 writes well for segmentation networks, and that ONNX Runtime from 1.12,
OpenVINO from 2022 and TensorRT from 8.6 read; 17 is the last without axes of ReduceMax as inputs."""

TIMEOUT = 600.0


def to_onnx(package: ModelPackage, target: Path) -> None:
    """Write the network as ONNX; batch, height and width stay as free as they are.

    paddle2onnx works in a process of its own: it prints, and it may crash.

    Args:
        package: a Paddle network, not encrypted.
        target: file to write.

    Raises:
        ModelError: paddle2onnx is not installed, or knows an operator not.
    """
    if package.format == "onnx" or package.params is None or package.encrypted:
        msg = f"model: {package.network} is not a plain Paddle network; it cannot be converted"
        raise ModelError(msg)
    try:
        call_in_fresh_process(_convert, package.network, package.params, target, timeout=TIMEOUT)
    except ProcessDiedError as e:
        msg = f"model: {package.network} cannot be converted to ONNX: the process that tried {e}"
        raise ModelError(msg) from e


def _convert(network: str, params: str, target: Path) -> None:
    with captured_output() as written, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import paddle2onnx
        except ImportError as e:
            msg = f"a Paddle network runs here through paddle2onnx ({e}): `pip install batchseg[onnx]`"
            raise ModelError(msg) from e
        data = None
        with tempfile.TemporaryDirectory() as folder:
            program, weights = _side_by_side(network, params, Path(folder))
            try:
                # Its default optimize_tool installs packages with pip at work; engines fold constants.
                data = paddle2onnx.export(
                    str(program), str(weights), opset_version=OPSET, optimize_tool="none", verbose=False
                )
            except Exception:  # noqa: BLE001  it catches its own error, prints it and fails on what is missing
                data = None
        if not isinstance(data, bytes):
            msg = f"model: {network} cannot be converted to ONNX: {_what_it_said(written())}"
            raise ModelError(msg)
    target.write_bytes(data)


def _side_by_side(network: str, params: str, folder: Path) -> tuple[Path, Path]:
    """Links of one stem: paddle2onnx finds the weights of a .pdmodel by the program's name."""
    program, weights = folder / f"model{Path(network).suffix}", folder / "model.pdiparams"
    for source, link in ((network, program), (params, weights)):
        try:
            link.symlink_to(Path(source).resolve())
        except OSError:
            shutil.copyfile(source, link)
    return program, weights


def _what_it_said(text: str) -> str:
    """The lines about the failure: operators that have no ONNX counterpart come first."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [
        line for line in lines if re.search(r"not support|unsupported|cannot find|no converter", line, re.I)
    ]
    telling = telling or [line for line in lines if re.search(r"error|fail", line, re.IGNORECASE)]
    return "; ".join(dict.fromkeys(telling or lines[-1:]))[:500] or "paddle2onnx gave no reason"

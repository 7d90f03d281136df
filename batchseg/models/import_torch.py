"""`batchseg model import`: a network of PyTorch, as TorchScript or .pt2, to a package with an ONNX file.

torch runs in an interpreter of its own (`torch_script.py`): it is a gigabyte that nothing else here needs.
"""

import contextlib
import importlib.util
import os
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from batchseg.errors import ConfigError, ModelError
from batchseg.models.other_python import Script, check_new, program_at, run_script, staging_beside
from batchseg.models.package import ModelPackage
from batchseg.models.reading import read_model

PYTHON_VARIABLE = "BATCHSEG_TORCH_PYTHON"
"""Environment: the interpreter that has torch."""

SCRIPT = Path(__file__).with_name("torch_script.py")
REQUIREMENTS = Path(__file__).with_name("torch-requirements.txt")

TIMEOUT = 1800.0
"""Seconds."""

SIDE = 256
"""Pixels per side of the tile with which a network of any size is traced and compared."""

FILE = "model.onnx"

Kind = Literal["torchscript", "pt2"]

Compare = Callable[[ModelPackage, Path, Path], float | None]
"""Of the package, the file of the tile and its answer, and the network that it was made of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedModel:
    """A package that `import_model` wrote and `read_model` accepted."""

    folder: Path
    kind: Kind
    parameters: int
    input_shape: tuple[int, ...]
    """NCHW; -1 is free."""
    answers: tuple[tuple[int, ...], ...]
    """Shapes of all that the network gives for a tile."""
    fixed_by_trace: bool
    """It takes any size and gives one: height and width are fixed at that."""
    kept: int
    """Which of them the package gives."""
    apart: float | None
    """The largest difference of ONNX Runtime's answer from torch's, by the largest answer; None: it is not
    installed here, and nothing was compared."""
    version: str
    """Of torch."""
    digest: str
    """sha256 of the ONNX file."""


def kind_of(network: Path) -> Kind:
    """What a file of PyTorch holds; torch is not needed for it.

    Raises:
        ConfigError: it does not exist.
        ModelError: it holds weights without the network, or is no file of PyTorch.
    """
    if not network.is_file():
        msg = f"{network} does not exist; expected a TorchScript file (.pt) or a .pt2"
        raise ConfigError(msg)
    try:
        with zipfile.ZipFile(network) as archive:
            inside = {name.partition("/")[2] for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError):
        inside = set()
    if any(name.startswith("code/") for name in inside):
        return "torchscript"
    if network.suffix == ".pt2" or any(name.startswith("models/") for name in inside):
        return "pt2"
    if "data.pkl" in inside:
        msg = (
            f"{network} holds weights, or a pickled network, without the code that runs them. Where the "
            f"network is defined, write it whole: torch.jit.trace(network.eval(), tile).save('network.pt')"
        )
        raise ModelError(msg)
    msg = f"{network} is neither TorchScript (.pt) nor a .pt2, or is cut off; copy the whole file"
    raise ModelError(msg)


def import_model(
    network: Path,
    output: Path,
    *,
    compare: Compare,
    python: str | None = None,
    input_shape: Sequence[int] | None = None,
) -> ImportedModel:
    """Make a package of a PyTorch network; it appears whole or not at all.

    Args:
        network: TorchScript or .pt2. Both hold code that torch runs: import only what you trust.
        output: the folder to write; it must not exist.
        compare: how far the package's answer for a tile is from torch's.
        python: interpreter with torch; None: `BATCHSEG_TORCH_PYTHON`, else this one if it has it.
        input_shape: (N, C, H, W), -1 for what is free; None: all but the bands, which the first convolution
            shows. A .pt2 says it itself.

    Raises:
        ConfigError: a file, the interpreter or torch is missing, or the output exists.
        ModelError: the network cannot be loaded or written as ONNX, or answers otherwise there.
    """
    check_new(output)
    kind = kind_of(network)
    if input_shape is not None and (len(input_shape) != 4 or any(n == 0 or n < -1 for n in input_shape)):
        msg = f"an input shape is batch, bands, height and width, -1 for what is free; found {[*input_shape]}"
        raise ConfigError(msg)
    interpreter = find_python(python)
    with staging_beside(output) as staging:
        package = staging / "package"
        package.mkdir()
        request = {
            "network": str(network.absolute()),
            "kind": kind,
            "onnx": str((package / FILE).absolute()),
            "tile": str((staging / "tile.npz").absolute()),
            "input_shape": list(input_shape) if input_shape else None,
            "side": SIDE,
        }
        answer = run_script(_script(), interpreter, request, staging)
        with _said_of(network, package):
            read = read_model(str(package))
            apart = compare(read, staging / "tile.npz", network)
        package.rename(output)
    return ImportedModel(
        folder=output,
        kind=kind,
        parameters=answer["parameters"],
        input_shape=tuple(answer["shape"]),
        answers=tuple(tuple(shape) for shape in answer["answers"]),
        fixed_by_trace=answer["fixed_by_trace"],
        kept=answer["kept"],
        apart=apart,
        version=answer["torch"],
        digest=read.digest,
    )


@contextlib.contextmanager
def _said_of(network: Path, package: Path) -> Iterator[None]:
    """Errors that name the network: what is made of it lies in a folder that is gone when they are read."""
    try:
        yield
    except ModelError as e:
        lines = [str(line).replace(str(package / FILE), str(network)) for line in e.args]
        raise ModelError(*(line.replace(str(package), str(network)) for line in lines)) from e


def _script() -> Script:
    return Script(path=SCRIPT, package="torch", how_to_install=how_to_install(), timeout=TIMEOUT)


def find_python(named: str | None = None, *, environment: Mapping[str, str] = os.environ) -> str:
    """The interpreter that has torch.

    Raises:
        ConfigError: the one named does not exist, or none is named and this one has no torch.
    """
    for source, value in (("--python", named), (PYTHON_VARIABLE, environment.get(PYTHON_VARIABLE))):
        if value:
            return program_at(source, value, "torch")
    if all(importlib.util.find_spec(name) for name in ("torch", "onnx")):
        return sys.executable
    msg = "torch is not installed beside batchseg."
    raise ConfigError(msg, *how_to_install())


def how_to_install() -> tuple[str, ...]:
    """The commands that make an environment for torch, in lines."""
    return (
        "It gets an environment of its own, made once by:",
        "    python3 -m venv torch-env",
        f"    torch-env/bin/pip install -r {REQUIREMENTS}",
        f"    export {PYTHON_VARIABLE}=$PWD/torch-env/bin/python",
    )


def describe_imported(imported: ImportedModel) -> list[str]:
    """What was written, in lines for a person."""
    kind = {"torchscript": "TorchScript", "pt2": ".pt2"}[imported.kind]
    shape = " x ".join("free" if axis < 0 else str(axis) for axis in imported.input_shape)
    compared = "was not compared with torch, as ONNX Runtime is not installed here"
    if imported.apart is not None:
        compared = f"answers as torch does, to {imported.apart:.1g} of the largest value"
    lines = [
        f"{imported.folder}: {kind} of {imported.parameters:,} parameters, input {shape} (batch, "
        f"bands, height, width)",
        f"the ONNX file {compared}; made by torch {imported.version}",
    ]
    if imported.fixed_by_trace:
        lines.append(
            "its trace fixed height and width, as Python computed a size: pass image.shape[2:] on as it is"
        )
    if len(imported.answers) > 1:
        shapes = ", ".join(" x ".join(map(str, answer)) for answer in imported.answers)
        lines.append(f"the network gives {shapes}; number {imported.kept + 1} of them is kept")
    return [*lines, "nothing says how its input is normalised: the job's `normalize` and `scale` must"]

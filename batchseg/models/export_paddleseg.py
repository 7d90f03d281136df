"""`batchseg model export`: a PaddleSeg config and weights to a model package.

PaddleSeg runs in an interpreter of its own (`paddleseg_script.py`): paddleseg 2.8 asks for an OpenCV whose
code is for numpy 1, and batchseg needs numpy 2.
"""

import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from batchseg.errors import ConfigError
from batchseg.models.other_python import Script, check_new, program_at, run_script, staging_beside
from batchseg.models.reading import read_model

PYTHON_VARIABLE = "BATCHSEG_PADDLESEG_PYTHON"
"""Environment: the interpreter that has PaddleSeg."""

SCRIPT = Path(__file__).with_name("paddleseg_script.py")
REQUIREMENTS = Path(__file__).with_name("paddleseg-requirements.txt")

TIMEOUT = 1800.0
"""Seconds; the largest network tried (DeepLabV3P, ResNet50) takes 10."""

SEED = 1
"""Of random weights, so that two exports of one config give the same network."""

OutputOp = Literal["none", "softmax", "argmax"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedModel:
    """A package that `export_model` wrote and `read_model` accepted."""

    folder: Path
    network: str
    """PaddleSeg's name of the architecture."""
    parameters: int
    classes: int | None
    transforms: tuple[str, ...]
    """Names, in order."""
    output_op: OutputOp
    versions: str
    """Of paddleseg and paddle."""
    digest: str
    """sha256 of network and weights."""
    notes: tuple[str, ...]
    """What the config asks for and a package cannot say."""


def export_model(
    config: Path,
    weights: Path | None,
    output: Path,
    *,
    python: str | None = None,
    output_op: OutputOp = "none",
    input_shape: Sequence[int] | None = None,
    random_weights: bool = False,
    settings: Sequence[str] = (),
) -> ExportedModel:
    """Export a trained PaddleSeg network; the package appears whole or not at all.

    Args:
        config: a PaddleSeg config (.yml); `_base_` is followed.
        weights: its .pdparams. It is a pickle: load only what you trust.
        output: the folder to write; it must not exist.
        python: interpreter with PaddleSeg; None: `BATCHSEG_PADDLESEG_PYTHON`, else this one if it has it.
        output_op: what follows the network. With `argmax` the model gives class ids and no confidence.
        input_shape: a fixed (N, C, H, W); None: free batch, height and width.
        random_weights: instead of `weights`, for measuring speed.
        settings: KEY=VALUE, replacing keys of the config, such as model.num_classes=6.

    Raises:
        ConfigError: a file, the interpreter or PaddleSeg is missing, or the output exists.
        ModelError: the weights are another network's, the network cannot be exported, or batchseg cannot
            read what was written.
    """
    check_new(output)
    _check_arguments(config, weights, settings, input_shape=input_shape, random_weights=random_weights)
    interpreter = find_python(python)
    with staging_beside(output) as staging:
        package = staging / "package"
        package.mkdir()
        request = _request(
            config,
            weights,
            package,
            output_op=output_op,
            input_shape=input_shape,
            settings=settings,
        )
        answer = run_script(_script(), interpreter, request, staging)
        digest = read_model(str(package)).digest
        package.rename(output)
    return ExportedModel(
        folder=output,
        network=answer["network"],
        parameters=answer["parameters"],
        classes=answer["classes"],
        transforms=tuple(answer["transforms"]),
        output_op=output_op,
        versions=f"paddleseg {answer['paddleseg']}, paddle {answer['paddle']}",
        digest=digest,
        notes=tuple(answer["notes"]),
    )


def _request(
    config: Path,
    weights: Path | None,
    package: Path,
    *,
    output_op: OutputOp,
    input_shape: Sequence[int] | None,
    settings: Sequence[str],
) -> dict[str, Any]:
    """What paddleseg_script.py is asked; its paths are absolute, as it runs elsewhere."""
    return {
        "config": str(config.absolute()),
        "weights": str(weights.absolute()) if weights else None,
        "seed": SEED,
        "output": str(package.absolute()),
        "output_op": output_op,
        "input_shape": list(input_shape) if input_shape else None,
        "settings": list(settings),
    }


def _check_arguments(
    config: Path,
    weights: Path | None,
    settings: Sequence[str],
    *,
    input_shape: Sequence[int] | None,
    random_weights: bool,
) -> None:
    msg = None
    if not config.is_file():
        msg = f"{config} does not exist; expected a PaddleSeg config (.yml)"
    elif config.suffix not in (".yml", ".yaml"):
        msg = f"{config} is no PaddleSeg config (.yml)"
    elif wrong := [text for text in settings if text.count("=") != 1]:
        msg = f"a setting is KEY=VALUE, such as model.num_classes=6; found {wrong[0]!r}"
    elif weights is not None and not weights.is_file():
        msg = f"{weights} does not exist; expected PaddleSeg's weights (.pdparams)"
    elif (weights is None) != random_weights:
        msg = "give the weights (.pdparams), or ask for random ones; one of both"
    elif input_shape is not None and (len(input_shape) != 4 or min(input_shape) < 1):
        msg = f"an input shape is batch, bands, height and width; found {list(input_shape)}"
    if msg:
        raise ConfigError(msg)


def find_python(named: str | None = None, *, environment: Mapping[str, str] = os.environ) -> str:
    """The interpreter that has PaddleSeg.

    Raises:
        ConfigError: the one named does not exist, or none is named and this one has no PaddleSeg.
    """
    for source, value in (("--python", named), (PYTHON_VARIABLE, environment.get(PYTHON_VARIABLE))):
        if value:
            return program_at(source, value, "PaddleSeg")
    if importlib.util.find_spec("paddleseg") and importlib.util.find_spec("paddle"):
        return sys.executable
    msg = "PaddleSeg is not installed beside batchseg."
    raise ConfigError(msg, *how_to_install())


def how_to_install() -> tuple[str, ...]:
    """The commands that make an environment for PaddleSeg, in lines."""
    return (
        "It needs an environment of its own (numpy 1), made once by:",
        "    python3.11 -m venv paddleseg-env",
        f"    paddleseg-env/bin/pip install -r {REQUIREMENTS}",
        f"    export {PYTHON_VARIABLE}=$PWD/paddleseg-env/bin/python",
    )


def _script() -> Script:
    return Script(path=SCRIPT, package="PaddleSeg", how_to_install=how_to_install(), timeout=TIMEOUT)


def describe_exported(exported: ExportedModel) -> list[str]:
    """What was written, in lines for a person."""
    classes = f"{exported.classes} classes, " if exported.classes else ""
    gives = {
        "none": "scores, so that confidence is possible",
        "softmax": "probabilities, so that confidence is possible",
        "argmax": "class ids: no confidence",
    }[exported.output_op]
    return [
        f"{exported.folder}: {exported.network}, {classes}{exported.parameters:,} parameters",
        f"transforms: {', '.join(exported.transforms) or 'none'}",
        f"it gives {gives}",
        f"made by {exported.versions}",
        *(f"note: {note}" for note in exported.notes),
    ]

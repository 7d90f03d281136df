"""`batchseg model export`: a PaddleSeg config and weights to a model package.

PaddleSeg runs in an interpreter of its own (`paddleseg_script.py`): paddleseg 2.8 asks for an OpenCV whose
code is for numpy 1, and batchseg needs numpy 2.
"""

import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from batchseg.errors import ConfigError, ModelError
from batchseg.models.reading import read_model
from batchseg.system.json_text import parse_json

PYTHON_VARIABLE = "BATCHSEG_PADDLESEG_PYTHON"
"""Environment: the interpreter that has PaddleSeg."""

SCRIPT = Path(__file__).with_name("paddleseg_script.py")
REQUIREMENTS = Path(__file__).with_name("paddleseg-requirements.txt")

TIMEOUT = 1800.0
"""Seconds; the largest network tried (DeepLabV3P, ResNet50) takes 10."""

LOG_LINES = 15
"""Of a failed export's log, in the message."""

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
    _check_output(output)
    _check_arguments(config, weights, settings, input_shape=input_shape, random_weights=random_weights)
    interpreter = find_python(python)
    with _staging_beside(output) as staging:
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
        answer = _run_paddleseg(interpreter, request, staging)
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


@contextlib.contextmanager
def _staging_beside(output: Path) -> Iterator[Path]:
    """A folder on the output's own disk, so that what is made in it can be renamed into place."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    except OSError as e:
        msg = f"cannot write {output}: {e.strerror}"
        raise ConfigError(msg) from e
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


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


def _check_output(output: Path) -> None:
    if output.exists() or output.is_symlink():
        msg = f"{output} exists; name a folder that does not"
        raise ConfigError(msg)


def find_python(named: str | None = None, *, environment: Mapping[str, str] = os.environ) -> str:
    """The interpreter that has PaddleSeg.

    Raises:
        ConfigError: the one named does not exist, or none is named and this one has no PaddleSeg.
    """
    for source, value in (("--python", named), (PYTHON_VARIABLE, environment.get(PYTHON_VARIABLE))):
        if value:
            found = shutil.which(value)
            if found is None:
                msg = f"{source}: {value} is no program; expected the Python interpreter that has PaddleSeg"
                raise ConfigError(msg)
            return found
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


def _run_paddleseg(python: str, request: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What the script answers; what Paddle prints is shown only if there is no answer."""
    asked, answered, log = folder / "request.json", folder / "answer.json", folder / "log"
    asked.write_text(json.dumps(request), encoding="utf-8")
    # A copy, alone in its folder: Python looks for modules beside a script first, and would find ours.
    script = shutil.copyfile(SCRIPT, folder / SCRIPT.name)
    with log.open("wb") as stream:
        try:
            process = subprocess.run(  # noqa: S603  the user's interpreter, and our own script
                [python, "-W", "ignore", str(script), str(asked), str(answered)],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=_environment(),
                timeout=TIMEOUT,
                check=False,
            )
            ending = f"ended with status {process.returncode}"
        except subprocess.TimeoutExpired:
            ending = f"gave no answer within {TIMEOUT:.0f} s"
        except OSError as e:
            msg = f"cannot run {python}: {e.strerror}"
            raise ConfigError(msg) from e
    answer = _answer(answered)
    if answer is None:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
        msg = f"PaddleSeg in {python} {ending}, without an answer"
        raise ModelError(msg, *(f"    {line}" for line in lines))
    if answer.get("cause") == "environment":
        msg = f"{python}: {answer['error']}"
        raise ConfigError(msg, *how_to_install())
    if "error" in answer:
        raise (ConfigError if answer["cause"] == "config" else ModelError)(answer["error"])
    return answer


def _environment() -> dict[str, str]:
    """Of another interpreter: what points this one to its packages would lead that one astray."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}


def _answer(path: Path) -> dict[str, Any] | None:
    try:
        answer = parse_json(path.read_bytes())
    except (OSError, ValueError):
        return None
    return answer if isinstance(answer, dict) else None


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

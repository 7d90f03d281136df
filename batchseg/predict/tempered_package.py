"""A model's package with a temperature in its graph."""

import shutil
from pathlib import Path
from typing import Any

import yaml

from batchseg.engines.graphs.derive import ONNX_FILE
from batchseg.engines.graphs.temperature import temper_onnx, temper_paddle
from batchseg.errors import ConfigError, ModelError
from batchseg.job.recipe import Recipe
from batchseg.models.deploy import DEPLOY_FILES
from batchseg.models.package import ModelPackage
from batchseg.models.reading import read_model
from batchseg.predict.temperature import Calibration
from batchseg.system.processes import ProcessDiedError, call_in_fresh_process
from batchseg.system.yaml_text import read_yaml

TIMEOUT = 600.0
"""Seconds; a second and the import of paddle are usual."""

KEY = "calibration"
"""Of deploy.yaml: what was found, for people; the graph has it."""


def check_temperable(package: ModelPackage) -> None:
    """Raises ModelError where a temperature cannot be written into a network."""
    reason = None
    if package.encrypted:
        reason = "is encrypted: calibrate first, then encrypt"
    elif package.origin == "baked" or package.output == "classes":
        reason = "gives classes and no scores; calibrate the network that it was made of"
    elif package.output == "values":
        reason = "gives numbers, and no probabilities that could be calibrated"
    elif package.format == "openvino":
        reason = "is OpenVINO's own file; calibrate the ONNX file that it was made of"
    elif package.format == "pdmodel":
        reason = "is a .pdmodel program of Paddle 2, which cannot be written anew; export it with Paddle 3"
    if reason:
        msg = f"model: {package.network} {reason}"
        raise ModelError(msg)


def write_tempered(recipe: Recipe, found: Calibration, folder: Path) -> ModelPackage:
    """Write the package and read it back. What describes it is copied.

    Args:
        recipe: of the model.
        found: its temperature.
        folder: created; must not exist.

    Raises:
        ConfigError: the folder exists or cannot be made.
        ModelError: the network cannot be written anew.
    """
    package, kind, layout = recipe.model, recipe.facts.output, recipe.facts.output_layout
    check_temperable(package)
    try:
        folder.mkdir(parents=True)
    except OSError as e:
        msg = f"{folder}: {e.strerror}; name a folder that does not exist"
        raise ConfigError(msg) from e
    network = Path(package.network)
    if package.format == "onnx":
        temper_onnx(network, folder / ONNX_FILE, found.temperature, kind, layout)
    else:
        try:
            call_in_fresh_process(
                temper_paddle,
                package,
                folder / network.stem,
                found.temperature,
                kind,
                layout,
                timeout=TIMEOUT,
            )
        except ProcessDiedError as e:
            msg = f"model: the process that wrote {network} anew {e}"
            raise ModelError(msg) from e
    _copy_descriptions(network, folder, _said(found))
    return read_model(str(folder))


def _said(found: Calibration) -> dict[str, Any]:
    return {
        "temperature": round(found.temperature, 4),
        "images": found.fitted,
        "expected_error_before": round(found.before.error, 4),
        "expected_error_after": round(found.after.error, 4),
    }


def _copy_descriptions(network: Path, folder: Path, said: dict[str, Any]) -> None:
    for name in DEPLOY_FILES:
        if (network.parent / name).is_file():
            deploy = read_yaml(network.parent / name)
            deploy["Deploy"][KEY] = said
            (folder / name).write_text(yaml.safe_dump(deploy, sort_keys=False), encoding="utf-8")
    for item in network.parent.glob("*.json"):
        if item != network:  # of STAC, with what the model was made for
            shutil.copyfile(item, folder / item.name)

"""`batchseg model bake`: a package whose graph takes uint8 pixels and gives ids, for other programs too."""

from pathlib import Path

from batchseg.engines.graphs.bake_onnx import add_metadata, bake_onnx
from batchseg.engines.graphs.bake_paddle import STEM, bake
from batchseg.engines.graphs.derive import ONNX_FILE
from batchseg.errors import ConfigError, ModelError
from batchseg.job.resolve import DEFAULT_TILE_SIZE
from batchseg.models.deploy import baked_deploy
from batchseg.models.onnx_file import baked_metadata
from batchseg.models.package import Bake, ModelPackage, Normalize
from batchseg.models.reading import read_model
from batchseg.predict.probe import probe


def rebake(package: ModelPackage, folder: Path, *, confidence: bool) -> ModelPackage:
    """Write the baked package and read it back.

    Args:
        package: a model that says how its input is normalised.
        folder: created; must not exist.
        confidence: whether a second output gives 255 x the winning class's probability.

    Raises:
        ModelError: the model cannot be baked, and why.
        ConfigError: the folder exists or cannot be made.
    """
    if package.format == "openvino":
        msg = f"model: {package.network} is OpenVINO's: nothing is baked into it; bake the ONNX file"
        raise ModelError(msg)
    _check(package, confidence)
    height, _ = package.size_hw
    facts, _ = probe(package, channels=None, tile_size=height or DEFAULT_TILE_SIZE, device="cpu")
    if confidence and facts.output == "classes":
        msg = f"model: {package.network} has argmax baked in and gives no scores, hence no confidence"
        raise ModelError(msg)
    normalize = package.normalize or Normalize(mean=(0.0,), std=(1 / 255,))
    what = Bake(
        pixels="uint8",
        mean=_per_band(normalize.mean, facts.channels),
        std=_per_band(normalize.std, facts.channels),
        output=facts.output,
        output_layout=facts.output_layout,
        threshold=package.threshold,
        confidence=confidence,
    )
    try:
        folder.mkdir(parents=True)
    except OSError as e:
        msg = f"{folder}: {e.strerror}; name a folder that does not exist"
        raise ConfigError(msg) from e
    if package.format == "onnx":
        bake_onnx(package.network, what, package.layout, folder / ONNX_FILE)
        add_metadata(
            folder / ONNX_FILE, baked_metadata(confidence_output=confidence, classes=package.classes)
        )
        return read_model(str(folder))
    bake(package, what, folder)
    small = facts.output != "classes" and (facts.class_count or 256) <= 255
    text = baked_deploy(
        network=f"{STEM}.json",
        params=f"{STEM}.pdiparams",
        bands=facts.channels,
        confidence_output=confidence,
        classes=package.classes,
        output_dtype="uint8" if small else "int32",
    )
    (folder / "deploy.yaml").write_text(text, encoding="utf-8")
    return read_model(str(folder))


def _check(package: ModelPackage, confidence: bool) -> None:
    reason = None
    if package.encrypted:
        reason = "is encrypted: bake first, then encrypt"
    elif package.origin == "baked":
        reason = "is baked already"
    elif package.geometry:
        reason = f"asks for {type(package.geometry[0]).__name__}, which stays outside of the graph"
    elif package.dtype != "float32":
        reason = f"takes {package.dtype}, not float32"
    elif not package.declares_transforms:
        reason = "does not say how its input is normalised; write it a deploy.yaml"
    if reason:
        msg = f"model: {package.network} {reason}"
        raise ModelError(msg)


def _per_band(values: tuple[float, ...], count: int) -> tuple[float, ...]:
    """PaddleSeg's Normalize without keys is 0.5 for every band."""
    values = values or (0.5,)
    return values * count if len(values) == 1 else values

"""A model directory as its files say: network, weights, pre-processing, digest. Nothing is run here."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from batchseg.config import Normalize
from batchseg.errors import ModelError

DEPLOY_FILES = ("deploy.yaml", "inference.yml", "inference.yaml")
"""PaddleSeg's and PaddleX's names of the file that an export writes beside the network."""

PIR_MAGIC = b'"magic":"pir"'


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """An exported Paddle inference model."""

    directory: str
    network: str
    """Path of the `.json` (PIR) or `.pdmodel` file."""
    params: str
    digest: str
    """sha256 of network and params."""
    normalize: Normalize | None
    """From the deploy file's transforms. Empty mean and std: PaddleSeg's default of 0.5 for every band."""
    has_transforms: bool
    """Whether a deploy file says what pre-processing the model wants."""
    input_channels: int | None
    """From the deploy file; None where the export left it open."""


def read_model(directory: str) -> ModelFiles:
    """Find and check the files of a model directory.

    Raises:
        ModelError: files are missing or of another kind, or a transform is not known.
    """
    folder = Path(directory)
    if not folder.is_dir():
        what = "is a file; give its folder" if folder.exists() else "does not exist"
        msg = f"model: {directory} {what}; expected a folder with model.json or model.pdmodel and its .pdiparams"
        raise ModelError(msg)
    deploy_path = next((folder / name for name in DEPLOY_FILES if (folder / name).is_file()), None)
    deploy = _read_deploy(deploy_path) if deploy_path else {}
    network = _network(folder, deploy)
    params = network.with_suffix(".pdiparams")
    if not params.is_file():
        msg = f"model: {network.name} is there but {params.name} is missing in {directory}; copy the whole export"
        raise ModelError(msg)
    if network.suffix == ".json" and PIR_MAGIC not in network.read_bytes()[:200].replace(b" ", b""):
        msg = (
            f"model: {network} is not a Paddle PIR program; export the model with PaddleSeg's tools/export.py"
        )
        raise ModelError(msg)
    if network.stat().st_size == 0:
        msg = f"model: {network} is empty"
        raise ModelError(msg)
    return ModelFiles(
        directory=str(folder),
        network=str(network),
        params=str(params),
        digest=_digest(network, params),
        normalize=_normalize(deploy.get("transforms"), deploy_path) if deploy_path else None,
        has_transforms=deploy_path is not None,
        input_channels=_channels(deploy.get("input_shape")),
    )


def _read_deploy(path: Path) -> dict[str, Any]:
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as e:
        msg = f"model: cannot read {path}: {e}"
        raise ModelError(msg) from e
    if not isinstance(loaded, dict) or not isinstance(loaded.get("Deploy"), dict):
        msg = f"model: {path} has no section Deploy; it is not what PaddleSeg's export writes"
        raise ModelError(msg)
    deploy: dict[str, Any] = loaded["Deploy"]
    return deploy


def _network(folder: Path, deploy: dict[str, Any]) -> Path:
    """The deploy file names `.pdmodel` even where Paddle 3 wrote `.json`: the stem counts."""
    stems = [Path(str(deploy["model"])).stem] if deploy.get("model") else []
    stems += sorted({path.stem for path in folder.glob("*.pdiparams")})
    for stem in stems:
        for suffix in (".json", ".pdmodel"):
            if (folder / (stem + suffix)).is_file():
                return folder / (stem + suffix)
    candidates = sorted([*folder.glob("*.json"), *folder.glob("*.pdmodel")])
    if len(candidates) == 1:
        return candidates[0]
    found = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
    msg = f"model: no network in {folder}; expected NAME.json or NAME.pdmodel with NAME.pdiparams, found {found}"
    raise ModelError(msg)


def _normalize(transforms: Any, path: Path) -> Normalize | None:
    if transforms is None:
        transforms = []
    known = None
    for item in transforms:
        kind = item.get("type") if isinstance(item, dict) else item
        if kind != "Normalize":
            msg = (
                f"model: {path} asks for the transform {kind!r}; batchseg knows Normalize. Export the model "
                f"without it, or remove it there if tiles of the job's tile_size need no such step"
            )
            raise ModelError(msg)
        known = Normalize(mean=tuple(item.get("mean", ())), std=tuple(item.get("std", ())))
    return known


def _channels(input_shape: Any) -> int | None:
    if isinstance(input_shape, list) and len(input_shape) == 4 and isinstance(input_shape[1], int):
        return input_shape[1] if input_shape[1] > 0 else None
    return None


def _digest(*paths: Path) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as f:
            while chunk := f.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What one probe tile showed of a network."""

    output: Literal["classes", "logits", "probabilities", "sigmoid"]
    """classes: integer ids (N, H, W). logits, probabilities: (N, K, H, W). sigmoid: (N, 1, H, W) in 0..1."""
    class_count: int | None
    """None where the network gives ids: the probe cannot know the highest one."""
    channels: int
    cpu_class: str
    """Instruction set that decides the last bits: masks of two classes are never mixed in one scene."""
    engine: str
    """Name and version."""
    seconds_per_tile: float

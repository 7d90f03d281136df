"""A model directory as its files say: network, weights, pre-processing, digest. Nothing is run here."""

import hashlib
import math
from pathlib import Path
from typing import Any

import yaml

from batchseg.errors import ModelError
from batchseg.package import ModelPackage
from batchseg.settings import Normalize

DEPLOY_FILES = ("deploy.yaml", "inference.yml", "inference.yaml")
"""PaddleSeg's and PaddleX's names of the file that an export writes beside the network."""

PIR_MAGIC = b'"magic":"pir"'


def read_model(directory: str) -> ModelPackage:
    """Find and check the files of a model directory.

    Raises:
        ModelError: files are missing or of another kind, or a transform is not known.
    """
    folder = Path(directory)
    if not folder.is_dir():
        what = "is a file; give its folder" if folder.exists() else "does not exist"
        msg = f"model: {directory} {what}; expected a folder with NAME.json or .pdmodel and NAME.pdiparams"
        raise ModelError(msg)
    deploy_path = next((folder / name for name in DEPLOY_FILES if (folder / name).is_file()), None)
    loaded = _read_yaml(deploy_path) if deploy_path else {}
    deploy = loaded.get("Deploy") if isinstance(loaded, dict) else None
    network = _network(folder, deploy if isinstance(deploy, dict) else {})
    params = network.with_suffix(".pdiparams")
    _check_files(network, params)
    if deploy_path and not isinstance(deploy, dict):
        msg = f"model: {deploy_path} has no section Deploy; it is not what PaddleSeg's export writes"
        raise ModelError(msg)
    deploy = deploy or {}
    return ModelPackage(
        path=str(folder),
        origin="paddleseg",
        format="pir" if network.suffix == ".json" else "pdmodel",
        network=str(network),
        params=str(params),
        digest=_digest(network, params),
        normalize=_normalize(deploy.get("transforms"), deploy_path) if deploy_path else None,
        declares_transforms=deploy_path is not None,
        bands=_channels(deploy.get("input_shape")),
    )


def _read_yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as e:
        msg = f"model: cannot read {path}: {e}"
        raise ModelError(msg) from e


def _check_files(network: Path, params: Path) -> None:
    if not params.is_file():
        msg = f"model: {params.name} is missing beside {network}; copy the whole export"
        raise ModelError(msg)
    if network.stat().st_size == 0:
        msg = f"model: {network} is empty; copy the whole export"
        raise ModelError(msg)
    if network.suffix == ".json" and PIR_MAGIC not in network.read_bytes()[:200].replace(b" ", b""):
        msg = (
            f"model: {network} is not a Paddle PIR program; export the model with PaddleSeg's tools/export.py"
        )
        raise ModelError(msg)
    if not _params_are_whole(params):
        msg = f"model: {params} is cut off or holds something else; copy the whole export"
        raise ModelError(msg)


# Bytes of an element by Paddle's VarType.Type (framework.proto): bool, int16, int32, int64, fp16, fp32,
# fp64, uint8, int8, bf16, complex64, complex128.
_ELEMENT_BYTES = {0: 1, 1: 2, 2: 4, 3: 8, 4: 2, 5: 4, 6: 8, 20: 1, 21: 1, 22: 2, 23: 8, 24: 16}


def _params_are_whole(path: Path) -> bool:
    """Walk the tensors of a .pdiparams file: the last one must end where the file does.

    Paddle 3.2.2 loads a file that is cut off in its last tensor without a word, and predicts with
    whatever it finds in memory. Each tensor is: version u32, LoD levels u64 (0), version u32,
    length i32 of a TensorDesc message, that message, the elements.
    """
    with path.open("rb") as f:
        size = path.stat().st_size
        while f.tell() < size:
            head = f.read(12)
            if len(head) < 12:
                return False
            levels = int.from_bytes(head[4:], "little")
            if levels:
                return False  # weights have none
            lengths = f.read(8)
            message_bytes = int.from_bytes(lengths[4:], "little")
            if message_bytes > 1024:
                return False
            message = f.read(message_bytes)
            kind, elements = _tensor_desc(message)
            if kind not in _ELEMENT_BYTES:
                return kind >= 0  # a type that this walk does not know: Paddle decides
            if elements * _ELEMENT_BYTES[kind] > size:
                return False
            f.seek(elements * _ELEMENT_BYTES[kind], 1)
        return f.tell() == size


def _tensor_desc(message: bytes) -> tuple[int, int]:
    """Type and number of elements of a TensorDesc (field 1: type, field 2: dims, packed or not)."""
    values: list[int] = []
    number = shift = 0
    for byte in message:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            values.append(number)
            number = shift = 0
    if len(values) < 2 or values[0] != 8:
        return -1, 0
    rest, dims = values[2:], []
    if rest[:1] == [0x12]:
        dims = rest[2:]
    elif all(tag == 0x10 for tag in rest[::2]):
        dims = rest[1::2]
    return values[1], math.prod(dims)


def _network(folder: Path, deploy: dict[str, Any]) -> Path:
    """The deploy file names `.pdmodel` even where Paddle 3 wrote `.json`: the stem counts."""
    stems = [Path(str(deploy["model"])).stem] if deploy.get("model") else []
    weights = sorted({path.stem for path in folder.glob("*.pdiparams")})
    if not stems and len(weights) > 1:
        msg = f"model: {folder} holds several networks ({', '.join(weights)}); give each a folder of its own"
        raise ModelError(msg)
    stems += weights
    for stem in stems:
        for suffix in (".json", ".pdmodel"):
            if (folder / (stem + suffix)).is_file():
                return folder / (stem + suffix)
    candidates = sorted([*folder.glob("*.json"), *folder.glob("*.pdmodel")])
    if len(candidates) == 1:
        return candidates[0]
    found = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
    expected = "NAME.json or NAME.pdmodel, and NAME.pdiparams"
    msg = f"model: no network in {folder}; expected {expected}; found {found}"
    raise ModelError(msg)


def _normalize(transforms: Any, path: Path) -> Normalize | None:
    if transforms is None:
        transforms = []
    known = None
    for item in transforms:
        kind = item.get("type") if isinstance(item, dict) else item
        if kind != "Normalize" or not isinstance(item, dict):
            msg = (
                f"model: {path} asks for the transform {kind!r}; batchseg knows Normalize. Export the model "
                f"without it, or remove it there if tiles of the job's tile_size need no such step"
            )
            raise ModelError(msg)
        mean, std = item.get("mean", []), item.get("std", [])
        if not all(isinstance(v, list) and all(isinstance(x, int | float) for x in v) for v in (mean, std)):
            msg = f"model: {path}: Normalize wants lists of numbers for mean and std, found {mean!r}, {std!r}"
            raise ModelError(msg)
        known = Normalize(mean=tuple(mean), std=tuple(std))
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

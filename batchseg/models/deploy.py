"""deploy.yaml and inference.yml: what an export says of its network, in every version's form.

PaddleSeg 2.6 writes model, params and transforms; 2.8 and 2.9 also input_shape, output_op and
output_dtype; PaddleX 3 the same under another name, with Global and Hpi. `batchseg model bake` writes the
keys of `baked_deploy`.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeGuard, get_args

import yaml

from batchseg.errors import ModelError
from batchseg.models.package import LARGEST_AXIS, PALETTE, ClassInfo, Declaration, Layout, OutputKind
from batchseg.models.transforms import read_transforms
from batchseg.system.excerpt import excerpt
from batchseg.system.yaml_text import read_yaml

DEPLOY_FILES = ("deploy.yaml", "inference.yml", "inference.yaml", "deploy.yml")
"""PaddleSeg's and PaddleX's names of the file that an export writes beside the network."""

OUTPUT_OPS: dict[str, OutputKind] = {"argmax": "classes", "softmax": "probabilities", "none": "logits"}
"""What PaddleSeg's export can append to a network."""

LONGEST_NAME = 255
"""File systems take no longer ones."""

BAKED_BY = "batchseg"

Shape = tuple[int | None, int | None, int | None, int | None]


def named_stem(path: Path) -> str | None:
    """The stem of the network's files, if the deploy file names one.

    Raises:
        ModelError: it cannot be read.
    """
    loaded = _read_yaml(path)
    deploy = loaded.get("Deploy") if isinstance(loaded, dict) else None
    named = deploy.get("model") if isinstance(deploy, dict) else None
    if named is not None and (not isinstance(named, str) or len(named) > LONGEST_NAME):
        msg = f"model: {path}: model is {excerpt(named)}; expected the name of the network's file"
        raise ModelError(msg)
    return Path(named).stem if named else None


def read_deploy(path: Path) -> Declaration:
    """What a deploy file says.

    Raises:
        ModelError: the file is of another kind, or a value in it has another form.
    """
    loaded = _read_yaml(path)
    deploy = loaded.get("Deploy") if isinstance(loaded, dict) else None
    if not isinstance(deploy, dict):
        msg = f"model: {path} has no section Deploy; it is not what PaddleSeg's export writes"
        if isinstance(loaded, dict) and ("PreProcess" in loaded or "Preprocess" in loaded):
            msg = f"model: {path} is of another task: it has PreProcess, and no section Deploy"
        raise ModelError(msg)
    geometry, normalize = read_transforms(deploy.get("transforms"), str(path))
    names = loaded.get("Global")
    model_name = names.get("model_name") if isinstance(names, dict) else None
    return Declaration(
        origin=_origin(path, deploy),
        declares_transforms="transforms" in deploy,
        geometry=geometry,
        normalize=normalize,
        layout=_choice(deploy, "input_layout", get_args(Layout), path),
        shape=_shape(deploy.get("input_shape"), path),
        dtype=deploy.get("input_dtype"),
        output=OUTPUT_OPS.get(_choice(deploy, "output_op", tuple(OUTPUT_OPS), path)),
        confidence_output=deploy.get("confidence_output") is True,
        classes=read_classes(deploy.get("classes"), str(path)),
        model_name=model_name if model_name and isinstance(model_name, str) else None,
    )


def _origin(path: Path, deploy: dict[str, Any]) -> Literal["paddleseg", "paddlex", "baked"]:
    if deploy.get("baked_by") == BAKED_BY:
        return "baked"
    return "paddlex" if path.stem == "inference" else "paddleseg"


def _read_yaml(path: Path) -> Any:
    try:
        return read_yaml(path)
    except OSError as e:
        msg = f"model: cannot read {path}: {e.strerror}"
        raise ModelError(msg) from e
    except ValueError as e:
        msg = f"model: cannot read {path}: {' '.join(str(e).split())}"
        raise ModelError(msg) from e


def _choice(deploy: dict[str, Any], key: str, known: tuple[Any, ...], path: Path) -> Any:
    value = deploy.get(key)
    if value is not None and value not in known:
        msg = f"model: {path}: {key} is {excerpt(value)}; expected {' or '.join(known)}"
        raise ModelError(msg)
    return value


def _shape(value: Any, path: Path) -> Shape | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 4 or not all(_is_axis(v) for v in value):
        msg = (
            f"model: {path}: input_shape is {excerpt(value)}; expected four whole numbers of at most "
            f"{LARGEST_AXIS:,}, -1 where the size is free"
        )
        raise ModelError(msg)
    n, a, b, c = (v if v is not None and v > 0 else None for v in value)
    return n, a, b, c


def _is_axis(value: Any) -> bool:
    return value is None or (type(value) is int and value <= LARGEST_AXIS)


def read_classes(value: Any, where: str) -> tuple[ClassInfo, ...]:
    """Names and colours in order of the ids; a name alone gets a colour of the palette.

    Args:
        value: a list of names or of {name, color}; None counts as an empty one.
        where: the file, for messages.

    Raises:
        ModelError: it has another form.
    """
    if not isinstance(value, list | None):
        msg = f"model: {where}: classes wants a list of names, or of name and color, found {excerpt(value)}"
        raise ModelError(msg)
    return tuple(_class(number, item, where) for number, item in enumerate(value or []))


def _class(number: int, item: Any, where: str) -> ClassInfo:
    name = item.get("name") if isinstance(item, dict) else item
    color = item.get("color") if isinstance(item, dict) else None
    color = color or PALETTE[number % len(PALETTE)]
    if not (_is_name(name) and isinstance(color, str) and re.fullmatch("#[0-9a-fA-F]{6}", color)):
        msg = (
            f"model: {where}: class {number} is {excerpt(item)}; expected a name without control characters, "
            f"or name and color (#rrggbb)"
        )
        raise ModelError(msg)
    return ClassInfo(name=name, color=color.lower())


def _is_name(value: Any) -> TypeGuard[str]:
    """What tables in UTF-8 and XML can hold."""
    return isinstance(value, str) and re.fullmatch("[^\\x00-\\x1f\\ud800-\\udfff]+", value) is not None


def baked_deploy(
    *,
    network: str,
    params: str,
    bands: int | None,
    confidence_output: bool,
    classes: Sequence[ClassInfo] = (),
    output_dtype: Literal["uint8", "int32"] = "uint8",
) -> str:
    """The text of the deploy.yaml of a network that takes raw uint8 NHWC pixels and gives ids.

    Args:
        network: name of the network's file.
        params: name of the weights' file.
        bands: of the input; None: not known.
        confidence_output: a second output holds uint8 confidences.
        classes: names and colours, by id.
        output_dtype: of the ids.
    """
    deploy: dict[str, Any] = {
        "baked_by": BAKED_BY,
        "model": network,
        "params": params,
        "transforms": [],
        "input_dtype": "uint8",
        "input_layout": "NHWC",
        "input_shape": [-1, -1, -1, bands or -1],
        "output_op": "argmax",
        "output_dtype": output_dtype,
        "confidence_output": confidence_output,
    }
    if classes:
        deploy["classes"] = [{"name": info.name, "color": info.color} for info in classes]
    return yaml.safe_dump({"Deploy": deploy}, sort_keys=False, allow_unicode=True)

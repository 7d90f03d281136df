"""deploy.yaml and inference.yml: what an export says of its network, in every version's form.

PaddleSeg 2.6 writes model, params and transforms; 2.8 and 2.9 also input_shape, output_op and
output_dtype; PaddleX 3 the same under another name, with Global and Hpi. `batchseg model bake` writes the
keys of `baked_deploy`.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from batchseg.errors import ModelError
from batchseg.models.package import PALETTE, ClassInfo, Declaration, Layout, OutputKind
from batchseg.models.transforms import read_transforms

DEPLOY_FILES = ("deploy.yaml", "inference.yml", "inference.yaml", "deploy.yml")
"""PaddleSeg's and PaddleX's names of the file that an export writes beside the network."""

OUTPUT_OPS: dict[str, OutputKind] = {"argmax": "classes", "softmax": "probabilities", "none": "logits"}
"""What PaddleSeg's export can append to a network."""

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
    return Path(str(named)).stem if named else None


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
    return Declaration(
        origin=_origin(path, deploy),
        declares_transforms="transforms" in deploy,
        geometry=geometry,
        normalize=normalize,
        layout=_choice(deploy, "input_layout", get_args(Layout), path),
        shape=_shape(deploy.get("input_shape"), path),
        dtype=deploy.get("input_dtype"),
        output=_output(deploy.get("output_op"), path),
        confidence_output=deploy.get("confidence_output") is True,
        classes=read_classes(deploy.get("classes"), str(path)),
        model_name=str(names["model_name"]) if isinstance(names, dict) and names.get("model_name") else None,
    )


def _origin(path: Path, deploy: dict[str, Any]) -> Literal["paddleseg", "paddlex", "baked"]:
    if deploy.get("baked_by") == BAKED_BY:
        return "baked"
    return "paddlex" if path.stem == "inference" else "paddleseg"


def _read_yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as e:
        msg = f"model: cannot read {path}: {' '.join(str(e).split())}"
        raise ModelError(msg) from e


def _choice(deploy: dict[str, Any], key: str, known: tuple[Any, ...], path: Path) -> Any:
    value = deploy.get(key)
    if value is not None and value not in known:
        msg = f"model: {path}: {key} is {value!r}; expected {' or '.join(known)}"
        raise ModelError(msg)
    return value


def _output(value: Any, path: Path) -> OutputKind | None:
    if value is None:
        return None
    if value not in OUTPUT_OPS:
        msg = f"model: {path}: output_op is {value!r}; expected {', '.join(OUTPUT_OPS)}"
        raise ModelError(msg)
    return OUTPUT_OPS[value]


def _shape(value: Any, path: Path) -> Shape | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 4 or not all(isinstance(v, int | None) for v in value):
        msg = (
            f"model: {path}: input_shape is {value!r}; expected four whole numbers, -1 where the size is free"
        )
        raise ModelError(msg)
    n, a, b, c = (v if v is not None and v > 0 else None for v in value)
    return n, a, b, c


def read_classes(value: Any, where: str) -> tuple[ClassInfo, ...]:
    """Names and colours in order of the ids; a name alone gets a colour of the palette.

    Args:
        value: a list of names or of {name, color}; None counts as an empty one.
        where: the file, for messages.

    Raises:
        ModelError: it has another form.
    """
    if not isinstance(value, list | None):
        msg = f"model: {where}: classes wants a list of names, or of name and color, found {value!r}"
        raise ModelError(msg)
    return tuple(_class(number, item, where) for number, item in enumerate(value or []))


def _class(number: int, item: Any, where: str) -> ClassInfo:
    name = item.get("name") if isinstance(item, dict) else item
    color = item.get("color") if isinstance(item, dict) else None
    color = color or PALETTE[number % len(PALETTE)]
    if not isinstance(name, str) or not isinstance(color, str) or not re.fullmatch("#[0-9a-fA-F]{6}", color):
        msg = f"model: {where}: class {number} is {item!r}; expected a name, or name and color (#rrggbb)"
        raise ModelError(msg)
    return ClassInfo(name=name, color=color.lower())


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

"""An ONNX file: what its graph says, and what its metadata says, the Deepness plugin's keys among it.

Deepness (https://qgis-plugin-deepness.readthedocs.io, "Adding metadata to ONNX model") is the QGIS plugin
for ONNX networks; each of its values is JSON.
"""

import ast
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from batchseg.errors import ModelError
from batchseg.models import onnx_weights
from batchseg.models.deploy import read_classes
from batchseg.models.encryption import ENCRYPTED
from batchseg.models.own_size import onnx_reading, own_shape
from batchseg.models.package import ClassInfo, Declaration, Layout, Normalize, OutputKind, Signature
from batchseg.models.training_mode import check_inference
from batchseg.models.transforms import LARGEST_NUMBER, LARGEST_SIDE
from batchseg.system.excerpt import excerpt
from batchseg.system.json_text import parse_json

BATCHSEG_KEY = "batchseg"
"""Metadata of batchseg's own: one JSON object, see `read_metadata`."""

MAX_BANDS = 32
"""A fixed axis up to this long can be the bands."""

LITERAL_CHARACTERS = 2**16
"""Of a text that is taken for a Python literal: the compiler takes memory and time for a long one."""

TYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    5: "int16",
    6: "int32",
    7: "int64",
    10: "float16",
    11: "float64",
}
"""onnx.TensorProto.DataType."""

QUANTIZERS = ("QuantizeLinear", "DequantizeLinear", "QLinear", "ConvInteger", "MatMulInteger")

ANOMALY_MAP = "anomaly_map"
"""What anomalib 2 calls the map among its outputs: pred_score, pred_label, anomaly_map, pred_mask."""

ENDS: dict[str, OutputKind] = {"Softmax": "probabilities", "ArgMax": "classes", "Sigmoid": "sigmoid"}

PASSING = frozenset({"Cast", "Identity", "Squeeze", "Transpose", "Unsqueeze"})
"""Operators that leave open what their input was."""


def read_onnx(
    content: bytes, path: Path, output_name: str | None = None
) -> tuple[Signature, Declaration, str, str | None]:
    """What an ONNX file says.

    Args:
        content: of the file, decrypted.
        path: of the file; weights that lie outside it are looked for beside it.
        output_name: of the output that counts; None: ANOMALY_MAP where it is one of several, else the first.

    Returns:
        What the graph says, what the metadata say, the sha256 of the file and of such weights, and the name
        of the output that counts, where that is not the first.

    Raises:
        ModelError: it is no whole ONNX file, or no segmentation network, or works as in training; or onnx
            is not installed.
    """
    model = _parse(content, path)
    digest = hashlib.sha256(content)
    outside = onnx_weights.external_files(model, path)
    if outside and path.suffix == ENCRYPTED:
        msg = f"model: {path} is encrypted and keeps weights in {outside[0]}, which are not; encrypt one file"
        raise ModelError(msg)
    for name in outside:
        with (path.parent / name).open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    check_inference(model, path)
    output = _chosen_output(model.graph, path, output_name)
    signature = _signature(model, path, output)
    texts = {entry.key: entry.value for entry in model.metadata_props}
    chosen = None if output.name == model.graph.output[0].name else output.name
    return signature, read_metadata(texts, str(path)), digest.hexdigest(), chosen


def external_files(content: bytes, path: Path) -> list[str]:
    """Names of the files beside an ONNX file that hold its weights. Raises ModelError as `read_onnx`."""
    return onnx_weights.external_files(_parse(content, path), path)


def guess_layout(shape: Sequence[int | None]) -> Layout:
    """NHWC where only the last axis can be the bands: fixed and at most MAX_BANDS long.

    >>> guess_layout((None, 256, 256, 6)), guess_layout((1, 3, None, None)), guess_layout((None,) * 4)
    ('NHWC', 'NCHW', 'NCHW')
    """

    def can_be_bands(axis: int | None) -> bool:
        return axis is not None and axis <= MAX_BANDS

    return "NHWC" if can_be_bands(shape[3]) and not can_be_bands(shape[1]) else "NCHW"


def _parse(content: bytes, path: Path) -> Any:
    try:
        import onnx
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    except ImportError as e:
        msg = (
            f"model: {path} needs the package onnx ({e}); install it with `pip install '.[onnx]'` in "
            f"batchseg's clone"
        )
        raise ModelError(msg) from e
    try:
        model = onnx.ModelProto.FromString(content)
    except DecodeError as e:
        msg = f"model: {path} is no ONNX file, or is cut off; copy the whole file"
        raise ModelError(msg) from e
    if not model.graph.node or not model.graph.output:
        msg = f"model: {path} holds no network; expected an ONNX file"
        raise ModelError(msg)
    if not model.opset_import:  # it follows the graph
        msg = f"model: {path} is cut off: its end is missing; copy the whole file"
        raise ModelError(msg)
    return model


def _chosen_output(graph: Any, path: Path, name: str | None) -> Any:
    names = [value.name for value in graph.output]
    return graph.output[names.index(chosen_name(names, path, name))]


def chosen_name(names: Sequence[str], path: Path, name: str | None) -> str:
    """Which of a network's outputs counts: the one of that name, else ANOMALY_MAP, else the first.

    Raises:
        ModelError: no output has the name.
    """
    if name is None:
        name = ANOMALY_MAP if ANOMALY_MAP in names else names[0]
    if name not in names:
        msg = f"model: {path} has no output {name!r}; it has {', '.join(names)}: name one as `output_name`"
        raise ModelError(msg)
    return name


def per_image(path: Path, shape: Sequence[int | None], others: Sequence[str]) -> str:
    """That a network's output is one answer per image; `others` are the names of those beside it."""
    hint = f", or model: {{output_name: ...}}, one of {', '.join(others)}" if others else ""
    return (
        f"model: {path} gives {list(shape)}: one answer per image, as classifiers do; expected one per "
        f"pixel{hint}"
    )


def _signature(model: Any, path: Path, chosen: Any) -> Signature:
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs) or "none"
        msg = f"model: {path} takes {len(inputs)} inputs ({names}); batchseg feeds one"
        raise ModelError(msg)
    shape = _shape(inputs[0])
    if shape is None or len(shape) != 4:
        msg = (
            f"model: {path} takes an input of shape {shape}; expected four axes: images, bands, rows, columns"
        )
        raise ModelError(msg)
    output = _shape(chosen)
    if output is not None and len(output) < 3:
        others = [value.name for value in graph.output if value.name != chosen.name]
        raise ModelError(per_image(path, output, others))
    n, a, b, c = shape
    whole = (n, a, b, c)
    if guess_layout(whole) == "NCHW":
        whole = own_shape(whole, onnx_reading(model, inputs[0].name), output or (), path)
    return Signature(
        shape=whole,
        dtype=TYPES.get(inputs[0].type.tensor_type.elem_type, "another type"),
        output=_output(graph, chosen, output),
        quantized=any(part in node.op_type for node in graph.node for part in QUANTIZERS),
    )


def _shape(value: Any) -> list[int | None] | None:
    """None inside: free, named or not."""
    if not value.type.tensor_type.HasField("shape"):
        return None
    dims = value.type.tensor_type.shape.dim
    return [dim.dim_value if dim.dim_value > 0 else None for dim in dims]


def _output(graph: Any, chosen: Any, shape: list[int | None] | None) -> OutputKind | None:
    dtype = TYPES.get(chosen.type.tensor_type.elem_type, "")
    if dtype.startswith(("int", "uint")):
        return "classes"
    makers = {name: node for node in graph.node for name in node.output}
    node = makers.get(chosen.name)
    for _ in graph.node:  # a damaged graph may be a circle
        if node is None or node.op_type not in PASSING:
            break
        node = makers.get(node.input[0]) if node.input else None
    kind = ENDS.get(node.op_type) if node is not None else None
    if kind == "sigmoid":  # several bands of it are scores that do not exclude each other
        return kind if shape is not None and len(shape) == 4 and 1 in (shape[1], shape[3]) else None
    return None if kind == "classes" else kind  # floats after an ArgMax: something else was done to them


def read_metadata(texts: Mapping[str, str], where: str) -> Declaration:
    """What the metadata of an ONNX file say.

    `batchseg`: a JSON object with any of `baked`, `layout`, `mean` and `std` (of values scaled to 0..1),
    `classes`, `output`, `threshold`, `size_divisor`, `confidence_output`. Else Deepness's keys.

    Args:
        texts: key to value, as in `metadata_props`.
        where: the file, for messages.

    Raises:
        ModelError: a value has another form, or the network is for another task.
    """
    values = {key: _value(text) for key, text in texts.items()}
    if BATCHSEG_KEY in values:
        return _own(values[BATCHSEG_KEY], where)
    return _deepness(values, where)


def _own(value: Any, where: str) -> Declaration:
    if not isinstance(value, dict):
        msg = f"model: {where}: the metadata key {BATCHSEG_KEY} is {excerpt(value)}; expected a JSON object"
        raise ModelError(msg)
    mean, std = (_numbers(value.get(key), key, where) for key in ("mean", "std"))
    normalize = Normalize(mean=mean or (0.0,), std=std or (1.0,)) if mean or std else None
    baked = value.get("baked") is True
    threshold = _number(value, "threshold", where=where)
    return Declaration(
        origin="baked" if baked else "onnx",
        declares_transforms=baked or normalize is not None,
        normalize=normalize,
        layout=_choice(value, "layout", get_args(Layout), where),
        size_divisor=_pixels(value, "size_divisor", where=where) or 1,
        output=_choice(value, "output", get_args(OutputKind), where),
        confidence_output=value.get("confidence_output") is True,
        classes=read_classes(value.get("classes"), where),
        threshold=0.5 if threshold is None else threshold,
    )


def _choice(values: Mapping[str, Any], key: str, known: tuple[str, ...], where: str) -> Any:
    value = values.get(key)
    if value is not None and value not in known:
        msg = f"model: {where}: {key} in the metadata is {excerpt(value)}; expected {' or '.join(known)}"
        raise ModelError(msg)
    return value


def baked_metadata(*, confidence_output: bool, classes: Sequence[ClassInfo] = ()) -> dict[str, str]:
    """The metadata of a baked ONNX network: raw uint8 NHWC pixels in, ids out; see `read_metadata`."""
    value: dict[str, Any] = {
        "baked": True,
        "layout": "NHWC",
        "output": "classes",
        "confidence_output": confidence_output,
    }
    if classes:
        value["classes"] = [{"name": info.name, "color": info.color} for info in classes]
    return {BATCHSEG_KEY: json.dumps(value)}


def _deepness(values: Mapping[str, Any], where: str) -> Declaration:
    """Deepness divides pixels by 255, then standardises; without model_type nothing is taken for granted."""
    kind = values.get("model_type")
    if kind is not None and (not isinstance(kind, str) or kind.capitalize() != "Segmentor"):
        said = kind if isinstance(kind, str) else excerpt(kind)
        msg = f"model: {where} is a {said[:40]} (metadata key model_type); expected a Segmentor"
        raise ModelError(msg)
    mean, std = (_numbers(values.get(f"standardization_{key}"), key, where) for key in ("mean", "std"))
    declares = kind is not None or bool(mean or std)
    tile_size = _pixels(values, "tile_size", "tiles_size", where=where)
    overlap = _number(values, "tiles_overlap", where=where)
    resolution = _number(values, "resolution", where=where)
    return Declaration(
        origin="onnx",
        declares_transforms=declares,
        normalize=Normalize(mean=mean or (0.0,), std=std or (1.0,)) if declares else None,
        classes=_class_names(values.get("class_names", values.get("names")), where),
        threshold=_number(values, "seg_thresh", where=where) or 0.5,
        tile_size=tile_size or None,
        halo=int(tile_size * overlap / 200) if tile_size and overlap else None,
        pixel_size=resolution / 100 if resolution else None,
        notes=_notes(values),
    )


def _notes(values: Mapping[str, Any]) -> tuple[str, ...]:
    if not values.get("seg_small_segment"):
        return ()
    pixels = excerpt(values["seg_small_segment"])
    return (f"seg_small_segment ({pixels}) is not applied to masks; regions: min_area does so for tables",)


def _value(text: str) -> Any:
    """JSON, or a Python literal as older exports wrote; else the text itself."""
    try:
        return parse_json(text)
    except ValueError:
        pass
    if len(text) > LITERAL_CHARACTERS:
        return text
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return text


def _number(values: Mapping[str, Any], *keys: str, where: str) -> float | None:
    for key in keys:
        if (value := values.get(key)) is not None:
            if not _is_number(value) or value < 0:
                msg = f"model: {where}: the metadata key {key} is {excerpt(value)}; expected a number"
                raise ModelError(msg)
            return float(value)
    return None


def _pixels(values: Mapping[str, Any], *keys: str, where: str) -> int | None:
    value = _number(values, *keys, where=where)
    if value is not None and value > LARGEST_SIDE:
        msg = f"model: {where}: the metadata key {keys[0]} is {value:g}; expected at most {LARGEST_SIDE:,}"
        raise ModelError(msg)
    return None if value is None else int(value)


def _is_number(value: Any) -> bool:
    """Neither NaN nor beyond what a network's float32 holds."""
    return isinstance(value, int | float) and abs(value) < LARGEST_NUMBER


def _numbers(value: Any, key: str, where: str) -> tuple[float, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(_is_number(v) for v in value):
        msg = f"model: {where}: {key} in the metadata is {excerpt(value)}; expected a list of numbers"
        raise ModelError(msg)
    if key == "std" and 0 in value:
        msg = f"model: {where}: std in the metadata holds 0"
        raise ModelError(msg)
    return tuple(float(v) for v in value)


def _class_names(value: Any, where: str) -> tuple[ClassInfo, ...]:
    """{"0": name, ...}; newer versions of the plugin hold one such object per output."""
    names = value[0] if isinstance(value, list) and value and isinstance(value[0], dict) else value
    if isinstance(names, dict):
        try:
            ordered = sorted((int(key), name) for key, name in names.items())
        except (ValueError, TypeError, ArithmeticError):
            ordered = [(-1, "")]
        if [number for number, _ in ordered] != list(range(len(ordered))):
            found = excerpt(names)
            msg = f"model: {where}: class_names in the metadata is {found}; expected every id from 0 on"
            raise ModelError(msg)
        names = [name for _, name in ordered]
    return read_classes(names, where)

"""An OpenVINO network (.xml, its weights in a .bin): what the graph says, without running it.

The format is "Intermediate Representation" (https://docs.openvino.ai, "OpenVINO IR format").
"""

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from batchseg.errors import ModelError
from batchseg.models.onnx_file import chosen_name, guess_layout, per_image
from batchseg.models.own_size import openvino_reading, own_shape
from batchseg.models.package import OutputKind, Signature

TYPES = {
    "FP32": "float32",
    "FP16": "float16",
    "U8": "uint8",
    "f32": "float32",
    "f16": "float16",
    "u8": "uint8",
}
"""By the names of ports and of parameters."""

ENDS: dict[str, OutputKind] = {"SoftMax": "probabilities", "Softmax": "probabilities", "Sigmoid": "sigmoid"}

INTEGERS = ("I", "U", "BOOL")
"""How the names of types without a fraction begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Output:
    name: str
    kind: str
    """Type of the layer that makes it."""
    precision: str
    shape: list[int | None]


def read_openvino(content: bytes, path: Path, output_name: str | None = None) -> tuple[Signature, str | None]:
    """What an .xml says.

    Args:
        content: of the file.
        path: of the file, for messages.
        output_name: of the output that counts; None: as of ONNX files.

    Returns:
        What the graph says, and the name of the output that counts, where that is not the first.

    Raises:
        ModelError: it is no whole network, takes several inputs, or gives nothing per pixel.
    """
    try:
        root = ElementTree.fromstring(content)  # noqa: S314  a model, whose engine is trusted with it anyway
    except (ElementTree.ParseError, LookupError, ValueError) as e:
        msg = f"model: {path} is no OpenVINO network, or is cut off ({e}); copy the whole file"
        raise ModelError(msg) from e
    layers = {layer.get("id"): layer for layer in root.findall("layers/layer")}
    inputs = [layer for layer in layers.values() if layer.get("type") == "Parameter"]
    outputs = _outputs(root, layers)
    if len(inputs) != 1 or not outputs:
        msg = (
            f"model: {path} has {len(inputs)} inputs and {len(outputs)} outputs; batchseg feeds one and "
            f"takes one"
        )
        raise ModelError(msg)
    data = inputs[0].find("data")
    shape = _dims(inputs[0].find("output/port"))
    if data is None or len(shape) != 4:
        msg = (
            f"model: {path} takes an input of shape {shape}; expected four axes: images, bands, rows, columns"
        )
        raise ModelError(msg)
    names = [one.name for one in outputs]
    chosen = outputs[names.index(chosen_name(names, path, output_name))]
    if len(chosen.shape) < 3:
        raise ModelError(per_image(path, chosen.shape, [name for name in names if name != chosen.name]))
    n, a, b, c = shape
    whole = (n, a, b, c)
    if guess_layout(whole) == "NCHW":
        whole = own_shape(whole, openvino_reading(root, inputs[0].get("id", "")), chosen.shape, path)
    signature = Signature(
        shape=whole,
        dtype=TYPES.get(data.get("element_type", ""), "another type"),
        output=_kind(chosen),
        quantized=any(layer.get("type") == "FakeQuantize" for layer in layers.values()),
    )
    return signature, None if chosen is outputs[0] else chosen.name


def _kind(output: _Output) -> OutputKind | None:
    if output.precision.startswith(INTEGERS):
        return "classes"
    kind = ENDS.get(output.kind)
    if kind == "sigmoid" and 1 not in output.shape[1:]:
        return None
    return kind


def _outputs(root: Element, layers: dict[str | None, Element]) -> list[_Output]:
    """In the file's order, which OpenVINO keeps."""
    makers = {edge.get("to-layer"): edge for edge in root.findall("edges/edge")}
    found = []
    for number, layer in layers.items():
        port = layer.find("input/port")
        if layer.get("type") != "Result" or port is None:
            continue
        edge = makers.get(number)
        maker = layers.get(edge.get("from-layer")) if edge is not None else None
        names = layer.get("output_names", "")
        if not names and maker is not None and edge is not None:  # before 2024 the maker's port says them
            made = maker.find(f"output/port[@id='{edge.get('from-port')}']")
            names = "" if made is None else made.get("names", "")
        found.append(
            _Output(
                name=names.split(",")[0],
                kind="" if maker is None else maker.get("type", ""),
                precision=port.get("precision", ""),
                shape=_dims(port),
            )
        )
    return found


def _dims(port: Element | None) -> list[int | None]:
    """None: free."""
    if port is None:
        return []
    return [int(dim.text or -1) if int(dim.text or -1) > 0 else None for dim in port.findall("dim")]

"""Paddle's own files, checked and read without Paddle: programs (.json, .pdmodel) and weights.

Importing paddle costs a second and 300 MB, and Paddle 3.2.2 loads some damaged files without a word.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from batchseg.errors import ModelError
from batchseg.models.package import OutputKind, Signature
from batchseg.system.json_text import parse_json

PIR_MAGIC = "pir"

QUANTIZERS = ("quantize_linear", "dequantize_linear", "fake_quantize", "fake_channel_wise_quantize")
"""Parts of the names of operators that stand in a quantised program."""

SCORES: dict[str, OutputKind] = {"softmax": "probabilities", "argmax": "classes", "arg_max": "classes"}

PASSING = frozenset(
    {"scale", "cast", "assign", "share_data_", "share_data", "squeeze", "squeeze2", "transpose2"}
)
"""Operators that leave open what their input was; exports of Paddle 2 end in a scale by 1."""


def read_program(content: bytes, name: str) -> Signature:
    """Input and output of a program.

    Args:
        content: of the file.
        name: of the file; its suffix tells the format, .enc (encrypted) not counted.

    Raises:
        ModelError: the file is empty, damaged or no program, or the program is no segmentation network.
    """
    if not content:
        msg = f"model: {name} is empty; copy the whole export"
        raise ModelError(msg)
    is_pir = name.removesuffix(".enc").endswith(".json")
    return _read_pir(content, name) if is_pir else _read_pdmodel(content, name)


def _read_pir(content: bytes, name: str) -> Signature:
    head = content[:200].replace(b" ", b"")
    try:
        loaded = parse_json(content)
    except ValueError as e:
        if b'"magic":"pir"' in head:
            msg = f"model: {name} is cut off or damaged ({e}); copy the whole export"
        else:
            msg = _no_pir(name)
        raise ModelError(msg) from e
    if not isinstance(loaded, dict) or _at(loaded, "base_code", "magic") != PIR_MAGIC:
        raise ModelError(_no_pir(name))
    try:
        ops = loaded["program"]["regions"][0]["blocks"][0]["ops"]
        kinds = [str(op["#"]).partition(".")[2] for op in ops]
        makers = {result["%"]: op for op in ops for result in _results(op)}
        feeds = [op for op, kind in zip(ops, kinds, strict=True) if kind in ("data", "feed")]
        fetches = [op for op, kind in zip(ops, kinds, strict=True) if kind in ("fetch", "shadow_output")]
        inputs = [_pir_type(_results(op)[0]) for op in feeds]
        outputs = [_pir_type(_made(makers, op["I"][0]["%"])) for op in fetches]
        ends = [_pir_end(makers, op["I"][0]["%"]) for op in fetches[:1]]
    except (LookupError, TypeError, AttributeError, ValueError):
        return Signature()  # of a version that writes them otherwise: Paddle decides
    return _signature(name, inputs, outputs, ends[0] if ends else "", kinds)


def _no_pir(name: str) -> str:
    return f"model: {name} is not a Paddle PIR program; export the model with PaddleSeg's tools/export.py"


def _at(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _results(op: Mapping[str, Any]) -> list[Any]:
    """Parameters hold their one result, other operators a list."""
    given = op.get("O", [])
    return given if isinstance(given, list) else [given]


def _made(makers: Mapping[int, Any], number: int) -> Any:
    (made,) = [result for result in _results(makers[number]) if result["%"] == number]
    return made


def _pir_type(result: Mapping[str, Any]) -> tuple[str, list[int]]:
    """Type and shape of `{"TT": {"#": "0.t_dtensor", "D": [{"#": "0.t_f32"}, [-1, 3, -1, -1], ...]}}`."""
    element, shape = result["TT"]["D"][:2]
    kind = str(element["#"]).partition(".t_")[2]
    if not isinstance(shape, list) or not all(type(axis) is int for axis in shape):
        raise TypeError
    return _PIR_NAMES.get(kind, kind), shape


_PIR_NAMES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16", "f64": "float64", "ui8": "uint8"} | {
    f"i{bits}": f"int{bits}" for bits in (8, 16, 32, 64)
}


def _pir_end(makers: Mapping[int, Any], number: int) -> str:
    """Name of the operator that makes a value, those of PASSING not counted; empty: a circle of them."""
    for _ in makers:
        op = makers[number]
        kind = str(op["#"]).partition(".")[2]
        if kind not in PASSING and kind != "transpose":
            return kind
        number = op["I"][0]["%"]
    return ""


def _read_pdmodel(content: bytes, name: str) -> Signature:
    """ProgramDesc of Paddle's framework.proto: blocks = 1, version = 4; BlockDesc: vars = 3, ops = 4."""
    try:
        program = list(_fields(content))
        blocks = [value for number, value in program if number == 1]
        if not blocks or not any(number == 4 for number, _ in program):
            raise ValueError  # the version follows the blocks: without it the end is missing
        block = list(_fields(blocks[0]))
        ops = [_op(value) for number, value in block if number == 4]
        tensors = dict(_variable(value) for number, value in block if number == 3)
        kinds = [kind for kind, _, _ in ops]
        feeds = [names[0] for kind, _, names in ops if kind == "feed"]
        fetched = [names[0] for kind, names, _ in ops if kind == "fetch"]
    except (ValueError, TypeError, LookupError) as e:
        msg = f"model: {name} is cut off, or is no Paddle program; copy the whole export"
        raise ModelError(msg) from e
    inputs = [tensors[feed] for feed in feeds if tensors.get(feed)]
    outputs = [tensors[fetch] for fetch in fetched if tensors.get(fetch)]
    end = _pdmodel_end(ops, fetched[0]) if fetched else ""
    return _signature(name, [t for t in inputs if t], [t for t in outputs if t], end, kinds)


def _pdmodel_end(ops: list[tuple[str, list[str], list[str]]], name: str) -> str:
    """Type of the operator that makes a variable; a later one writes over what an earlier one wrote."""
    for kind, arguments, results in reversed(ops):
        if kind != "fetch" and name in results:
            if kind not in PASSING or not arguments:
                return kind
            name = arguments[0]
    return ""


def _op(message: Any) -> tuple[str, list[str], list[str]]:
    """Type, arguments and results. OpDesc: inputs = 1, outputs = 2, type = 3; of each: arguments = 2."""
    kind, names = "", {1: [], 2: []}  # type: str, dict[int, list[str]]
    for number, value in _fields(message):
        if number == 3:
            kind = _text(value)
        elif number in names:
            names[number] += [_text(text) for key, text in _fields(value) if key == 2]
    return kind, names[1], names[2]


def _text(value: Any) -> str:
    if not isinstance(value, memoryview):
        raise TypeError  # bytes() of a number takes so many bytes of memory
    return bytes(value).decode()


def _variable(message: Any) -> tuple[str, tuple[str, list[int]] | None]:
    """VarDesc: name = 1, type = 2; VarType: lod_tensor = 3; its tensor = 1: a TensorDesc."""
    found = dict(_fields(message))
    tensor = dict(_fields(dict(_fields(found[2])).get(3, b""))).get(1) if 2 in found else None
    name = _text(found[1]) if 1 in found else ""
    if tensor is None:
        return name, None
    kind, dims = tensor_desc(tensor)
    return name, (_TYPE_NAMES.get(kind, "other"), dims)


def _signature(
    name: str,
    inputs: list[tuple[str, list[int]]],
    outputs: list[tuple[str, list[int]]],
    end: str,
    kinds: list[str],
) -> Signature:
    if len(inputs) > 1:
        msg = f"model: {name} takes {len(inputs)} inputs; batchseg feeds one"
        raise ModelError(msg)
    if outputs and len(outputs[0][1]) in (1, 2):
        msg = (
            f"model: {name} gives {outputs[0][1]}: one answer per image, as classifiers do; expected one per "
            f"pixel"
        )
        raise ModelError(msg)
    dtype, dims = inputs[0] if inputs else (None, [])
    if inputs and len(dims) != 4:
        msg = (
            f"model: {name} takes an input of shape {dims}; expected four axes: images, bands, rows, columns"
        )
        raise ModelError(msg)
    n, a, b, c = ((d if d > 0 else None) for d in dims) if inputs else (None,) * 4
    return Signature(
        shape=(n, a, b, c) if inputs else None,
        dtype=dtype,
        output=_output(outputs, end),
        quantized=any(part in kind for kind in kinds for part in QUANTIZERS),
    )


def _output(outputs: list[tuple[str, list[int]]], end: str) -> OutputKind | None:
    if not outputs:
        return None
    dtype, dims = outputs[0]
    if dtype.startswith(("int", "uint")):
        return "classes"
    if end == "sigmoid" and len(dims) == 4 and dims[1] == 1:
        return "sigmoid"
    kind = SCORES.get(end)
    return None if kind == "classes" else kind  # floats after an argmax: something else was done to them


# Bytes of an element by Paddle's VarType.Type (framework.proto): bool, int16, int32, int64, fp16, fp32,
# fp64, uint8, int8, bf16, complex64, complex128.
_ELEMENT_BYTES = {0: 1, 1: 2, 2: 4, 3: 8, 4: 2, 5: 4, 6: 8, 20: 1, 21: 1, 22: 2, 23: 8, 24: 16}

_TYPE_NAMES = {
    0: "bool", 1: "int16", 2: "int32", 3: "int64", 4: "float16", 5: "float32", 6: "float64", 20: "uint8"
}  # fmt: skip


def check_params(content: bytes, name: str) -> None:
    """Walk the tensors of a .pdiparams file: the last one must end where the file does.

    Paddle 3.2.2 loads a file that is cut off in its last tensor without a word, and predicts with
    whatever it finds in memory. Each tensor is: version u32, LoD levels u64 (0), version u32,
    length i32 of a TensorDesc message, that message, the elements.

    Raises:
        ModelError: it does not.
    """
    if not _is_whole(memoryview(content)):
        msg = f"model: {name} is cut off or holds something else; copy the whole export"
        raise ModelError(msg)


def _is_whole(content: memoryview) -> bool:
    at = 0
    while at < len(content):
        levels = int.from_bytes(content[at + 4 : at + 12], "little")
        message_bytes = int.from_bytes(content[at + 16 : at + 20], "little")
        if levels or message_bytes > 1024 or at + 20 + message_bytes > len(content):
            return False  # weights have no levels
        message = content[at + 20 : at + 20 + message_bytes]
        try:
            kind, dims = tensor_desc(message)
        except (ValueError, TypeError):
            return False
        if any(axis < 0 for axis in dims):
            return False  # else the walk goes back, and does not end
        if kind not in _ELEMENT_BYTES:
            return kind >= 0  # a type that this walk does not know: Paddle decides
        at += 20 + message_bytes + math.prod(dims) * _ELEMENT_BYTES[kind]
    return at == len(content)


def tensor_desc(message: Any) -> tuple[int, list[int]]:
    """Type and shape of a TensorDesc (data_type = 1, dims = 2, packed or not); type -1: it has none.

    Raises:
        ValueError: the message is damaged.
    """
    kind, dims = -1, []  # type: int, list[int]
    for number, value in _fields(message):
        if number == 1 and isinstance(value, int):
            kind = value
        elif number == 2:
            dims += [value] if isinstance(value, int) else _packed(value)
    # An open axis is -1, which a varint holds as 64 bits without a sign.
    return kind, [d - 2**64 if d >= 2**63 else d for d in dims]


def _packed(content: memoryview) -> list[int]:
    numbers, at = [], 0
    while at < len(content):
        number, at = _varint(content, at)
        numbers.append(number)
    return numbers


def _fields(message: Any) -> Iterator[tuple[int, Any]]:
    """Numbers and values of a protobuf message: whole numbers, or views of bytes.

    Raises:
        ValueError: it ends within a field, or is no message.
    """
    content, at = memoryview(message), 0
    while at < len(content):
        tag, at = _varint(content, at)
        # Wire types: 0 is a varint, 1 eight bytes, 5 four bytes, 2 a length and so many bytes.
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = _varint(content, at)
            yield number, value
            continue
        length = {1: 8, 5: 4}.get(wire)
        if wire == 2:
            length, at = _varint(content, at)
        if length is None or number == 0 or at + length > len(content):
            raise ValueError
        yield number, content[at : at + length]
        at += length


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    number = shift = 0
    while at < len(content) and shift < 64:
        byte = content[at]
        number |= (byte & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if byte < 0x80:
            return number, at
    raise ValueError

"""Programs of Paddle 2 and 3 as bytes, of which only the signature is meant to be read."""

import json


def pir(*ops: dict) -> bytes:
    program = {"regions": [{"blocks": [{"ops": list(ops)}]}]}
    return json.dumps({"base_code": {"magic": "pir"}, "program": program}).encode()


def pir_op(kind: str, *arguments: int, result: int, shape: list[int], dtype: str = "f32") -> dict:
    tensor = {"#": "0.t_dtensor", "D": [{"#": f"0.t_{dtype}"}, shape, "NCHW", [], 0]}
    return {
        "#": f"1.{kind}",
        "I": [{"%": number} for number in arguments],
        "O": [{"%": result, "TT": tensor}],
    }


def chain(
    *kinds: str, shape: list[int], dtype: str = "f32", taken: tuple[int, ...] = (1, 3, 512, 512)
) -> bytes:
    ops = [pir_op("data", result=1, shape=list(taken))]
    for number, kind in enumerate(kinds, 1):
        ops.append(pir_op(kind, number, result=number + 1, shape=shape, dtype=dtype))
    return pir(*ops, pir_op("fetch", len(ops), result=99, shape=shape, dtype=dtype))


def field(number: int, *values: bytes | int) -> bytes:
    """Protobuf: whole numbers below 2**63, or messages below 128 bytes."""
    text = b""
    for value in values:
        if isinstance(value, bytes):
            text += bytes([number << 3 | 2]) + varint(len(value)) + value
        else:
            text += bytes([number << 3]) + varint(value)
    return text


def varint(value: int) -> bytes:
    value %= 2**64
    text = b""
    while value > 0x7F:
        text, value = text + bytes([value & 0x7F | 0x80]), value >> 7
    return text + bytes([value])


def pdmodel(*kinds: str, dims: list[int], dtype: int = 5) -> bytes:
    """ProgramDesc of a chain of operators, by framework.proto's numbers."""

    def tensor(name: str, dtype: int, dims: list[int]) -> bytes:
        desc = field(1, field(1, dtype) + field(2, *dims))
        return field(3, field(1, name.encode()) + field(2, field(1, 7) + field(3, desc)))

    def op(kind: str, taken: str, given: str) -> bytes:
        slots = (field(n, field(1, b"X") + field(2, v.encode())) for n, v in ((1, taken), (2, given)))
        return field(4, b"".join(slots) + field(3, kind.encode()))

    block = field(1, 0) + field(2, -1) + tensor("v0", 5, [-1, 3, 256, -1])
    block += tensor(f"v{len(kinds)}", dtype, dims) + op("feed", "feed", "v0")
    for number, kind in enumerate(kinds):
        block += op(kind, f"v{number}", f"v{number + 1}")
    block += op("fetch", f"v{len(kinds)}", "fetch")
    return field(1, block) + field(4, field(1, 0))

import json
from pathlib import Path

import pytest
from conftest import SHARED
from factories import PDMODEL, PIR_TEXT

from batchseg.errors import ModelError
from batchseg.models.package import Signature
from batchseg.models.paddle_file import read_program
from batchseg.models.reading import read_model

CASES = {
    "spectral": Signature(shape=(None, 4, None, None), dtype="float32"),
    "conv": Signature(shape=(None, 3, None, None), dtype="float32"),
    "ids": Signature(shape=(None, 1, None, None), dtype="float32", output="classes"),
}


def refusal(content: bytes, name: str) -> str:
    with pytest.raises(ModelError) as caught:
        read_program(content, name)
    assert str(caught.value).startswith(f"model: {name}")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", CASES)
def test_a_program_of_paddle_3_says_its_input_and_output(models, name):
    content = (models / name / "model.json").read_bytes()
    assert read_program(content, "model.json") == CASES[name]


def test_a_classifier_is_refused_without_running_it(models):
    content = (models / "pooled" / "model.json").read_bytes()
    assert "[-1, 2]: one answer per image" in refusal(content, "model.json")


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


@pytest.mark.parametrize(
    ("content", "output"),
    [
        (chain("conv2d", "softmax", shape=[-1, 4, -1, -1]), "probabilities"),
        (chain("conv2d", "softmax", "scale", shape=[-1, 4, -1, -1]), "probabilities"),
        (chain("conv2d", "sigmoid", shape=[-1, 1, -1, -1]), "sigmoid"),
        (chain("conv2d", "sigmoid", shape=[-1, 4, -1, -1]), None),
        (chain("softmax", "conv2d", shape=[-1, 4, -1, -1]), None),
        (chain("argmax", shape=[-1, -1, -1], dtype="i32"), "classes"),
        (chain("argmax", "cast", shape=[-1, -1, -1], dtype="f32"), None),
        (chain("argmax", "cast", shape=[-1, -1, -1], dtype="ui8"), "classes"),
    ],
)
def test_the_output_is_told_from_what_makes_it(content, output):
    signature = read_program(content, "model.json")
    assert (signature.output, signature.shape) == (output, (1, 3, 512, 512))


def test_a_quantised_program_is_known_as_such():
    content = chain("dequantize_linear", "conv2d", shape=[-1, 4, -1, -1])
    assert read_program(content, "model.json").quantized


def test_two_inputs_and_an_input_of_three_axes_are_refused():
    ops = [pir_op("data", result=number, shape=[-1, 3, -1, -1]) for number in (1, 2)]
    assert "takes 2 inputs" in refusal(pir(*ops), "model.json")
    content = chain("conv2d", shape=[-1, 4, -1, -1], taken=(3, 512, 512))
    assert "expected four axes" in refusal(content, "model.json")


@pytest.mark.parametrize("content", [PIR_TEXT.encode(), pir(), pir({"#": 1})])
def test_a_program_that_is_written_otherwise_is_left_to_paddle(content):
    assert read_program(content, "model.json") == Signature()


@pytest.mark.parametrize(
    "content",
    [b"not a network", b"[]", b'{"base_code": {"magic": "other"}}', b"\xff\xfe", b'{"base_code": 7}'],
)
def test_what_is_no_pir_program_is_refused(content):
    assert "is not a Paddle PIR program" in refusal(content, "model.json")


def test_every_cut_of_a_pir_program_is_refused():
    content = chain("conv2d", shape=[-1, 4, -1, -1])
    for end in range(len(content)):
        refusal(content[:end], "model.json")
    assert "cut off" in refusal(content[:-1], "model.json")


def test_every_cut_of_a_legacy_program_is_refused():
    assert read_program(PDMODEL, "model.pdmodel") == Signature()
    for end in range(len(PDMODEL)):
        refusal(PDMODEL[:end], "model.pdmodel")
    for content in (b"program", b"<html>404 Not Found</html>", b"\x00" * 20, b"\xff" * 20):
        assert "is cut off, or is no Paddle program" in refusal(content, "model.pdmodel")


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


@pytest.mark.parametrize(
    ("content", "output"),
    [
        (pdmodel("conv2d", dims=[-1, 4, -1, -1]), None),
        (pdmodel("conv2d", "softmax", "scale", dims=[-1, 4, -1, -1]), "probabilities"),
        (pdmodel("conv2d", "sigmoid", dims=[-1, 1, -1, -1]), "sigmoid"),
        (pdmodel("arg_max", "scale", dims=[-1, -1, -1], dtype=2), "classes"),
        (pdmodel("arg_max", "cast", dims=[-1, -1, -1]), None),
    ],
)
def test_a_legacy_program_says_its_input_and_output(content, output):
    expected = Signature(shape=(None, 3, 256, None), dtype="float32", output=output)
    assert read_program(content, "model.pdmodel") == expected


def test_a_quantised_legacy_program_is_known_as_such():
    content = pdmodel("fake_quantize_range_abs_max", "conv2d", dims=[-1, 4, -1, -1])
    assert read_program(content, "model.pdmodel").quantized


@pytest.fixture(scope="module")
def shared_models() -> Path:
    folder = SHARED / "models"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here; BATCHSEG_DATA says where")
    return folder


def test_a_real_legacy_network_is_read_and_its_cuts_are_refused(shared_models):
    package = read_model(str(shared_models / "ppocrv4-det-paddle"))
    assert (package.format, package.bands, package.output) == ("pdmodel", 3, "sigmoid")
    content = Path(package.network).read_bytes()
    block = content[1:4]  # the length of the only block, a varint
    end = 4 + sum((byte & 0x7F) << 7 * at for at, byte in enumerate(block))
    for cut in (1, 100, len(content) // 2, end - 1, end, len(content) - 1):
        assert "cut off" in refusal(content[:cut], "inference.pdmodel")


def test_a_real_classifier_is_refused(shared_models):
    with pytest.raises(ModelError, match="one answer per image"):
        read_model(str(shared_models / "ppocr-cls-paddle"))


def test_a_real_program_without_weights_is_refused_by_their_name(shared_models):
    folder = shared_models / "ppocrv5-det-json-noweights"
    with pytest.raises(ModelError, match=r"inference\.pdiparams is missing"):
        read_model(str(folder))
    content = (folder / "inference.json").read_bytes()
    assert read_program(content, "inference.json").output == "sigmoid"
    for cut in (300, len(content) // 2, len(content) - 1):
        assert "cut off" in refusal(content[:cut], "inference.json")

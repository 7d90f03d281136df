from pathlib import Path

import pytest
from conftest import SHARED
from factories import PDMODEL, PIR_TEXT
from paddle_programs import chain, field, pdmodel, pir, pir_op

from batchseg.errors import ModelError
from batchseg.models.package import Signature
from batchseg.models.paddle_file import check_params, read_program
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


def test_a_circle_of_operators_ends():
    ops = [pir_op("cast", 2, result=1, shape=[-1, 4, -1, -1]), pir_op("cast", 1, result=2, shape=[-1] * 4)]
    assert read_program(pir(*ops, pir_op("fetch", 2, result=9, shape=[])), "model.json").output is None


def test_a_number_in_a_name_s_place_takes_no_memory():
    """bytes() of it would be so many zeros."""
    name = field(3, field(1, 2**33))
    with pytest.raises(ModelError, match="is no Paddle program"):
        read_program(field(1, name) + field(4, field(1, 0)), "model.pdmodel")


def test_an_operator_without_names_is_refused():
    with pytest.raises(ModelError, match="is no Paddle program"):
        read_program(field(1, field(4, field(3, b"feed"))) + field(4, field(1, 0)), "model.pdmodel")


@pytest.mark.parametrize("axis", [-1, -8, -(2**62)])
def test_a_size_below_zero_does_not_send_the_walk_back(axis):
    desc = field(1, 5) + field(2, axis)
    content = bytes(16) + len(desc).to_bytes(4, "little") + desc
    with pytest.raises(ModelError, match="is cut off or holds something else"):
        check_params(content * 2 + bytes(40), "model.pdiparams")


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

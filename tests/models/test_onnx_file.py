import json
import sys

import pytest
from graphs import write_onnx
from onnx import TensorProto

from batchseg.errors import ModelError
from batchseg.models.onnx_file import baked_metadata, guess_layout, read_metadata
from batchseg.models.package import PALETTE, ClassInfo, Normalize
from batchseg.models.reading import read_model

DEEPNESS = {
    "model_type": "Segmentor",
    "class_names": {"0": "_background", "1": "building", "2": "woodland", "3": "water", "4": "road"},
    "resolution": 50,
    "tile_size": 512,
    "tiles_overlap": 15,
    "standardization_mean": [0.1, 0.2, 0.3],
    "standardization_std": [0.4, 0.5, 0.6],
    "seg_thresh": 0.3,
    "seg_small_segment": 7,
}


def refusal(path) -> str:
    with pytest.raises(ModelError) as caught:
        read_model(str(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_bare_network_is_read_by_file_and_by_folder(tmp_path):
    path = write_onnx(tmp_path / "net.onnx")
    for given in (path, tmp_path):
        package = read_model(str(given))
        assert (package.path, package.network, package.params) == (str(given), str(path), None)
        assert (package.format, package.origin, package.layout, package.dtype) == (
            "onnx",
            "onnx",
            "NCHW",
            "float32",
        )
        assert (package.bands, package.size_hw, package.batch) == (3, (None, None), None)
        assert (package.output, package.quantized, package.declares_transforms) == (None, False, False)
        assert any("normalize" in limit for limit in package.limits)


def test_a_network_of_last_bands_and_softmax_is_told_from_its_graph(tmp_path):
    path = write_onnx(tmp_path / "n.onnx", shape=("n", 256, 256, 6), ends=["Transpose", "Softmax"])
    package = read_model(str(path))
    assert (package.layout, package.bands, package.size_hw) == ("NHWC", 6, (256, 256))
    assert package.output == "probabilities"
    assert "its input is fixed at 256 x 256 pixels (height x width)" in package.limits


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        (("n", "h", "w", 4), "NHWC"),
        ((1, 256, 256, 3), "NHWC"),
        ((1, 13, 256, 256), "NCHW"),
        (("n", 4, "h", "w"), "NCHW"),
        ((1, 3, 16, 16), "NCHW"),
        ((1, 8, 8, 8), "NCHW"),
        (("n", "c", "h", "w"), "NCHW"),
        ((1, 256, 256, 256), "NCHW"),
    ],
)
def test_the_layout_is_told_from_the_shape_and_else_the_job_says_it(tmp_path, shape, layout):
    path = write_onnx(tmp_path / "n.onnx", shape=shape)
    assert read_model(str(path)).layout == layout
    assert guess_layout([axis if isinstance(axis, int) else None for axis in shape]) == layout
    said = read_model(str(path), layout="NHWC")
    number = shape[3] if isinstance(shape[3], int) else None
    assert (said.layout, said.bands) == ("NHWC", number)


@pytest.mark.parametrize(
    ("ends", "output", "kind"),
    [
        (["ArgMax", "Cast"], (TensorProto.INT64, ("n", "h", "w")), "classes"),
        ([], (TensorProto.UINT8, ("n", 1, "h", "w")), "classes"),
        (["Sigmoid"], (TensorProto.FLOAT, ("n", 1, "h", "w")), "sigmoid"),
        (["Sigmoid", "Transpose"], (TensorProto.FLOAT, ("n", "h", "w", 1)), "sigmoid"),
        (["Sigmoid"], (TensorProto.FLOAT, ("n", 4, "h", "w")), None),
        (["Softmax", "Relu"], (TensorProto.FLOAT, ("n", 4, "h", "w")), None),
        (["ArgMax", "Cast"], (TensorProto.FLOAT, ("n", "h", "w")), None),
    ],
)
def test_the_output_is_told_from_what_makes_it(tmp_path, ends, output, kind):
    package = read_model(str(write_onnx(tmp_path / "n.onnx", ends=ends, output=output)))
    assert package.output == kind
    assert ("argmax is baked in: no confidence" in package.limits) == (kind == "classes")


@pytest.mark.parametrize(
    ("dtype", "name"),
    [(TensorProto.FLOAT16, "float16"), (TensorProto.UINT8, "uint8"), (TensorProto.INT64, None)],
)
def test_the_input_s_type_is_read_or_refused(tmp_path, dtype, name):
    path = write_onnx(tmp_path / "n.onnx", dtype=dtype)
    if name is None:
        assert "takes int64 pixels; expected float32, float16, uint8" in refusal(path)
    else:
        assert read_model(str(path)).dtype == name


def test_a_quantised_network_is_known_as_such(tmp_path):
    path = write_onnx(tmp_path / "n.onnx", ends=["QuantizeLinear", "DequantizeLinear"])
    assert read_model(str(path)).quantized


@pytest.mark.parametrize("encode", [json.dumps, repr])
def test_the_metadata_of_deepness_are_read(tmp_path, encode):
    texts = {key: encode(value) for key, value in DEEPNESS.items()}
    package = read_model(str(write_onnx(tmp_path / "n.onnx", metadata=texts)))
    assert package.normalize == Normalize(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    assert package.declares_transforms
    assert [info.name for info in package.classes] == list(DEEPNESS["class_names"].values())
    assert package.classes[1].color == PALETTE[1]
    assert (package.pixel_size, package.tile_size, package.halo, package.threshold) == (0.5, 512, 38, 0.3)
    assert any("seg_small_segment (7)" in limit for limit in package.limits)


def test_deepness_scales_to_one_where_nothing_else_is_said():
    declaration = read_metadata({"model_type": '"Segmentor"', "tiles_size": "256"}, "n.onnx")
    assert declaration.normalize == Normalize(mean=(0.0,), std=(1.0,))
    assert (declaration.declares_transforms, declaration.tile_size) == (True, 256)
    newer = read_metadata({"class_names": '[{"0": "a", "1": "b"}]'}, "n.onnx")
    assert [info.name for info in newer.classes] == ["a", "b"]
    assert (newer.declares_transforms, newer.normalize) == (False, None)


@pytest.mark.parametrize(
    ("key", "text", "words"),
    [
        ("model_type", '"Detector"', "is a Detector"),
        ("class_names", '{"0": "a", "2": "b"}', "every id from 0 on"),
        ("class_names", '{"a": "b"}', "every id from 0 on"),
        ("class_names", "house", "classes wants"),
        ("standardization_mean", "0.5", "expected a list of numbers"),
        ("standardization_std", "[0.5, 0]", "holds 0"),
        ("resolution", '"fine"', "resolution"),
        ("batchseg", "[]", "expected a JSON object"),
    ],
)
def test_metadata_of_another_form_are_refused_by_their_key(key, text, words):
    with pytest.raises(ModelError, match=r"n\.onnx") as caught:
        read_metadata({key: text}, "n.onnx")
    assert words in str(caught.value)


def test_what_baking_writes_is_read_back(tmp_path):
    classes = (ClassInfo(name="soil", color="#a0522d"), ClassInfo(name="water", color="#1f77b4"))
    path = write_onnx(
        tmp_path / "n.onnx",
        shape=("n", "h", "w", 3),
        dtype=TensorProto.UINT8,
        output=(TensorProto.UINT8, ("n", "h", "w")),
        metadata=baked_metadata(confidence_output=True, classes=classes),
    )
    package = read_model(str(path))
    assert (package.origin, package.layout, package.dtype, package.bands) == ("baked", "NHWC", "uint8", 3)
    assert (package.output, package.confidence_output, package.classes) == ("classes", True, classes)
    assert (package.declares_transforms, package.normalize, package.limits) == (True, None, ())


def test_a_deploy_file_beside_it_describes_it(tmp_path):
    path = write_onnx(tmp_path / "model.onnx")
    (tmp_path / "deploy.yaml").write_text("Deploy: {model: model.pdmodel, transforms: [{type: Normalize}]}")
    package = read_model(str(path))
    assert (package.origin, package.normalize) == ("paddleseg", Normalize(mean=(), std=()))


def test_two_inputs_and_one_answer_per_image_are_refused(tmp_path):
    assert "takes 2 inputs (x0, x1)" in refusal(write_onnx(tmp_path / "a.onnx", inputs=2))
    classifier = write_onnx(tmp_path / "b.onnx", output=(TensorProto.FLOAT, ("n", 5)))
    assert "one answer per image" in refusal(classifier)
    assert "expected four axes" in refusal(write_onnx(tmp_path / "c.onnx", shape=("n", 3, "h")))


def test_every_cut_of_a_file_is_refused(tmp_path):
    path = write_onnx(tmp_path / "net.onnx")
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        assert "net.onnx" in refusal(path)


@pytest.mark.parametrize("content", [b"<html>404 Not Found</html>", b"\x08\x07", b"hello"])
def test_what_is_no_onnx_file_is_refused(tmp_path, content):
    (tmp_path / "net.onnx").write_bytes(content)
    assert "ONNX" in refusal(tmp_path)


def test_weights_outside_the_file_are_checked_and_belong_to_the_digest(tmp_path):
    path = write_onnx(tmp_path / "net.onnx", external="net.bin")
    weights = tmp_path / "net.bin"
    whole, digest = weights.read_bytes(), read_model(str(path)).digest
    weights.write_bytes(bytes(len(whole)))
    assert read_model(str(path)).digest != digest
    weights.write_bytes(whole[:-1])
    assert "net.bin is cut off: 59 of 60 bytes" in refusal(path)
    weights.unlink()
    assert "net.bin, which is missing" in refusal(path)


def test_weights_are_not_looked_for_elsewhere(tmp_path):
    path = write_onnx(tmp_path / "net.onnx", external="a23456789.bin")
    content = path.read_bytes()
    (tmp_path / "a23456789.bin").rename(tmp_path.parent / "a23456.bin")
    path.write_bytes(content.replace(b"a23456789.bin", b"../a23456.bin"))
    assert "outside its own folder" in refusal(path)


def test_two_onnx_files_in_a_folder_are_refused(tmp_path):
    for name in ("a.onnx", "b.onnx"):
        write_onnx(tmp_path / name)
    assert "several networks (a.onnx, b.onnx)" in refusal(tmp_path)


def test_without_onnx_the_extra_is_named(tmp_path, monkeypatch):
    path = write_onnx(tmp_path / "net.onnx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert "pip install '.[onnx]'" in refusal(path)

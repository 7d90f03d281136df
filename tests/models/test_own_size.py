"""Networks that resize their input themselves have one size: the one that they answer at."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from batchseg.errors import ModelError
from batchseg.models.onnx_file import read_onnx
from batchseg.models.openvino_file import read_openvino
from batchseg.models.reading import read_model

SIDE = 64


def write(
    path: Path,
    *,
    takes: tuple[int | str, int | str] = ("h", "w"),
    answers: tuple[int | str, int | str] = (SIDE, SIDE),
    crop: int = 0,
    back: bool = False,
    inferred: bool = False,
) -> Path:
    """A network that brings an image to SIDE x SIDE, normalises it, and looks at it by one convolution.

    Args:
        path: of the file.
        takes: height and width of its input, as the file says.
        answers: the same of its output.
        crop: pixels that are cut off each side after that.
        back: whether its answer comes back to the image's size.
        inferred: whether the file holds the shapes of its tensors.
    """
    constants = {
        "first": np.array([0], np.int64),
        "second": np.array([2], np.int64),
        "last": np.array([4], np.int64),
        "side": np.array([SIDE, SIDE], np.int64),
        "from": np.array([crop, crop], np.int64),
        "to": np.array([SIDE - crop, SIDE - crop], np.int64),
        "axes": np.array([2, 3], np.int64),
        "mean": np.full((1, 3, 1, 1), 0.4, np.float32),
        "one": np.array([1, 1], np.int64),
        "weights": np.full((1, 3, 3, 3), 0.1, np.float32),
    }
    nodes = [
        helper.make_node("Shape", ["image"], ["shape"]),
        helper.make_node("Slice", ["shape", "first", "second"], ["kept"]),
        helper.make_node("Slice", ["shape", "second", "last"], ["sides"]),
        helper.make_node("Concat", ["kept", "side"], ["sizes"], axis=0),
        helper.make_node("Resize", ["image", "", "", "sizes"], ["small"], mode="linear"),
    ]
    image = "small"
    if crop:
        nodes.append(helper.make_node("Slice", ["small", "from", "to", "axes"], ["middle"]))
        image = "middle"
    nodes += [
        helper.make_node("Sub", [image, "mean"], ["normal"]),
        helper.make_node("Conv", ["normal", "weights"], ["seen" if back else "map"], pads=[1, 1, 1, 1]),
    ]
    if back:
        nodes += [
            helper.make_node("Concat", ["one", "sides"], ["wide"], axis=0),
            helper.make_node("Resize", ["seen", "", "", "wide"], ["map"], mode="linear"),
        ]
    graph = helper.make_graph(
        nodes,
        "resizes",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, *takes])],
        [helper.make_tensor_value_info("map", TensorProto.FLOAT, ["n", 1, *answers])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    if inferred:
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    onnx.save(model, str(path))
    return path


def shape_of(path: Path) -> tuple[int | None, ...] | None:
    return read_onnx(path.read_bytes(), path)[0].shape


@pytest.mark.parametrize("inferred", [True, False])
def test_a_network_of_any_size_that_answers_at_one_has_that_one(tmp_path: Path, inferred: bool) -> None:
    path = write(tmp_path / "net.onnx", inferred=inferred)
    assert shape_of(path) == (None, 3, SIDE, SIDE)
    assert read_model(str(path)).size_hw == (SIDE, SIDE)


def test_one_that_answers_at_the_images_size_stays_free(tmp_path: Path) -> None:
    path = write(tmp_path / "net.onnx", back=True, answers=("h", "w"))
    assert shape_of(path) == (None, 3, None, None)


def test_a_size_that_only_the_output_says_fixes_nothing(tmp_path: Path) -> None:
    """Exporters write the traced size there, of networks of any size too."""
    path = write(tmp_path / "net.onnx", back=True, answers=(200, 200))
    assert shape_of(path) == (None, 3, None, None)


def test_a_network_of_its_own_size_is_as_it_was(tmp_path: Path) -> None:
    assert shape_of(write(tmp_path / "net.onnx", takes=(SIDE, SIDE))) == (None, 3, SIDE, SIDE)


@pytest.mark.parametrize("takes", [("h", "w"), (SIDE - 8, SIDE - 8)])
@pytest.mark.parametrize("inferred", [True, False])
def test_a_network_that_crops_is_refused(
    tmp_path: Path, takes: tuple[int | str, int | str], inferred: bool
) -> None:
    """With an input as large as the crop its answer has the input's size, and lies elsewhere."""
    path = write(tmp_path / "net.onnx", takes=takes, answers=(56, 56), crop=4, inferred=inferred)
    with pytest.raises(ModelError, match=r"cuts 56 x 56 pixels out of each image.*without CenterCrop"):
        shape_of(path)


def test_an_export_for_another_size_than_its_answer_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "net.onnx", takes=(100, 100))
    with pytest.raises(ModelError, match=r"takes 100 x 100 pixels, brings them to 64 x 64 .*\(64, 64\)"):
        shape_of(path)


def test_openvino_files_say_the_same(tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")

    def converted(path: Path) -> Path:
        target = path.with_suffix(".xml")
        openvino.save_model(openvino.convert_model(str(path)), str(target))
        return target

    free = converted(write(tmp_path / "free.onnx"))
    assert read_openvino(free.read_bytes(), free)[0].shape == (None, 3, SIDE, SIDE)
    cropping = converted(write(tmp_path / "cropping.onnx", answers=(56, 56), crop=4))
    with pytest.raises(ModelError, match="cuts 56 x 56 pixels"):
        read_openvino(cropping.read_bytes(), cropping)

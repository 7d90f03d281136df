"""What a network does in training is refused; ONNX Runtime shows what depends on the tile or on chance."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from batchseg.errors import ModelError
from batchseg.models.reading import read_model

STATISTICS = ["scale", "bias", "mean", "var"]


def constant(name: str, value: bool) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.array(value)))


def batch_norm(opset: int, *, training: bool) -> list[onnx.NodeProto]:
    more = {"training_mode": int(training)} if opset >= 14 else {}
    outputs = ["scores", *(["m", "v"] if opset >= 14 else ["m", "v", "sm", "sv"])] if training else ["scores"]
    return [helper.make_node("BatchNormalization", ["image", *STATISTICS], outputs, name="bn", **more)]


def dropout(*, training: bool) -> list[onnx.NodeProto]:
    ratio = helper.make_node(
        "Constant", [], ["ratio"], value=numpy_helper.from_array(np.array(0.5, np.float32))
    )
    node = helper.make_node("Dropout", ["image", "ratio", "train"], ["scores"], name="drop")
    return [ratio, constant("train", training), node]


def within(nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """In one branch of an If; constants lie outside it."""
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, None)
    inner = [node for node in nodes if node.op_type != "Constant"]
    branch = helper.make_graph(inner, "then", [], [scores])
    same = helper.make_tensor_value_info("same", TensorProto.FLOAT, None)
    other = helper.make_graph([helper.make_node("Identity", ["image"], ["same"])], "else", [], [same])
    outside = [node for node in nodes if node.op_type == "Constant"]
    chosen = helper.make_node("If", ["yes"], ["scores_out"], then_branch=branch, else_branch=other)
    return [*outside, constant("yes", True), chosen]


def write(path: Path, nodes: list[onnx.NodeProto], opset: int = 17) -> Path:
    output = "scores_out" if nodes[-1].op_type == "If" else "scores"
    shape = ["n", 3, "h", "w"]
    ones = [numpy_helper.from_array(np.ones(3, np.float32), name) for name in STATISTICS]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)],
        ones,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


CASES = {
    "batch normalization": lambda training: (batch_norm(17, training=training), 17),
    "the same, opset 13": lambda training: (batch_norm(13, training=training), 13),
    "dropout": lambda training: (dropout(training=training), 17),
    "dropout in a branch": lambda training: (within(dropout(training=training)), 17),
    "batch normalization in a branch": lambda training: (within(batch_norm(17, training=training)), 17),
}


@pytest.mark.parametrize("make", CASES.values(), ids=CASES)
def test_a_network_in_training_mode_is_refused_and_otherwise_read(make, tmp_path: Path) -> None:
    path = write(tmp_path / "a.onnx", *make(True))
    with pytest.raises(ModelError, match=r"works as in training: the \w+ '\w+' .*network\.eval\(\)"):
        read_model(str(path))
    assert read_model(str(write(tmp_path / "b.onnx", *make(False)))).bands == 3


@pytest.mark.parametrize("name", ["batch normalization", "dropout", "dropout in a branch"])
def test_what_is_refused_depends_on_the_tile_or_on_chance(name, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pixels = np.random.default_rng(0).random((1, 3, 8, 8), dtype=np.float32)
    for training in (True, False):
        path = write(tmp_path / "a.onnx", *CASES[name](training))
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        output = [session.get_outputs()[0].name]
        (whole,) = session.run(output, {"image": pixels})
        (part,) = session.run(output, {"image": pixels[..., :4]})
        assert np.allclose(whole[..., :4], part) is not training

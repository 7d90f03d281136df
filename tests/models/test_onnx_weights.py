"""Tensors whose weights lie in other files, wherever in a model they are."""

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graphs import write_onnx
from onnx import TensorProto, helper, numpy_helper

from batchseg.errors import ModelError
from batchseg.models.onnx_weights import external_files, tensors_of
from batchseg.models.reading import read_model

WEIGHTS = np.ones((5, 3, 1, 1), np.float32)


def outside(location: str = "w.bin", name: str = "w", **said: str) -> Any:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=WEIGHTS.shape)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **said}.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def sparse(tensor: Any) -> Any:
    indices = numpy_helper.from_array(np.arange(15, dtype=np.int64), "i")
    return helper.make_sparse_tensor(tensor, indices, [15])


def a_graph(*nodes: Any, initializers: Any = ()) -> Any:
    return helper.make_graph(list(nodes), "g", [], [], list(initializers))


def constant(value: Any) -> Any:
    return helper.make_node("Constant", [], ["c"], value=value)


def in_if(graph: Any) -> Any:
    return helper.make_node("If", ["x0"], ["d"], then_branch=a_graph(), else_branch=graph)


def a_function(*nodes: Any, default: Any = None) -> Any:
    function = helper.make_function("own", "F", [], ["c"], list(nodes), [helper.make_opsetid("", 17)])
    if default is not None:
        function.attribute_proto.append(helper.make_attribute("value", default))
    return function


def put(model: Any, where: str, tensor: Any) -> None:
    """The tensor into a place of the model."""
    graph = model.graph
    if where == "initializer":
        graph.initializer.append(tensor)
    elif where == "sparse initializer":
        graph.sparse_initializer.append(sparse(tensor))
    elif where == "Constant":
        graph.node.append(constant(tensor))
    elif where == "sparse Constant":
        graph.node.append(helper.make_node("Constant", [], ["c"], sparse_value=sparse(tensor)))
    elif where == "list of tensors":
        graph.node.append(helper.make_node("Own", [], ["c"], values=[tensor]))
    elif where == "initializer in If":
        graph.node.append(in_if(a_graph(initializers=[tensor])))
    elif where == "Constant in If in Loop":
        body = a_graph(in_if(a_graph(constant(tensor))))
        graph.node.append(helper.make_node("Loop", ["", ""], ["d"], body=body))
    elif where == "list of graphs":
        graph.node.append(helper.make_node("Own", [], ["d"], bodies=[a_graph(constant(tensor))]))
    elif where == "function":
        model.functions.append(a_function(constant(tensor)))
    elif where == "graph in a function":
        model.functions.append(a_function(in_if(a_graph(initializers=[tensor]))))
    elif where == "default of a function":
        model.functions.append(a_function(default=tensor))
    elif where == "training":
        model.training_info.add().algorithm.CopyFrom(a_graph(constant(tensor)))
    elif where == "type that says otherwise":
        graph.node.append(constant(tensor))
        graph.node[-1].attribute[0].type = onnx.AttributeProto.FLOAT


PLACES = (
    "initializer",
    "sparse initializer",
    "Constant",
    "sparse Constant",
    "list of tensors",
    "initializer in If",
    "Constant in If in Loop",
    "list of graphs",
    "function",
    "graph in a function",
    "default of a function",
    "training",
    "type that says otherwise",
)


def write(path: Path, where: str, tensor: Any) -> Path:
    model = onnx.load(write_onnx(path))
    put(model, where, tensor)
    path.write_bytes(model.SerializeToString())
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        read_model(str(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("where", PLACES)
def test_a_tensor_is_found_wherever_it_is(tmp_path, where):
    path = write(tmp_path / "m" / "net.onnx", where, outside())
    assert "w" in {tensor.name for tensor in tensors_of(onnx.load(path, load_external_data=False))}
    assert "w.bin, which is missing" in refusal(path)
    weights = path.with_name("w.bin")
    weights.write_bytes(WEIGHTS.tobytes())
    digest = read_model(str(path)).digest
    weights.write_bytes((WEIGHTS + 1).tobytes())
    assert read_model(str(path)).digest != digest
    weights.write_bytes(WEIGHTS.tobytes()[:-1])
    assert "w.bin is cut off: 59 of 60 bytes" in refusal(path)
    write(path, where, outside("../w.bin"))
    weights.rename(tmp_path / "w.bin")
    assert "outside its own folder" in refusal(path)


def test_a_model_without_such_tensors_keeps_its_digest(tmp_path):
    """That of the file alone, and that of the initializers' files after it, as in outputs there are."""
    path = write_onnx(tmp_path / "a.onnx", ends=["Softmax"])
    assert read_model(str(path)).digest == hashlib.sha256(path.read_bytes()).hexdigest()
    path = write_onnx(tmp_path / "b" / "b.onnx", external="b.bin")
    both = path.read_bytes() + path.with_name("b.bin").read_bytes()
    assert read_model(str(path)).digest == hashlib.sha256(both).hexdigest()


@pytest.mark.parametrize(
    "location",
    [
        *("", "..", "../w.bin", "/etc/hostname", "sub/../../w.bin", "a\\..\\w.bin", "w.bin\n", "w\0.bin"),
        *("link.bin", "folder/w.bin", "loop/w.bin", "*/_ORT_MEM_ADDR_/*", "a" * 5000, "missing.bin", "sub"),
        *("pipe", "w.bin/x", "file:///etc/hostname", "//w.bin"),
    ],
)
def test_names_that_lead_elsewhere_or_to_no_file_are_refused(tmp_path, location):
    folder = tmp_path / "m"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    (folder / "w.bin").write_bytes(WEIGHTS.tobytes())
    (folder / "link.bin").symlink_to(tmp_path / "w.bin")
    (folder / "folder").symlink_to(tmp_path)
    (folder / "loop").symlink_to(folder / "loop")
    os.mkfifo(folder / "pipe")
    for part in ("*", "*/_ORT_MEM_ADDR_"):
        (folder / part).mkdir()
    (folder / "*/_ORT_MEM_ADDR_/*").write_bytes(WEIGHTS.tobytes())
    assert str(folder) in refusal(write(folder / "net.onnx", "Constant", outside(location)))


@pytest.mark.parametrize("location", ["w.bin", "./w.bin", "sub/w.bin", "sub/inside.bin", "über.bin"])
def test_files_in_the_folder_and_below_are_taken(tmp_path, location):
    (tmp_path / "sub").mkdir()
    for name in ("w.bin", "sub/w.bin", "über.bin"):
        (tmp_path / name).write_bytes(WEIGHTS.tobytes())
    (tmp_path / "sub" / "inside.bin").symlink_to(tmp_path / "w.bin")
    path = write(tmp_path / "net.onnx", "Constant", outside(location))
    assert external_files(onnx.load(path, load_external_data=False), path) == [location]
    read_model(str(path))


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"offset": "0", "length": "60"}, None),
        ({"offset": "8", "length": "52"}, None),
        ({"offset": "8", "length": "60"}, "60 of 68 bytes"),
        ({"offset": "8"}, "60 of 68 bytes"),
        ({"length": "61"}, "60 of 61 bytes"),
        ({"offset": "-1"}, "says"),
        ({"offset": "1e3"}, "says"),
        ({"length": " 7"}, "says"),
        ({"length": "1_0"}, "says"),
        ({"length": "٣"}, "says"),
        ({"offset": "9" * 5000}, "says"),
        ({"length": "0x10"}, "says"),
        ({"length": ""}, "says"),
    ],
)
def test_offset_and_length_are_numbers_and_lie_in_the_file(tmp_path, said, words):
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    path = write(tmp_path / "net.onnx", "Constant", outside(**said))
    if words is None:
        read_model(str(path))
    else:
        assert words in refusal(path)


def test_an_entry_that_is_given_twice_and_a_size_below_zero_are_refused(tmp_path):
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    twice = outside()
    twice.external_data.add(key="location", value="../w.bin")
    assert "expected one location" in refusal(write(tmp_path / "net.onnx", "Constant", twice))
    negative = outside()
    negative.dims[0] = -5
    assert "expected one location" in refusal(write(tmp_path / "net.onnx", "Constant", negative))


def test_an_encrypted_network_holds_its_weights(tmp_path):
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    path = write(tmp_path / "net.onnx", "Constant", outside())
    path = path.rename(tmp_path / "net.onnx.enc")
    with pytest.raises(ModelError, match=r"is encrypted and keeps weights in w\.bin"):
        read_model(str(tmp_path), decrypt=Path.read_bytes)

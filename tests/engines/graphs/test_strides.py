"""A network's stride by the shapes of its tensors, in Paddle's two formats and in ONNX."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import REPOSITORY, SHARED
from onnx import TensorProto, helper, numpy_helper
from packages import onnx_package, paddle_package, plain

from batchseg.engines.graphs import strides
from batchseg.engines.graphs.derive import own_network
from batchseg.engines.graphs.strides import stride_of
from batchseg.models.encryption import encrypt_model
from batchseg.models.keys import new_key, write_key
from batchseg.models.package import ModelOptions, ModelPackage
from batchseg.models.reading import read_model, read_package


def found(package: ModelPackage, channels: int = 3, side: int = 512) -> int:
    return stride_of(package, own_network(package), channels=channels, side=side)


def write_net(path: Path, *strides: int, size: Sequence[Any] = ("h", "w"), cells: int = 1) -> ModelPackage:
    """Max pools of these strides, all of it enlarged again, and a pooling of the whole to `cells` beside it.

    With a fixed size a reshape in the graph holds it: the network runs at no other.
    """
    total = int(np.prod(strides))
    nodes, last = [], "x"
    for number, stride in enumerate(strides):
        nodes.append(
            helper.make_node(
                "MaxPool", [last], [f"m{number}"], kernel_shape=[stride] * 2, strides=[stride] * 2
            )
        )
        last = f"m{number}"
    nodes.append(helper.make_node("Resize", [last, "", "scales"], ["up"], mode="nearest"))
    weights = {"scales": np.array([1, 1, total, total], np.float32)}
    fixed = size != ("h", "w")
    if fixed:
        side = int(size[0])
        weights["shape"] = np.array([1, 3, side, side], np.int64)
        kernel = [side // cells] * 2
        nodes.append(helper.make_node("AveragePool", ["up"], ["few"], kernel_shape=kernel, strides=kernel))
        nodes.append(helper.make_node("Reshape", ["up", "shape"], ["p"]))
    else:
        nodes.append(helper.make_node("GlobalAveragePool", ["up"], ["mean"]))
        nodes.append(helper.make_node("Add", ["up", "mean"], ["p"]))
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, *size]) for name in ("x", "p")]
    if fixed:
        values.append(helper.make_tensor_value_info("few", TensorProto.FLOAT, ["n", 3, cells, cells]))
    initial = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "net", values[:1], values[1:], initial)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    hw = tuple(int(side) for side in size) if fixed else (None, None)
    return onnx_package(path, bands=3, size_hw=hw)


@pytest.mark.parametrize("stride", [7, 10, 12, 14, 20, 24, 28, 40, 48])
def test_a_stride_that_is_no_power_of_two_is_found(tmp_path: Path, stride: int) -> None:
    assert found(write_net(tmp_path / "a.onnx", stride)) == stride


def test_a_stride_that_divides_none_of_the_sides_is_not_called_1(tmp_path: Path) -> None:
    assert found(write_net(tmp_path / "a.onnx", 11)) == 0


@pytest.mark.parametrize("steps", [(1,), (2,), (2, 2, 2, 2), (4, 4, 2), (2, 64)])
def test_the_stride_is_the_product_of_all_steps(tmp_path: Path, steps: tuple[int, ...]) -> None:
    assert found(write_net(tmp_path / "net.onnx", *steps)) == np.prod(steps)


@pytest.mark.parametrize(("cells", "expected"), [(1, 16), (4, 16), (8, 16)])
def test_a_network_of_one_size_shows_it_too_and_pooled_cells_are_none(tmp_path, cells, expected):
    package = write_net(tmp_path / "net.onnx", 4, 4, size=(256, 256), cells=cells)
    assert found(package, side=256) == expected


@pytest.mark.parametrize(("model", "expected"), [("landcover", 16), ("magnetic-tile", 16)])
def test_the_stride_of_the_networks_in_the_repository(model: str, expected: int) -> None:
    assert found(read_model(str(REPOSITORY / "models" / model))) == expected


@pytest.mark.parametrize(("model", "expected"), [("coarse", 4), ("conv", 1), ("adaptive", 1)])
def test_pooling_to_a_number_of_cells_is_no_stride(models: Path, model: str, expected: int) -> None:
    assert found(paddle_package(models / model, 3)) == expected


def test_a_program_of_paddle_2_shows_it(models: Path) -> None:
    folder = SHARED / "models" / "ppocrv4-det-paddle"
    if not folder.exists():
        pytest.skip(f"no {folder}")
    assert found(paddle_package(folder, 3, stem="inference")) == 32


def test_an_encrypted_network_shows_it(models: Path, tmp_path: Path) -> None:
    key, file = new_key(), tmp_path / "key"
    write_key(file, key)
    encrypt_model(models / "coarse", tmp_path / "sealed", key)
    package = read_package(ModelOptions(path=str(tmp_path / "sealed"), key_file=str(file)))
    assert package.encrypted
    assert found(package) == 4


def test_what_a_library_does_not_show_is_unknown(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: str) -> None:
        raise RuntimeError(path)

    monkeypatch.setattr(strides, "_paddle", fail)
    package = paddle_package(models / "coarse", 3)
    assert stride_of(package, plain(package), channels=3, side=64) == 0

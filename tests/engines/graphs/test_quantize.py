"""A small network in int8, against itself in fp32; the graphs are made here."""

import dataclasses
import hashlib
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY
from graphs import CLASSES, _write, write_nhwc
from onnx import helper
from packages import bake_of, onnx_package

from batchseg.engines.base import engine
from batchseg.engines.graphs import quantize as quantize_module
from batchseg.engines.graphs.bake_onnx import bake_onnx
from batchseg.engines.graphs.quantize import int8_offer, pack, quantize, quantized_network, unpack
from batchseg.engines.openvino import import_openvino
from batchseg.errors import ModelError
from batchseg.models.package import Network
from batchseg.system.machine import has_fast_bf16

COUNT = 6


def write_two_convolutions(path: Path) -> Path:
    """With batch normalisation between them, which belongs to the first."""
    rng = np.random.default_rng(3)
    weights = {
        "w": rng.normal(0, 0.3, (16, 3, 3, 3)).astype(np.float32),
        "v": rng.normal(0, 0.3, (CLASSES, 16, 3, 3)).astype(np.float32),
        **{
            name: np.full(16, value, np.float32)
            for name, value in zip("sbmd", (1.2, 0.1, 0.2, 0.9), strict=True)
        },
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1] * 4),
        helper.make_node("BatchNormalization", ["c", "s", "b", "m", "d"], ["n"]),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("Conv", ["r", "v"], ["p"], pads=[1] * 4),
    ]
    return _write(path, nodes, weights, ["n", 3, "h", "w"], ["n", CLASSES, "h", "w"])


def images(count: int = COUNT, side: int = 48) -> list[np.ndarray]:
    """Smooth ones, raw, NHWC."""
    rows, cols = np.mgrid[0:side, 0:side]
    waves = [
        [np.sin(rows / (4 + n + b)) * np.cos(cols / (7 - b + n / 2)) for b in range(3)] for n in range(count)
    ]
    values = np.clip(127 + 110 * np.array(waves), 0, 255).astype(np.uint8)
    return [np.ascontiguousarray(one.transpose(1, 2, 0)[None]) for one in values]


@pytest.fixture(scope="module")
def baked(tmp_path_factory: pytest.TempPathFactory) -> Network:
    folder = tmp_path_factory.mktemp("baked")
    source = write_two_convolutions(folder / "net.onnx")
    bake_onnx(str(source), bake_of(3, confidence=True, margin=4), "NCHW", folder / "baked.onnx")
    return Network(
        format="onnx",
        path=str(folder / "baked.onnx"),
        layout="NHWC",
        bands=3,
        dtype="uint8",
        baked=True,
        confidence=True,
    )


@pytest.fixture(autouse=True)
def _as_on_machines_that_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("graphs.quantize", "openvino"):
        monkeypatch.setattr(f"batchseg.engines.{module}.has_fast_int8", lambda: True)


def answers(network: Network, precision: str = "fp32") -> list[list[np.ndarray]]:
    session = engine("openvino").load(network, precision=precision, device="cpu", threads=1)  # type: ignore[arg-type]
    return [session.run(image) for image in images()]


def test_a_quantised_network_answers_nearly_as_before(baked: Network, tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    made = quantize(baked, images(), tmp_path, count=COUNT)
    assert (made.format, made.quantized, made.baked, made.dtype) == ("openvino", True, True, "uint8")
    exact, rounded = answers(baked), answers(made, "int8")
    ids, confidences = (
        [np.stack([one[n] for one in some]).astype(int) for some in (exact, rounded)] for n in (0, 1)
    )
    assert ids[0].shape == ids[1].shape == (COUNT, 1, 40, 40)
    assert 0.95 < np.mean(ids[0] == ids[1]) < 1
    assert np.abs(confidences[0] - confidences[1]).mean() < 10
    assert len(np.unique(ids[0])) > 1


def test_both_convolutions_are_in_int8_and_what_is_baked_is_not(baked: Network, tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    made = quantize(baked, images(), tmp_path, count=COUNT)
    model = import_openvino().Core().read_model(made.path)
    fed = {
        target.get_node().get_friendly_name()
        for op in model.get_ops()
        if op.get_type_name() == "FakeQuantize"
        for target in op.output(0).get_target_inputs()
    }
    kinds = [op.get_type_name() for op in model.get_ops()]
    assert (kinds.count("Convolution"), kinds.count("FakeQuantize")) == (2, 2)
    assert not any(name.startswith("batchseg_") for name in fed)


def test_confidences_are_left_out_where_nobody_asks_for_them(baked: Network, tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    made = quantize(baked, images(), tmp_path, count=COUNT)
    both = answers(made, "int8")
    alone = answers(dataclasses.replace(made, confidence=False), "int8")
    assert [len(one) for one in alone] == [1] * COUNT
    np.testing.assert_array_equal([one[0] for one in alone], [one[0] for one in both])


def test_the_rest_runs_in_bf16_where_that_is_fast(
    baked: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("nncf")
    made = quantize(baked, images(), tmp_path, count=COUNT)

    def hint() -> str:
        session = engine("openvino").load(made, precision="int8", device="cpu", threads=1)
        session.run(images()[0])
        (request,) = session._requests.values()  # type: ignore[attr-defined]
        return str(request.get_compiled_model().get_property("INFERENCE_PRECISION_HINT").get_type_name())

    assert hint() == ("bf16" if has_fast_bf16() else "f32")
    monkeypatch.setattr("batchseg.engines.openvino.has_fast_bf16", lambda: False)
    assert hint() == "f32"


def test_a_machine_without_fast_int8_refuses_what_was_quantised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batchseg.engines.openvino.has_fast_int8", lambda: False)
    made = Network(format="openvino", path=str(tmp_path / "model.xml"), quantized=True)
    with pytest.raises(ModelError, match=r"no fast int8 \(VNNI\).*use machines that have it, or fp32"):
        engine("openvino").load(made, precision="int8", device="cpu", threads=1)


TWICE = """
import sys
from pathlib import Path
from test_quantize import COUNT, images
from batchseg.engines.graphs.quantize import pack, quantize
from batchseg.models.package import Network

seen = []
sys.addaudithook(lambda event, _: seen.append(event) if event.startswith("socket.") else None)
network = Network(format="onnx", path=sys.argv[1], layout="NHWC", bands=3, dtype="uint8", baked=True)
folder = Path(sys.argv[2])
quantize(network, images(), folder, count=COUNT)
pack(folder, folder / "packed.zip")
print(*seen, end="", file=sys.stderr)
"""


def test_equal_batches_give_equal_bytes_and_nothing_is_sent_or_said(baked: Network, tmp_path: Path) -> None:
    """In two processes whose sets are in another order; neither writes to the home folder or connects."""
    pytest.importorskip("nncf")
    paths = os.pathsep.join(map(str, (REPOSITORY, REPOSITORY / "tests", Path(__file__).parent)))
    packed = []
    for seed in "12":
        home, folder = tmp_path / f"home-{seed}", tmp_path / f"made-{seed}"
        home.mkdir()
        folder.mkdir()
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("XDG_")},
            "HOME": str(home),
            "PYTHONPATH": paths,
            "PYTHONHASHSEED": seed,
        }
        done = subprocess.run(
            [sys.executable, "-B", "-c", TWICE, baked.path, str(folder)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert list(home.rglob("*")) == []
        packed.append((folder / "packed.zip").read_bytes())
    assert packed[0] == packed[1]


def test_quantising_is_silent_and_leaves_the_process_as_it_was(
    baked: Network, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("nncf")
    before = logging.getLoggerClass()
    quantize(baked, images(), tmp_path, count=COUNT)
    assert capfd.readouterr() == ("", "")
    assert logging.getLoggerClass() is before


def test_a_network_without_sums_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    nodes = [helper.make_node("Relu", ["x"], ["p"])]
    path = _write(tmp_path / "net.onnx", nodes, {}, ["n", 3, "h", "w"], ["n", 3, "h", "w"])
    batch = np.ones((1, 3, 8, 8), np.float32)
    with pytest.raises(ModelError, match="no convolution that could be computed in int8"):
        quantize(Network(format="onnx", path=str(path), bands=3), [batch], tmp_path, count=1)
    with pytest.raises(ModelError, match="no plain ONNX network"):
        quantize(Network(format="onnx", path=str(path), encrypted=True), [batch], tmp_path, count=1)
    (tmp_path / "net.onnx").write_bytes(b"no network")
    with pytest.raises(ModelError, match="cannot be quantised"):
        quantize(Network(format="onnx", path=str(path), bands=3), [batch], tmp_path, count=1)


def test_int8_is_offered_where_a_float_model_can_be_quantised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = onnx_package(write_nhwc(tmp_path / "net.onnx"), layout="NHWC", bands=6)
    monkeypatch.setattr(quantize_module, "version", lambda: "3.4.0")
    assert int8_offer(package, "cpu").reason is None
    assert "no NVIDIA GPU" in str(int8_offer(package, "gpu").reason)
    monkeypatch.setattr(quantize_module, "has_fast_int8", lambda: False)
    assert "no fast int8" in str(int8_offer(package, "cpu").reason)
    monkeypatch.setattr(quantize_module, "has_fast_int8", lambda: True)
    changes = {"quantized": "arrived quantised", "encrypted": "never quantised", "dtype": "fp16"}
    for field, reason in changes.items():
        value = "float16" if field == "dtype" else True
        assert reason in str(int8_offer(dataclasses.replace(package, **{field: value}), "cpu").reason)  # type: ignore[arg-type]
    monkeypatch.setattr(quantize_module, "version", lambda: None)
    assert int8_offer(package, "cpu").reason == quantize_module.NOT_INSTALLED
    assert "'.[int8]'" in quantize_module.NOT_INSTALLED


def test_both_files_are_packed_into_one(tmp_path: Path) -> None:
    made, found = tmp_path / "made", tmp_path / "found"
    made.mkdir()
    found.mkdir()
    contents = {"model.xml": b"<net/>", "model.bin": bytes(3000)}
    for name, content in contents.items():
        (made / name).write_bytes(content)
    digests = set()
    for number in range(2):
        pack(made, tmp_path / f"{number}.zip")
        digests.add(hashlib.sha256((tmp_path / f"{number}.zip").read_bytes()).hexdigest())
        for name in contents:
            os.utime(made / name, (0, 0))
    assert len(digests) == 1
    unpack((tmp_path / "0.zip").read_bytes(), found)
    assert {path.name: path.read_bytes() for path in found.iterdir()} == contents
    with pytest.raises(ModelError, match="holds none"):
        unpack(json.dumps({}).encode(), found)


def test_what_was_quantised_is_described_by_what_was_baked(tmp_path: Path) -> None:
    package = onnx_package(write_nhwc(tmp_path / "net.onnx"), layout="NHWC", bands=6)
    spec = bake_of(6, confidence=True)
    network = quantized_network(package, spec, tmp_path)
    assert (network.format, network.quantized) == ("openvino", True)
    assert (network.dtype, network.layout, network.bands) == ("uint8", "NHWC", 6)
    assert (network.baked, network.confidence) == (True, True)
    bare = quantized_network(package, None, tmp_path)
    assert (bare.dtype, bare.baked, bare.bands, bare.params) == (
        "float32",
        False,
        6,
        str(tmp_path / "model.bin"),
    )

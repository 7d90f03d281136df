"""What holds for every engine, and what each offers on this machine."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import write_nchw, write_nhwc
from onnx import helper, numpy_helper
from packages import onnx_package, paddle_package, plain, tiles

from batchseg.engines.base import ENGINES, check_batch, engine, is_out_of_memory
from batchseg.engines.openvino import COMPILED_SHAPES, OpenVINOSession
from batchseg.errors import ModelError
from batchseg.models.encryption import encrypt_model
from batchseg.models.keys import new_key
from batchseg.models.package import ModelPackage, Network
from batchseg.system.machine import has_fast_bf16


@pytest.fixture
def onnx_file(tmp_path: Path) -> ModelPackage:
    return onnx_package(write_nchw(tmp_path / "net.onnx"), bands=3)


def offered(name: str, package: ModelPackage, device: str = "cpu") -> dict[str, str | None]:
    return {offer.precision: offer.reason for offer in engine(name).offers(package, device)}


def test_every_engine_has_its_name_and_version() -> None:
    for name in ENGINES:
        assert engine(name).name == name
        assert engine(name).version()
    with pytest.raises(ModelError, match="there are paddle, "):
        engine("torch")


def test_offers_say_why_not(models: Path, onnx_file: ModelPackage) -> None:
    paddle = paddle_package(models / "conv")
    assert list(offered("paddle", paddle)) == ["fp32", "bf16", "fp16", "int8"]
    assert offered("paddle", paddle)["fp32"] is None
    assert "a third of the pixels" in str(offered("paddle", paddle)["int8"])
    assert all("ONNX" in str(reason) for reason in offered("paddle", onnx_file).values())
    for name in ("paddle", "openvino"):
        assert (offered(name, paddle)["bf16"] is None) == has_fast_bf16()
    assert offered("onnxruntime", onnx_file)["int8"] == "the model is not quantised"
    quantized = dataclasses.replace(onnx_file, quantized=True)
    for name, expected in (("onnxruntime", ["fp32", "int8"]), ("openvino", ["int8"])):
        assert [p for p, reason in offered(name, quantized).items() if reason is None] == expected


@pytest.mark.parametrize("name", list(ENGINES))
def test_a_machine_without_a_gpu_offers_none(name: str, models: Path) -> None:
    reasons = offered(name, paddle_package(models / "conv"), "gpu").values()
    assert all(reasons)
    network = plain(paddle_package(models / "conv"))
    with pytest.raises(ModelError, match=r"CPU build|no CUDAExecution|no TensorrtExecution|not offered"):
        engine(name).load(network, precision="fp32", device="gpu", threads=1)


@pytest.mark.parametrize("name", ["paddle", "onnxruntime", "openvino"])
def test_batches_that_would_crash_or_mislead_are_refused(
    name: str, models: Path, onnx_file: ModelPackage
) -> None:
    network = plain(paddle_package(models / "conv") if name == "paddle" else onnx_file)
    session = engine(name).load(network, precision="fp32", device="cpu", threads=1)
    for shape, complaint in (
        ((0, 3, 8, 8), "empty"),
        ((3, 8, 8), "four axes"),
        ((1, 8, 8, 3), "takes NCHW with 3 bands"),
    ):
        with pytest.raises(ValueError, match=complaint):
            session.run(np.zeros(shape, dtype=np.float32))
    with pytest.raises(ValueError, match="takes float32"):
        session.run(np.zeros((1, 3, 8, 8), dtype=np.uint8))
    # Not contiguous, several shapes: 20 are more than any engine keeps compiled.
    for size in range(8, 28):
        batch = np.random.default_rng(size).random((1, size, size + 3, 3), dtype=np.float32)
        (scores,) = session.run(batch.transpose(0, 3, 1, 2))
        assert scores.shape[-2:] == (size, size + 3)
        assert scores.flags.c_contiguous
    if isinstance(session, OpenVINOSession):
        assert len(session._requests) == COMPILED_SHAPES


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_answers_of_two_runs_do_not_share_memory(name: str, onnx_file: ModelPackage) -> None:
    session = engine(name).load(plain(onnx_file), precision="fp32", device="cpu", threads=1)
    batch = tiles(3).transpose(0, 3, 1, 2).astype(np.float32)
    (first,) = session.run(batch)
    kept = first.copy()
    session.run(batch * 2)
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_channels_last_runs_from_the_file_alone(name: str, tmp_path: Path) -> None:
    package = onnx_package(write_nhwc(tmp_path / "net.onnx"), layout="NHWC", bands=6)
    session = engine(name).load(plain(package), precision="fp32", device="cpu", threads=1)
    (scores,) = session.run(tiles(6).astype(np.float32) / 255)
    np.testing.assert_allclose(scores.sum(axis=-1), 1, rtol=1e-5)


@pytest.mark.parametrize("name", ["paddle", "onnxruntime", "openvino"])
def test_a_file_that_cannot_be_loaded_is_the_models_fault(name: str, tmp_path: Path) -> None:
    path = tmp_path / ("net.json" if name == "paddle" else "net.onnx")
    path.write_text("{}")
    (tmp_path / "net.pdiparams").write_bytes(b"")
    network = Network(
        format="pir" if name == "paddle" else "onnx", path=str(path), params=str(tmp_path / "net.pdiparams")
    )
    with pytest.raises(ModelError, match="cannot load"):
        engine(name).load(network, precision="fp32", device="cpu", threads=1)


@pytest.mark.parametrize("name", ["paddle", "onnxruntime", "openvino"])
def test_precisions_that_are_not_offered_are_not_loaded(
    name: str, models: Path, onnx_file: ModelPackage
) -> None:
    network = plain(paddle_package(models / "conv") if name == "paddle" else onnx_file)
    for precision in ("fp16", "int8"):
        with pytest.raises(ModelError, match=precision):
            engine(name).load(network, precision=precision, device="cpu", threads=1)


@pytest.mark.skipif(not has_fast_bf16(), reason="no bf16 on this CPU")
@pytest.mark.parametrize("name", ["paddle", "openvino"])
def test_bf16_is_near_and_not_equal(name: str, models: Path, onnx_file: ModelPackage) -> None:
    network = plain(paddle_package(models / "conv") if name == "paddle" else onnx_file)
    batch = np.random.default_rng(0).random((1, 3, 64, 80), dtype=np.float32)
    exact, rounded = (
        engine(name).load(network, precision=p, device="cpu", threads=1).run(batch)[0]
        for p in ("fp32", "bf16")
    )
    difference = np.abs(exact - rounded).max() / np.abs(exact).max()
    assert 1e-6 < difference < 0.02


def test_checks_know_layouts() -> None:
    network = Network(format="onnx", path="x", layout="NHWC", bands=6, dtype="uint8")
    check_batch(np.zeros((1, 8, 8, 6), dtype=np.uint8), network)
    with pytest.raises(ValueError, match="NHWC with 6 bands"):
        check_batch(np.zeros((1, 6, 8, 8), dtype=np.uint8), network)
    for layout, shape in (("NCHW", (1, 3, 32, 64)), ("NHWC", (1, 32, 64, 3))):
        batch = np.zeros(shape, dtype=np.float32)
        fixed = Network(format="onnx", path="x", layout=layout, size_hw=(32, 64))
        check_batch(batch, fixed)
        check_batch(batch, dataclasses.replace(fixed, size_hw=(None, 64)))
        for size_hw in ((64, 32), (None, 32), (16, None)):
            with pytest.raises(ValueError, match="pixels"):
                check_batch(batch, dataclasses.replace(fixed, size_hw=size_hw))


def test_out_of_memory_is_known_by_its_words() -> None:
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("ResourceExhaustedError: \n\nOut of memory error on GPU 0."))
    assert is_out_of_memory(RuntimeError("Failed to allocate memory for requested buffer of size 1"))
    assert not is_out_of_memory(RuntimeError("(InvalidArgument) dims"))


@pytest.mark.filterwarnings("ignore:Specified provider:UserWarning")
def test_a_provider_that_does_not_start_is_no_silent_cpu(
    onnx_file: ModelPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    everything = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: everything)
    assert offered("onnxruntime", onnx_file, "gpu")["fp16"] is None
    with pytest.raises(ModelError, match="would run on CPUExecutionProvider: CUDAExecutionProvider did not"):
        engine("onnxruntime").load(plain(onnx_file), precision="fp32", device="gpu", threads=1)


@pytest.mark.parametrize("name", ["paddle", "onnxruntime", "openvino"])
def test_encrypted_networks_are_loaded_from_memory(
    name: str, models: Path, onnx_file: ModelPackage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = models / "conv" if name == "paddle" else Path(onnx_file.network)
    network = plain(paddle_package(source) if name == "paddle" else onnx_file)
    key = new_key()
    encrypt_model(source, tmp_path / "hidden", key)
    folder = tmp_path / "hidden"
    files = [folder / f"{Path(path).name}.enc" for path in (network.path, network.params) if path]
    hidden = dataclasses.replace(
        network, encrypted=True, path=str(files[0]), params=str(files[1]) if files[1:] else None
    )
    batch = np.random.default_rng(0).random((1, 3, 8, 24), dtype=np.float32)
    with pytest.raises(ModelError, match="there is no key"):
        engine(name).load(hidden, precision="fp32", device="cpu", threads=1)
    monkeypatch.setenv("BATCHSEG_MODEL_KEY", key.secret.hex())
    answers = [
        engine(name).load(which, precision="fp32", device="cpu", threads=1).run(batch)[0]
        for which in (network, hidden)
    ]
    np.testing.assert_array_equal(*answers)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_an_engine_tells_nobody(name: str, onnx_file: ModelPackage, tmp_path: Path) -> None:
    code = (
        "import sys; from batchseg.engines.base import engine; from batchseg.models.package import Network\n"
        f"network = Network(format='onnx', path={onnx_file.network!r})\n"
        f"engine({name!r}).load(network, precision='fp32', device='cpu', threads=1)\n"
        "sys.exit('openvino_telemetry' in sys.modules)"
    )
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**environment, "HOME": str(tmp_path / "home")}
    )
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_quantised_network_runs_as_int8(name: str, onnx_file: ModelPackage, tmp_path: Path) -> None:
    quantized = dataclasses.replace(
        plain(onnx_file), path=str(quantize(Path(onnx_file.network), tmp_path / "int8.onnx")), quantized=True
    )
    batch = np.random.default_rng(0).random((1, 3, 32, 40), dtype=np.float32)
    (exact,) = engine(name).load(plain(onnx_file), precision="fp32", device="cpu", threads=1).run(batch)
    (rounded,) = engine(name).load(quantized, precision="int8", device="cpu", threads=1).run(batch)
    assert 1e-4 < np.abs(exact - rounded).max() < 0.1
    # In fp32 ONNX Runtime rounds as the graph says and computes exactly: the reference of int8.
    (simulated,) = engine("onnxruntime").load(quantized, precision="fp32", device="cpu", threads=1).run(batch)
    stepped = np.rint(batch * np.float32(255)) / np.float32(255)
    (expected,) = engine(name).load(plain(onnx_file), precision="fp32", device="cpu", threads=1).run(stepped)
    np.testing.assert_allclose(simulated, expected, atol=1e-4)


def quantize(source: Path, target: Path) -> Path:
    """Rounds the image to 256 steps of 1/255 and back before the convolution, as exporters write it."""
    proto = onnx.load(str(source))
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["d"]),
    ]
    proto.graph.node[0].input[0] = "d"
    convolution = proto.graph.node.pop()
    proto.graph.node.extend([*nodes, convolution])
    constants = {"step": np.float32(1 / 255), "zero": np.uint8(0)}
    proto.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()
    )
    onnx.checker.check_model(proto)
    onnx.save(proto, str(target))
    return target

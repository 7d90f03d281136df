"""What holds for every engine, and what each offers on this machine."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx_files import offered
from packages import paddle_package, plain, tiles

from batchseg.engines.base import ENGINES, check_batch, engine, is_out_of_memory
from batchseg.engines.openvino import COMPILED_SHAPES, OpenVINOSession
from batchseg.errors import ModelError
from batchseg.models.encryption import encrypt_model
from batchseg.models.keys import new_key
from batchseg.models.package import ModelPackage, Network
from batchseg.system.machine import has_fast_bf16


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

"""What each engine loads: own files, baked and converted ones; all give the reference's classes."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from graphs import write_nchw
from packages import BANDS, bake_of, near_ties, normalized, onnx_package, paddle_package, plain, tiles

from batchseg.engines.base import engine
from batchseg.engines.graphs import derive
from batchseg.engines.graphs.derive import own_network, prepare_network
from batchseg.errors import ModelError
from batchseg.models.package import Bake, ModelPackage, Network


def prepared(package: ModelPackage, name: str, bake: Bake | None = None, **fields) -> Network:
    return prepare_network(package, engine=engine(name), bake=bake, precision="fp32", device="cpu", **fields)


def run(network: Network, name: str, batch: np.ndarray, precision: str = "fp32") -> list[np.ndarray]:
    return engine(name).load(network, precision=precision, device="cpu", threads=1).run(batch)


@pytest.mark.parametrize("name", ["conv", "spectral"])
@pytest.mark.parametrize("engine_name", ["onnxruntime", "openvino"])
def test_engines_agree_with_paddle_baked_and_not(engine_name: str, name: str, models: Path) -> None:
    package = paddle_package(models / name)
    spec = bake_of(BANDS[name], confidence=name == "conv")
    pixels = tiles(BANDS[name])
    batch = normalized(pixels, spec)
    (scores,) = run(plain(package), "paddle", batch)
    network = prepared(package, engine_name)
    assert (network.format, network.layout, network.dtype) == ("onnx", "NCHW", "float32")
    (bare,) = run(network, engine_name, batch)
    np.testing.assert_allclose(bare, scores, atol=2e-3)
    baked = prepared(package, engine_name, spec)
    assert (baked.format, baked.layout, baked.dtype, baked.baked) == ("onnx", "NHWC", "uint8", True)
    answers = run(baked, engine_name, pixels)
    assert len(answers) == 1 + spec.confidence
    assert not np.any((answers[0] != scores.argmax(axis=1)) & ~near_ties(scores))


def test_what_needs_nothing_is_the_owners_own(models: Path) -> None:
    package = paddle_package(models / "conv")
    assert prepared(package, "paddle") == own_network(package)
    baked = dataclasses.replace(package, origin="baked", dtype="uint8", layout="NHWC", confidence_output=True)
    network = prepared(baked, "paddle", bake_of(3))
    assert (network.path, network.baked, network.confidence) == (package.network, True, True)


def test_a_derived_network_is_made_once(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package, spec = paddle_package(models / "conv"), bake_of(3, confidence=True)
    first = prepared(package, "paddle", spec)
    monkeypatch.setattr(derive, "bake_paddle", None)
    assert prepared(package, "paddle", spec) == first
    with pytest.raises(TypeError):  # another threshold is another network
        prepared(package, "paddle", dataclasses.replace(spec, threshold=0.25))


def test_an_owners_conversion_is_used(models: Path, tmp_path: Path) -> None:
    other = write_nchw(tmp_path / "conv.onnx", classes=3)
    package = dataclasses.replace(paddle_package(models / "conv"), conversion=str(other))
    assert prepared(package, "onnxruntime").path == str(other)
    spec = bake_of(3)
    first = prepared(package, "onnxruntime", spec)
    write_nchw(other, classes=4)
    assert prepared(package, "onnxruntime", spec).path != first.path, "its content counts, not its name"


def test_that_a_network_cannot_be_converted_is_remembered(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def refuse(package: ModelPackage, target: Path, *, size_hw: tuple[int, int] | None) -> None:
        asked.append(size_hw)
        if size_hw is None:
            raise derive.NoConversionError("adaptive pooling")
        target.write_bytes(b"fixed")

    monkeypatch.setattr(derive, "to_onnx", refuse)
    package = dataclasses.replace(paddle_package(models / "conv"), digest="another")
    for _ in range(2):
        network = prepared(package, "onnxruntime", size_hw=(64, 96))
        assert (network.size_hw, Path(network.path).read_bytes()) == ((64, 96), b"fixed")
        with pytest.raises(ModelError, match="adaptive pooling"):
            prepared(package, "onnxruntime")
    assert asked == [None, (64, 96)]


def test_what_an_engine_cannot_have_is_refused(models: Path, tmp_path: Path) -> None:
    onnx_file = onnx_package(write_nchw(tmp_path / "net.onnx"))
    with pytest.raises(ModelError, match="paddle does not run the ONNX file"):
        prepared(onnx_file, "paddle")
    encrypted = dataclasses.replace(paddle_package(models / "conv"), encrypted=True)
    assert prepared(encrypted, "paddle").encrypted
    for name, bake in (("paddle", bake_of(3)), ("onnxruntime", None)):
        with pytest.raises(ModelError, match="kept on disk"):
            prepared(encrypted, name, bake)
    with pytest.raises(ModelError, match="takes float32 pixels"):
        prepared(paddle_package(models / "conv"), "paddle-tensorrt", bake_of(3))

"""What each engine loads: own files, baked and converted ones; all give the reference's classes."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from fixed_graphs import REACH, write_fixed
from graphs import write_nchw
from packages import BANDS, bake_of, near_ties, normalized, onnx_package, paddle_package, plain, tiles

from batchseg.engines.base import engine
from batchseg.engines.graphs import derive
from batchseg.engines.graphs.derive import can_open, own_network, prepare_network
from batchseg.errors import ModelError, StoppedError
from batchseg.models.package import Bake, ModelPackage, Network, Resize
from batchseg.system.processes import NotStartedError, ProcessDiedError


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


def fixed_package(path: Path, middle: str = "nothing", **fields: object) -> ModelPackage:
    return onnx_package(write_fixed(path, middle), bands=3, size_hw=(64, 64), **fields)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The processes that are started to open a network."""
    asked: list[object] = []

    def count(*arguments: object, **options: object) -> object:
        asked.append(arguments)
        return call(*arguments, **options)

    call = derive.call_in_fresh_process
    monkeypatch.setattr(derive, "call_in_fresh_process", count)
    return asked


def test_an_onnx_file_at_its_own_size_is_what_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package, spec = fixed_package(tmp_path / "net.onnx"), bake_of(3)
    monkeypatch.setattr(derive, "_opened", None)
    for size_hw in (None, (64, 64)):
        assert prepared(package, "onnxruntime", size_hw=size_hw) == own_network(package)
    at_once = prepared(package, "onnxruntime", spec)
    assert prepared(package, "onnxruntime", spec, size_hw=(64, 64)) == at_once
    assert at_once.size_hw == (64, 64)
    free = dataclasses.replace(package, size_hw=(None, None))
    assert prepared(free, "onnxruntime", size_hw=(96, 96)) == own_network(free)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_an_onnx_file_of_one_size_is_opened_for_another_and_baked_on_top(name: str, tmp_path: Path) -> None:
    package = fixed_package(tmp_path / "net.onnx")
    spec = bake_of(3, layout="NHWC", margin=REACH)
    pixels = tiles(3, 1, (128, 128))
    batch = normalized(pixels, spec)
    network = prepared(package, name, size_hw=(128, 128))
    assert (network.size_hw, network.bands, network.baked) == ((None, None), 3, False)
    assert network.path != package.network
    (scores,) = run(network, name, batch)
    corner = (slice(None), slice(None), slice(REACH, 64 - REACH), slice(REACH, 64 - REACH))
    (native,) = run(own_network(package), "onnxruntime", np.ascontiguousarray(batch[..., :64, :64]))
    np.testing.assert_allclose(scores[corner], native[corner], rtol=0, atol=1e-4)
    baked = prepared(package, name, spec, size_hw=(128, 128))
    assert (baked.size_hw, baked.dtype, baked.baked) == ((None, None), "uint8", True)
    (ids,) = run(baked, name, pixels)
    kept = scores[..., REACH:-REACH, REACH:-REACH]
    assert not np.any((ids != kept.argmax(axis=1)) & ~near_ties(kept))
    assert len(np.unique(ids)) > 1


def test_a_network_is_opened_once_for_all_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package, asked = fixed_package(tmp_path / "net.onnx", "mean"), counted(monkeypatch)
    assert can_open(package) is None
    paths = {prepared(package, "onnxruntime", size_hw=(side, side)).path for side in (32, 96, 128)}
    assert (len(paths), len(asked)) == (1, 1)


def test_that_a_network_cannot_be_opened_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, asked = fixed_package(tmp_path / "net.onnx", "reshape"), counted(monkeypatch)
    told = r"net.onnx takes 64 x 64 pixels alone: Reshape to a constant shape .*; leave `tile_size` out$"
    for bake in (None, bake_of(3)):
        with pytest.raises(ModelError, match=told):
            prepared(package, "onnxruntime", bake, size_hw=(128, 128))
    assert str(can_open(package)).startswith("Reshape to a constant shape")
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("error", "raised", "word"),
    [(ProcessDiedError("was ended"), ModelError, "was ended"), (NotStartedError("x"), StoppedError, "tries")],
)
def test_a_process_that_dies_opens_nothing_and_is_not_remembered(
    error: Exception, raised: type[Exception], word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = dataclasses.replace(fixed_package(tmp_path / "net.onnx"), digest=word)  # opened by no other

    def die(*arguments: object, **options: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(derive, "call_in_fresh_process", die)
        with pytest.raises(raised, match=word):
            prepared(package, "onnxruntime", size_hw=(128, 128))
    assert can_open(package) is None


def test_what_is_never_opened(tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = fixed_package(tmp_path / "net.onnx")
    monkeypatch.setattr(derive, "_opened", None)
    sealed = dataclasses.replace(package, encrypted=True)
    with pytest.raises(ModelError, match=r"it is encrypted, .* kept on disk; leave `tile_size` out"):
        prepared(sealed, "onnxruntime", size_hw=(128, 128))
    resized = dataclasses.replace(package, geometry=(Resize(target_hw=(64, 64)),))
    assert "its own Resize" in str(can_open(resized))
    assert prepared(resized, "onnxruntime", size_hw=(128, 128)) == own_network(resized)
    paddle = dataclasses.replace(paddle_package(models / "conv"), size_hw=(64, 64))
    assert "only ONNX files" in str(can_open(paddle))
    assert prepared(paddle, "paddle", size_hw=(128, 128)) == own_network(paddle)

"""Packages baked for other programs: what is written is read back and gives numpy's classes."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from factories import make_facts, make_package
from graphs import mixing, write_nchw
from packages import bake_of, near_ties, normalized, onnx_package, probabilities, tiles

from batchseg.engines.base import engine
from batchseg.errors import ConfigError, ModelError
from batchseg.models.package import ClassInfo, ModelPackage, Network, Normalize, Resize
from batchseg.predict import bake_package
from batchseg.predict.bake_package import _per_band, rebake

CLASSES = tuple(ClassInfo(name=f"class {number}", color=f"#00000{number}") for number in range(5))
NORMALIZE = Normalize(mean=(0.4, 0.45, 0.5), std=(0.25, 0.27, 0.29))


@pytest.fixture
def package(tmp_path: Path) -> ModelPackage:
    return dataclasses.replace(
        onnx_package(write_nchw(tmp_path / "net.onnx"), bands=3),
        normalize=NORMALIZE,
        declares_transforms=True,
        classes=CLASSES,
    )


@pytest.fixture
def probed(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The probe, which takes a process of its own, has shown logits of four classes."""
    monkeypatch.setattr(bake_package, "probe", lambda *_, **__: (make_facts(), "cpu"))
    return monkeypatch


def test_a_baked_package_takes_raw_pixels_and_gives_classes(tmp_path: Path, package: ModelPackage) -> None:
    baked = rebake(package, tmp_path / "new" / "baked", confidence=True)
    assert (baked.origin, baked.layout, baked.dtype, baked.bands) == ("baked", "NHWC", "uint8", 3)
    assert (baked.output, baked.confidence_output, baked.classes) == ("classes", True, CLASSES)
    network = Network(format="onnx", path=baked.network, layout="NHWC", dtype="uint8")
    session = engine("onnxruntime").load(network, precision="fp32", device="cpu", threads=1)
    ids, sure = session.run(tiles(3))
    spec = bake_of(3, mean=NORMALIZE.mean, std=NORMALIZE.std)
    scores = np.einsum("kb,nbhw->nkhw", mixing(3), normalized(tiles(3), spec))
    assert not np.any((ids != scores.argmax(axis=1)) & ~near_ties(scores))
    assert np.abs(sure - probabilities(scores).max(axis=1) * 255).max() <= 1
    with pytest.raises(ModelError, match="is baked already"):
        rebake(baked, tmp_path / "twice", confidence=False)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"encrypted": True}, "is encrypted: bake first, then encrypt"),
        ({"origin": "baked"}, "is baked already"),
        ({"geometry": (Resize(target_hw=(8, 8)),)}, "asks for Resize, which stays outside of the graph"),
        ({"dtype": "float16"}, "takes float16, not float32"),
        ({"declares_transforms": False}, "does not say how its input is normalised"),
    ],
)
def test_what_cannot_be_baked_is_refused_before_anything_is_written(tmp_path, changes, reason) -> None:
    with pytest.raises(ModelError, match=f"model.json {reason}"):
        rebake(make_package(**changes), tmp_path / "baked", confidence=False)
    assert not (tmp_path / "baked").exists()


def test_of_ids_there_is_no_confidence(
    tmp_path: Path, package: ModelPackage, probed: pytest.MonkeyPatch
) -> None:
    probed.setattr(bake_package, "probe", lambda *_, **__: (make_facts(output="classes"), "cpu"))
    with pytest.raises(ModelError, match="has argmax baked in and gives no scores"):
        rebake(package, tmp_path / "baked", confidence=True)
    assert not (tmp_path / "baked").exists()


@pytest.mark.usefixtures("probed")
def test_a_folder_that_exists_is_left_alone(tmp_path: Path, package: ModelPackage) -> None:
    (tmp_path / "baked").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="baked: File exists; name a folder that does not exist"):
        rebake(package, tmp_path / "baked", confidence=False)
    with pytest.raises(ConfigError, match="file/baked: Not a directory"):
        rebake(package, tmp_path / "file" / "baked", confidence=False)
    assert not list((tmp_path / "baked").iterdir())


@pytest.mark.usefixtures("probed")
def test_a_package_without_normalisation_takes_the_pixels_as_they_are(
    tmp_path: Path, package: ModelPackage
) -> None:
    baked = rebake(dataclasses.replace(package, normalize=None), tmp_path / "baked", confidence=False)
    network = Network(format="onnx", path=baked.network, layout="NHWC", dtype="uint8")
    session = engine("onnxruntime").load(network, precision="fp32", device="cpu", threads=1)
    (ids,) = session.run(tiles(3))
    scores = np.einsum("kb,nhwb->nkhw", mixing(3), tiles(3).astype(np.float32))
    assert not np.any((ids != scores.argmax(axis=1)) & ~near_ties(scores))


def test_one_value_is_that_of_every_band_and_none_is_a_half() -> None:
    assert _per_band((), 4) == (0.5,) * 4
    assert _per_band((0.2,), 3) == (0.2,) * 3
    assert _per_band((0.1, 0.2, 0.3), 3) == (0.1, 0.2, 0.3)

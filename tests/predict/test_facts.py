"""What a probe showed, kept."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from batchseg.errors import ModelError
from batchseg.models.reading import read_model
from batchseg.predict import probe as probe_module


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHSEG_MODEL_CACHE", str(tmp_path / "cache"))


def ask(package, **changes):
    wanted = {"channels": None, "tile_size": 32, "device": "auto"}
    return probe_module.probed_once(package, **{**wanted, **changes})


def forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments, **options):
        raise AssertionError(options)

    monkeypatch.setattr(probe_module, "probe", refuse)


def test_a_model_is_probed_once_wherever_it_lies(models: Path, tmp_path: Path, monkeypatch) -> None:
    first = ask(read_model(str(models / "spectral")))
    forbid(monkeypatch)
    shutil.copytree(models / "spectral", tmp_path / "copy")
    assert ask(read_model(str(tmp_path / "copy"))) == first


@pytest.mark.parametrize(
    "changes", [{"tile_size": 48}, {"channels": 4}, {"device": "cpu"}, {"engines": ("onnxruntime",)}]
)
def test_another_question_is_asked_again(models: Path, monkeypatch, changes) -> None:
    package = read_model(str(models / "spectral"))
    ask(package)
    forbid(monkeypatch)
    with pytest.raises(AssertionError):
        ask(package, **changes)
    with pytest.raises(AssertionError):
        ask(replace(package, layout="NHWC"))


def test_refusals_encrypted_models_and_gpus_are_not_kept(models: Path, monkeypatch) -> None:
    with pytest.raises(ModelError):
        ask(read_model(str(models / "pooled")))
    with pytest.raises(ModelError):
        ask(read_model(str(models / "pooled")))
    package = read_model(str(models / "spectral"))
    ask(package)
    forbid(monkeypatch)
    with pytest.raises(AssertionError):
        ask(replace(package, encrypted=True))
    monkeypatch.setattr(probe_module, "has_gpu_nodes", lambda: True)
    with pytest.raises(AssertionError):
        ask(package)

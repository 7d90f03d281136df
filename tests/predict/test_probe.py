"""One tile through real networks."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from factories import make_facts, make_package
from fixed_graphs import write_fixed

from batchseg.errors import ModelError
from batchseg.models.package import ModelFacts, Padding, Resize
from batchseg.models.reading import read_model
from batchseg.predict import probe as probe_module
from batchseg.predict.probe import output_kind, probe, raster_stride
from batchseg.system.machine import cpu_class
from batchseg.system.processes import ProcessDiedError, ProcessHungError


def probed(folder: Path, channels: int | None = None):
    return probe(read_model(str(folder)), channels=channels, tile_size=64, device="auto")


def test_the_probe_finds_what_a_network_gives(models: Path) -> None:
    facts, device = probed(models / "spectral")
    assert device == "cpu"
    assert (facts.output, facts.class_count, facts.channels) == ("logits", 4, 4)
    assert facts.cpu_class == cpu_class()
    assert facts.engine.startswith("paddle ")
    ids, _ = probed(models / "ids")
    assert (ids.output, ids.class_count, ids.channels) == ("classes", None, 1)


def test_another_number_of_channels_is_refused(models: Path) -> None:
    with pytest.raises(ModelError, match=r"takes 4 channels, the job's `bands` names 3"):
        probed(models / "spectral", channels=3)


def test_a_network_that_does_not_segment_is_refused(models: Path) -> None:
    with pytest.raises(ModelError, match="one answer per image, as classifiers do"):
        probed(models / "pooled")


def test_a_cpu_build_asked_for_a_gpu_is_refused(models: Path) -> None:
    with pytest.raises(ModelError, match="CPU build"):
        probe(read_model(str(models / "conv")), channels=3, tile_size=32, device="gpu")


SCORES = np.random.default_rng(0).normal(size=(1, 3, 8, 6)).astype(np.float32)
SOFTMAX = np.exp(SCORES) / np.exp(SCORES).sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("output", "declared", "expected"),
    [
        (SCORES, None, ("logits", 3, "NCHW")),
        (SOFTMAX, None, ("probabilities", 3, "NCHW")),
        (SOFTMAX, "logits", ("logits", 3, "NCHW")),
        (np.moveaxis(SOFTMAX, 1, -1), None, ("probabilities", 3, "NHWC")),
        (SOFTMAX[:, :1], None, ("sigmoid", 2, "NCHW")),
        (SOFTMAX[:, 0], None, ("sigmoid", 2, "NCHW")),
        (np.zeros((1, 8, 6), np.int32), None, ("classes", None, "NCHW")),
        (np.zeros((1, 1, 8, 6), np.uint8), None, ("classes", None, "NCHW")),
    ],
)
def test_the_kind_of_output_shows_in_shape_and_values(output, declared, expected):
    assert output_kind(output, (8, 6), make_package(output=declared)) == expected


@pytest.mark.parametrize(
    ("output", "declared", "word"),
    [
        (SCORES[:, :1], None, "one band of scores outside"),
        (SCORES, "probabilities", "do not add up to 1"),
        (SCORES[:, :, :4], None, r"shape \[1, 3, 4, 6\]; expected class ids"),
    ],
)
def test_what_is_no_segmentation_is_refused(output, declared, word):
    with pytest.raises(ModelError, match=word):
        output_kind(output, (8, 6), make_package(output=declared))


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


@pytest.fixture(scope="module")
def known(models: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[ModelFacts, str]]:
    """A cache that has the model `spectral`, and what was found."""
    folder = tmp_path_factory.mktemp("known")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BATCHSEG_MODEL_CACHE", str(folder))
        return folder, ask(read_model(str(models / "spectral")))


def test_a_model_is_probed_once_wherever_it_lies(models: Path, tmp_path: Path, monkeypatch, known) -> None:
    folder, first = known
    monkeypatch.setenv("BATCHSEG_MODEL_CACHE", str(folder))
    forbid(monkeypatch)
    assert ask(read_model(str(models / "spectral"))) == first
    shutil.copytree(models / "spectral", tmp_path / "copy")
    assert ask(read_model(str(tmp_path / "copy"))) == first


@pytest.mark.parametrize(
    "changes", [{"tile_size": 48}, {"channels": 4}, {"device": "cpu"}, {"engines": ("onnxruntime",)}]
)
def test_another_question_is_asked_again(models: Path, monkeypatch, known, changes) -> None:
    package = read_model(str(models / "spectral"))
    monkeypatch.setenv("BATCHSEG_MODEL_CACHE", str(known[0]))
    forbid(monkeypatch)
    with pytest.raises(AssertionError):
        ask(package, **changes)
    with pytest.raises(AssertionError):
        ask(replace(package, layout="NHWC"))


def test_refusals_encrypted_models_and_gpus_are_not_kept(models: Path, monkeypatch, known) -> None:
    with pytest.raises(ModelError):
        ask(read_model(str(models / "pooled")))
    with pytest.raises(ModelError):
        ask(read_model(str(models / "pooled")))
    package = read_model(str(models / "spectral"))
    monkeypatch.setenv("BATCHSEG_MODEL_CACHE", str(known[0]))
    forbid(monkeypatch)
    with pytest.raises(AssertionError):
        ask(replace(package, encrypted=True))
    monkeypatch.setattr(probe_module, "has_gpu_nodes", lambda: True)
    with pytest.raises(AssertionError):
        ask(package)


def test_the_probe_finds_the_stride_and_keeps_it(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = read_model(str(models / "coarse"))
    facts, _ = ask(package, channels=3)
    assert facts.stride == 4
    forbid(monkeypatch)
    assert ask(package, channels=3)[0] == facts


@pytest.mark.parametrize("hung", [False, True])
def test_a_library_that_dies_while_it_shows_its_inside_refuses_no_model(monkeypatch, hung: bool) -> None:
    asked: list[bool] = []

    def alone(package, function, *arguments):
        asked.append(arguments[-1])
        if arguments[-1]:
            raise ModelError from (ProcessHungError() if hung else ProcessDiedError())
        return make_facts(stride=0), "cpu"

    monkeypatch.setattr(probe_module, "_alone", alone)
    facts, _ = probe(make_package(), channels=3, tile_size=64, device="cpu")
    assert (facts.stride, asked) == (0, [True, False])


RESIZED = (Resize(target_hw=(512, 512)),)


@pytest.mark.parametrize(
    ("geometry", "tile_size", "expected"),
    [
        ((), 500, 32),
        (RESIZED, 512, 32),
        (RESIZED, 1024, 64),
        (RESIZED, 1000, 125),
        ((Padding(target_hw=(640, 640), value=(0.0,)),), 500, 0),
        ((Resize(target_hw=(512, 256)),), 512, 0),
    ],
)
def test_a_stride_is_told_in_pixels_of_the_raster(geometry, tile_size, expected):
    assert raster_stride(make_package(geometry=geometry), 32, tile_size) == expected


def test_an_onnx_file_of_one_size_is_probed_at_the_jobs(tmp_path: Path) -> None:
    package = read_model(str(write_fixed(tmp_path / "net.onnx", "resize")))
    assert package.size_hw == (64, 64)
    for tile_size in (64, 96):
        facts, _ = probe(package, channels=None, tile_size=tile_size, device="cpu")
        assert (facts.output, facts.class_count, facts.stride) == ("logits", 5, 4)
    alone = read_model(str(write_fixed(tmp_path / "alone.onnx", "reshape")))
    assert probe(alone, channels=None, tile_size=64, device="cpu")[0].class_count == 5
    with pytest.raises(ModelError, match=r"64 x 64 pixels alone: Reshape .* leave `tile_size` out"):
        probe(alone, channels=None, tile_size=96, device="cpu")

"""`batchseg model ...` as users type it."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import SHARED, Command, JobWriter, batchseg, read_mask, write_raster
from factories import make_package
from runs import conv_job

from batchseg.cli.model import as_dict, describe
from batchseg.models.package import (
    ClassInfo,
    LimitLong,
    Normalize,
    Padding,
    Resize,
    ResizeByLong,
    ResizeByShort,
)


def test_inspect_prints_what_a_model_is(models: Path, command: Command) -> None:
    shown = command("model", "inspect", models / "conv")
    assert shown.returncode == 0
    assert "3 bands, float32, NCHW" in shown.stdout
    document = json.loads(command("model", "inspect", "--json", models / "conv").stdout)
    assert (document["bands"], document["format"], len(document["digest"])) == (3, "pir", 64)


@pytest.mark.slow
def test_a_baked_model_gives_the_same_mask(tmp_path: Path, write_job: JobWriter, models: Path) -> None:
    baked = batchseg("model", "bake", models / "conv", tmp_path / "baked", "--confidence")
    assert baked.returncode == 0, baked.stderr
    assert "uint8, NHWC" in baked.stdout
    job = conv_job(tmp_path, write_job, models, confidence=True)
    for number, words in enumerate([(), ("bake=false",), (f"model={tmp_path / 'baked'}",)]):
        options = [
            option for word in (f"output={tmp_path}/out{number}", *words) for option in ("--set", word)
        ]
        done = batchseg("run", job, *options)
        assert done.returncode == 0, done.stderr
    masks = [read_mask(tmp_path / f"out{number}", "a.tif") for number in range(3)]
    sure = [read_mask(tmp_path / f"out{number}", "a.tif", "confidence").astype(int) for number in range(3)]
    assert len(np.unique(masks[0])) == 3
    for mask, confidence in zip(masks[1:], sure[1:], strict=True):
        np.testing.assert_array_equal(mask, masks[0])
        assert np.abs(confidence - sure[0]).max() <= 1
    again = batchseg("model", "bake", tmp_path / "baked", tmp_path / "twice")
    assert (again.returncode, "is baked already" in again.stderr) == (4, True)


def test_an_encrypted_model_runs_with_its_key_alone(
    tmp_path: Path,
    write_job: JobWriter,
    models: Path,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key, hidden = tmp_path / "model.key", tmp_path / "hidden"
    assert command("model", "key", key).returncode == 0
    assert command("model", "key", key).returncode == 2  # a key that is overwritten is lost
    assert command("model", "encrypt", models / "conv", hidden, "--key-file", key).returncode == 0
    job = conv_job(tmp_path, write_job, models, bake=False)
    assert command("run", job).returncode == 0
    job = conv_job(tmp_path, write_job, models, model=str(hidden), output="out2")
    refused = command("run", job)
    assert refused.returncode == 4
    assert "there is no key" in refused.stderr
    monkeypatch.setenv("BATCHSEG_MODEL_KEY_FILE", str(key))
    done = command("run", job)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(read_mask(tmp_path / "out2", "a.tif"), read_mask(tmp_path / "out", "a.tif"))


def test_an_onnx_file_of_six_bands_channels_last_runs_from_a_job_alone(
    tmp_path: Path, write_job: JobWriter, command: Command
) -> None:
    from onnx import TensorProto, helper, save

    def tensor(name: str, bands: int):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 64, 64, bands])

    weights = np.random.default_rng(1).normal(size=(6, 5)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["input", "weights"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["output"], axis=-1),
        ],
        "pixelwise",
        [tensor("input", 6)],
        [tensor("output", 5)],
        [helper.make_tensor("weights", TensorProto.FLOAT, (6, 5), weights.ravel())],
    )
    save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8),
        tmp_path / "m.onnx",
    )
    pixels = np.random.default_rng(2).integers(0, 10_000, (7, 100, 150), dtype=np.uint16)
    write_raster(tmp_path / "in" / "a.tif", pixels)
    job = write_job(
        model="m.onnx",
        bands=[7, 1, 2, 3, 4, 5],
        normalize={"mean": [0.2], "std": [0.5]},
        classes=None,
        tile_size=None,
        confidence=True,
    )
    done = command("run", job, "--executor", "inline")
    assert done.returncode == 0, done.stderr
    prepared = (pixels[[6, 0, 1, 2, 3, 4]].astype(np.float32) / 10_000 - 0.2) / 0.5
    scores = np.einsum("bhw,bk->khw", prepared, weights)
    mask = read_mask(tmp_path / "out", "a.tif")
    top = np.sort(scores, axis=0)
    clear = top[-1] - top[-2] > 1e-5
    np.testing.assert_array_equal(mask[clear], scores.argmax(axis=0)[clear])
    assert clear.mean() > 0.999
    probability = 1 / np.exp(scores - scores.max(axis=0)).sum(axis=0)
    sure = read_mask(tmp_path / "out", "a.tif", "confidence")
    assert np.abs(sure - probability * 255).max() <= 1


def wrong_models() -> dict[str, tuple[str, str]]:
    return {
        "classifier": ("ppocr-cls-paddle", "one answer per image"),
        "no weights": ("ppocrv5-det-json-noweights", "pdiparams is missing"),
        "text": ("SOURCE.txt", "expected a folder"),
    }


@pytest.mark.skipif(not (SHARED / "models").is_dir(), reason="needs the shared models")
@pytest.mark.parametrize("name", wrong_models())
def test_a_wrong_model_is_exit_4_and_one_line_before_any_source_is_looked_at(
    name: str, tmp_path: Path, write_job: JobWriter, command: Command
) -> None:
    path, word = wrong_models()[name]
    job = write_job(model=str(SHARED / "models" / path), inputs="nowhere/*.tif")
    refused = command("run", job)
    assert refused.returncode == 4
    assert refused.stderr.count("\n") <= 2
    assert word in refused.stderr
    assert not (tmp_path / "out").exists()


def test_the_wrong_number_of_bands_is_exit_4(
    tmp_path: Path, write_job: JobWriter, models: Path, command: Command
) -> None:
    refused = command("run", conv_job(tmp_path, write_job, models, bands=[1, 2]))
    assert refused.returncode == 4
    assert "takes 3 channels, the job's `bands` names 2" in refused.stderr


def test_an_onnx_file_whose_weights_lie_beside_it_is_refused(tmp_path: Path, command: Command) -> None:
    from onnx import TensorProto, helper, save_model

    weights = helper.make_tensor(
        "w", TensorProto.FLOAT, (1, 1, 20, 20), np.ones(400, np.float32).tobytes(), raw=True
    )
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 20, 20]) for name in "xy"]
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])], "g", values[:1], values[1:], [weights]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    source = tmp_path / "m.onnx"
    save_model(model, str(source), save_as_external_data=True, location="w.bin", size_threshold=0)
    assert command("model", "key", tmp_path / "key").returncode == 0
    refused = command("model", "encrypt", source, tmp_path / "out", "--key-file", tmp_path / "key")
    assert refused.returncode == 4
    assert "keeps weights in w.bin, which would stay plain" in refused.stderr
    assert not (tmp_path / "out").exists()


STEPS = (
    Resize(target_hw=(200, 300), keep_ratio=True, size_divisor=32, interp="area"),
    ResizeByShort(short_size=512, max_size=1024),
    ResizeByLong(long_size=800),
    LimitLong(max_long=900, min_long=100),
    Padding(target_hw=(640, 640), value=(127.5,)),
)


FULL = make_package(
    network="/models/land/model.json.enc",
    encrypted=True,
    conversion="/models/land/model.onnx",
    model_name="PP-LiteSeg-T",
    bands=4,
    size_hw=(512, None),
    batch=1,
    size_divisor=32,
    quantized=True,
    geometry=STEPS,
    normalize=Normalize(mean=(), std=(0.25, 0.5)),
    output="sigmoid",
    confidence_output=True,
    threshold=0.3,
    classes=(ClassInfo(name="soil", color="#a0522d"), ClassInfo(name="water", color="#1f77b4")),
    tile_size=512,
    halo=38,
    pixel_size=0.5,
    limits=("argmax is baked in: no confidence",),
)


def test_everything_that_is_known_is_said():
    assert describe(FULL) == [
        "model    /models/land/model.json.enc (Paddle PIR program, encrypted)",
        "         /models/land/model.pdiparams",
        "         /models/land/model.onnx (its owner's conversion)",
        "         PP-LiteSeg-T, described by PaddleSeg's deploy.yaml",
        f"digest   {'0' * 64}",
        "input    4 bands, float32, NCHW, 512 x free pixels (height x width), batch 1",
        "         both sides multiples of 32",
        "         quantised by its owner",
        "before   Resize to 200 x 300 (area, ratio kept, up to multiples of 32), undone on the mask",
        "         ResizeByShort: the short side to 512, the long one at most 1024, undone on the mask",
        "         ResizeByLong: the long side to 800, undone on the mask",
        "         LimitLong: the long side at least 100 and at most 900, undone on the mask",
        "         Padding to 640 x 640 with 127.5, cut off the mask",
        "         0..255 to 0..1, then less mean (0.5), by std (0.25, 0.5)",
        "output   one band of scores in 0..1",
        "         a second output with the confidence",
        "         class 1 above 0.3",
        "classes  0 soil #a0522d",
        "         1 water #1f77b4",
        "advice   tile_size: 512, halo: 38",
        "         pixels of 0.5 m on the ground",
        "limits   argmax is baked in: no confidence",
    ]


def test_what_is_not_known_is_said_so():
    lines = describe(make_package(declares_transforms=False, normalize=None))
    assert lines[4:] == [
        "input    bands not declared, float32, NCHW, any size, any batch",
        "before   not declared",
        "output   not declared; a tile will tell",
    ]
    assert "before   not normalised" in describe(make_package(normalize=None))
    assert "before   nothing: raw pixels go in" in describe(make_package(origin="baked", normalize=None))


def test_the_dictionary_has_every_field_and_is_json():
    values = json.loads(json.dumps(as_dict(FULL)))
    assert set(values) == {field.name for field in dataclasses.fields(FULL)}
    kinds = ["Resize", "ResizeByShort", "ResizeByLong", "LimitLong", "Padding"]
    assert [step["type"] for step in values["geometry"]] == kinds
    assert values["geometry"][0]["target_hw"] == [200, 300]
    assert values["classes"][1] == {"name": "water", "color": "#1f77b4"}

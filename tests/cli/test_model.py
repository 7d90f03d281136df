"""`batchseg model ...` as users type it."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from conftest import SHARED, JobWriter, batchseg, read_mask, write_raster

from batchseg.cli.model import bench_table
from batchseg.predict.engine_trials import Bench, Trial
from batchseg.predict.gate import Agreement


def conv_job(tmp_path: Path, write_job: JobWriter, models: Path, **keys: object) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 90, 130), dtype=np.uint8)
    write_raster(tmp_path / "in" / "a.tif", pixels)
    usual = {
        "model": str(models / "conv"),
        "bands": None,
        "classes": None,
        "scale": None,
        "executor": "inline",
    }
    return write_job(**(usual | keys))


def test_inspect_prints_what_a_model_is(models: Path) -> None:
    shown = batchseg("model", "inspect", models / "conv")
    assert shown.returncode == 0
    assert "3 bands, float32, NCHW" in shown.stdout
    document = json.loads(batchseg("model", "inspect", "--json", models / "conv").stdout)
    assert (document["bands"], document["format"], len(document["digest"])) == (3, "pir", 64)


@pytest.mark.slow
def test_a_baked_model_gives_the_same_mask(tmp_path: Path, write_job: JobWriter, models: Path) -> None:
    baked = batchseg("model", "bake", models / "conv", tmp_path / "baked", "--confidence")
    assert baked.returncode == 0, baked.stderr
    assert "uint8, NHWC" in baked.stdout
    job = conv_job(tmp_path, write_job, models, confidence=True)
    for number, words in enumerate([(), ("bake=false",), (f"model={tmp_path / 'baked'}",)]):
        options = [option for word in (f"output=out{number}", *words) for option in ("--set", word)]
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
    tmp_path: Path, write_job: JobWriter, models: Path
) -> None:
    key, hidden = tmp_path / "model.key", tmp_path / "hidden"
    assert batchseg("model", "key", key).returncode == 0
    assert batchseg("model", "key", key).returncode == 2  # a key that is overwritten is lost
    assert batchseg("model", "encrypt", models / "conv", hidden, "--key-file", key).returncode == 0
    job = conv_job(tmp_path, write_job, models, bake=False)
    assert batchseg("run", job).returncode == 0
    job = conv_job(tmp_path, write_job, models, model=str(hidden), output="out2")
    refused = batchseg("run", job)
    assert refused.returncode == 4
    assert "there is no key" in refused.stderr
    environment = {**os.environ, "BATCHSEG_MODEL_KEY_FILE": str(key)}
    done = batchseg("run", job, env=environment)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(read_mask(tmp_path / "out2", "a.tif"), read_mask(tmp_path / "out", "a.tif"))


def test_an_onnx_file_of_six_bands_channels_last_runs_from_a_job_alone(
    tmp_path: Path, write_job: JobWriter
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
    done = batchseg("run", job, "--executor", "inline")
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
    name: str, tmp_path: Path, write_job: JobWriter
) -> None:
    path, word = wrong_models()[name]
    job = write_job(model=str(SHARED / "models" / path), inputs="nowhere/*.tif")
    refused = batchseg("run", job)
    assert refused.returncode == 4
    assert refused.stderr.count("\n") <= 2
    assert word in refused.stderr
    assert not (tmp_path / "out").exists()


def test_the_wrong_number_of_bands_is_exit_4(tmp_path: Path, write_job: JobWriter, models: Path) -> None:
    refused = batchseg("run", conv_job(tmp_path, write_job, models, bands=[1, 2]))
    assert refused.returncode == 4
    assert "takes 3 channels, the job's `bands` names 2" in refused.stderr


def test_the_table_says_who_was_run_and_who_was_not() -> None:
    near = Agreement(pixels=1000, equal=1000, iou=((0, 1.0),), confidence_difference=None)
    first = Trial(engine="paddle", precision="fp32", tiles_per_second=10.0, agreement=near)
    second = Trial(engine="openvino", precision="bf16", tiles_per_second=25.0, agreement=near)
    absent = Trial(engine="paddle", precision="fp16", reason="fp16 is for GPUs")
    lines = bench_table(
        Bench(
            trials=(first, second, absent), chosen=second, tiles=8, workers=2, class_count=3, classes_seen=1
        )
    )
    assert lines[2].split() == ["openvino", "bf16", "25.00", "2.50", "100.0000%", "1.0000", "chosen"]
    assert "not run: paddle fp16: fp16 is for GPUs" in lines
    assert "these tiles show 1 of 3 classes; nothing is proved of the others" in lines
    assert lines[-1].startswith("chosen: openvino bf16: 25.0 tiles/s")


def test_an_onnx_file_whose_weights_lie_beside_it_is_refused(tmp_path: Path) -> None:
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
    assert batchseg("model", "key", tmp_path / "key").returncode == 0
    refused = batchseg("model", "encrypt", source, tmp_path / "out", "--key-file", tmp_path / "key")
    assert refused.returncode == 4
    assert "keeps weights in w.bin, which would stay plain" in refused.stderr
    assert not (tmp_path / "out").exists()

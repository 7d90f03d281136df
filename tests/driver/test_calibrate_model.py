"""`model calibrate` of one band of scores: the threshold that it names gives the same masks."""

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from conftest import Command, JobWriter, read_mask, write_raster
from onnx import TensorProto, helper, numpy_helper


def write_sigmoid(path: Path) -> Path:
    """The sigmoid of the first of three bands."""
    weights = numpy_helper.from_array(np.array([1, 0, 0], np.float32).reshape(1, 3, 1, 1), "w")
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"]), helper.make_node("Sigmoid", ["y"], ["p"])]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", count, "h", "w"])
        for name, count in (("x", 3), ("p", 1))
    ]
    graph = helper.make_graph(nodes, "net", values[:1], values[1:], [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def write_images(folder: Path, temperature: float) -> None:
    """Two of logits, with classes as likely as the logits' temperature makes them."""
    for seed in range(2):
        rng = np.random.default_rng(seed)
        logits = rng.normal(0, 3, (3, 96, 96)).astype(np.float32)
        write_raster(folder / "in" / f"{seed}.tif", logits)
        likely = 1 / (1 + np.exp(-logits[0] / temperature))
        write_raster(
            folder / "labels" / f"{seed}.tif", (rng.random((96, 96)) < likely).astype(np.uint8)[None]
        )


@pytest.fixture
def job_of(tmp_path: Path, write_job: JobWriter):
    """A job over the images, of a model with a threshold."""

    def write(model: Path, threshold: str, output: str) -> Path:
        return write_job(
            model={"path": str(model), "threshold": yaml.safe_load(threshold)},
            output=output,
            bands=[1, 2, 3],
            classes=None,
            scale={"divide": 1},
            normalize="none",
            check_values=False,
        )

    return write


def test_the_threshold_that_is_named_keeps_every_pixels_class(
    tmp_path: Path, job_of, command: Command
) -> None:
    write_images(tmp_path, 2.0)
    job = job_of(write_sigmoid(tmp_path / "a.onnx"), "0.9", "before")
    truth = ("--truth", tmp_path / "in", tmp_path / "labels")
    told = command("model", "calibrate", job, tmp_path / "new", *truth)
    assert told.returncode == 0, told.stderr
    assert "labels of 2 images: classes 0 and 1\n" in told.stdout
    threshold = re.search(r"model: \{threshold: (\S+)\}, was 0\.9", told.stdout)[1]
    assert float(threshold) == pytest.approx(0.75, abs=0.02)  # of half the logit
    said = json.loads(command("model", "calibrate", job, "--json", *truth).stdout)
    assert (said["threshold"], said["labels"]["no_class"]) == (float(threshold), {})
    assert sum(said["labels"]["classes"]) == 2 * 96 * 96
    assert command("run", job, "--executor", "inline").returncode == 0
    after = job_of(tmp_path / "new", threshold, "after")
    assert command("run", after, "--executor", "inline").returncode == 0
    for name in ("0.tif", "1.tif"):
        before = read_mask(tmp_path / "before", name)
        assert set(np.unique(before)) == {0, 1}
        np.testing.assert_array_equal(read_mask(tmp_path / "after", name), before)


def test_a_temperature_without_a_threshold_writes_nothing(tmp_path: Path, job_of, command: Command) -> None:
    write_images(tmp_path, 0.3)
    job = job_of(write_sigmoid(tmp_path / "a.onnx"), "0.9994", "out")
    truth = ("--truth", tmp_path / "in", tmp_path / "labels")
    told = command("model", "calibrate", job, *truth)
    assert told.returncode == 0
    assert "no threshold in float32 keeps every class as 0.9994 has it" in told.stdout
    told = command("model", "calibrate", job, tmp_path / "new", *truth)
    assert told.returncode == 4
    assert "where float32 does not tell scores apart" in told.stderr
    assert not (tmp_path / "new").exists()

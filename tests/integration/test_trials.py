"""Whole runs that leave engine, tile or halo open, as users start them."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import BATCHSEG, JobWriter, batchseg, read_mask, write_raster
from liars import write_liar
from probed import write_conv

from batchseg.engines.graphs.to_onnx import to_onnx
from batchseg.models.reading import read_model

pytestmark = pytest.mark.slow

GATE = {"tiles": 2, "seconds": 0.1, "budget": 60}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHSEG_MODEL_CACHE", str(tmp_path / "cache"))


def scene(path: Path, seed: int = 0, height: int = 700) -> None:
    """Large enough to show what a halo changes."""
    write_raster(path, np.random.default_rng(seed).integers(0, 256, (3, height, 741), dtype=np.uint8))


@pytest.fixture
def open_job(tmp_path: Path, write_job: JobWriter):
    """Writes a job of a network that sees 9 pixels far; engine, precision, tile and halo are open."""
    scene(tmp_path / "in" / "a.tif")
    network = write_conv(tmp_path / "a.onnx", 9, gain=8.0)

    def write(**keys: Any) -> Path:
        usual = {
            "model": str(network),
            "bands": None,
            "classes": ["a", "b", "c"],
            "normalize": "none",
            "scale": None,
            "tile_size": None,
            "halo": None,
            "executor": "inline",
            "gate": GATE,
        }
        return write_job(**(usual | keys))

    return write


def state_of(output: Path) -> Any:
    return json.loads((output / "_batchseg" / "output.json").read_text())


def test_the_first_run_chooses_the_next_keep_and_the_next_output_remembers(tmp_path: Path, open_job) -> None:
    job = open_job()
    before = batchseg("plan", job)
    assert before.returncode == 0, before.stderr
    assert "the first run" in before.stdout
    first = batchseg("run", job)
    assert first.returncode == 0, first.stderr
    assert "reference: onnxruntime fp32, 2 tiles" in first.stderr
    assert "trying openvino fp32" in first.stderr
    state = state_of(tmp_path / "out")
    choice = state["choice"]
    assert (choice["halo"], choice["remembered"]) == (16, False)
    assert state["pixel"]["tile_size"] == choice["tile_size"]
    tried = {(trial["engine"], trial["precision"]): trial for trial in choice["trials"]}
    assert tried["onnxruntime", "fp32"]["tiles_per_second"] > 0
    (summary,) = (tmp_path / "out").glob("_batchseg/runs/*/summary.json")
    assert json.loads(summary.read_text())["engine"] == choice
    words = f"engine: {choice['engine']} in {choice['precision']}"
    assert words in first.stdout

    after = batchseg("plan", job, "--set", "output=other")
    assert "as trials of an earlier output chose on this machine" in after.stderr
    assert "the first run" not in after.stdout
    other = batchseg("run", job, "--set", f"output={tmp_path / 'other'}")
    assert other.returncode == 0, other.stderr
    assert "trying" not in other.stderr
    assert "as trials of an earlier output chose on this machine" in other.stderr
    again = state_of(tmp_path / "other")
    assert again["pixel"] == state["pixel"]
    assert again["choice"]["remembered"]
    np.testing.assert_array_equal(
        read_mask(tmp_path / "out", "a.tif"), read_mask(tmp_path / "other", "a.tif")
    )
    assert batchseg("verify", tmp_path / "other").returncode == 0

    # What the model's cache held is gone; the output knows what its masks were made with.
    (tmp_path / "cache").rename(tmp_path / "gone")
    scene(tmp_path / "in" / "b.tif", 0)
    second = batchseg("run", job)
    assert second.returncode == 0, second.stderr
    assert "trying" not in second.stderr
    assert state_of(tmp_path / "out")["choice"] == choice
    np.testing.assert_array_equal(read_mask(tmp_path / "out", "a.tif"), read_mask(tmp_path / "out", "b.tif"))

    engine = "openvino" if choice["engine"] != "openvino" else "onnxruntime"
    third = batchseg("run", job, "--set", f"engine={engine}")
    assert third.returncode == 2
    assert f'engine: "{choice["engine"]}" -> "{engine}"' in third.stderr


@pytest.mark.parametrize("said", ["reference: ", "trying "])
def test_a_run_that_is_killed_in_its_trials_begins_them_anew(said: str, tmp_path: Path, open_job) -> None:
    job = open_job(gate={**GATE, "seconds": 3})
    log = tmp_path / "said"
    with log.open("w") as file:
        run = subprocess.Popen([BATCHSEG, "run", str(job)], stderr=file, start_new_session=True)
        until = time.monotonic() + 120
        while said not in log.read_text():
            assert run.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
        time.sleep(0.3)
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    assert not (tmp_path / "out" / "_batchseg" / "output.json").exists()
    again = batchseg("run", job, "--set", "gate.seconds=0.1")
    assert again.returncode == 0, again.stderr
    assert "reference: " in again.stderr
    assert batchseg("verify", tmp_path / "out").returncode == 0
    assert state_of(tmp_path / "out")["choice"]["trials"]


def test_blending_goes_with_what_is_chosen_on_every_night(tmp_path: Path, open_job) -> None:
    """Tile and halo are found without it; the overlap comes beside them, the next nights' too."""
    job = open_job(blend="hann", probabilities=True)
    first = batchseg("run", job)
    assert first.returncode == 0, first.stderr
    state = state_of(tmp_path / "out")
    _, overlap = state["pixel"]["blend"]
    assert state["pixel"]["halo"] == state["choice"]["halo"] + overlap // 2
    scene(tmp_path / "in" / "b.tif", seed=1)
    second = batchseg("run", job)
    assert second.returncode == 0, second.stderr
    assert "trying" not in second.stderr
    assert state_of(tmp_path / "out")["pixel"] == state["pixel"]
    other = batchseg("run", job, "--set", f"output={tmp_path / 'other'}")
    assert other.returncode == 0, other.stderr
    assert state_of(tmp_path / "other")["pixel"] == state["pixel"]
    for name in ("a.tif", "b.tif"):
        mine, others = (read_mask(tmp_path / out, name) for out in ("out", "other"))
        np.testing.assert_array_equal(mine, others)


def test_a_halo_that_is_too_small_is_told_by_plan_and_run(tmp_path: Path, open_job) -> None:
    job = open_job(tile_size=64, halo=8, engine="onnxruntime", precision="fp32")
    words = "a halo of 8 is narrow for this network: 16 is enough"
    plan = batchseg("plan", job)
    assert plan.returncode == 0, plan.stderr
    assert re.search(f"warning: {words}", plan.stderr)
    run = batchseg("run", job)
    assert run.returncode == 0, run.stderr
    assert re.search(f"warning: {words}", run.stderr)
    (summary,) = (tmp_path / "out").glob("_batchseg/runs/*/summary.json")
    assert any(re.fullmatch(words, line) for line in json.loads(summary.read_text())["warnings"])
    assert state_of(tmp_path / "out")["pixel"]["halo"] == 8
    wide = batchseg("run", job, "--set", f"output={tmp_path / 'wide'}", "--set", "halo=16")
    assert "narrow" not in wide.stderr + wide.stdout


def job_with_onnx_beside(weights: str, tmp_path: Path, write_job: JobWriter, models: Path) -> Path:
    """A job of the network `conv` on ONNX Runtime, beside it the ONNX file of another, or of itself."""
    scene(tmp_path / "in" / "a.tif", height=100)
    shutil.copytree(models / "conv", tmp_path / "model")
    to_onnx(read_model(str(models / weights)), tmp_path / "model" / "model.onnx")
    keys = {"model": "model", "bands": None, "classes": None, "scale": {"divide": 1}, "executor": "inline"}
    return write_job(**keys, engine="onnxruntime", precision="fp32", gate={**GATE, "budget": 0})


def test_an_onnx_file_beside_the_network_must_pass_the_gate_even_where_the_job_names_the_engine(
    tmp_path: Path, write_job: JobWriter, models: Path
) -> None:
    job = job_with_onnx_beside("other", tmp_path, write_job, models)
    refused = batchseg("run", job)
    assert refused.returncode == 4
    assert re.search(
        r"otherwise than paddle, the model's own engine: \d+\.\d+% of the pixels", refused.stderr
    )
    assert not (tmp_path / "out").exists()


def test_an_onnx_file_that_is_exchanged_after_it_was_chosen_is_refused(
    tmp_path: Path, write_job: JobWriter, models: Path
) -> None:
    job = job_with_onnx_beside("conv", tmp_path, write_job, models)
    first = batchseg("run", job)
    assert first.returncode == 0, first.stderr
    to_onnx(read_model(str(models / "other")), tmp_path / "model" / "model.onnx")
    scene(tmp_path / "in" / "b.tif")
    changed = batchseg("run", job)
    assert changed.returncode == 4
    assert "is not the one that this output was made with" in changed.stderr


def test_a_new_output_after_the_onnx_file_was_exchanged_tries_anew(
    tmp_path: Path, write_job: JobWriter, models: Path
) -> None:
    """What an earlier output chose was another file."""
    scene(tmp_path / "in" / "a.tif")
    shutil.copytree(models / "spots", tmp_path / "model")
    write_liar(tmp_path / "model" / "model.onnx", "honest")
    keys = {"model": "model", "bands": None, "classes": None, "scale": {"divide": 1}, "executor": "inline"}
    job = write_job(**keys, precision="fp32", gate=GATE)
    first = batchseg("run", job)
    assert first.returncode == 0, first.stderr
    write_liar(tmp_path / "model" / "model.onnx", "classes shifted")
    second = batchseg("run", job, "--set", f"output={tmp_path / 'other'}")
    assert second.returncode == 0, second.stderr
    state = state_of(tmp_path / "other")
    assert (state["choice"]["engine"], state["choice"]["remembered"]) == ("paddle", False)
    np.testing.assert_array_equal(
        read_mask(tmp_path / "out", "a.tif"), read_mask(tmp_path / "other", "a.tif")
    )


@pytest.fixture
def int8_job(tmp_path: Path, open_job):
    """The same with a truth: the classes that the network itself gives in fp32."""
    pytest.importorskip("nncf")
    named = {"engine": "onnxruntime", "precision": "fp32", "tile_size": 128, "halo": 16}
    (tmp_path / "known").mkdir()
    scene(tmp_path / "known" / "k.tif", seed=7)
    truth = batchseg(
        "run", open_job(**named, inputs="known/*.tif", output="fp32", gate={"budget": 0}, regions=False)
    )
    assert truth.returncode == 0, truth.stderr
    shutil.copytree(tmp_path / "fp32" / "masks", tmp_path / "labels")
    gate = GATE | {"truth": {"images": "known/*.tif", "labels": "labels/*.tif"}, "miou_drop": 0.9}
    return open_job(tile_size=128, halo=16, engine="openvino", precision="int8", gate=gate)


def test_a_network_in_int8_is_part_of_the_output_on_every_host_and_night(
    tmp_path: Path, int8_job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = batchseg("run", int8_job)
    assert first.returncode == 0, first.stderr
    assert "mean IoU" in first.stderr
    choice = state_of(tmp_path / "out")["choice"]
    (network,) = (tmp_path / "out" / "_batchseg" / "networks").iterdir()
    assert (choice["precision"], choice["quantized"]["digest"]) == ("int8", network.stem)
    assert choice["quantized"]["root"] == ""
    # Another host has the output alone, and the same pixels there are the same mask.
    monkeypatch.setenv("BATCHSEG_MODEL_CACHE", str(tmp_path / "another"))
    shutil.copy(tmp_path / "in" / "a.tif", tmp_path / "in" / "b.tif")
    second = batchseg("run", int8_job)
    assert second.returncode == 0, second.stderr
    assert "reference" not in second.stderr
    np.testing.assert_array_equal(read_mask(tmp_path / "out", "a.tif"), read_mask(tmp_path / "out", "b.tif"))
    content = bytearray(network.read_bytes())
    content[len(content) // 2] ^= 1
    network.write_bytes(content)
    monkeypatch.setenv("BATCHSEG_MODEL_CACHE", str(tmp_path / "third"))
    shutil.copy(tmp_path / "in" / "a.tif", tmp_path / "in" / "c.tif")
    third = batchseg("run", int8_job)
    assert third.returncode == 4, third.stderr
    assert "is not the network in int8 that this output is made with" in third.stderr

"""`batchseg model bench` and `batchseg model halo` as users type them."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import Command, JobWriter, write_raster
from numpy.typing import NDArray
from probed import write_conv
from runs import conv_job

from batchseg.cli import model_trials
from batchseg.cli.model_trials import bench_table
from batchseg.predict.gate import Agreement
from batchseg.predict.halo import WIDEST, HaloFigure
from batchseg.predict.tile_size import TileFigure
from batchseg.predict.trial import Bench, Trial
from batchseg.predict.truth import Accuracy


def noise() -> NDArray[np.uint8]:
    """Large enough to show what a halo changes."""
    return np.random.default_rng(0).integers(0, 256, (3, 700, 741), dtype=np.uint8)


def test_the_table_says_who_was_run_and_who_was_not() -> None:
    near = Agreement(
        pixels=1000, equal=999, sure=900, sure_differ=0, iou=((0, 1.0),), confidence_difference=0.004
    )
    keys = {"tiles_per_second": 10.0, "megapixels_per_second": 2.0}
    first = Trial(engine="paddle", precision="fp32", memory=2**30, bare=True, **keys)
    second = Trial(
        engine="openvino",
        precision="bf16",
        tiles_per_second=25.0,
        megapixels_per_second=5.0,
        agreement=near,
        memory=2**29,
    )
    absent = Trial(engine="paddle", precision="fp16", reason="fp16 is for GPUs", offered=False)
    died = Trial(engine="onnxruntime", precision="fp32", reason="its process was ended by SIGSEGV")
    lines = bench_table(
        Bench(
            trials=(first, second, died, absent),
            chosen=second,
            tiles=8,
            workers=2,
            class_count=3,
            classes_seen=1,
            tile_size=1024,
            halo=96,
            halos=(HaloFigure(halo=96, pixels=100, changed=0, probability=0.0),),
            sides=(TileFigure(tile_size=512, work=2.0), TileFigure(tile_size=1024, work=1.5)),
            scene_megapixels=180_000,
        )
    )
    assert lines[1].split() == ["paddle", "fp32", "2.00", "1.00", "1024", "the", "bare", "network"]
    shown = ["openvino", "bf16", "5.00", "2.50", "99.9000%", "0.0000%", "1.0000", "0.004", "512", "chosen"]
    assert lines[2].split() == shown
    assert re.fullmatch(r"onnxruntime +fp32 +its process was ended by SIGSEGV", lines.pop(3))
    assert lines[3:6] == [
        "not run: paddle fp16: fp16 is for GPUs",
        "8 tiles of 1024 pixels with a halo of 96, 2 workers of one thread; compared with paddle fp32 of the "
        "bare network",
        "tiles of 1024: 25% less work than of 512, passed",
    ]
    assert lines[6].startswith("a halo of 96 is enough")
    assert lines[7] == "these tiles show 1 of 3 classes; nothing is proved of the others"
    assert lines[8].startswith("chosen: openvino bf16: 5.0 Mpx/s, 99.9000% equal")
    assert lines[9:] == [
        "the job's 180,000 Mpx would take 10 h",
        "in the job file, to have it without trials: {engine: openvino, precision: bf16, tile_size: 1024, "
        "halo: 96}",
    ]


def test_the_table_has_what_a_truth_says_and_two_digits_of_slow_networks() -> None:
    keys = {"tiles": 8, "workers": 2, "class_count": 3, "classes_seen": 3, "tile_size": 512, "halo": 64}
    right = Accuracy(iou=((0, 0.5), (2, 0.75)))
    slow = Trial(engine="paddle", precision="fp32", megapixels_per_second=0.0431, bare=True)
    header, row = bench_table(Bench(trials=(slow,), chosen=slow, **keys))[:2]
    assert "mIoU" not in header
    assert row.split()[2] == "0.043"
    known = dataclasses.replace(slow, accuracy=right)
    header, row = bench_table(Bench(trials=(known,), chosen=known, **keys))[:2]
    assert row.index("0.6250") == header.index("mIoU")


@pytest.mark.slow
def test_a_models_halo_is_shown_of_noise_or_of_a_jobs_images(
    tmp_path: Path, write_job: JobWriter, command: Command
) -> None:
    network = write_conv(tmp_path / "a.onnx", 3, gain=8.0)
    shown = command("model", "halo", network, "--halos", "0,4", "--json")
    assert shown.returncode == 0, shown.stderr
    found = json.loads(shown.stdout)
    assert found["widest"] == 512
    assert [(figure["halo"], figure["changed"] == 0) for figure in found["halos"]] == [(0, False), (4, True)]
    job = conv_job(tmp_path, write_job, tmp_path, model=str(network), num_classes=3, halo=2)
    write_raster(tmp_path / "in" / "a.tif", noise())
    words = ("model", "halo", network, job, "--set", "normalize=none")
    shown = command(*words, "--halos", "2,8")
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["halo", "2", "8"]
    assert lines[3:] == [
        "of 65,536 pixels of the job's own images, beside a halo of 512",
        "which halo is enough shows beside the usual ones: leave --halos out",
    ]
    shown = command(*words, "--halos", "2,8,16,32,64,96,128,256")
    assert re.match(r"a halo of 2 is narrow for this network: .* 8 is enough", shown.stdout.splitlines()[-1])


def test_halos_that_no_network_has_are_refused_at_once(command: Command) -> None:
    assert model_trials.LARGEST_HALO == WIDEST - 1
    for halos in ("5000", "-5", "512", "64,512", "a,b", ""):
        refused = command("model", "halo", "nowhere", "--halos", halos)
        assert refused.returncode == 2
        assert f"expected halos of 0 to 511 pixels such as 64,96; found {halos!r}" in refused.stderr


def test_a_key_is_set_of_a_job_alone(tmp_path: Path, command: Command) -> None:
    refused = command("model", "halo", tmp_path, "--set", "bands=[1]")
    assert refused.returncode == 2
    assert refused.stderr == (
        "batchseg: --set bands=[1]: is a key of a job, and none is named: batchseg model halo MODEL JOB "
        "--set KEY=VALUE\n"
    )


@pytest.mark.slow
def test_bench_names_the_keys_that_take_what_it_chose(
    tmp_path: Path, write_job: JobWriter, models: Path, command: Command
) -> None:
    job = conv_job(tmp_path, write_job, models, gate={"tiles": 2, "seconds": 0.1}, halo=None, tile_size=None)
    write_raster(tmp_path / "in" / "a.tif", noise())
    shown = command("model", "bench", job)
    assert shown.returncode == 0, shown.stderr
    keys = re.search(r"without trials: \{(.*)\}$", shown.stdout.strip())
    assert keys is not None
    named = dict(word.split(": ") for word in keys.group(1).split(", "))
    assert named["halo"] == "16"
    assert not (tmp_path / "out").exists()
    ran = command("run", job, *(word for key, value in named.items() for word in ("--set", f"{key}={value}")))
    assert ran.returncode == 0, ran.stderr
    assert "trying" not in ran.stderr

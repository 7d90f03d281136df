"""A network's answer to a tile, and what follows from it: classes, confidence, probabilities. Pure numpy."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.errors import ModelError
from batchseg.job.recipe import Recipe
from batchseg.predict.numbers import divided


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the network says of one tile less its halo: of what is kept of it."""

    output: NDArray[Any]
    """(H, W) ids, or (K, H, W) scores."""
    confidence: NDArray[np.uint8] | None = None
    """(H, W), 255 x probability of the winning class, where the graph gives it."""
    probabilities: NDArray[np.uint8] | None = None
    """(K, H, W), 255 x probability of every class, or of the one band, where the graph gives it."""


def classify(output: NDArray[Any], recipe: Recipe) -> NDArray[np.unsignedinteger[Any]]:
    """Class ids (H, W) of the mask's dtype. Of equal scores the first class wins, as in argmax.

    Of numbers 1 is above the threshold, and what is not finite is the mask's nodata.
    """
    kind = recipe.answer
    dtype = np.dtype(recipe.mask_dtype)
    classes: NDArray[np.unsignedinteger[Any]]
    if kind == "values":
        assert recipe.values is not None  # noqa: S101  both say so
        above = divided(output[0], recipe.values.threshold)
        return np.where(np.isfinite(output[0]), above, dtype.type(recipe.mask_nodata))
    if kind == "sigmoid":
        classes = (output[0] > recipe.model.threshold).astype(dtype)
        return classes
    if kind == "classes":
        ids = output[0] if output.ndim == 3 else output
        highest, lowest = int(ids.max()), int(ids.min())
        if highest >= recipe.mask_nodata or lowest < 0:
            wrong, needed = (lowest, "ids from 0") if lowest < 0 else (highest, f"num_classes: {highest + 1}")
            msg = (
                f"the model gave class id {wrong}; a {dtype} mask holds 0..{recipe.mask_nodata - 1} and "
                f"{recipe.mask_nodata} is its nodata. The job needs {needed}"
            )
            raise ModelError(msg)
        classes = ids.astype(dtype)
        return classes
    # np.argmax over the first axis of a (K, H, W) array is ten times slower than this.
    best = output[0].copy()
    classes = np.zeros(best.shape, dtype=dtype)
    for number, scores in enumerate(output[1:], start=1):
        wins = scores > best
        np.maximum(classes, wins * dtype.type(number), out=classes)
        np.maximum(best, scores, out=best)
    return classes


def winning_probability(output: NDArray[Any], recipe: Recipe) -> NDArray[np.uint8]:
    """Probability of the winning class as 1..255 (H, W); 0 is left for invalid pixels."""
    kind = recipe.scores
    if kind == "sigmoid":
        probability = np.where(output[0] > recipe.model.threshold, output[0], 1 - output[0])
    elif kind == "probabilities":
        probability = output.max(axis=0)
    else:
        best = output.max(axis=0)
        total = np.zeros_like(best)
        for scores in output:
            total += np.exp(scores - best)
        probability = 1 / total
    confidence: NDArray[np.uint8] = np.clip(np.rint(probability * 255), 1, 255).astype(np.uint8)
    return confidence


def shares_of(answer: Answer, recipe: Recipe) -> NDArray[np.uint8]:
    """255 x probability of every class (K, H, W), rounded; of one band also what it leaves to class 0."""
    shares = answer.probabilities
    if shares is None:
        found = probabilities(answer.output, recipe)
        assert found is not None  # noqa: S101  a job whose network gives no scores is refused
        return np.rint(255 * found).astype(np.uint8)
    return np.concatenate((255 - shares, shares)) if recipe.scores == "sigmoid" else shares


def margin(output: NDArray[Any], recipe: Recipe) -> NDArray[np.float32] | None:
    """By how much the best class's probability is above the second's (H, W), 0..1; None without scores.

    Of one band with a threshold t it is twice the distance to t: 2 |p - t|, which is |p - (1 - p)| at 0.5.
    """
    kind = recipe.scores
    if kind in ("classes", "values"):
        return None
    if kind == "sigmoid":
        return np.asarray(np.abs(2 * (output[0].astype(np.float32) - recipe.model.threshold)))
    first = output[0].astype(np.float32)
    second = np.full_like(first, -np.inf)
    for scores in output[1:]:
        second = np.maximum(second, np.minimum(first, scores))
        first = np.maximum(first, scores)
    if kind == "probabilities":
        return np.asarray(first - second, dtype=np.float32)
    total = np.zeros_like(first)
    for scores in output:
        total += np.exp(scores - first)
    return np.asarray((1 - np.exp(second - first)) / total, dtype=np.float32)


def probabilities(output: NDArray[Any], recipe: Recipe) -> NDArray[np.float32] | None:
    """Of every class (K, H, W), 0..1; None where the network gives ids."""
    kind = recipe.scores
    if kind in ("classes", "values"):
        return None
    scores = output.astype(np.float32)
    if kind == "sigmoid":
        return np.concatenate((1 - scores[:1], scores[:1]))
    if kind == "probabilities":
        return scores
    scores = np.exp(scores - scores.max(axis=0))
    return np.asarray(scores / scores.sum(axis=0), dtype=np.float32)

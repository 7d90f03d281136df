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


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """What is said of a window."""

    classes: NDArray[np.unsignedinteger[Any]]
    """(H, W) class ids of the mask's dtype; its nodata where nothing is known."""
    confidence: NDArray[np.uint8] | None
    """(H, W), 255 x probability of the class, at least 1; 0 where nothing is known. None: not asked for."""
    probabilities: NDArray[np.uint8] | None = None
    """(N, H, W), the same of each class of `Recipe.probabilities`."""


def decide(planes: NDArray[np.unsignedinteger[Any]], unit: int, recipe: Recipe) -> Decided:
    """What probabilities of all classes say. Of equal ones the first class wins, as in argmax.

    A class with a threshold takes part where it reaches that. A pixel is unknown where no class takes part,
    or the best is below `ignore_below`; its confidence is the highest probability then.

    Args:
        planes: (K, H, W), 255 x probability x `unit`. All are 0 where no pixel is valid.
        unit: the weight of all tiles together; 1 for one tile's bytes.
        recipe: the pixel settings.
    """
    dtype = np.dtype(recipe.mask_dtype)
    known = planes.any(axis=0)
    if recipe.scores == "sigmoid":
        is_one = planes[1] > recipe.model.threshold * (255 * unit)
        classes, best = is_one.astype(dtype), np.where(is_one, planes[1], planes[0])
        takes_part = known
    else:
        classes, best = np.zeros(planes.shape[1:], dtype), np.zeros(planes.shape[1:], planes.dtype)
        takes_part = np.zeros(planes.shape[1:], np.bool_)
        for number, plane in enumerate(planes):
            # As the byte that is written would be: half a byte below rounds up to it.
            least = recipe.thresholds[number] * unit - unit // 2 if recipe.thresholds else 0
            wins = (plane >= least) & ((plane > best) | ~takes_part)
            np.copyto(classes, dtype.type(number), where=wins)
            np.copyto(best, plane, where=wins)
            takes_part |= wins
    if recipe.unknown is not None:
        is_unknown = ~takes_part | (best < recipe.ignore_below * unit - unit // 2)
        np.copyto(classes, dtype.type(recipe.unknown), where=is_unknown)
        best = np.where(takes_part, best, planes.max(axis=0))
    np.copyto(classes, dtype.type(recipe.mask_nodata), where=~known)
    confidence = _as_bytes(best, unit) * known if recipe.confidence else None
    probabilities = _as_bytes(planes[list(recipe.probabilities)], unit) * known
    return Decided(
        classes=classes,
        confidence=confidence,
        probabilities=probabilities if recipe.probabilities else None,
    )


def _as_bytes(planes: NDArray[np.unsignedinteger[Any]], unit: int) -> NDArray[np.uint8]:
    """At least 1: 0 is left for pixels of which nothing is known."""
    rounded = planes if unit == 1 else (planes + unit // 2) // unit
    found: NDArray[np.uint8] = np.maximum(rounded, 1).astype(np.uint8)
    return found


def said_of(answer: Answer, inside: tuple[slice, slice], recipe: Recipe) -> Decided:
    """What one tile's answer says of a part of it.

    Raises:
        ModelError: a class id does not fit the mask.
    """
    if recipe.thresholds or recipe.unknown is not None:
        return decide(shares_of(answer, recipe)[(..., *inside)], 1, recipe)
    output, confidence = answer.output[(..., *inside)], None
    if recipe.confidence and answer.confidence is not None:
        confidence = np.maximum(answer.confidence[inside], 1)
    elif recipe.confidence:
        confidence = winning_probability(output, recipe)
    shares = None
    if recipe.probabilities:
        shares = shares_of(answer, recipe)[(list(recipe.probabilities), *inside)]
        shares = np.maximum(shares, 1)
    return Decided(classes=classify(output, recipe), confidence=confidence, probabilities=shares)


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

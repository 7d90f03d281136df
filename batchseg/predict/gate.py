"""How near one engine's answers are to the reference's, and whether that is near enough.

A pixel counts where the reference is sure: where its two best probabilities lie further apart than a margin.
Elsewhere the last bits decide, and another engine is as right as the reference.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.job.settings import Gate

VALUE_TOLERANCE, LOW_TOLERANCE = 1e-3, 1e-2
"""Of the span of the reference's numbers that an engine's may be off in fp32, and in lower precisions: bf16
keeps eight bits of a number, which is half a hundredth of it."""

Ids = NDArray[np.unsignedinteger[Any]]

CLASS_PIXELS = 1000
"""Pixels from which on a class has an IoU of its own; with fewer, ten pixels would be a hundredth of it."""

RAW_SHARE = 5e-4
"""Of all pixels may differ where the network gives no scores, and nobody can tell which pixels are sure."""

SURE_SHARE = 0.5
"""Of the pixels, of which the reference must be sure at least, or they prove nothing: a network with random
weights is sure of none. Then all pixels count, as where there are no scores."""

RAW_IOU = 0.9
"""Of a class there. Bounds of small areas alone cost a class a twentieth of its IoU (bf16, land cover); one
that is never predicted, or called another, has 0."""

EXACT_CONFIDENCE = 0.02
"""Of networks that both compute in fp32. Engines differ by a step of 1/255 at most where conversions are
right; 0.059 was seen where one was not (models/landcover, tiles of 224)."""

MEAN_CONFIDENCE = 0.03
"""The mean difference of confidences in bf16 and fp16. It was 0.001 to 0.003 (land cover, 2026-11-30), and is
a tenth and more for another network, also where both see one class alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """What a network says of one tile."""

    classes: Ids
    """(H, W) ids."""
    confidence: NDArray[np.uint8] | None = None
    """(H, W), 255 x probability of the winning class; None where the network gives no scores."""
    margin: NDArray[np.floating[Any]] | None = None
    """(H, W), by how much the best probability is above the second, 0..1. Asked of the reference alone."""
    values: NDArray[np.floating[Any]] | None = None
    """(H, W), the numbers of a network that gives such; None: it tells classes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Over all tiles together."""

    pixels: int
    equal: int
    """Pixels of one class, whether the reference was sure or not."""
    sure: int | None = None
    """Pixels where the reference was sure; None: it gives no scores, and every pixel counts."""
    sure_differ: int = 0
    """Of those, how many are of another class."""
    iou: tuple[tuple[int, float], ...] = ()
    """(class id, intersection over union) of the pixels that count, of every class with CLASS_PIXELS of them
    on either side."""
    confidence_difference: float | None = None
    """The largest, in 0..1; None where there are no scores."""
    mean_confidence_difference: float | None = None
    tolerance: float | None = None
    """Pixels are equal whose numbers are no further apart than this share of the reference's span; None: by
    their classes."""

    @property
    def equal_share(self) -> float:
        """Of all pixels."""
        return self.equal / self.pixels

    @property
    def is_sure(self) -> bool:
        """Whether the reference was sure often enough for the pixels of which it was to decide."""
        return self.sure is not None and self.sure >= SURE_SHARE * self.pixels

    @property
    def sure_share(self) -> float:
        """Of the pixels where the reference was sure, how many are of its class."""
        return 1 - self.sure_differ / self.sure if self.sure else 1.0

    @property
    def worst_iou(self) -> tuple[int, float] | None:
        """None: no class has enough pixels."""
        return min(self.iou, key=lambda item: item[1], default=None)


def agreement(
    reference: Iterable[Labels],
    candidate: Iterable[Labels],
    margin: float = 0.0,
    tolerance: float = VALUE_TOLERANCE,
) -> Agreement:
    """Compare answers to the same tiles.

    IoU of class k: pixels that both call k / pixels that either calls k, over all tiles together
    (Jaccard 1912).

    Args:
        reference: with margins where it gives scores.
        candidate: of the same tiles.
        margin: above which the reference is sure.
        tolerance: of numbers, see `Agreement.tolerance`.
    """
    reference = list(reference)
    apart = tolerance * _span(reference)
    pixels = equal = sure = differ = 0
    scored = True
    both: dict[int, int] = {}
    counts: dict[int, int] = {}
    largest: float | None = None
    total = 0
    for one, other in zip(reference, candidate, strict=True):
        same = one.classes == other.classes if one.values is None else _alike(one, other, apart)
        pixels += same.size
        equal += int(same.sum())
        counted: Any = ...
        if one.margin is None:
            scored = False
        else:
            counted = one.margin > margin
            sure += int(counted.sum())
            differ += int((~same & counted).sum())
        _count(one.classes[counted], counts)
        _count(other.classes[counted], counts)
        _count(one.classes[counted][same[counted]], both)
        if one.confidence is not None and other.confidence is not None:
            off = np.abs(one.confidence.astype(np.int16) - other.confidence)
            largest = max(largest or 0.0, float(off.max()) / 255)
            total += int(off.sum())
    unions = {k: counts[k] - both.get(k, 0) for k in sorted(counts)}
    return Agreement(
        pixels=pixels,
        equal=equal,
        sure=sure if scored else None,
        sure_differ=differ,
        iou=tuple((k, both.get(k, 0) / union) for k, union in unions.items() if union >= CLASS_PIXELS),
        confidence_difference=largest,
        mean_confidence_difference=None if largest is None else total / 255 / pixels,
        tolerance=tolerance if any(one.values is not None for one in reference) else None,
    )


def _span(reference: Iterable[Labels]) -> float:
    """From the lowest to the highest of all numbers; 0 where there are none."""
    known = [one.values[np.isfinite(one.values)] for one in reference if one.values is not None]
    numbers = np.concatenate(known) if known else np.zeros(0)
    return float(np.ptp(numbers)) if numbers.size else 0.0


def _alike(one: Labels, other: Labels, apart: float) -> NDArray[np.bool_]:
    """Which numbers are near each other; what is no number is near what is none either."""
    if one.values is None or other.values is None:
        return np.zeros(one.classes.shape, dtype=bool)
    near: NDArray[np.bool_] = np.isclose(one.values, other.values, rtol=0, atol=apart, equal_nan=True)
    return near


def _count(classes: Ids, into: dict[int, int]) -> None:
    ids, numbers = np.unique(classes, return_counts=True)
    for class_id, number in zip(ids.tolist(), numbers.tolist(), strict=True):
        into[class_id] = into.get(class_id, 0) + number


def shortfall(found: Agreement, gate: Gate, *, exact: bool = False, noise: float = 0.0) -> str | None:
    """Why the answers are not near enough, in words; None where they are.

    Args:
        found: how near they are.
        gate: how near they must be.
        exact: both compute in fp32. Tiles that show one class alone prove nothing by their classes, and a
            network that is another one still shows in its confidences.
        noise: the share of pixels that change with more around them; asked for where there are no scores.
    """
    if not found.is_sure:
        return _raw_shortfall(found, gate, noise)
    if found.sure_share < gate.equal_pixels:
        return (
            f"{1 - found.sure_share:.4%} of the pixels of which the reference is sure (by more than "
            f"{gate.margin:g}) are of another class, {1 - gate.equal_pixels:.4%} may be"
        )
    worst = found.worst_iou
    if worst is not None and worst[1] < gate.iou:
        return (
            f"IoU of class {worst[0]} is {worst[1]:.4f} where the reference is sure, {gate.iou:g} is "
            f"asked for"
        )
    return _other_confidences(found, gate, exact=exact)


def _other_confidences(found: Agreement, gate: Gate, *, exact: bool) -> str | None:
    """A gate that asks for less than the default has been told that an engine may answer otherwise."""
    largest, mean = found.confidence_difference, found.mean_confidence_difference
    if gate.equal_pixels < Gate().equal_pixels or largest is None or mean is None:
        return None
    if exact and largest > EXACT_CONFIDENCE:
        return (
            f"confidences differ by up to {largest:.3f}, those of one network in fp32 by {EXACT_CONFIDENCE:g}"
        )
    if mean > MEAN_CONFIDENCE:
        return f"confidences differ by {mean:.3f} on average, those of one network by {MEAN_CONFIDENCE:g}"
    return None


def _raw_shortfall(found: Agreement, gate: Gate, noise: float) -> str | None:
    allowed = max(RAW_SHARE, noise / 10, 1 - gate.equal_pixels)
    if 1 - found.equal_share > allowed and found.tolerance is not None:
        return (
            f"{1 - found.equal_share:.4%} of the numbers are off by more than {found.tolerance:.1%} of their "
            f"span, {allowed:.4%} may be"
        )
    if 1 - found.equal_share > allowed:
        return (
            f"{1 - found.equal_share:.4%} of the pixels are of another class, {allowed:.4%} may be of a "
            f"network that {'gives no scores' if found.sure is None else 'is hardly ever sure'}"
        )
    worst, least = found.worst_iou, min(RAW_IOU, gate.iou)
    if worst is not None and worst[1] < least:
        return f"IoU of class {worst[0]} is {worst[1]:.4f}, {least:g} is asked for"
    return None

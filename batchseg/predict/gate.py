"""How near one engine's answers are to the reference's, and whether that is near enough."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.job.settings import Gate


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """What a network says of one tile."""

    classes: NDArray[np.unsignedinteger[Any]]
    """(H, W) ids."""
    confidence: NDArray[np.uint8] | None
    """(H, W), 255 x probability of the winning class; None where the network gives no scores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    pixels: int
    equal: int
    iou: tuple[tuple[int, float], ...]
    """(class id, intersection over union) of every class that either side shows."""
    confidence_difference: float | None
    """The largest, in 0..1; None where there are no scores."""

    @property
    def equal_share(self) -> float:
        return self.equal / self.pixels

    @property
    def worst_iou(self) -> tuple[int, float]:
        return min(self.iou, key=lambda item: item[1])


def agreement(reference: Iterable[Labels], candidate: Iterable[Labels]) -> Agreement:
    """Compare answers to the same tiles.

    IoU of class k: pixels that both call k / pixels that either calls k, over all tiles together
    (Jaccard 1912). A class that only one side shows has 0.
    """
    pixels = equal = 0
    both: dict[int, int] = {}
    counts: dict[int, int] = {}
    difference: float | None = None
    for one, other in zip(reference, candidate, strict=True):
        same = one.classes == other.classes
        pixels += same.size
        equal += int(same.sum())
        _count(one.classes, counts)
        _count(other.classes, counts)
        _count(one.classes[same], both)
        if one.confidence is not None and other.confidence is not None:
            largest = np.abs(one.confidence.astype(np.int16) - other.confidence).max() / 255
            difference = max(difference or 0.0, float(largest))
    iou = tuple((k, both.get(k, 0) / (counts[k] - both.get(k, 0))) for k in sorted(counts))
    return Agreement(pixels=pixels, equal=equal, iou=iou, confidence_difference=difference)


def _count(classes: NDArray[Any], into: dict[int, int]) -> None:
    ids, numbers = np.unique(classes, return_counts=True)
    for class_id, number in zip(ids.tolist(), numbers.tolist(), strict=True):
        into[class_id] = into.get(class_id, 0) + number


EXACT_CONFIDENCE = 0.02
"""Of networks that both compute in fp32. Engines differ by a step of 1/255 at most where conversions are
right; 0.059 was seen where one was not (models/landcover, tiles of 224)."""

EXACT_PIXELS = Gate().equal_pixels
"""A gate that asks for less has been told that an engine may answer otherwise."""


def shortfall(found: Agreement, gate: Gate, *, exact: bool = False) -> str | None:
    """Why the answers are not near enough, in words; None where they are.

    Args:
        found: how near they are.
        gate: how near they must be.
        exact: both compute in fp32. Tiles that show one class alone prove nothing by their classes, and a
            network that is another one still shows in its confidences.
    """
    if found.equal_share < gate.equal_pixels:
        return f"{found.equal_share:.4%} of the pixels agree, {gate.equal_pixels:.2%} are asked for"
    class_id, worst = found.worst_iou
    if worst < gate.iou:
        return f"IoU of class {class_id} is {worst:.4f}, {gate.iou:g} is asked for"
    off = found.confidence_difference
    if exact and gate.equal_pixels >= EXACT_PIXELS and off is not None and off > EXACT_CONFIDENCE:
        return f"confidences differ by up to {off:.3f}, those of one network in fp32 by {EXACT_CONFIDENCE:g}"
    return None

"""What labels hold: pixels of the model's classes, and of values that are none of them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

VALUES_SHOWN = 5
"""Of those that are no class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelCounts:
    """Pixels of labels by their value."""

    classes: tuple[int, ...]
    """Of each class, by id."""
    others: tuple[tuple[int, int], ...]
    """(value, pixels) of what is no class, by value."""

    @property
    def share_of_others(self) -> float:
        """0 to 1."""
        others = sum(pixels for _, pixels in self.others)
        return others / max(1, others + sum(self.classes))

    def __str__(self) -> str:
        """
        >>> print(LabelCounts(classes=(50, 0, 25), others=((255, 25),)))
        classes 0 and 2; 25.0 % of the pixels are no class (255), and count for nothing
        """
        there = [str(number) for number, pixels in enumerate(self.classes) if pixels]
        named = " and ".join([", ".join(there[:-1]), there[-1]] if len(there) > 1 else there)
        said = f"{'class' if len(there) == 1 else 'classes'} {named}" if there else "no class of the model"
        if not self.others:
            return said
        values = [str(value) for value, _ in self.others[:VALUES_SHOWN]]
        values += ["..."] if len(self.others) > VALUES_SHOWN else []
        share = f"{100 * self.share_of_others:.1f} %"
        return f"{said}; {share} of the pixels are no class ({', '.join(values)}), and count for nothing"


def count_labels(labels: Iterable[NDArray[Any]], classes: int) -> LabelCounts:
    """
    Args:
        labels: ids of any shape, integers from 0.
        classes: of the model; what is not below it is no class.
    """
    counts: dict[int, int] = {}
    for one in labels:
        for value, pixels in zip(*np.unique(one, return_counts=True), strict=True):
            counts[int(value)] = counts.get(int(value), 0) + int(pixels)
    return LabelCounts(
        classes=tuple(counts.get(number, 0) for number in range(classes)),
        others=tuple(sorted((value, pixels) for value, pixels in counts.items() if value >= classes)),
    )

"""What a raster of numbers shows, strip by strip, and half of its size."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.job.settings import Values
from batchseg.predict.numbers import HIGHEST, Stored, has_data, real


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Of one source's numbers."""

    lowest_mean_highest: tuple[float, ...] = ()
    """Empty: no pixel has a number."""
    clipped: int = 0
    """Pixels at the lowest or the highest number that uint16 holds, where what lies beyond was clipped to."""


class ValueCensus:
    """What the strips of a raster add up to; equal strips give equal sums."""

    def __init__(self, values: Values) -> None:
        self._values = values
        self._count = self._clipped = 0
        self._sum = 0.0
        self._ends: tuple[float, float] | None = None

    def look(self, strip: Stored) -> None:
        """Count one strip (rows, width), as it is stored."""
        known = strip[has_data(strip)]
        if not known.size:
            return
        low, high = float(known.min()), float(known.max())
        before = self._ends or (low, high)
        self._ends = min(low, before[0]), max(high, before[1])
        self._count += known.size
        self._sum += float(known.sum(dtype=np.float64))
        if strip.dtype == np.uint16:
            self._clipped += int(np.count_nonzero((known == 0) | (known == HIGHEST)))

    def found(self) -> Spread:
        if self._ends is None:
            return Spread()
        steps = (self._ends[0], self._sum / self._count, self._ends[1])
        return Spread(
            lowest_mean_highest=tuple(real(step, self._values) for step in steps), clipped=self._clipped
        )


def spread_of(pixels: Stored, values: Values) -> Spread:
    """Of a whole raster (H, W), as it is stored."""
    census = ValueCensus(values)
    census.look(pixels)
    return census.found()


def undivided(strip: Stored, nodata: int) -> NDArray[np.uint8]:
    """Ids of a strip without classes: 0 where there is a number, else the mask's nodata."""
    ids: NDArray[np.uint8] = np.where(has_data(strip), 0, nodata).astype(np.uint8)
    return ids


def halve_values(numbers: NDArray[Any]) -> NDArray[Any]:
    """The mean of each 2 x 2 numbers (H, W) that there are; of uint16 rounded. An odd last row or column is
    doubled.

    >>> halve_values(np.array([[1, 2], [6, np.nan]], dtype=np.float32)).tolist()
    [[3.0]]
    >>> halve_values(np.array([[1, 2], [65535, 65535]], dtype=np.uint16)).tolist()
    [[2]]
    """
    height, width = numbers.shape
    if height % 2 or width % 2:
        numbers = np.pad(numbers, ((0, height % 2), (0, width % 2)), mode="edge")
    known = has_data(numbers)
    plain = np.where(known, numbers, 0).astype(np.float64)
    total, count = (
        sum(of[i::2, j::2].astype(np.float64) for i in (0, 1) for j in (0, 1)) for of in (plain, known)
    )
    mean = total / np.maximum(count, 1)
    if numbers.dtype == np.uint16:
        return np.where(count > 0, np.rint(mean), HIGHEST + 1).astype(np.uint16)
    return np.where(count > 0, mean, np.nan).astype(np.float32)

"""Test-time augmentation: a tile is shown mirrored and turned as well, and what is said of it is averaged."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.job.settings import Augmentation


@dataclass(frozen=True, slots=True)
class View:
    """One of the eight ways to lay a square: mirrored or not, then turned by quarters."""

    is_mirrored: bool = False
    quarters: int = 0
    """Counterclockwise."""

    def of(self, pixels: NDArray[Any], axes: tuple[int, int]) -> NDArray[Any]:
        """The pixels as they are shown; `axes` are rows and columns. A view of them where it can be."""
        seen = np.flip(pixels, axes[1]) if self.is_mirrored else pixels
        return np.rot90(seen, self.quarters, axes)

    def back(self, shares: NDArray[Any]) -> NDArray[Any]:
        """What is said of the view (..., H, W), laid as the tile lies."""
        straight = np.rot90(shares, -self.quarters, (-2, -1))
        return np.flip(straight, -1) if self.is_mirrored else straight


VIEWS: dict[Augmentation, tuple[View, ...]] = {
    "none": (View(),),
    "flips": (View(), View(is_mirrored=True), View(quarters=2), View(is_mirrored=True, quarters=2)),
    "d4": tuple(View(is_mirrored, quarters) for is_mirrored in (False, True) for quarters in range(4)),
}
"""flips: as it is, left to right, upside down, both. d4: the eight symmetries of the square."""


def mean_of(sums: NDArray[np.uint16], count: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Probabilities of so many views' added bytes (K, H, W): 0..1, and as bytes, rounded half up."""
    exact = sums.astype(np.float32) / np.float32(255 * count)
    return exact, ((2 * sums + count) // (2 * count)).astype(np.uint8)

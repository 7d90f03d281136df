"""Compare a predicted mask with the truth of a generated scene.

Usage:
    python jobs/accuracy.py MASK.tif TRUTH.tif
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window
from spectral import CLASSES

NAMES = tuple(name for name, _ in CLASSES)
NODATA = 255
BLOCK = 2048  # Pixels; edge of the blocks that are compared at once.


@dataclass(frozen=True)
class Accuracy:
    """Agreement of a mask with the truth.

    Attributes:
        confusion: int64 (K, K), pixels by true class (axis 0) and predicted class (axis 1).
        unpredicted: Pixels with a true class but nodata in the mask.
        unexpected: Pixels predicted where the truth has nodata.
    """

    confusion: NDArray[np.int64]
    unpredicted: int
    unexpected: int

    @property
    def compared(self) -> int:
        """Pixels with a class in both rasters."""
        return int(self.confusion.sum())

    @property
    def overall(self) -> float:
        """Share of the compared pixels that are right, 0..1; NaN if there are none."""
        return float(np.trace(self.confusion) / self.compared) if self.compared else float("nan")

    @property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union, float64 (K,), 0..1; NaN for classes in neither raster."""
        hits = np.diagonal(self.confusion)
        union = self.confusion.sum(axis=0) + self.confusion.sum(axis=1) - hits
        ratio = np.full(hits.shape, np.nan)
        np.divide(hits, union, out=ratio, where=union > 0)
        return ratio


def accuracy(mask: Path, truth: Path) -> Accuracy:
    """Compare a mask with the truth, block by block.

    Args:
        mask: Raster of predicted class ids, uint8 with nodata 255.
        truth: Raster of true class ids, uint8 with nodata 255, on the same grid.

    Raises:
        ValueError: If the grids differ or a class id is unknown.
    """
    counts = np.zeros((256, 256), np.int64)
    with rasterio.open(mask) as predicted, rasterio.open(truth) as expected:
        for name in ("shape", "crs", "transform"):
            if getattr(predicted, name) != getattr(expected, name):
                message = f"{mask} and {truth} differ in {name}"
                raise ValueError(message)
        height, width = expected.shape
        for top in range(0, height, BLOCK):
            for left in range(0, width, BLOCK):
                window = Window(left, top, min(BLOCK, width - left), min(BLOCK, height - top))
                counts += count_pairs(expected.read(1, window=window), predicted.read(1, window=window))
    known = len(CLASSES)
    if counts[known:NODATA].any() or counts[:, known:NODATA].any():
        message = f"class ids other than 0..{known - 1} and {NODATA} in {mask} or {truth}"
        raise ValueError(message)
    return Accuracy(
        confusion=counts[:known, :known],
        unpredicted=int(counts[:known, NODATA].sum()),
        unexpected=int(counts[NODATA, :known].sum()),
    )


def count_pairs(truth: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Count pairs of values: int64 (256, 256) by truth (axis 0) and mask (axis 1)."""
    pairs = truth.astype(np.uint16) << 8 | mask
    return np.bincount(pairs.ravel(), minlength=1 << 16).reshape(256, 256)


def table(result: Accuracy, names: Sequence[str] = NAMES) -> str:
    """Format a result for people; `names` of the classes in the order of their ids."""
    lines = [
        f"overall accuracy  {result.overall:.4f}",
        f"pixels compared   {result.compared:,}",
        f"not predicted     {result.unpredicted:,}",
        f"not in truth      {result.unexpected:,}",
        "",
        f"{'class':<12}{'IoU':>8}{'recall':>8}{'precision':>11}{'pixels':>16}",
    ]
    predicted = result.confusion.sum(axis=0)
    expected = result.confusion.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = np.diagonal(result.confusion) / expected
        precision = np.diagonal(result.confusion) / predicted
    lines += [
        f"{name:<12}{result.iou[k]:>8.4f}{recall[k]:>8.4f}{precision[k]:>11.4f}{expected[k]:>16,}"
        for k, name in enumerate(names)
    ]
    return "\n".join(lines)


def main() -> None:
    """Print the agreement of the rasters named on the command line."""
    parser = argparse.ArgumentParser(description="Compare a predicted mask with the truth.")
    parser.add_argument("mask", type=Path)
    parser.add_argument("truth", type=Path)
    args = parser.parse_args()
    print(table(accuracy(args.mask, args.truth)))


if __name__ == "__main__":
    main()

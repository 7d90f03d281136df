"""Compare a run's masks of the NAIP scenes with where their infrared band shows water.

Usage:
    batchseg run configs/landcover-rgb.yaml --set "inputs=NAIP/*.tif" --set resolution=any \
        --set output=RESULTS
    python jobs/lake_accuracy.py RESULTS NAIP

Counted are the columns of `naip_water.EAST`, which training never read, in all four years, 2009 apart.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import naip_water
import numpy as np
import rasterio
from accuracy import count_pairs
from numpy.typing import NDArray

YEARS = (naip_water.UNSEEN_YEAR, *naip_water.TRAINED)


def pairs(results: Path, data: Path, year: str) -> NDArray[np.int64]:
    """Pixels of a year's east by label (axis 0) and predicted class (axis 1): int64 (256, 256)."""
    (example,) = naip_water.examples(data, (year,), naip_water.EAST)
    mask = results / "masks" / f"{Path(example.name).name}.tif"
    with rasterio.open(mask) as predicted:
        return count_pairs(example.label, predicted.read(1)[:, naip_water.EAST])


def figures(counts: NDArray[np.int64]) -> tuple[float, float, float]:
    """IoU, recall and precision of water, 0..1, of such counts; NaN where there is nothing to divide by."""
    water = naip_water.WATER
    labelled = counts[[water, naip_water.VEGETATION, naip_water.NOT_WATER]]
    hits, true, called = labelled[0, water], labelled[0].sum(), labelled[:, water].sum()
    with np.errstate(invalid="ignore", divide="ignore"):
        iou, recall, precision = hits / np.array([true + called - hits, true, called], float)
    return float(iou), float(recall), float(precision)


def main() -> None:
    """Print a row per year."""
    parser = argparse.ArgumentParser(description="Compare masks of the NAIP scenes with their infrared band.")
    parser.add_argument("results", type=Path)
    parser.add_argument("data", type=Path, help="the folder of the scenes")
    args = parser.parse_args()
    print(f"{'year':<8}{'IoU':>8}{'recall':>8}{'precision':>11}")
    total = np.zeros((256, 256), np.int64)
    for year in YEARS:
        counts = pairs(args.results, args.data, year)
        total += counts
        print("{:<8}{:>8.4f}{:>8.4f}{:>11.4f}".format(year, *figures(counts)))
    print("{:<8}{:>8.4f}{:>8.4f}{:>11.4f}".format("all", *figures(total)))


if __name__ == "__main__":
    main()

"""Compare a run's masks of the held-out Dubai tile with the truth: the figures of models/landcover/README.md.

Usage:
    batchseg run configs/landcover-rgb.yaml --set "inputs=DATA/Tile 7/images/*.jpg" --set output=RESULTS \
        --set gate.budget=0          # as the card's: Paddle in fp32
    python jobs/landcover_accuracy.py RESULTS DATA
"""

from __future__ import annotations

import argparse
from pathlib import Path

import dubai
import numpy as np
import rasterio
from accuracy import NODATA, Accuracy, count_pairs, table


def held_out(results: Path, data: Path) -> Accuracy:
    """Sum the pixels of all images of the held-out tile.

    Args:
        results: Output of a run over the tile's images.
        data: The folder that holds the tiles.
    """
    counts = np.zeros((256, 256), np.int64)
    for example in dubai.examples(data, dubai.HELD_OUT):
        mask = results / "masks" / f"{Path(example.name).name}.jpg.tif"
        with rasterio.open(mask) as predicted:
            counts += count_pairs(example.label, predicted.read(1))
    known = len(dubai.CLASSES)
    return Accuracy(
        confusion=counts[:known, :known],
        unpredicted=int(counts[:known, NODATA].sum()),
        unexpected=int(counts[dubai.IGNORED, :known].sum()),
    )


def main() -> None:
    """Print the table of classes and the confusion matrix."""
    parser = argparse.ArgumentParser(description="Compare masks of the held-out tile with the truth.")
    parser.add_argument("results", type=Path)
    parser.add_argument("data", type=Path)
    args = parser.parse_args()
    result = held_out(args.results, args.data)
    names = list(dubai.CLASSES)
    print(table(result, names))
    print(
        f"{'mean':<12}{result.iou.mean():>8.4f}\n\nshare of each true class (rows) by predicted class, in %"
    )
    print(" " * 12 + "".join(f"{name:>12}" for name in names))
    for name, row in zip(
        names, 100 * result.confusion / result.confusion.sum(axis=1, keepdims=True), strict=True
    ):
        print(f"{name:<12}" + "".join(f"{share:>12.1f}" for share in row))


if __name__ == "__main__":
    main()

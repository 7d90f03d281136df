"""How much masks change at the borders of tiles: the figures of docs/models.md.

Usage:
    batchseg run JOB --set output=RESULTS
    python jobs/tile_borders.py RESULTS
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray

from batchseg.output.state import load_state

NODATA = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Pairs of neighbouring pixels, and those of them whose classes differ."""

    pairs: int = 0
    differ: int = 0

    @property
    def share(self) -> float:
        return self.differ / self.pairs if self.pairs else float("nan")

    def __add__(self, other: Changes) -> Changes:
        return Changes(pairs=self.pairs + other.pairs, differ=self.differ + other.differ)


def changes(mask: NDArray[np.uint8], core: int) -> tuple[Changes, Changes]:
    """Across the borders of cores, and everywhere else, in rows and in columns.

    Args:
        mask: (H, W) class ids; pairs with `NODATA` are left out.
        core: pixels per side of a tile's core; the first one begins at the mask's first pixel.
    """
    across = inside = Changes()
    for rows in (mask, mask.T):
        before, after = rows[:, :-1], rows[:, 1:]
        known = (before != NODATA) & (after != NODATA)
        differ = (before != after) & known
        border = np.arange(1, rows.shape[1]) % core == 0
        across += Changes(pairs=int(known[:, border].sum()), differ=int(differ[:, border].sum()))
        inside += Changes(pairs=int(known[:, ~border].sum()), differ=int(differ[:, ~border].sum()))
    return across, inside


def main() -> None:
    """Print both shares over all masks of an output."""
    parser = argparse.ArgumentParser(description="How much masks change at the borders of tiles.")
    parser.add_argument("results", type=Path)
    args = parser.parse_args()
    state = load_state(str(args.results))
    if state is None:
        parser.error(f"{args.results} holds no results of batchseg")
    pixel = state.pixel
    core = pixel["tile_size"] - 2 * pixel["halo"]
    across = inside = Changes()
    for path in sorted((args.results / "masks").rglob("*.tif")):
        with rasterio.open(path) as dataset:
            here, elsewhere = changes(dataset.read(1), core)
        across, inside = across + here, inside + elsewhere
    print(f"tile_size {pixel['tile_size']}, halo {pixel['halo']}: class changes between neighbours")
    print(f"across the borders of tiles {across.share:.2%} of {across.pairs}")
    print(f"elsewhere                   {inside.share:.2%} of {inside.pairs}")


if __name__ == "__main__":
    main()

"""How many pixels of a scene depend on where its tiles lie: the figures of docs/models.md.

Usage:
    python jobs/tile_places.py JOB SCENE.tif FOLDER [--rows 3000] [--set blend=hann ...]

A part of the scene is predicted twice: as it is, and without its first rows and columns, half of a core of
them, so that borders of tiles lie in the middle of those before. FOLDER gets both parts and both masks.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

import batchseg

NODATA = 255


def cut(scene: Path, offset: int, side: int, target: Path) -> Path:
    """A square of a scene, from so many rows and columns on, as a GeoTIFF of its own."""
    with rasterio.open(scene) as source:
        window = Window(offset, offset, side - offset, side - offset)
        profile = {
            "driver": "GTiff",
            "count": source.count,
            "height": side - offset,
            "width": side - offset,
            "dtype": source.dtypes[0],
            "crs": source.crs,
            "transform": source.window_transform(window),
            "tiled": True,
        }
        target.parent.mkdir(parents=True, exist_ok=True)
        with rasterio.open(target, "w", **profile) as made:
            made.write(source.read(window=window))
    return target


def changed(one: NDArray[np.uint8], shifted: NDArray[np.uint8], offset: int, margin: int) -> float:
    """Share of the pixels that lie in both, away from the sides, and have another class in each."""
    first = one[offset:, offset:][margin:-margin, margin:-margin]
    second = shifted[margin:-margin, margin:-margin]
    known = (first != NODATA) & (second != NODATA)
    return float(np.count_nonzero((first != second) & known) / np.count_nonzero(known))


def predicted(job: str, scene: Path, output: Path, keys: dict[str, Any]) -> tuple[NDArray[np.uint8], float]:
    """The mask of one raster, and the seconds that the run took."""
    started = time.perf_counter()
    config = batchseg.load_job(job, inputs=str(scene), output=str(output), **keys)
    batchseg.run(config, replace=True)
    with rasterio.open(output / "masks" / scene.name) as mask:
        return mask.read(1), time.perf_counter() - started


def main() -> None:
    """Print the share, and the seconds of the first of the two runs."""
    parser = argparse.ArgumentParser(description="Count the pixels that depend on where tiles lie.")
    parser.add_argument("job")
    parser.add_argument("scene", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=3000, help="pixels of the square that is predicted")
    parser.add_argument("--core", type=int, default=384, help="of the tiles; they are moved by half of it")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    args = parser.parse_args()
    keys: dict[str, Any] = {}
    for pair in args.set:
        key, _, value = pair.partition("=")
        keys[key] = int(value) if value.isdigit() else value
    masks, seconds = [], []
    for name, offset in (("whole", 0), ("moved", args.core // 2)):
        part = cut(args.scene, offset, args.rows, args.folder / name / "part.tif")
        mask, took = predicted(args.job, part, args.folder / f"{name}-masks", keys)
        masks.append(mask)
        seconds.append(took)
    share = changed(masks[0], masks[1], args.core // 2, margin=args.core)
    print(f"{share:.3%} of the pixels depend on where tiles lie; {seconds[0]:.1f} s")


if __name__ == "__main__":
    main()

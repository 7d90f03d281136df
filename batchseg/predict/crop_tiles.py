"""Crops of a job's sources on their way to other processes, and the tiles that lie in them."""

import math
import pickle
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.pixels.grid import TileGrid, Window, cut_tile
from batchseg.predict.gate import CLASS_PIXELS
from batchseg.predict.samples import Sample

KNOWN = 48
"""Tiles at most of which the classes are known."""

CROPS_FILE = "crops"


@dataclass(frozen=True, slots=True)
class TileAt:
    """A tile of a crop."""

    crop: int
    row: int
    col: int


def save_crops(samples: Sequence[Sample], folder: Path) -> str:
    """A folder that the processes read: an array each, which they map, and the scales."""
    for number, sample in enumerate(samples):
        np.save(folder / f"{CROPS_FILE}-{number}.npy", sample.pixels)
    (folder / CROPS_FILE).write_bytes(pickle.dumps([sample.scale for sample in samples]))
    return str(folder)


def load_crops(folder: str) -> list[Sample]:
    scales = pickle.loads((Path(folder) / CROPS_FILE).read_bytes())  # noqa: S301  this run's, in its own folder
    return [
        Sample(pixels=np.load(Path(folder) / f"{CROPS_FILE}-{number}.npy", mmap_mode="r"), scale=scale)
        for number, scale in enumerate(scales)
    ]


def tiles_of(crops: Sequence[Sample], side: int, halo: int) -> list[TileAt]:
    """All tiles of the crops in turn: of each crop first those that hold most of its own pixels."""
    ranked = []
    for number, crop in enumerate(crops):
        grid = _grid(crop, side, halo)
        rows, cols = grid.shape_hw
        inside = sorted(
            (-grid.tile(row, col).window.clip(grid.height, grid.width).size, row, col)
            for row in range(rows)
            for col in range(cols)
        )
        ranked += [(rank, TileAt(number, row, col)) for rank, (_, row, col) in enumerate(inside)]
    return [at for _, at in sorted(ranked, key=lambda item: (item[0], item[1].crop))]


def _grid(crop: Sample, side: int, halo: int) -> TileGrid:
    height, width = crop.pixels.shape[-2:]
    return TileGrid(height=height, width=width, tile_size=side, halo=halo)


def core_of(crop: Sample, at: TileAt, side: int, halo: int) -> Window:
    """Where a tile's core lies in its crop."""
    return _grid(crop, side, halo).tile(at.row, at.col).core


def cut(crop: Sample, at: TileAt, side: int, halo: int) -> NDArray[Any]:
    """The raw pixels (C, side, side) of a tile."""
    grid = _grid(crop, side, halo)
    whole = Window(row_off=0, col_off=0, height=grid.height, width=grid.width)
    return np.ascontiguousarray(cut_tile(crop.pixels, whole, grid.tile(at.row, at.col)))


def known_tiles(crops: Sequence[Sample], own: int, side: int, halo: int) -> list[TileAt]:
    """Tiles of the crops behind the job's own."""
    tiles = tiles_of(crops[own:], side, halo)
    return [replace(at, crop=own + at.crop) for at in tiles[:KNOWN]]


def choose_tiles(tiles: Sequence[TileAt], counts: dict[TileAt, dict[int, int]], count: int) -> list[TileAt]:
    """Those that together show most classes with enough pixels to be judged; of equals, of another crop.

    An engine that is right wherever classes are common may be wrong of a rare one.
    """
    left, chosen, shown = list(tiles), list[TileAt](), dict[int, int]()
    while left and len(chosen) < count:
        crops = [at.crop for at in chosen]

        def gain(at: TileAt, crops: Sequence[int] = crops) -> tuple[float, int]:
            new = sum(
                min(number, max(0, CLASS_PIXELS - shown.get(class_id, 0)))
                for class_id, number in counts[at].items()
            )
            return new, -crops.count(at.crop)

        most = max(left, key=gain)
        left.remove(most)
        chosen.append(most)
        for class_id, number in counts[most].items():
            shown[class_id] = shown.get(class_id, 0) + number
    return chosen


def in_time(items: Iterable[Any], seconds: float, at_least: int = 1) -> Iterator[Any]:
    """As many as there is time for; what the first one takes, which plans and compiles, is not counted."""
    until = math.inf
    for number, item in enumerate(items):
        if number == 1:
            until = time.monotonic() + seconds
        if number >= at_least and time.monotonic() >= until:
            return
        yield item

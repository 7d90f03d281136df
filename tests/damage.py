"""Files that are damaged on purpose, block by block."""

from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioIOError


def offset_of(path: Path, row: int, col: int, band: int = 1) -> tuple[int, int]:
    """Offset and bytes of one block in its file."""
    with rasterio.open(path) as dataset:
        names = (f"BLOCK_{what}_{col}_{row}" for what in ("OFFSET", "SIZE"))
        offset, size = (int(dataset.get_tag_item(name, "TIFF", bidx=band)) for name in names)
    return offset, size


def corrupt(path: Path, row: int, col: int, band: int = 1) -> None:
    """Overwrite one block's bytes."""
    offset, size = offset_of(path, row, col, band)
    data = bytearray(path.read_bytes())
    data[offset : offset + size] = np.random.default_rng(0).integers(128, 256, size, np.uint8).tobytes()
    path.write_bytes(data)


def undecodable(path: Path, bands: list[int]) -> NDArray[np.bool_]:
    """Block by block, each in a dataset of its own."""
    with rasterio.open(path) as dataset:
        bad = np.zeros(dataset.shape, dtype=bool)
        windows = [window for _, window in dataset.block_windows(1)]
    for window in windows:
        with rasterio.open(path, sharing=False) as dataset:
            try:
                dataset.read(bands, window=window)
            except RasterioIOError:
                bad[window.toslices()] = True
    return bad

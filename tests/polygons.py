"""Regions by rasterio of the whole raster: what regions of strips must equal."""

import numpy as np
import rasterio.features
import shapely
import shapely.geometry


def whole_regions(ids: np.ndarray, wanted: np.ndarray) -> dict[int, tuple[int, shapely.Polygon]]:
    """(class id, polygon in pixel coordinates) by region id, rows and columns counted from the top left."""
    mask = wanted[ids]
    shapes = rasterio.features.shapes(ids, mask=mask, connectivity=4)
    regions = {}
    for geometry, value in shapes:
        row, col = min((y, x) for x, y in geometry["coordinates"][0])
        regions[int(row) * ids.shape[1] + int(col)] = (int(value), shapely.geometry.shape(geometry))
    return regions


def spiral(size: int) -> np.ndarray:
    """One arm of class 1, one pixel wide and apart, in class 0."""
    ids = np.zeros((size, size + 2), dtype=np.uint8)
    row, col, step = 0, 0, (0, 1)
    ids[0, 0] = 1
    turns = 0
    while turns < 2:
        ahead, beyond = ((row + k * step[0], col + k * step[1]) for k in (1, 2))
        inside = all(0 <= at < limit for at, limit in zip(ahead, ids.shape, strict=True))
        free = inside and not (
            all(0 <= a < n for a, n in zip(beyond, ids.shape, strict=True)) and ids[beyond]
        )
        if free and not ids[ahead]:
            (row, col), turns = ahead, 0
            ids[row, col] = 1
        else:
            step, turns = (step[1], -step[0]), turns + 1
    return ids


def rings(size: int) -> np.ndarray:
    """Nested square rings of classes 1 and 2."""
    rows, cols = np.mgrid[0:size, 0 : size + 3]
    depth = np.minimum(np.minimum(rows, size - 1 - rows), np.minimum(cols, size + 2 - cols))
    return (1 + depth % 2).astype(np.uint8)

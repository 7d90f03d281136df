"""Regions of interest: how large they are in an image, and how much of an outline lies inside."""

from typing import Any

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from batchseg.job.settings import Interest
from batchseg.regions.wkb import read_polygons


def interest_areas(
    part: Interest, sizes_wh: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pixels of a part of images, and those of them that lie in the image.

    Args:
        part: in pixels it may reach beyond an image.
        sizes_wh: (N, 2), width and height.

    Returns:
        Two of shape (N,).
    """
    _, first, which = np.unique(_keys(sizes_wh), return_index=True, return_inverse=True)
    sizes = sizes_wh[first]
    unit_wh = sizes if part.unit == "share" else np.ones((len(sizes), 2))
    polygons = shapely.polygons(np.array(part.corners_xy) * unit_wh[:, None, :])
    inside = shapely.intersection(polygons, shapely.box(0, 0, *sizes.T))
    return shapely.area(polygons)[which], shapely.area(inside)[which]


def areas_inside(part: Interest, regions: pa.Table, sizes_wh: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pixels of each region that lie in a part of its image; one that the border cuts counts by its share.

    Args:
        part: of the image.
        regions: N rows.
        sizes_wh: (N, 2), width and height of each region's image.

    Returns:
        Shape (N,).
    """
    unit_wh = sizes_wh if part.unit == "share" else np.ones((1, 2))
    corners = np.array(part.corners_xy)
    low, high = _boxes(regions)
    near = ((high > corners.min(axis=0) * unit_wh) & (low < corners.max(axis=0) * unit_wh)).all(axis=1)
    inside = np.zeros(len(regions))
    at = np.flatnonzero(near)
    polygon = _polygons(corners, np.broadcast_to(unit_wh, sizes_wh.shape)[at])
    boxes = shapely.box(*low[at].T, *high[at].T)
    within = shapely.covers(polygon, boxes)
    inside[at[within]] = regions["area_px"].to_numpy()[at[within]]
    crossing = np.flatnonzero(~within & shapely.intersects(polygon, boxes))
    crossing_rows: Any = pa.array(at[crossing])
    outlines = read_polygons(regions["geometry"].take(crossing_rows), "its regions")
    inside[at[crossing]] = shapely.area(shapely.intersection(polygon[crossing], outlines))
    return inside


def _polygons(corners_xy: NDArray[np.float64], unit_wh: NDArray[np.float64]) -> NDArray[Any]:
    """One polygon for each row of units; equal ones are one object, prepared for many questions."""
    _, first, which = np.unique(_keys(unit_wh), return_index=True, return_inverse=True)
    polygons = shapely.polygons(corners_xy * unit_wh[first][:, None, :])
    shapely.prepare(polygons)
    shared: NDArray[Any] = polygons[which]
    return shared


def _keys(sizes_wh: NDArray[np.float64]) -> NDArray[np.int64]:
    """One number for each pair of whole ones."""
    keys: NDArray[np.int64] = sizes_wh.astype(np.int64) @ (1 << 32, 1)
    return keys


def _boxes(regions: pa.Table) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Upper left and lower right corners of the bounding boxes, each (N, 2) as x, y."""
    low, size = (
        np.stack([regions[name].to_numpy().astype(np.float64) for name in names], axis=1)
        for names in (("box_x", "box_y"), ("box_width", "box_height"))
    )
    return low, low + size

"""Regions as rings in integer pixel coordinates, and what can be counted from them exactly."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.regions.tracing.borders import DOUBLE_MINUS, DOUBLE_PLUS, Bools
from batchseg.regions.tracing.ragged import Ints, chain, chain_heads, following, offsets_of, pick


@dataclass(frozen=True, slots=True, kw_only=True)
class Edges:
    """Ragged sequences of edges as `borders` walks them."""

    x: NDArray[np.int32]
    """(edges,) column of each edge's plus corner."""
    y: NDArray[np.int32]
    """(edges,) line of each edge."""
    double: NDArray[np.uint8]
    """(edges,) DOUBLE_PLUS | DOUBLE_MINUS."""
    offsets: Ints
    """(parts + 1,)"""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __add__(self, other: "Edges") -> "Edges":
        return Edges(
            x=np.concatenate([self.x, other.x]),
            y=np.concatenate([self.y, other.y]),
            double=np.concatenate([self.double, other.double]),
            offsets=np.concatenate([self.offsets, other.offsets[1:] + self.offsets[-1]]),
        )

    def pick(self, parts: Ints) -> "Edges":
        at, offsets = pick(self.offsets, parts)
        return Edges(x=self.x[at], y=self.y[at], double=self.double[at], offsets=offsets)

    def merged(self, counts: Ints) -> "Edges":
        """So many consecutive parts each as one."""
        return Edges(x=self.x, y=self.y, double=self.double, offsets=self.offsets[offsets_of(counts)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Regions:
    """Polygons, one per region or piece of a cut region."""

    region_id: Ints
    """(regions,) row * width + column of the region's first pixel in row-major order; pieces share it."""
    class_id: Ints
    """(regions,)"""
    confidence: Ints
    """(regions,) sum over the pixels; 0 where none was given."""
    cut: Bools
    """(regions,) a piece of a region that was cut, to bound memory."""
    x: NDArray[np.int32]
    """(edges,) columns: ring corners are (x[i], y[i]), (x[i + 1], y[i]), (x[i + 1], y[i + 1]) ..."""
    y: NDArray[np.int32]
    """(edges,) lines; half of a ring's corners, because the other half follows."""
    rings: Ints
    """(rings + 1,) offsets of rings in edges. A region's first ring is its shell, the others are holes."""
    polygons: Ints
    """(regions + 1,) offsets of regions in rings."""

    def __len__(self) -> int:
        return len(self.region_id)

    def pick(self, regions: Ints) -> "Regions":
        ring, polygons = pick(self.polygons, regions)
        at, rings = pick(self.rings, ring)
        return Regions(
            region_id=self.region_id[regions],
            class_id=self.class_id[regions],
            confidence=self.confidence[regions],
            cut=self.cut[regions],
            x=self.x[at],
            y=self.y[at],
            rings=rings,
            polygons=polygons,
        )


def large_enough(region: Ints, area: Ints, least: int) -> Bools:
    """(N,) whether the region of each piece, by its number, has so many pixels, all its pieces together."""
    enough: Bools = area >= least
    if enough.all():
        return enough
    _, which = np.unique(region, return_inverse=True)
    return np.asarray(np.bincount(which, area)[which] >= least)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What is counted of regions' pixels and borders; all (regions,) int64."""

    area: Ints
    """Pixels."""
    col_sum: Ints
    """Sum of the pixels' columns."""
    row_sum: Ints
    perimeter: Ints
    """Pixel sides, holes included."""
    box: Ints
    """(regions, 4) first column, first row, last column + 1, last row + 1."""

    def pick(self, regions: Ints) -> "Counts":
        return Counts(
            area=self.area[regions],
            col_sum=self.col_sum[regions],
            row_sum=self.row_sum[regions],
            perimeter=self.perimeter[regions],
            box=self.box[regions],
        )


def split_doubles(walks: Edges) -> tuple[Edges, Ints]:
    """Rings that pass no point twice.

    A region that is on both pixels of a diagonal passes their common corner twice, each pixel with a corner
    of its own; exchanged, the corners go around the other two pixels, and the walk falls into two rings
    that touch there: a valid polygon. Two passes belong to one region just if they are on one walk.

        A A A     At (2, 2) two pixels of A meet across a diagonal. The walk comes along the outer border
        A . A     and goes on around the hole; split, shell and hole are rings of their own.
        A A .

    Args:
        walks: closed, none empty.

    Returns:
        Rings, each beginning with its first plus corner in row-major order, and the walk each is from.
    """
    walk = np.repeat(np.arange(len(walks)), np.diff(walks.offsets))
    after = following(walks.offsets)
    by_minus = _partners(walk, walks.x[after], walks.y, walks.double & DOUBLE_MINUS)
    by_plus = _partners(walk, walks.x, walks.y, walks.double & DOUBLE_PLUS)
    # Where a walk passes a point twice, its two passes exchange what comes next.
    follow = by_plus[after[by_minus]]
    order = chain(follow, np.lexsort((walks.x, walks.y)))
    heads = chain_heads(follow, order)
    rings = Edges(
        x=walks.x[order],
        y=walks.y[order],
        double=np.zeros(len(order), dtype=np.uint8),
        offsets=np.append(heads, len(order)),
    )
    return rings, walk[order[heads]]


def _partners(
    walk: Ints, x: NDArray[np.int32], y: NDArray[np.int32], marked: NDArray[np.integer[Any]]
) -> Ints:
    """For each edge the other one marked at the same place on the same walk, or itself."""
    partner = np.arange(len(walk))
    at = np.flatnonzero(marked)
    at = at[np.lexsort((x[at], y[at], walk[at]))]
    one, two = at[:-1], at[1:]
    same = (walk[one] == walk[two]) & (y[one] == y[two]) & (x[one] == x[two])
    partner[one[same]], partner[two[same]] = two[same], one[same]
    return partner


def count(regions: Regions) -> Counts:
    """Areas, sums and boxes from the borders alone.

    A sum over pixels of f is the sum of F(plus) - F(minus) over the edges' corners, where F(x, y) is f's sum
    over all pixels above line y and left of column x. Integer arithmetic wraps around and ends right.
    """
    # An edge's corners share y. F is x y for f = 1, y x (x - 1) / 2 for columns, x y (y - 1) / 2 for rows.
    x, y = regions.x.astype(np.int64), regions.y.astype(np.int64)
    after = following(regions.rings)
    next_x = x[after]
    step = x - next_x
    first = regions.rings[regions.polygons[:-1]]

    def total(values: Ints) -> Ints:
        return np.add.reduceat(values, first) if len(first) else np.zeros(0, dtype=np.int64)

    return Counts(
        area=total(y * step),
        col_sum=total(y * ((x * (x - 1) - next_x * (next_x - 1)) // 2)),
        row_sum=total(y * (y - 1) // 2 * step),
        perimeter=total(np.abs(step) + np.abs(y[after] - y)),
        box=_boxes(regions.x, regions.y, first),
    )


def _boxes(x: NDArray[np.int32], y: NDArray[np.int32], first: Ints) -> Ints:
    if not len(first):
        return np.zeros((0, 4), dtype=np.int64)
    sides = [np.minimum.reduceat(x, first), np.minimum.reduceat(y, first)]
    sides += [np.maximum.reduceat(x, first), np.maximum.reduceat(y, first)]
    return np.stack(sides, axis=1).astype(np.int64)


def ring_coordinates(regions: Regions) -> tuple[NDArray[np.int32], Ints]:
    """All corners, each ring closed: (corners, 2) columns and lines, and (rings + 1,) offsets."""
    edges, rings = len(regions.x), len(regions.rings) - 1
    offsets = 2 * regions.rings + np.arange(rings + 1)
    corners = np.empty((2 * edges + rings, 2), dtype=np.int32)
    at = 2 * np.arange(edges) + np.repeat(np.arange(rings), np.diff(regions.rings))
    corners[at, 0], corners[at, 1] = regions.x, regions.y
    corners[at + 1, 0], corners[at + 1, 1] = regions.x[following(regions.rings)], regions.y
    corners[offsets[1:] - 1] = corners[offsets[:-1]]
    return corners, offsets

"""Merging and sieving by a flood fill that knows nothing of GDAL: slow and plain."""

from collections import Counter

import numpy as np


def neighbours(row, col, shape_hw, connectivity):
    sides = [(-1, 0), (0, -1), (0, 1), (1, 0)]
    corners = [(-1, -1), (-1, 1), (1, -1), (1, 1)] if connectivity == 8 else []
    around = ((row + down, col + across) for down, across in sides + corners)
    return [(r, c) for r, c in around if 0 <= r < shape_hw[0] and 0 <= c < shape_hw[1]]


def flooded(values, nodata, connectivity):
    """(H, W) numbers of regions, in reading order of their first pixels; -1 where there is no data."""
    labels = np.full(values.shape, -1)
    for start in np.ndindex(values.shape):
        if values[start] == nodata or labels[start] >= 0:
            continue
        number, open_ = labels.max() + 1, [start]
        labels[start] = number
        while open_:
            at = open_.pop()
            for beside in neighbours(*at, values.shape, connectivity):
                if labels[beside] < 0 and values[beside] == values[start]:
                    labels[beside] = number
                    open_.append(beside)
    return labels


def sieved_once(values, size, nodata, connectivity):
    """Chains of largest neighbours, the first of equals as pixels are compared with those before them."""
    labels = flooded(values, nodata, connectivity)
    sizes, largest = Counter(labels[labels >= 0].tolist()), {}
    for at in np.ndindex(values.shape):
        before = [p for p in neighbours(*at, values.shape, connectivity) if p < at]
        # A row is compared with the one above it: straight up, then its corners; then with its left.
        for beside in sorted(before, key=lambda p: (p[0] == at[0], p[1] != at[1], p[1])):
            pair = int(labels[at]), int(labels[beside])
            if min(pair) < 0 or pair[0] == pair[1]:
                continue
            for one, other in (pair, pair[::-1]):
                if one not in largest or sizes[largest[one]] < sizes[other]:
                    largest[one] = other
    made = values.copy()
    for number in [n for n in sizes if sizes[n] < size]:
        chain = [number]
        while sizes[chain[-1]] < size and (then := largest.get(chain[-1])) is not None and then not in chain:
            chain.append(then)
        if sizes[chain[-1]] >= size:
            made[labels == number] = values[labels == chain[-1]][0]
    return made


def expected(values, cleaning, nodata):
    made = values.copy()
    for merge in cleaning.merges:
        made[np.isin(values, merge.ids)] = min(merge.ids)
    while cleaning.sieve:
        before = made
        made = sieved_once(before, cleaning.sieve, nodata, cleaning.connectivity)
        if np.array_equal(before, made):
            break
    return made

"""Regions of a class raster: strips in, from the top, finished regions out, in memory bounded by both.

A region is a largest set of 4-connected pixels of one class. One of 8-connected pixels comes out in a piece
for each of these, all of one id, together. What a strip leaves open is carried as
*strands*, walks that end at the strip's lower border, and joined to the next strip's. Regions come out by
their last row, then by region id: neither their order nor their rings depend on the strips.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.regions.tracing.borders import Bools, Labels, Walks, walk_strip
from batchseg.regions.tracing.ragged import Ints, offsets_of
from batchseg.regions.tracing.rings import Regions
from batchseg.regions.tracing.strips import Closed, Cuts, cut, join, nothing_open, to_regions

CHUNK_PIXELS = 2**20
"""Traced at once, whatever the strips are."""

CARRIED = 4
"""So many times `max_vertices` are carried in all before the largest open regions are cut."""


class RegionTracer:
    """Takes a raster's strips from its top to its bottom.

    Args:
        height: of the raster in pixels.
        width: of the raster in pixels.
        wanted: (256,) or (65536,) by pixel value, whether it makes regions.
        with_confidence: whether strips come with confidence.
        max_vertices: an open region that has more is cut, at a row that depends on `width` alone.
        connectivity: 4, or 8: pixels that meet across a diagonal belong to one region too.
    """

    def __init__(
        self,
        height: int,
        width: int,
        *,
        wanted: Bools,
        with_confidence: bool = False,
        max_vertices: int = 1_000_000,
        connectivity: int = 4,
    ) -> None:
        self._height, self._width, self._max_vertices = height, width, max_vertices
        self._diagonal = connectivity == 8
        self._classes = np.concatenate([[-1], np.flatnonzero(wanted)])
        dtype = np.uint8 if len(self._classes) <= 256 else np.uint16
        self._label_of = np.zeros(len(wanted), dtype=dtype)
        self._label_of[self._classes[1:]] = np.arange(1, len(self._classes))
        self._rows = max(1, CHUNK_PIXELS // (width + 1))
        self._line = 0
        self._above: Labels = np.zeros(width, dtype=dtype)
        self._integral = np.zeros(width + 1, dtype=np.int64) if with_confidence else None
        self._cuts: tuple[Cuts, Labels] | None = None
        self._open = nothing_open()
        self.joined = JoinedIds()
        """Ids of cut regions that turned out to be parts of one."""

    @property
    def carried_vertices(self) -> int:
        """Of open regions."""
        return 2 * len(self._open.pieces.x)

    def feed(
        self, row_off: int, ids: NDArray[np.unsignedinteger[Any]], confidence: NDArray[np.uint8] | None = None
    ) -> Iterator[Regions]:
        """Regions that end in a strip, in batches; all must be taken before the next strip is fed.

        Args:
            row_off: the strip's first row, the one after the last strip's.
            ids: (rows, width) pixel values.
            confidence: (rows, width), if the tracer was made for it.

        Raises:
            ValueError: the strip is not the next one.
        """
        if row_off != self._line or ids.shape[1] != self._width or row_off + len(ids) > self._height:
            msg = f"expected rows of {self._width} pixels from {self._line} on, got {ids.shape} at {row_off}"
            raise ValueError(msg)
        stop = row_off + len(ids)
        while self._line < stop:
            # Regions are cut at multiples of `_rows` alone, wherever the strips end.
            until = min(stop, (self._line // self._rows + 1) * self._rows)
            rows = slice(self._line - row_off, until - row_off)
            labels = self._labels(ids[rows])
            yield self._step(labels, self._integrate(confidence[rows] if confidence is not None else None))
            if until % self._rows == 0 and until < self._height:
                yield from self._cut()

    def finish(self) -> Regions:
        """The regions that touch the last row.

        Raises:
            ValueError: rows are missing.
        """
        if self._line != self._height:
            msg = f"expected {self._height} rows, got {self._line}"
            raise ValueError(msg)
        below = np.zeros((1, self._width), dtype=self._above.dtype)
        return self._step(below, None if self._integral is None else np.stack([self._integral] * 2))

    def _labels(self, ids: NDArray[np.unsignedinteger[Any]]) -> Labels:
        if ids.itemsize > 1 or self._label_of.itemsize > 1:
            return np.asarray(self._label_of[ids])
        table = self._label_of.tobytes()  # 256 bytes; translate takes a third of the time of indexing
        return np.frombuffer(ids.tobytes().translate(table), dtype=np.uint8).reshape(ids.shape)

    def _step(self, labels: Labels, integral: Ints | None) -> Regions:
        strip = np.zeros((len(labels) + 1, self._width + 1), dtype=labels.dtype)
        strip[0, 1:], strip[1:, 1:] = self._above, labels
        walks = walk_strip(strip, line_off=self._line, integral=integral)
        origin = _origins(walks, self._cuts, labels[0], self._line, (-1, 0, 1) if self._diagonal else (0,))
        contacts = walks.contacts(self._width) if self._diagonal else None
        closed, self._open, same = join(self._open, walks, origin, self._width, contacts)
        self.joined.add(same)
        self._above = labels[-1].copy()
        self._cuts = None
        self._line += len(labels)
        return self._emit(closed)

    def _emit(self, closed: Closed) -> Regions:
        regions, same = to_regions(closed, self._width)
        self.joined.add(same)
        return replace(regions, class_id=self._classes[regions.class_id])

    def _integrate(self, confidence: NDArray[np.uint8] | None) -> Ints | None:
        """Sums above and left of each lattice point."""
        if self._integral is None or confidence is None:
            return None
        integral = np.zeros((len(confidence) + 1, self._width + 1), dtype=np.int64)
        integral[0] = self._integral
        np.cumsum(confidence, axis=1, out=integral[1:, 1:])
        np.cumsum(integral, axis=0, out=integral)
        self._integral = integral[-1].copy()
        return integral

    def _cut(self) -> Iterator[Regions]:
        family = np.unique(self._open.found.family, return_inverse=True)[1]
        size = np.bincount(
            family[self._open.region], 2 * np.diff(self._open.pieces.offsets), family.max(initial=-1) + 1
        )
        smallest = np.argsort(size, kind="stable")
        # Together they are bounded as well: the largest go until the rest fits.
        too_large = size > self._max_vertices
        too_large[smallest] |= np.cumsum(size[smallest]) > CARRIED * self._max_vertices
        if not too_large.any():
            return
        closed, self._open, cuts, same = cut(
            self._open, too_large[family], self._line, self._width, self._integral
        )
        self.joined.add(same)
        # To the next strip what was cut is no region: what goes on below is new, and `_origins` names it.
        self._cuts = cuts, self._above.copy()
        self._above[_columns(cuts)[0]] = 0
        yield self._emit(closed)


def _origins(
    walks: Walks, cuts: tuple[Cuts, Labels] | None, labels: Labels, line: int, steps: tuple[int, ...]
) -> Ints:
    """(pairs, 2) walks and the ids of cut regions that theirs go on with: an upper side lies on the cut.

    `steps` are from a pixel's column to those of the pixels below that it is connected to.
    """
    if cuts is None:
        return np.zeros((0, 2), dtype=np.int64)
    runs, above = cuts
    cut_columns, cut_run = _columns(runs)
    below = np.pad(labels, 1)
    going_on = [below[cut_columns + 1 + step] == above[cut_columns] for step in steps]
    columns = np.concatenate([cut_columns[on] + step for on, step in zip(going_on, steps, strict=True)])
    run = np.concatenate([cut_run[on] for on in going_on])
    uppers = np.flatnonzero((walks.y == line) & (walks.minus_x(len(labels)) > walks.x))
    uppers = uppers[np.argsort(walks.x[uppers])]
    edge = uppers[np.searchsorted(walks.x[uppers], columns, side="right") - 1]
    walk = np.searchsorted(walks.offsets, edge, side="right") - 1
    return np.unique(np.stack([walk, runs.region_id[run]], axis=1), axis=0)


def _columns(cuts: Cuts) -> tuple[Ints, Ints]:
    """Columns of all runs' pixels, and the run of each."""
    offsets = offsets_of(cuts.stop - cuts.start)
    run = np.repeat(np.arange(len(cuts.start)), np.diff(offsets))
    return np.arange(offsets[-1]) - offsets[run] + cuts.start[run], run


class JoinedIds:
    """Ids that stand for one region; the smallest is the region's."""

    def __init__(self) -> None:
        self._smaller: dict[int, int] = {}

    def __bool__(self) -> bool:
        return bool(self._smaller)

    def add(self, pairs: Ints) -> None:
        """(pairs, 2) ids of the same region each."""
        for pair in pairs.tolist():
            low, high = sorted(self._root(region_id) for region_id in pair)
            if low != high:
                self._smaller[high] = low

    def resolve(self, region_ids: Ints) -> Ints:
        """Each id, or the one that it was joined to."""
        resolved = region_ids.copy()
        for region_id in self._smaller:
            resolved[region_ids == region_id] = self._root(region_id)
        return resolved

    def _root(self, region_id: int) -> int:
        while region_id in self._smaller:
            region_id = self._smaller[region_id]
        return region_id

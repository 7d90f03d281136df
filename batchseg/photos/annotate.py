"""Regions of photographs' masks as rows in pixels, many photographs in one table."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchseg.photos.fitting import Ids
from batchseg.photos.tables import ANNOTATIONS, Column
from batchseg.recipe import RegionSettings
from batchseg.regions import wanted_classes
from batchseg.rings import Counts, Regions, count
from batchseg.rows import polygons_of
from batchseg.trace import RegionTracer

UNCUT = 2**40
"""Vertices of a region before it is cut: a photograph is in memory anyway."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """The regions of one photograph."""

    regions: Regions
    """In pixels of the whole photograph."""
    counts: Counts
    shape_hw: tuple[int, int]


class Annotator:
    """Traces masks, and makes rows of what it found.

    Args:
        settings: which regions, and how.
        class_names: by class id.
        nodata: the masks', 255 or 65535.
        pixel_size: millimetres per pixel, if the job says it.
        with_confidence: whether masks come with confidence.
    """

    def __init__(
        self,
        settings: RegionSettings,
        *,
        class_names: tuple[str, ...],
        nodata: int,
        pixel_size: float | None,
        with_confidence: bool,
    ) -> None:
        self._settings, self._pixel_size = settings, pixel_size
        self._with_confidence = with_confidence
        self._names: Column = pa.array(class_names, pa.string())
        self._wanted = wanted_classes(settings, nodata)

    def trace(self, classes: Ids, confidence: NDArray[np.uint8] | None) -> Traced | None:
        """The regions of one mask (H, W), None where it has none; only the box around them is traced."""
        shape_hw = classes.shape[0], classes.shape[1]
        box = self._box(classes)
        if box is None:
            return None
        rows, cols = box
        inside = np.ascontiguousarray(classes[rows, cols])
        sums = None if confidence is None else np.ascontiguousarray(confidence[rows, cols])
        tracer = RegionTracer(
            *inside.shape,
            wanted=self._wanted,
            with_confidence=sums is not None,
            max_vertices=UNCUT,
        )
        found = [*tracer.feed(0, inside, sums), tracer.finish()]
        regions = joined(
            [_moved(part, rows.start, cols.start, inside.shape[1], shape_hw[1]) for part in found]
        )
        counts = count(regions)
        kept = np.flatnonzero(counts.area >= self._settings.min_area)
        if not len(kept):
            return None
        return Traced(regions=regions.pick(kept), counts=counts.pick(kept), shape_hw=shape_hw)

    def _box(self, classes: Ids) -> tuple[slice, slice] | None:
        """Around all pixels that may belong to a region; None where there are none."""
        if self._wanted[0]:
            return slice(0, classes.shape[0]), slice(0, classes.shape[1])
        rows = np.flatnonzero(classes.any(axis=1))
        if not len(rows):
            return None
        band = slice(int(rows[0]), int(rows[-1]) + 1)
        cols = np.flatnonzero(classes[band].any(axis=0))
        return band, slice(int(cols[0]), int(cols[-1]) + 1)

    def rows(self, traced: Sequence[tuple[str, Traced]]) -> pa.Table:
        """Rows (ANNOTATIONS) of several photographs, given by their ids, in that order."""
        if not traced:
            return ANNOTATIONS.empty_table()
        regions = joined([part.regions for _, part in traced])
        numbers = np.repeat(np.arange(len(traced)), [len(part.regions) for _, part in traced])
        sizes = np.array([part.shape_hw for _, part in traced])[numbers]
        area, col_sum, row_sum, perimeter, box = (
            np.concatenate([getattr(part.counts, name) for _, part in traced])
            for name in ("area", "col_sum", "row_sum", "perimeter", "box")
        )
        touches = (box[:, :2] == 0).any(axis=1) | (box[:, 2] == sizes[:, 1]) | (box[:, 3] == sizes[:, 0])
        named = pa.array(regions.class_id, mask=regions.class_id >= len(self._names))
        mm2 = None if self._pixel_size is None else area * self._pixel_size**2
        confidence = (regions.confidence / area / 255).astype(np.float32) if self._with_confidence else None
        columns: dict[str, Any] = {
            "source_id": pa.array([name for name, _ in traced]).take(numbers),
            "region_id": regions.region_id,
            "class_id": regions.class_id.astype(np.int32),
            "class_name": self._names.take(named),
            "area_px": area,
            "area_mm2": mm2,
            "perimeter_px": perimeter,
            "centroid_x": col_sum / area + 0.5,
            "centroid_y": row_sum / area + 0.5,
            "box_x": box[:, 0].astype(np.int32),
            "box_y": box[:, 1].astype(np.int32),
            "box_width": (box[:, 2] - box[:, 0]).astype(np.int32),
            "box_height": (box[:, 3] - box[:, 1]).astype(np.int32),
            "confidence": confidence,
            "touches_edge": touches,
            "geometry": polygons_of(regions, self._settings.simplify, lambda x, y: (x, y)),
        }
        arrays = [
            pa.nulls(len(regions), field.type)
            if columns[field.name] is None
            else pa.array(columns[field.name], field.type)
            for field in ANNOTATIONS
        ]
        return pa.Table.from_arrays(arrays, schema=ANNOTATIONS)


def joined(parts: Sequence[Regions]) -> Regions:
    """Regions of several batches as one."""
    if len(parts) == 1:
        return parts[0]

    def offsets(name: str) -> NDArray[Any]:
        """Each part's offsets, moved behind those of the parts before it."""
        moved, base = [np.zeros(1, np.int64)], 0
        for part in parts:
            own = getattr(part, name)
            moved.append(own[1:] + base)
            base += int(own[-1])
        return np.concatenate(moved)

    plain = ("region_id", "class_id", "confidence", "cut", "x", "y")
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in plain}
    return Regions(**arrays, rings=offsets("rings"), polygons=offsets("polygons"))


def _moved(regions: Regions, row_off: int, col_off: int, inner_width: int, width: int) -> Regions:
    """From pixels of a box to those of the photograph."""
    row, col = np.divmod(regions.region_id, inner_width)
    return replace(
        regions,
        region_id=(row + row_off) * width + col + col_off,
        x=regions.x + np.int32(col_off),
        y=regions.y + np.int32(row_off),
    )

"""Regions of photographs' masks as rows in pixels, many photographs in one table."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from batchseg.inputs.source import Column
from batchseg.job.recipe import RegionSettings
from batchseg.pixels.grid import Window
from batchseg.predict.photo import ORIGIN, PhotoMask
from batchseg.regions.rows import PHOTO_COLUMNS, polygons_of
from batchseg.regions.scene_table import wanted_classes
from batchseg.regions.tracing.ragged import Ints
from batchseg.regions.tracing.rings import Counts, Regions, count, large_enough
from batchseg.regions.tracing.tracer import RegionTracer

UNCUT = 2**40
"""Vertices of a region before it is cut: a photograph is in memory anyway."""

STACKED_PIXELS = 2**20
"""Traced together, unless one has more: the tracer takes 2 ms for whatever it is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """The regions of several photographs, one photograph after the other."""

    regions: Regions
    """In pixels of their photographs."""
    counts: Counts
    photo: Ints
    """(regions,) number of its photograph, ascending."""
    shapes_hw: Ints
    """(photographs, 2)"""

    @property
    def number(self) -> Ints:
        """(regions,) of its region among those of all photographs: pieces of one share it."""
        return _number(self.photo, self.regions)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Box:
    """The part of a photograph in which all its regions lie."""

    photo: int
    window: Window


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
        self._settings, self._pixel_size, self._nodata = settings, pixel_size, nodata
        self._with_confidence = with_confidence
        self._names: Column = pa.array(class_names, pa.string())
        self._wanted = wanted_classes(settings, nodata)

    def trace(self, masks: Sequence[PhotoMask]) -> Traced:
        """The regions of masks; only the box around what is wanted of each is traced."""
        boxes = [
            _Box(photo=number, window=window)
            for number, mask in enumerate(masks)
            if (window := self._box(mask)) is not None
        ]
        stacks = [self._stack(masks, stack) for stack in _stacks(boxes)]
        regions = joined([regions for regions, _ in stacks])
        photo = np.concatenate([np.zeros(0, np.int64), *(photo for _, photo in stacks)])
        counts = count(regions)
        kept = np.flatnonzero(large_enough(_number(photo, regions), counts.area, self._settings.min_area))
        return Traced(
            regions=regions.pick(kept),
            counts=counts.pick(kept),
            photo=photo[kept],
            shapes_hw=np.array([mask.classes.shape for mask in masks], np.int64).reshape(-1, 2),
        )

    def _box(self, mask: PhotoMask) -> Window | None:
        """Around all pixels that may belong to a region; None where there are none.

        Defects are small, and tracing costs by the pixel. Class 0 is background in nearly all jobs: where it
        makes no regions, whatever differs from 0 is inside the box.
        """
        classes = mask.classes
        height, width = classes.shape
        if mask.only_class is not None and not self._wanted[mask.only_class]:
            return None
        if self._wanted[0]:
            return Window(row_off=0, col_off=0, height=height, width=width)
        rows = np.flatnonzero(classes.any(axis=1))
        if not len(rows):
            return None
        top, bottom = int(rows[0]), int(rows[-1]) + 1
        cols = np.flatnonzero(classes[top:bottom].any(axis=0))
        left, right = int(cols[0]), int(cols[-1]) + 1
        return Window(row_off=top, col_off=left, height=bottom - top, width=right - left)

    def _stack(self, masks: Sequence[PhotoMask], boxes: Sequence[_Box]) -> tuple[Regions, Ints]:
        """Regions of boxes that are traced as one raster, a line of nodata between them, and their photos."""
        windows = [box.window for box in boxes]
        tops = np.cumsum([0, *(window.height + 1 for window in windows)])
        height, width = int(tops[-1]), max(window.width for window in windows)
        ids = np.full((height, width), self._nodata, masks[0].classes.dtype)
        sums = np.zeros((height, width), np.uint8) if self._with_confidence else None
        for box, top in zip(boxes, tops.tolist(), strict=False):
            mask, window = masks[box.photo], box.window
            here = slice(top, top + window.height), slice(window.width)
            ids[here] = mask.classes[window.slices_within(ORIGIN)]
            if sums is not None and mask.confidence is not None:
                sums[here] = mask.confidence[window.slices_within(ORIGIN)]
        tracer = RegionTracer(
            height,
            width,
            wanted=self._wanted,
            with_confidence=self._with_confidence,
            max_vertices=UNCUT,
            connectivity=self._settings.connectivity,
        )
        regions = joined([*tracer.feed(0, ids, sums), tracer.finish()])
        # A region's id is its first pixel in the stack: its row tells the box, and the box the photograph.
        at = np.searchsorted(tops, regions.region_id // width, side="right") - 1
        photo = np.array([box.photo for box in boxes])[at]
        widths = np.array([masks[box.photo].classes.shape[1] for box in boxes])[at]
        row_off = np.array([window.row_off for window in windows])[at] - tops[at]
        col_off = np.array([window.col_off for window in windows])[at]
        return _moved(regions, width, row_off=row_off, col_off=col_off, widths=widths), photo

    def rows(self, traced: Traced, source_ids: Sequence[str]) -> pa.Table:
        """Rows (PHOTO_COLUMNS) of photographs, given by their ids, in that order."""
        regions, counts = traced.regions, traced.counts
        area, box, sizes = counts.area, counts.box, traced.shapes_hw[traced.photo]
        touches = (box[:, :2] == 0).any(axis=1) | (box[:, 2] == sizes[:, 1]) | (box[:, 3] == sizes[:, 0])
        named = pa.array(regions.class_id, mask=regions.class_id >= len(self._names))
        mm2 = None if self._pixel_size is None else area * self._pixel_size**2
        confidence = (regions.confidence / area / 255).astype(np.float32) if self._with_confidence else None
        columns: dict[str, Any] = {
            "source_id": pa.array(source_ids, pa.string()).take(traced.photo),
            "region_id": regions.region_id,
            "class_id": regions.class_id.astype(np.int32),
            "class_name": self._names.take(named),
            "area_px": area,
            "area_mm2": mm2,
            "perimeter_px": counts.perimeter,
            "centroid_x": counts.col_sum / area + 0.5,
            "centroid_y": counts.row_sum / area + 0.5,
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
            for field in PHOTO_COLUMNS
        ]
        return pa.Table.from_arrays(arrays, schema=PHOTO_COLUMNS)


def _number(photo: Ints, regions: Regions) -> Ints:
    number: Ints = photo * 2**40 + regions.region_id
    return number


def joined(parts: Sequence[Regions]) -> Regions:
    """Regions of several batches as one."""
    plain = {"region_id": np.int64, "class_id": np.int64, "confidence": np.int64, "cut": np.bool_}
    plain |= {"x": np.int32, "y": np.int32}
    arrays: dict[str, Any] = {
        name: np.concatenate([np.zeros(0, dtype), *(getattr(part, name) for part in parts)])
        for name, dtype in plain.items()
    }
    return Regions(
        **arrays,
        rings=_one_after_the_other([part.rings for part in parts]),
        polygons=_one_after_the_other([part.polygons for part in parts]),
    )


def _one_after_the_other(parts: Sequence[Ints]) -> Ints:
    """Offsets of all parts, each moved behind those of the parts before it."""
    return np.cumsum(np.concatenate([np.zeros(1, np.int64), *(np.diff(part) for part in parts)]))


def _stacks(boxes: Sequence[_Box]) -> Iterator[list[_Box]]:
    """Consecutive boxes of at most STACKED_PIXELS together, or one of more."""
    stack: list[_Box] = []
    height = width = 0
    for box in boxes:
        height, width = height + box.window.height + 1, max(width, box.window.width)
        if stack and height * width > STACKED_PIXELS:
            yield stack
            stack, height, width = [], box.window.height + 1, box.window.width
        stack.append(box)
    if stack:
        yield stack


def _moved(regions: Regions, width: int, *, row_off: Ints, col_off: Ints, widths: Ints) -> Regions:
    """From pixels of a stack to those of photographs.

    Args:
        regions: N of them.
        width: of the stack.
        row_off: (N,) what is added to a region's lines.
        col_off: (N,) what is added to its columns.
        widths: (N,) of its photograph.
    """
    row, col = np.divmod(regions.region_id, width)
    edges = np.diff(regions.rings[regions.polygons])
    return replace(
        regions,
        region_id=(row + row_off) * widths + col + col_off,
        x=regions.x + np.repeat(col_off, edges).astype(np.int32),
        y=regions.y + np.repeat(row_off, edges).astype(np.int32),
    )

"""Rules over the regions of photographs: PASS, FAIL or REVIEW for each image.

A rule hits an image where at least `count` regions of its classes each have enough pixels, and are
certain enough. FAIL goes before REVIEW, and of several that hit the first in the job file decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import shapely
from numpy.typing import NDArray

from batchseg.job.recipe import Criterion, Ruleset
from batchseg.job.settings import Interest
from batchseg.regions.wkb import read_polygons

NOTHING = -1
"""In place of a criterion's number: an image that none hits."""

ROUNDING = 1 - 1e-9
"""Bounds are multiplied by it: shares of an image's sides give whole pixels only up to rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """What rules ask of N regions. Pieces of one that was cut share image and id."""

    image: NDArray[np.int64]
    """(N,): row of its image."""
    region_id: NDArray[np.int64]
    class_id: NDArray[np.int64]
    confidence: NDArray[np.float32]
    """(N,), 0..1; NaN without scores."""
    area: NDArray[np.float64]
    """(parts, N), pixels: of the region in each of `Ruleset.parts`."""


def judge(rules: Ruleset, regions: pa.Table, images: pa.Table) -> pa.Table:
    """The verdict for each of some images, from all their regions.

    Args:
        rules: of the job.
        regions: columns of `rows.ANNOTATIONS`; rows of other images are left aside.
        images: columns `source_id` (each once), `height` and `width` (pixels).

    Returns:
        Columns `verdict` (PASS, FAIL, REVIEW; null without rules) and `rule` (the name of the one that
        decided; null for a PASS), in the order of `images`.
    """
    return verdicts(rules, decide(rules, [measure(rules, regions, images)], len(images)))


def measure(rules: Ruleset, regions: pa.Table, images: pa.Table) -> Measures:
    """Regions in numbers: outlines are looked at here, and not needed any more.

    Arguments as of `judge`; regions may come in several tables, measured one by one.
    """
    image = pc.index_in(regions["source_id"], value_set=images["source_id"].combine_chunks())
    if image.null_count:
        regions, image = regions.filter(image.is_valid()), image.drop_null()
    at = image.to_numpy().astype(np.int64)
    whole = regions["area_px"].to_numpy().astype(np.float64)
    area = np.empty((len(rules.parts), len(at)))
    area[0] = whole
    if len(rules.parts) > 1 and len(at):
        sizes_wh = np.stack([images[name].to_numpy()[at] for name in ("width", "height")], axis=1).astype(
            float
        )
        for number, part in enumerate(rules.parts):
            if part is not None:
                area[number] = _areas_inside(part, regions, sizes_wh)
    return Measures(
        image=at,
        region_id=regions["region_id"].to_numpy(),
        class_id=regions["class_id"].to_numpy().astype(np.int64),
        confidence=regions["confidence"].to_numpy().astype(np.float32),
        area=area,
    )


def decide(rules: Ruleset, measures: Sequence[Measures], image_count: int) -> NDArray[np.int64]:
    """Which of `Ruleset.criteria` decides about each image.

    Args:
        rules: those that the regions were measured for.
        measures: all regions of the images, in any order.
        image_count: images that they belong to.

    Returns:
        Shape (image_count,): the criterion's number, or NOTHING.
    """
    decided = np.full(image_count, NOTHING, dtype=np.int64)
    if not rules.criteria or not any(len(some.image) for some in measures):
        return decided
    regions = _joined(measures)
    weight = {"FAIL": 0, "REVIEW": 1}
    # FAIL before REVIEW, and the sort is stable: among equals the first in the job file decides.
    for number, one in sorted(enumerate(rules.criteria), key=lambda item: weight[item[1].then]):
        meets = _meets(one, regions, regions.area[rules.parts.index(one.interest)])
        hits = np.bincount(regions.image[meets], minlength=image_count) >= one.count
        decided[hits & (decided == NOTHING)] = number
    return decided


def verdicts(rules: Ruleset, decided: NDArray[np.int64]) -> pa.Table:
    """What `judge` returns, of what `decide` does."""
    if not rules.criteria:
        nothing = pa.nulls(len(decided), pa.string())
        return pa.table({"verdict": nothing, "rule": nothing})
    then = pa.array([*(one.then for one in rules.criteria), "PASS"])
    names = pa.array([*(one.name for one in rules.criteria), None], pa.string())
    at = np.where(decided == NOTHING, len(rules.criteria), decided)
    return pa.table({"verdict": then.take(at), "rule": names.take(at)})


def _meets(one: Criterion, regions: Measures, area: NDArray[np.float64]) -> NDArray[np.bool_]:
    meets = (area > 0) & (area >= one.min_area * ROUNDING)
    if one.classes is not None:
        meets &= np.isin(regions.class_id, one.classes)
    if one.min_confidence:
        meets &= regions.confidence >= np.float32(one.min_confidence)
    return meets


def _joined(measures: Sequence[Measures]) -> Measures:
    """All regions, each once: those that were cut are put together, confidence by the pieces' pixels."""
    columns = {
        name: np.concatenate([getattr(some, name) for some in measures], axis=-1)
        for name in ("image", "region_id", "class_id", "confidence", "area")
    }
    rows = Measures(**columns)
    keys = rows.image * (rows.region_id.max() + 1) + rows.region_id
    once, first, piece_of = np.unique(keys, return_index=True, return_inverse=True)
    if len(once) == len(keys):
        return rows
    area: NDArray[np.float64] = np.stack([np.bincount(piece_of, weights=row) for row in rows.area])
    confidence = np.bincount(piece_of, weights=rows.confidence * rows.area[0]) / area[0]
    taken = {name: columns[name][first] for name in ("image", "region_id", "class_id")}
    return Measures(**taken, confidence=confidence.astype(np.float32), area=area)


def _areas_inside(part: Interest, regions: pa.Table, sizes_wh: NDArray[np.float64]) -> NDArray[np.float64]:
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
    keys = unit_wh.astype(np.int64) @ (1 << 32, 1)
    _, first, which = np.unique(keys, return_index=True, return_inverse=True)
    polygons = shapely.polygons(corners_xy * unit_wh[first][:, None, :])
    shapely.prepare(polygons)
    shared: NDArray[Any] = polygons[which]
    return shared


def _boxes(regions: pa.Table) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Upper left and lower right corners of the bounding boxes, each (N, 2) as x, y."""
    low, size = (
        np.stack([regions[name].to_numpy().astype(np.float64) for name in names], axis=1)
        for names in (("box_x", "box_y"), ("box_width", "box_height"))
    )
    return low, low + size

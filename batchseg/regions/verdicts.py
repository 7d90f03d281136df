"""Rules over the regions of photographs: PASS, FAIL or REVIEW for each image.

A rule hits an image where at least `count` regions of its classes each have enough pixels, and are
certain enough. FAIL goes before REVIEW, and of several that hit the first in the job file decides.
An image that none hits is a PASS only where all of them saw enough of it, else REVIEW (`inspected`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from batchseg.job.recipe import Criterion, Ruleset
from batchseg.regions.inspected import ALL_SEEN, CHECK_VALUES, MIN_VALID, ROUNDING, reasons, uninspected
from batchseg.regions.interest import areas_inside

NOTHING = -1
"""In place of a criterion's number: an image that none hits."""

NO_CLASS = -1
"""In place of a class's id: an image that no rule hits."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What decides about N images."""

    criterion: NDArray[np.int64]
    """(N,): a number in `Ruleset.criteria`, or NOTHING."""
    px: NDArray[np.int64]
    """(N,): pixels of the largest region that it hits, where it measures them; 0 where nothing decides."""
    class_id: NDArray[np.int64]
    """(N,): of that region, or NO_CLASS."""

    @staticmethod
    def none(count: int) -> "Decision":
        """No image is hit."""
        return Decision(
            criterion=np.full(count, NOTHING, dtype=np.int64),
            px=np.zeros(count, np.int64),
            class_id=np.full(count, NO_CLASS, dtype=np.int64),
        )

    def pick(self, rows: NDArray[np.bool_]) -> "Decision":
        return Decision(criterion=self.criterion[rows], px=self.px[rows], class_id=self.class_id[rows])

    def put(self, rows: NDArray[np.int64], other: "Decision") -> None:
        """Take what decides about some images, by their numbers."""
        self.criterion[rows], self.px[rows] = other.criterion, other.px
        self.class_id[rows] = other.class_id


def judge(rules: Ruleset, regions: pa.Table, images: pa.Table) -> pa.Table:
    """The verdict for each of some images, from all their regions.

    Args:
        rules: of the job.
        regions: columns of `rows.ANNOTATIONS`; rows of other images are left aside.
        images: columns `source_id` (each once), and those of `inspected.valid_shares`.

    Returns:
        As `verdicts`.
    """
    return verdicts(rules, decide(rules, [measure(rules, regions, images)], len(images)), images)


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
                area[number] = areas_inside(part, regions, sizes_wh)
    return Measures(
        image=at,
        region_id=regions["region_id"].to_numpy(),
        class_id=regions["class_id"].to_numpy().astype(np.int64),
        confidence=regions["confidence"].to_numpy().astype(np.float32),
        area=area,
    )


def decide(rules: Ruleset, measures: Sequence[Measures], image_count: int) -> Decision:
    """Which of `Ruleset.criteria` decides about each image.

    Args:
        rules: those that the regions were measured for.
        measures: all regions of the images, in any order.
        image_count: images that they belong to.
    """
    decision = Decision.none(image_count)
    if not rules.criteria or not any(len(some.image) for some in measures):
        return decision
    regions = _joined(measures)
    weight = {"FAIL": 0, "REVIEW": 1}
    # FAIL before REVIEW, and the sort is stable: among equals the first in the job file decides.
    for number, one in sorted(enumerate(rules.criteria), key=lambda item: weight[item[1].then]):
        area = regions.area[rules.parts.index(one.interest)]
        meets = _meets(one, regions, area)
        hits = np.bincount(regions.image[meets], minlength=image_count) >= one.count
        hits &= decision.criterion == NOTHING
        decision.criterion[hits] = number
        found = np.flatnonzero(meets & hits[regions.image])
        # The largest comes last, and of several assignments to one image the last stays.
        found = found[np.argsort(area[found], kind="stable")]
        decision.px[regions.image[found]] = np.rint(area[found])
        decision.class_id[regions.image[found]] = regions.class_id[found]
    return decision


def verdicts(rules: Ruleset, decision: Decision, images: pa.Table) -> pa.Table:
    """Verdicts of images by what decides about them, and by how much of them was inspected.

    Args:
        rules: of the job.
        decision: by the images' regions.
        images: columns as of `inspected.valid_shares`, and `unlike` as a ledger's; without it all are alike.

    Returns:
        Columns `verdict` (PASS, FAIL, REVIEW; null without rules), `rule` (the name of the one that decided,
        MIN_VALID or CHECK_VALUES; null for a PASS), `review_reason` (null unless one of these two decided),
        `rule_px` and `rule_class` (of `Decision`).
    """
    count = len(images)
    numbers = {"rule_px": decision.px, "rule_class": decision.class_id.astype(np.int32)}
    if not rules.criteria:
        nothing = pa.nulls(count, pa.string())
        return pa.table({"verdict": nothing, "rule": nothing, "review_reason": nothing, **numbers})
    then = pa.array([*(one.then for one in rules.criteria), "PASS", "REVIEW", "REVIEW"])
    names = pa.array([*(one.name for one in rules.criteria), None, MIN_VALID, CHECK_VALUES], pa.string())
    unseen = np.where(decision.criterion == NOTHING, uninspected(rules, images), ALL_SEEN)
    at = np.where(decision.criterion == NOTHING, len(rules.criteria), decision.criterion)
    at = np.where(unseen == ALL_SEEN, at, len(rules.criteria) + 1)
    rows = np.flatnonzero(unseen != ALL_SEEN)
    why = np.full(count, None)
    why[rows] = reasons(rules, images.take(rows), unseen[rows])
    odd = np.flatnonzero((at == len(rules.criteria)) & are_unlike(rules, images))
    at[odd] = len(rules.criteria) + 2
    why[odd] = images["unlike"].take(odd).to_pylist() if len(odd) else []
    return pa.table(
        {
            "verdict": then.take(at),
            "rule": names.take(at),
            "review_reason": pa.array(why, pa.string()),
            **numbers,
        }
    )


def are_unlike(rules: Ruleset, images: pa.Table) -> NDArray[np.bool_]:
    """Which images may be of another unit than the output's first ones, and may not pass for it."""
    if not rules.check_values or "unlike" not in images.column_names:
        return np.zeros(len(images), dtype=bool)
    why: Any = images["unlike"]
    found: NDArray[np.bool_] = np.array(pc.fill_null(pc.not_equal(why, pa.scalar("")), False))
    return found


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

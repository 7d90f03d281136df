"""How much of an image rules could look at: the share of each part of it that has data.

What a transparent or nodata pixel shows nobody has looked at, so an image is no PASS where a rule saw less of
its part than the rule's `min_valid`. Nor is one where a rule saw nothing at all. What of a part lies beyond
the image counts as not seen: an image of half the size has none of the defects that are looked for there.
"""

import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from batchseg.job.recipe import Criterion, RegionSettings, Ruleset
from batchseg.predict.photo import Ids, PhotoMask
from batchseg.regions.interest import areas_inside, interest_areas
from batchseg.regions.photo_table import Annotator

MIN_VALID = "min_valid"
"""In place of a rule's name, where too little was inspected."""

CHECK_VALUES = "check_values"
"""In place of a rule's name, where an image may be of another unit than the output's first ones."""

ALL_SEEN = -1
"""In place of a criterion's number: an image of which every rule saw enough."""

ROUNDING = 1 - 1e-9
"""Bounds are multiplied by it: shares of an image's sides give whole pixels only up to rounding."""

_INVALID = Annotator(
    RegionSettings(classes=(1,)), class_names=(), nodata=255, pixel_size=None, with_confidence=False
)
"""Traces what has no data, as class 1."""


def valid_areas(rules: Ruleset, masks: Sequence[Ids], nodata: int) -> NDArray[np.float64]:
    """Pixels with data in each region of interest.

    Args:
        rules: of the job.
        masks: (H, W) class ids each.
        nodata: the masks' value of pixels without data.

    Returns:
        Shape (masks, parts - 1), in the order of `Ruleset.parts` without the whole image, which is the first.
        A pixel that a border cuts counts by its share.
    """
    parts = [part for part in rules.parts if part is not None]
    names = [str(number) for number in range(len(masks))]
    invalid = [PhotoMask(classes=(ids == nodata).view(np.uint8), confidence=None, tiles=0) for ids in masks]
    traced = _INVALID.trace(invalid)
    regions = _INVALID.rows(traced, names)
    sizes_wh = traced.shapes_hw[:, ::-1].astype(np.float64)
    areas = np.empty((len(masks), len(parts)))
    for number, part in enumerate(parts):
        _, inside = interest_areas(part, sizes_wh)
        lost = areas_inside(part, regions, sizes_wh[traced.photo])
        areas[:, number] = inside - np.bincount(traced.photo, weights=lost, minlength=len(masks))
    return areas.clip(min=0.0)


def are_known(rules: Ruleset, images: pa.Table) -> NDArray[np.bool_]:
    """Whether it is recorded how much of each part of today's rules has data. Images as of `valid_shares`."""
    size, valid = _counts(images)
    uniform = (valid == size) | (valid == 0)
    if not rules.interests:
        return np.ones(len(images), dtype=bool)
    recorded: NDArray[np.bool_] = uniform | _are_of(rules, images)
    return recorded


def valid_shares(rules: Ruleset, images: pa.Table) -> NDArray[np.float64]:
    """Which share of each part has data.

    Args:
        rules: of the job.
        images: columns `height`, `width`, `valid_pixels`, and `interests` and `interest_valid` as a ledger's.

    Returns:
        Shape (parts, images), 0..1, the parts in the order of `Ruleset.parts`; NaN where it was not recorded.
    """
    size, valid = _counts(images)
    shares = np.empty((len(rules.parts), len(images)))
    shares[0] = valid / np.maximum(size, 1)
    if not rules.interests or not len(images):
        return shares
    sizes_wh = _sizes(images)
    recorded = np.full((len(images), len(rules.parts) - 1), np.nan)
    known = _are_of(rules, images)
    lists = pc.list_flatten(images["interest_valid"].filter(pa.array(known)))
    recorded[known] = lists.to_numpy().reshape(-1, recorded.shape[1])
    for number, part in enumerate(rules.parts):
        if part is not None:
            whole, inside = interest_areas(part, sizes_wh)
            partly = np.where(valid == 0, 0.0, recorded[:, number - 1])
            shares[number] = np.where(valid == size, inside, partly) / whole
    return shares


def uninspected(rules: Ruleset, images: pa.Table) -> NDArray[np.int64]:
    """The first of `Ruleset.criteria` that saw too little of each image, (images,), or ALL_SEEN."""
    shares = valid_shares(rules, images)
    found = np.full(len(images), ALL_SEEN, dtype=np.int64)
    for number in reversed(range(len(rules.criteria))):
        one = rules.criteria[number]
        share = shares[rules.parts.index(one.interest)]
        found[~((share > 0) & (share >= one.min_valid * ROUNDING))] = number
    return found


def reasons(rules: Ruleset, images: pa.Table, found: NDArray[np.int64]) -> list[str]:
    """Why each image was not inspected, by the criterion that `uninspected` found."""
    shares, sizes_wh = valid_shares(rules, images), _sizes(images)
    words = [""] * len(images)
    for number, one in enumerate(rules.criteria):
        share = shares[rules.parts.index(one.interest)]
        at = np.flatnonzero(found == number)
        beyond = np.zeros(len(at), dtype=bool)
        if one.interest is not None:
            whole, inside = interest_areas(one.interest, sizes_wh[at])
            beyond = inside < whole * ROUNDING
        for row, reaches in zip(at.tolist(), beyond.tolist(), strict=True):
            words[row] = _reason(one, share[row]) + ("; it reaches beyond the image" if reaches else "")
    return words


def _reason(one: Criterion, share: float) -> str:
    where = "of the image" if one.interest is None else "of the region of interest"
    if math.isnan(share):
        return f"{one.name}: it was not recorded how much {where} has data"
    if share <= 0:
        return f"{one.name}: nothing {where} has data"
    return f"{one.name}: {_percent(share)} {where} has data, min_valid is {one.min_valid * 100:.6g} %"


def _percent(share: float) -> str:
    """Rounded down: what is not whole is never 100 %.

    >>> _percent(0.99999)
    '99.9 %'
    """
    tenths = math.floor(share * 1000)
    return f"{tenths / 10:g} %" if tenths else "less than 0.1 %"


def _sizes(images: pa.Table) -> NDArray[np.float64]:
    """(images, 2), width and height."""
    return np.stack([images[name].to_numpy() for name in ("width", "height")], axis=1).astype(np.float64)


def _counts(images: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pixels of each image, and those of them that have data."""
    height, width, valid = (
        images[name].to_numpy().astype(np.int64) for name in ("height", "width", "valid_pixels")
    )
    return height * width, valid


def _are_of(rules: Ruleset, images: pa.Table) -> NDArray[np.bool_]:
    """Whether images were measured in today's regions of interest."""
    of_today = pc.equal(images["interests"].cast(pa.string()), pa.scalar(rules.interests))
    counts = pc.list_value_length(images["interest_valid"]).to_numpy()
    found: NDArray[np.bool_] = np.asarray(of_today) & (counts == len(rules.parts) - 1)
    return found

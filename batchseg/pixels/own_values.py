"""Whether a source contradicts itself, told by its own pixels where these are read.

What is read at once may be a part of a scene, or a photograph taken close. So only that is refused which no
part of a sound source shows, not even one of night, sea, snow, cloud, saturation, or one even surface.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.errors import MismatchError
from batchseg.job.recipe import Recipe, spread
from batchseg.job.settings import Scale
from batchseg.pixels.usual_values import ends_exactly
from batchseg.pixels.value_problems import (
    ABOVE,
    CLOSE,
    CONTRAST,
    LEAST_STD,
    NEARLY_ALL,
    RANGES,
    UNIT_MEAN,
    Values,
)
from batchseg.pixels.value_remedy import remedy_for
from batchseg.pixels.values import FILL_SHARE, Floats, ValueSample, hold, number, reach

VALUES_REFUSED = "its values cannot be meant"
"""How the reason begins of sources that are refused for them."""

THOUSANDS = 1000.0
"""From such divisors on, fractions below 2 in all bands are no dark part: of 0..255 in floats they may be."""

SURELY_FAR = 100.0
"""Deviations from the network's mean that neither cloud nor mountain reaches in nearly all of a part."""


@dataclass(frozen=True, slots=True)
class _Part:
    raw: NDArray[Any]
    """(bands, n)"""
    low: NDArray[Any]
    """(bands,), of `raw`."""
    high: NDArray[Any]
    scale: Scale
    recipe: Recipe

    @property
    def spans(self) -> Floats:
        """(bands,), raw values that the scale makes one unit of."""
        low, high = (np.array(spread(v, len(self.raw))) for v in (self.scale.low, self.scale.high))
        spans: Floats = high - low
        return spans

    @property
    def are_flat(self) -> bool:
        """Whether the network gets one value in each band, within 1 %."""
        normalize, bands = self.recipe.normalize, len(self.raw)
        lows = np.array(spread(self.scale.low, bands))
        ends = [(edge.astype(np.float64) - lows) / self.spans for edge in (self.low, self.high)]
        if self.scale.clips:
            ends = [np.clip(end, 0, 1) for end in ends]
        if normalize is not None:
            mean, std = (np.array(spread(v, bands)) for v in (normalize.mean, normalize.std))
            ends = [(end - mean) / std for end in ends]
        size = np.maximum(1, np.abs(ends[0] + ends[1]) / 2)
        return bool((np.abs(ends[1] - ends[0]) <= CLOSE * size).all())


def own_problem(sample: ValueSample, recipe: Recipe) -> str | None:
    """Why a source's values cannot be meant, in words; None where they can.

    The edges of the values tell nearly always that nothing is wrong: it takes some 0.05 ms of 10,000 pixels.
    """
    if not sample.pixels.size:
        return None
    if not may_contradict(sample.dtype, sample.scale, recipe):
        return None
    # As whole numbers where they are: a hundred times less than to sort them.
    low, high = np.fmin.reduce(sample.pixels, axis=1), np.fmax.reduce(sample.pixels, axis=1)
    part = _Part(sample.pixels, low, high, sample.scale, recipe)
    return _fractions(part) or _fewer_bits(part) or _far(part) or _too_high(part)


def check_values(sample: ValueSample, recipe: Recipe) -> None:
    """Refuse a source that contradicts itself, where the job asks for that.

    Raises:
        MismatchError: says what it holds, and what to do.
    """
    if recipe.check_values and (reason := contradiction(sample, recipe)):
        raise MismatchError(reason)


def contradiction(sample: ValueSample, recipe: Recipe) -> str:
    """How a source contradicts itself, and what to do, in words; empty where it does not."""
    problem = own_problem(sample, recipe)
    if problem is None:
        return ""
    held = hold([sample], recipe)
    remedy = remedy_for(held, plain=False, surely=True) if held is not None else None
    own_job = f", for which {remedy}" if remedy else ""
    return (
        f"{VALUES_REFUSED}: {problem}. Where other sources are what the job says, convert this one to their "
        f"unit, or give it a job and an output of its own{own_job}. If it is meant, set check_values: false"
    )


def may_contradict(dtype: str, scale: Scale, recipe: Recipe) -> bool:
    """Whether sources of a type can be refused: bytes are what they are, but of a network in another unit."""
    if dtype != "uint8":
        return True
    if recipe.normalize is None:
        return False
    span = min(high - low for low, high in zip(scale.low, scale.high, strict=True))
    return 255 / span > SURELY_FAR * max(LEAST_STD, *map(abs, recipe.normalize.std))


def _fractions(part: _Part) -> str | None:
    """Fractions where one unit is thousands: reflectance of 0..1, divided by 10000."""
    if part.raw.dtype.kind != "f" or part.spans.min() < THOUSANDS:
        return None
    if not (part.high.max() <= UNIT_MEAN and part.low.min() >= -UNIT_MEAN) or not part.are_flat:
        return None
    bands = [band for band, lo, hi in zip(part.raw, part.low, part.high, strict=True) if lo < hi]
    if 2 * len(bands) < len(part.raw) or not all(_are_fractions(band) for band in bands):
        return None
    return (
        f"fractions ({reach(part.raw)}) where `scale` makes 1 of {number(float(part.spans.min()))}: "
        f"the network gets one value"
    )


def _are_fractions(band: NDArray[Any]) -> bool:
    values = Values(band[np.isfinite(band)].astype(np.float64))
    return values.has_fractions and float(values.raw.std()) > CONTRAST * abs(float(values.raw.mean()))


def _fewer_bits(part: _Part) -> str | None:
    """A picture of fewer bits than the scale's, which its saturated pixels show: night has none."""
    if float(part.high.max()) * 32 > part.spans.min() or not part.are_flat:
        return None
    end = ends_exactly(part.raw)
    if not end or float(part.raw.std()) <= CONTRAST * end:
        return None
    return (
        f"they end exactly at {number(end)}, where `scale` makes 1 of {number(float(part.spans.min()))}: "
        f"the network gets one value"
    )


def _far(part: _Part) -> str | None:
    normalize = part.recipe.normalize
    if normalize is None or part.scale.clips:
        return None
    bands = len(part.raw)
    mean, std = (np.array(spread(v, bands)) for v in (normalize.mean, normalize.std))
    lows, reach_ = np.array(spread(part.scale.low, bands)), SURELY_FAR * np.maximum(np.abs(std), LEAST_STD)
    least, most = ((mean + sign * reach_) * part.spans + lows for sign in (-1, 1))
    for at in np.flatnonzero((part.high > most) | (part.low < least)):
        inner = _inner(part.raw[at])
        share = float(((inner > most[at]) | (inner < least[at])).mean()) if inner.size else 0.0
        if share > NEARLY_ALL and np.ptp(inner):
            return (
                f"{100 * share:.0f} % of band {part.recipe.bands[at]} is more than {SURELY_FAR:.0f} "
                f"deviations from the network's mean"
            )
    return None


def _too_high(part: _Part) -> str | None:
    """Of a usual range: what exceeds it several times in most of a part is of another one."""
    if part.recipe.normalize is not None or not set(part.scale.high) <= {*RANGES, 256.0}:
        return None
    times = ABOVE if not part.scale.clips else 2 if max(part.scale.high) <= 256 else 10
    bounds = np.array(spread(part.scale.high, len(part.raw))) * times
    if not (part.high > bounds).all():
        return None
    share = 0.5 if not part.scale.clips else NEARLY_ALL
    for band, bound in zip(part.raw, bounds, strict=True):
        inner = _inner(band)
        if not inner.size or not np.ptp(inner) or float((inner > bound).mean()) <= share:
            return None
    return (
        f"{reach(part.raw)}, most of it beyond {number(float(bounds.max()))}, where `scale` makes 1 of "
        + (number(max(part.scale.high)))
    )


def _inner(band: NDArray[Any]) -> Floats:
    """Without what is saturated, or nodata that nothing tags: the edges, where many pixels lie there."""
    values: Floats = band[np.isfinite(band)].astype(np.float64)
    for edge in (values.min(initial=np.inf), values.max(initial=-np.inf)):
        is_edge = values == edge
        if FILL_SHARE <= is_edge.mean() < 1 if is_edge.size else False:
            values = values[~is_edge]
    return values

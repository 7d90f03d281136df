"""What an output's first sources held, and which later one is of another unit, or was taken in the dark.

What stays is the top of the values: a camera that gives 12 bits instead of 16 lowers it by 16, one that gives
10 instead of 12 by 4. Below zero there is no light: what lies there is fill that nothing tags, or a signed
type.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.pixels.value_problems import CONTRAST, RANGES, REFLECTANCE, Values
from batchseg.pixels.values import ValueSample, number, scaled_pixels

FACTOR = 8.0
"""Between tops of values: less may be the light."""

SURE_FACTOR = 3.5
"""The same where the values themselves show that they have another number of bits: 12 to 10 are 4.003."""

AT_END = 3
"""Pixels at the last value of a range of bits that show it to be saturated."""

FILLS = 0.1
"""Deviation of each band, as a share of its own top, that sea, night and even land do not have."""

BITS = tuple(end for end in RANGES if end != REFLECTANCE)

BEYOND_BITS = 32
"""Values below the last one that fewer pixels have, where it is saturation that ends them."""


BELOW_ZERO = 0.01
"""Of the usual top: so far below zero reaches noise where the dark of a sensor was taken off."""

NOISE = 4.0
"""Times as far below zero as the first ones' lowest pixel, where theirs are below it too."""

FILL_VALUES = (-999.0, -9999.0, -99999.0, -32767.0, -32768.0, -1e20, -1e30)
"""That software writes where it has no data, beside what is near the least that float32 holds."""


REFLECTANCE_TYPE = "reflectance"
"""In place of a type: of scenes that each have a scale of their own the scaled values are compared. Over one
land raw ones of Landsat end at 40,000, those of Sentinel-2 at 4,000."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How far the values of one source, or of a part of one, reach."""

    dtype: str
    """Of the file, or REFLECTANCE_TYPE."""
    top: float
    """The value that one in a thousand exceeds."""
    has_fractions: bool
    has_contrast: bool
    fills: bool = False
    """Whether each band fills a usual range as land in daylight does."""
    low: float = 0.0
    """The lowest value of all."""
    bottom: float = 0.0
    """That one in a thousand is below, where that is negative; else 0."""
    is_alone: bool = False
    """Whether the lowest value is negative, and far from all others, as fill is."""
    ends_at: float = 0.0
    """The last value of a range of bits, at which several pixels lie and beyond which none does; else 0."""
    step: int = 1
    """The power of two of which all values are multiples."""

    def joined(self, other: "Reach | None") -> "Reach":
        """Of two parts of one source."""
        if other is None:
            return self
        upper = self if self.top >= other.top else other
        lower = self if self.low <= other.low else other
        return Reach(
            dtype=self.dtype,
            top=upper.top,
            low=lower.low,
            bottom=min(self.bottom, other.bottom),
            is_alone=lower.is_alone,
            has_fractions=self.has_fractions or other.has_fractions,
            has_contrast=self.has_contrast or other.has_contrast,
            fills=self.fills or other.fills,
            ends_at=upper.ends_at,
            step=min(self.step, other.step),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Usual:
    """What an output's first sources of one type held."""

    dtype: str
    end: float
    """Of the usual range that they fill."""
    top: float
    """In the middle of theirs: one that is dark, or bright by a defect, does not move it."""
    low: float = 0.0
    """The lowest value of all."""
    step: int = 1


def reach_of(sample: ValueSample) -> Reach:
    """Of a sample that has pixels."""
    dtype, raw = _compared(sample)
    is_float = raw.dtype.kind == "f"
    raw = raw[:, np.isfinite(raw).all(axis=0)] if is_float else raw
    if not raw.size:
        return Reach(dtype=dtype, top=0.0, has_fractions=False, has_contrast=False)
    at = max(0, int(0.999 * (raw.size - 1)))
    top = float(np.partition(raw, at, axis=None)[at])
    whole = not is_float or bool(np.mean(raw != np.rint(raw)) <= 0.1)
    deviation = float(raw.std(dtype=np.float64))
    bottom, is_alone = _bottom(raw) if float(raw.min()) < 0 else (0.0, False)
    ends_at = ends_exactly(raw) if whole else 0.0
    return Reach(
        dtype=dtype,
        top=top,
        low=float(raw.min()),
        bottom=bottom,
        is_alone=is_alone,
        has_fractions=not whole,
        has_contrast=deviation > CONTRAST * abs(top) and (top > RANGES[0] / 2 or not whole),
        fills=_fills(raw),
        ends_at=0.0 if ends_at in sample.scale.high else ends_at,  # a bright one of the job's own unit
        step=_step(raw) if raw.dtype.kind in "ui" else 1,
    )


def usual_of(samples: Iterable[ValueSample]) -> tuple[Usual, ...]:
    """What to remember of an output's first sources, by type. Dark and even ones tell nothing."""
    found: dict[str, list[tuple[Reach, float]]] = {}
    for sample in samples:
        reach, (dtype, raw) = reach_of(sample), _compared(sample)
        if reach.has_contrast or dtype == "uint8":
            end = Values(raw.ravel().astype(np.float64)).range_end
            found.setdefault(dtype, []).append((reach, end))
    usual: list[Usual] = []
    for dtype in sorted(found, key=lambda dtype: (-len(found[dtype]), dtype)):
        # Two types may hold two units, as fractions beside integers do: the commoner one is right.
        if not any(unlike(reach, usual, surely=True) for reach, _ in found[dtype]):
            usual.append(_usual(dtype, found[dtype]))
    return tuple(sorted(usual, key=lambda one: one.dtype))


def _usual(dtype: str, some: Sequence[tuple[Reach, float]]) -> Usual:
    """Of sources of one type, without those that are unlike the one in their middle."""
    middle = [sorted(some, key=lambda one: one[0].top)[len(some) // 2]]
    alike = [one for one in some if not unlike(one[0], [_joined(dtype, middle)])]
    return _joined(dtype, alike or middle)


def _joined(dtype: str, some: Sequence[tuple[Reach, float]]) -> Usual:
    return Usual(
        dtype=dtype,
        end=max(end for _, end in some),
        top=sorted(reach.top for reach, _ in some)[len(some) // 2],
        low=min(reach.low for reach, _ in some),
        step=min(reach.step for reach, _ in some),
    )


def odd_one(samples: Sequence[ValueSample], *, surely: bool) -> str:
    """Which of an output's first samples is unlike most others, in words; empty where none is."""
    usual = usual_of(samples)
    for sample in samples:
        if reason := unlike(reach_of(sample), usual, surely=surely):
            return f"{sample.source_id}: {reason}"
    return ""


def unlike(reach: Reach, usual: Sequence[Usual], *, surely: bool = False) -> str:
    """Why a source may be of another unit than an output's first ones, in words; empty where it is alike.

    Args:
        reach: of the source.
        usual: what the first ones held.
        surely: the values must show it themselves, as no darkness does, or fill their range as land in
            daylight does: of scenes there are sea and night.
    """
    known = [one for one in usual if one.dtype == reach.dtype]
    if not known and reach.dtype != REFLECTANCE_TYPE:
        known = [one for one in usual if one.dtype != REFLECTANCE_TYPE]
    if not known or reach.dtype == "uint8":
        return ""
    tops = [one.top for one in known]
    if not surely and (reason := _far_below(reach, max(tops), min(one.low for one in known))):
        return reason
    if not reach.has_contrast or reach.top <= 0:
        return ""
    factor = max(min(tops) / reach.top, reach.top / max(*tops, 1e-9))
    proof = _proof(reach, known)
    if factor < (SURE_FACTOR if proof else FACTOR) or (surely and not (proof or reach.fills)):
        return ""
    usually = " or ".join(dict.fromkeys(map(number, tops)))
    why = f", and {proof}" if proof else ""
    light = "" if proof or surely or max(tops) < reach.top else ", or the light failed"
    return (
        f"its values end at {number(reach.top)}, those of this output's first sources at {usually}{why}: it "
        f"may be of another unit{light}"
    )


def _far_below(reach: Reach, top: float, low: float) -> str:
    """Why values may be fill, or of a signed type, in words.

    Args:
        reach: of the source.
        top: of the first ones' values.
        low: of these the least.
    """
    is_fill = reach.is_alone and reach.low < low and _is_fill_value(reach.low)
    if not is_fill and reach.bottom >= min(-BELOW_ZERO * top, NOISE * low):
        return ""
    lowest = number(reach.low)
    why = "it may be of another unit, or of a signed type: if so, convert it to theirs"
    if reach.is_alone:
        # A job's own `nodata` is none for photographs: the file has to say it.
        lowest = f"{reach.low:.9g}"
        why = (
            f"that may stand for no data, without a tag that says so: if so, write one (gdal_translate "
            f"-a_nodata {lowest})"
        )
    return (
        f"it holds values down to {lowest}, this output's first sources none below {number(low)}: {why}; if "
        f"it is meant, set check_values: false"
    )


def _is_fill_value(value: float) -> bool:
    return value < -1e38 or any(abs(value - known) <= 1e-6 * abs(known) for known in FILL_VALUES)


def _bottom(raw: NDArray[Any]) -> tuple[float, bool]:
    """`Reach.bottom` and `Reach.is_alone` of values of which some are negative."""
    at = int(0.001 * (raw.size - 1))
    low, bottom = float(raw.min()), float(np.partition(raw, at, axis=None)[at])
    others = raw[raw > low]
    is_alone = not others.size or float(others.min()) - low > BELOW_ZERO * abs(low)
    is_some = bottom == low or _is_fill_value(low)  # else one dark pixel of a signed type
    return min(0.0, bottom), is_alone and is_some


def _fills(raw: NDArray[Any]) -> bool:
    """Whether each band deviates, and ends in the upper half of a usual range."""
    for band in raw:
        values = Values(band.astype(np.float64))
        top = values.top
        if float(values.raw.std()) <= FILLS * abs(top) or not values.range_end / 2 < top:
            return False
    return True


def _proof(reach: Reach, known: Sequence[Usual]) -> str:
    """What shows another unit, whatever is to be seen."""
    ends = {one.end for one in known}
    if reach.has_fractions and reach.top <= 2 and min(ends) >= RANGES[0]:
        return "they are fractions"
    if ends == {1.0} and reach.top > 100:
        return "those are fractions"
    if reach.ends_at and reach.ends_at not in ends:
        return f"several pixels lie at {number(reach.ends_at)}, and none beyond"
    if reach.step >= 4 and all(one.step < reach.step for one in known):
        return f"all are multiples of {reach.step}"
    return ""


def ends_exactly(raw: NDArray[Any]) -> float:
    """The last value of 8, 10, 12, 14 or 16 bits where the values end there by saturation; else 0.

    Several pixels lie at it, and more than at the values just below: noise thins out upwards.

    >>> ends_exactly(np.array([[7, 4095, 4095, 4095, 4000]]))
    4095.0
    """
    top = float(raw.max())
    if top not in BITS:
        return 0.0
    at_end = int(np.count_nonzero(raw == top))
    if at_end < AT_END:
        return 0.0
    below = int(np.count_nonzero(raw >= top - BEYOND_BITS)) - at_end
    return top if 8 * at_end > below else 0.0


def _compared(sample: ValueSample) -> tuple[str, NDArray[Any]]:
    """Values (bands, n) that are comparable among the scenes of a job, and the name of their type."""
    if sample.scale.kind != "metadata":
        return sample.dtype, sample.pixels
    return REFLECTANCE_TYPE, scaled_pixels(sample.pixels, sample.scale)


def _step(raw: NDArray[Any]) -> int:
    """The lowest bit that is set in any value."""
    bits = int(np.bitwise_or.reduce(raw, axis=None))
    return bits & -bits if bits > 0 else 1

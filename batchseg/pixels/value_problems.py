"""Whether what the network gets of the data can be meant.

What is refused contradicts itself, whatever a scene shows: night, sea, snow and what is even pass. All
samples are judged together.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from batchseg.job.recipe import spread
from batchseg.job.settings import Scale
from batchseg.models.package import Normalize
from batchseg.pixels.values import Floats, Given, Held, ValueSample, number, reach

CLOSE = 0.01
"""Values that differ by less than this share of their size, or of the network's unit, are one value to it."""

FAR, NEARLY_ALL = 10.0, 0.9
"""Deviations from its mean that a network was surely not trained for, and the share of such values."""

LEAST_STD = 0.1
"""No picture of 0..1 deviates less. Smaller ones stand for another unit: 1/255 makes 0..255 of 0..1."""

UNIT_MEAN = 2.0
"""A mean that values of 0..1 cannot have."""

CONTRAST = 0.05
"""Deviation, as a share of the range that the values fill, of what is no even surface."""

FRACTIONS_AT_MOST = 50.0
"""Divisor from which on values with fractions below 2 cannot be of its unit."""

RANGES = (255.0, 1023.0, 4095.0, 10000.0, 16383.0, 65535.0)
"""Highest values of 8, 10, 12, 14 and 16 bits, and of reflectance in integers."""

BITS = {255.0: "8 bits", 1023.0: "10 bits", 4095.0: "12 bits", 16383.0: "14 bits", 65535.0: "16 bits"}

BYTE_ENDS = (255.0, 256.0)
"""Ends of a stretch for 8 bits: what lies beyond is of more."""

REFLECTANCE = 10000.0
"""Of them, the one that is no range of bits."""

LEAST_DEVIATION = 0.02
"""Of what a network gets that was trained for 1: no picture with contrast has less in all bands."""

ODD_MEAN, ODD_DEVIATION = 3.0, 0.05
"""Of what the network gets: beyond, a warning."""

ABOVE = 4.0
"""Of what such a range makes 0..1: half of the values are not above it."""


@dataclass(frozen=True)
class Values:
    """Raw values, of one band or of all, and the range that they seem to be of."""

    raw: Floats

    @cached_property
    def top(self) -> float:
        """The value that one in a thousand exceeds."""
        return float(np.quantile(self.raw, 0.999))

    @cached_property
    def low(self) -> float:
        return float(np.quantile(self.raw, 0.001))

    @cached_property
    def has_fractions(self) -> bool:
        return bool(np.mean(self.raw != np.rint(self.raw)) > 0.1)

    @cached_property
    def are_equal(self) -> bool:
        """Of one value nobody knows what it stands for."""
        return not np.ptp(self.raw)

    @cached_property
    def range_end(self) -> float:
        """Of the smallest usual range that holds them."""
        if self.has_fractions and self.top <= UNIT_MEAN:
            return 1.0
        if self.has_fractions and self.top <= 100:
            return 100.0
        return next((end for end in RANGES if self.top <= end), self.top)

    def has_contrast(self, high: float) -> bool:
        """Whether they fill a usual range as pictures do. Night, sea and snow do not.

        Args:
            high: what the scale makes 1 of. Fractions below 2 are no dark part of a range of thousands.
        """
        deviation, end = float(self.raw.std()), self.range_end
        if end == 1.0:
            fills = self.top > end / 2 or high >= FRACTIONS_AT_MOST
            return fills and deviation > CONTRAST * abs(float(self.raw.mean()))
        return self.top > end / 2 and deviation > CONTRAST * end


def values_of(held: Held) -> Values:
    """Of all bands."""
    return Values(held.pixels[:, held.judged].ravel())


def trained_for(held: Held, given: Given) -> str:
    """What the network expects, in words."""
    if given.normalize is not None or declared(held) is not None:
        return "mean 0, deviation 1"
    return "0..1" if given.divides else "raw values"


def declared(held: Held) -> Normalize | None:
    """What the model's own files say of its normalisation."""
    model = held.recipe.model
    return model.normalize if model.declares_transforms and model.dtype != "uint8" else None


def problem_of(held: Held, given: Given) -> str | None:
    """Why what the network gets cannot be meant, in words; None where it can."""
    values, judged = values_of(held), held.judged
    scaled = given.scaled[:, judged]
    if given.normalize is None:
        return _one_value(held, given, values) or _too_high(held, given, scaled, values)
    return (
        contradiction_of(given.scale, given.normalize)
        or _mean_of_another_unit(given, scaled, values)
        or _one_value(held, given, values)
        or _too_far(held, given.normalize, scaled)
    )


def contradiction_of(scale: Scale, normalize: Normalize | None) -> str | None:
    """Why a scale and a normalisation cannot be meant, whatever the values are; None where they can."""
    if normalize is None or not (scale.kind == "transforms" or scale.clips):
        return None
    mean = max(normalize.mean, key=abs)
    return None if abs(mean) <= UNIT_MEAN else f"normalize takes a mean of {mean:g} from values of 0..1"


def _mean_of_another_unit(given: Given, scaled: Floats, values: Values) -> str | None:
    assert given.normalize is not None  # noqa: S101  as `problem_of` asks
    mean = max(given.normalize.mean, key=abs)
    if abs(mean) <= UNIT_MEAN:
        return None
    divided = max(given.scale.high) >= RANGES[0] or values.has_fractions
    low, high = np.quantile(scaled, (0.001, 0.999))
    if divided and low >= -0.5 and high <= 1.5 and not values.are_equal:
        return f"normalize takes a mean of {mean:g} from values of 0..1"
    return None


def _one_value(held: Held, given: Given, values: Values) -> str | None:
    """One value to the network in a band, though the data is not even."""
    judged = given.values[:, held.judged]
    flat, raw = _is_flat(judged), held.pixels[:, held.judged]
    high = max(given.scale.high)
    if flat.all():
        shows = (raw.std(axis=1) > CONTRAST * np.abs(raw.mean(axis=1))).any()  # a coloured field does not
        if shows and _is_lost(values, given.scale, high):
            return (
                f"in each band the network gets values within 1 % of each other (all bands: {reach(judged)})"
            )
        return None
    if given.normalize is None and not given.divides:
        return None
    for number_, band, its, is_flat in zip(held.recipe.bands, raw, judged, flat, strict=True):
        if is_flat and _is_lost(Values(band), given.scale, high):
            return (
                f"the network gets values within 1 % of each other ({reach(its)}) in band {number_}, which "
                f"holds {reach(band)}"
            )
    return _hardly_deviates(given, judged, values, high)


def _is_lost(band: Values, scale: Scale, high: float) -> bool:
    """Whether what values show is gone where the network gets one of them: what is even has nothing to lose,
    and cloud saturates a stretch that ends below it."""
    if not scale.clips or (low := float(np.quantile(band.raw, 0.1))) < high:
        return band.has_contrast(high)
    if high in BYTE_ENDS:
        return float(band.raw.std()) > CONTRAST * band.top
    return low > high * (2 if high < RANGES[0] else 10) and not band.are_equal


def _hardly_deviates(given: Given, judged: Floats, values: Values, high: float) -> str | None:
    if given.normalize is None or not values.has_contrast(high):
        return None
    deviation = float(judged.std(axis=1).max())
    if deviation >= LEAST_DEVIATION:
        return None
    return f"the network gets a deviation of {number(deviation)} at most, and was trained for 1"


def _is_flat(judged: Floats) -> np.ndarray:
    """Per band."""
    flat: np.ndarray = np.ptp(judged, axis=1) <= CLOSE * np.maximum(1, np.abs(judged).mean(axis=1))
    return flat


def _too_far(held: Held, normalize: Normalize, scaled: Floats) -> str | None:
    mean, std = (np.array(spread(v, len(scaled)))[:, None] for v in (normalize.mean, normalize.std))
    is_far = np.abs(scaled - mean) / np.maximum(np.abs(std), LEAST_STD) > FAR
    for band, share, values in zip(held.recipe.bands, is_far.mean(axis=1), scaled, strict=True):
        if share > NEARLY_ALL and np.ptp(values):
            return f"{100 * share:.0f} % of band {band} is more than {FAR:.0f} deviations from the mean"
    return None


def _too_high(held: Held, given: Given, scaled: Floats, values: Values) -> str | None:
    if values.are_equal:
        return None
    middle = float(np.quantile(np.abs(scaled), 0.5))
    if declared(held) is not None and middle > FAR:
        return f"the model's files say that it normalises, and without that it gets {reach(scaled)}"
    if given.divides and middle > (ABOVE if set(given.scale.high) <= set(RANGES) else FAR):
        return f"half of the values are above {number(middle)} where `scale` makes 0..1"
    return None


def hint_of(held: Held, given: Given) -> str | None:
    """What is odd about values that may be meant, in words."""
    judged, values = given.values[:, held.judged], values_of(held)
    if values.are_equal:
        return None
    if given.normalize is None and declared(held) is not None:
        return f"{reach(judged)}, as the job leaves out how the model's files normalise"
    if given.normalize is not None:
        mean, deviation = float(judged.mean()), float(judged.std(axis=1).mean())
        if abs(mean) > ODD_MEAN or not ODD_DEVIATION <= deviation <= FAR:
            return f"mean {number(mean)}, deviation {number(deviation)}"
    elif given.divides:
        low, top = np.quantile(judged, (0.001, 0.999))
        if top < 0.1 or top > 2 or low < -1:
            return f"{number(float(low))}..{number(float(top))}"
    return _mostly_unused(held, given, values) or _other_metadata(held, given)


def _mostly_unused(held: Held, given: Given, values: Values) -> str | None:
    """A range of bits of which the values fill less than a quarter, or end as fewer bits do. Reflectance may
    fill less."""
    high, top = max(given.scale.high), values.top
    if given.scale.kind not in ("divide", "stretch") or high not in RANGES or any(given.scale.low):
        return None
    if high == REFLECTANCE:
        end = next((end for end in RANGES if end < high and _are_bits(held, end)), 0.0)
        return f"values of {BITS[end]}, which end at {number(end)}, for reflectance" if end > 255 else None
    if 4 * top >= high:
        return None
    return f"values that end at {number(top)} of {number(high)}" if values.has_contrast(high) else None


def _are_bits(held: Held, end: float) -> bool:
    """Whether samples end exactly where so many bits do."""
    pixels = held.pixels
    return float(pixels.max()) == end and int(np.count_nonzero(pixels == end)) >= 3


def _other_metadata(held: Held, given: Given) -> str | None:
    """A division that is not what metadata beside the scenes say: of Sentinel-2 they have an offset."""
    if given.scale.kind != "divide" or held.recipe.fit is not None or not all(map(says_more, held.samples)):
        return None
    said = held.given_by(None, given.normalize).scaled
    apart = float(np.abs(said - given.scaled)[:, held.judged].mean())
    return f"reflectance that is {number(apart)} off what `scale: metadata` says" if apart > 0.05 else None


def says_more(sample: ValueSample) -> bool:
    """Whether metadata hold another scale than that of reflectance itself."""
    said = sample.said
    return said is not None and not (set(said.low) == {0.0} and set(said.high) == {1.0})


def odd_sample(held: Held) -> str | None:
    """Which sample alone could not be meant, where all together can: its unit may be another one."""
    if len(held.samples) < 2:
        return None
    for one in held.alone():
        if problem := problem_of(one, one.given()):
            return f"{one.samples[0].source_id} may be of another unit than the others: {problem}"
    return None

"""What samples of the data hold, what the network gets of them, and whether that can be meant.

All samples are judged together, and so are all bands: one scene may be all sea, and one band dark.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from batchseg.job.recipe import Recipe, spread
from batchseg.job.settings import Scale
from batchseg.models.package import Normalize

Floats = NDArray[np.float64]

CLOSE = 0.01
"""Values that differ by less than this share of their size, or of the network's unit, are one value to it."""

FAR = 10.0
"""Deviations from its mean that a network was surely not trained for."""

LEAST_STD = 0.1
"""No picture of 0..1 deviates less. Smaller ones stand for another unit: 1/255 makes 0..255 of 0..1."""

UNIT_MEAN = 2.0
"""A mean that values of 0..1 cannot have."""

FILL_SHARE = 0.01
"""Pixels that hold the lowest value in all bands, or the highest, are taken for untagged nodata from this
share of all on: they are shown, and not judged."""

CONTRAST = 0.05
"""Deviation, as a share of the range that the values fill, of what is no even surface."""

FRACTIONS_AT_MOST = 50.0
"""Divisor from which on values with fractions below 2 cannot be of its unit."""

DIVISORS = (255.0, 1023.0, 4095.0, 10000.0, 16383.0, 65535.0)
"""Highest values of 8, 10, 12, 14 and 16 bits, and of reflectance in integers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueSample:
    """Valid pixels of one source."""

    source_id: str
    dtype: str
    """Of the file."""
    pixels: NDArray[np.generic]
    """(bands, n), raw."""
    scale: Scale
    """The recipe's, or the scene's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a scale and a normalisation make of the samples."""

    scale: Scale
    normalize: Normalize | None
    scaled: Floats
    """(bands, n)"""
    values: Floats
    """(bands, n), as the network gets them."""

    @property
    def divides(self) -> bool:
        """Whether the scale changes values: to 0..1, as far as one can tell."""
        return self.scale.kind == "metadata" or (self.scale.low, self.scale.high) != ((0.0,), (1.0,))

    @property
    def trained_for(self) -> str:
        if self.normalize is not None:
            return "mean 0, deviation 1"
        return "0..1" if self.divides else "raw values"

    @property
    def mean(self) -> float:
        """Of the bands' means the mean."""
        return float(self.values.mean())

    @property
    def deviation(self) -> float:
        """Of the bands' deviations the mean."""
        return float(self.values.std(axis=1).mean())

    @property
    def in_words(self) -> str:
        if self.normalize is not None:
            return f"mean {number(self.mean)}, deviation {number(self.deviation)}"
        return f"{number(float(self.values.min()))}..{number(float(self.values.max()))}"


@dataclass(frozen=True)
class Held:
    """Pixels of all samples, those without data left out."""

    samples: tuple[ValueSample, ...]
    recipe: Recipe

    @cached_property
    def pixels(self) -> Floats:
        """(bands, n)"""
        return np.concatenate([sample.pixels for sample in self.samples], axis=1).astype(np.float64)

    @cached_property
    def judged(self) -> NDArray[np.bool_]:
        """(n,), False where a pixel is probably nodata that nothing says."""
        keep = np.ones(self.pixels.shape[1], bool)
        for edge in (self.pixels.min(axis=1), self.pixels.max(axis=1)):
            is_edge = (self.pixels == edge[:, None]).all(axis=0)
            if FILL_SHARE <= is_edge.mean() < 1:
                keep &= ~is_edge
        return keep if keep.any() else np.ones_like(keep)

    @cached_property
    def values(self) -> Floats:
        """All that is judged, of all bands."""
        return self.pixels[:, self.judged].ravel()

    @cached_property
    def top(self) -> float:
        """The value that one in a thousand exceeds."""
        return float(np.quantile(self.values, 0.999))

    @cached_property
    def has_fractions(self) -> bool:
        return bool(np.mean(self.values != np.rint(self.values)) > 0.1)

    @property
    def dtypes(self) -> list[str]:
        return sorted({sample.dtype for sample in self.samples})

    @cached_property
    def range_end(self) -> float:
        """Of the smallest usual range that holds the values."""
        if self.has_fractions and self.top <= UNIT_MEAN:
            return 1.0
        return next((end for end in DIVISORS if self.top <= end), self.top)

    def has_contrast(self, high: float) -> bool:
        """Whether they fill a usual range as pictures do. Night, sea and snow do not, nor does what is even.

        Args:
            high: what the scale makes 1 of. Fractions below 2 are no dark part of a range of thousands.
        """
        deviation, end = float(self.values.std()), self.range_end
        if end == 1.0:
            fills = self.top > end / 2 or high >= FRACTIONS_AT_MOST
            return fills and deviation > CONTRAST * abs(float(self.values.mean()))
        return self.top > end / 2 and deviation > CONTRAST * end

    def given(self, scale: Scale | None = None, normalize: Normalize | None = None) -> Given:
        """What the network gets. Without a scale each sample's own counts, and the recipe's normalisation."""
        normalize = self.recipe.normalize if scale is None else normalize
        parts = [_scaled(sample.pixels, scale or sample.scale) for sample in self.samples]
        scaled = np.concatenate(parts, axis=1)
        return Given(
            scale=scale or self.samples[0].scale,
            normalize=normalize,
            scaled=scaled,
            values=_normalized(scaled, normalize),
        )


def hold(samples: Sequence[ValueSample], recipe: Recipe) -> Held | None:
    """Samples with their finite pixels alone; None where there is none."""
    kept = []
    for sample in samples:
        finite = np.isfinite(sample.pixels).all(axis=0)
        if finite.any():
            kept.append(replace(sample, pixels=sample.pixels[:, finite]))
    return Held(tuple(kept), recipe) if kept else None


def _scaled(pixels: NDArray[np.generic], scale: Scale) -> Floats:
    low, high = (np.array(spread(v, len(pixels)))[:, None] for v in (scale.low, scale.high))
    scaled: Floats = (pixels.astype(np.float64) - low) / (high - low)
    return np.clip(scaled, 0, 1) if scale.clips else scaled


def _normalized(scaled: Floats, normalize: Normalize | None) -> Floats:
    if normalize is None:
        return scaled
    mean, std = (np.array(spread(v, len(scaled)))[:, None] for v in (normalize.mean, normalize.std))
    normalized: Floats = (scaled - mean) / std
    return normalized


def problem_of(held: Held, given: Given) -> str | None:
    """Why what the network gets cannot be meant, in words; None where it can."""
    judged = held.judged
    return (
        _mean_of_another_unit(held, given, given.scaled[:, judged])
        or _one_value(held, given, given.values[:, judged])
        or _too_far(held, given, given.scaled[:, judged])
    )


def _mean_of_another_unit(held: Held, given: Given, scaled: Floats) -> str | None:
    if given.normalize is None:
        return None
    mean = max(given.normalize.mean, key=abs)
    if abs(mean) <= UNIT_MEAN:
        return None
    always = given.scale.kind == "transforms" or given.scale.clips  # whatever the values are
    divided = max(given.scale.high) >= DIVISORS[0] or held.has_fractions
    low, high = np.quantile(scaled, (0.001, 0.999))
    if always or (divided and low >= -0.5 and high <= 1.5 and np.ptp(held.values)):
        return f"normalize takes a mean of {mean:g} from values of 0..1"
    return None


def _one_value(held: Held, given: Given, values: Floats) -> str | None:
    """One value to the network, though the data is not even."""
    if given.normalize is None and not given.divides:
        return None
    reach = np.ptp(values, axis=1)
    if (reach > CLOSE * np.maximum(1, np.abs(values).mean(axis=1))).any():
        return None
    if not (held.has_contrast(max(given.scale.high)) or _is_saturated(held, given)):
        return None
    low, high = number(float(values.min())), number(float(values.max()))
    return f"in each band the network gets values within 1 % of each other (all bands: {low}..{high})"


def _is_saturated(held: Held, given: Given) -> bool:
    """Clipped to one value, and so far above it that it is no cloud."""
    high = max(given.scale.high)
    above = high * (2 if high <= 256 else 10)
    return given.scale.clips and float(np.quantile(held.values, 0.1)) > above


def _too_far(held: Held, given: Given, scaled: Floats) -> str | None:
    if not np.ptp(held.values):
        return None  # of one value nobody knows what it stands for
    if given.normalize is not None:
        mean, std = (
            np.array(spread(v, len(scaled)))[:, None] for v in (given.normalize.mean, given.normalize.std)
        )
        share = float(np.mean(np.abs(scaled - mean) / np.maximum(np.abs(std), LEAST_STD) > FAR))
        if share > 0.9:
            return f"{share:.0%} of the values are more than {FAR:.0f} deviations from the mean"
        return None
    middle = float(np.quantile(np.abs(scaled), 0.5))
    usual = set(given.scale.high) <= set(DIVISORS)
    if given.divides and middle > (4 if usual else FAR):
        return f"half of the values are above {number(middle)} where `scale` makes 0..1"
    return None


def hint_of(held: Held, given: Given) -> str | None:
    """What is odd about values that may be meant, in words."""
    judged = given.values[:, held.judged]
    if not np.ptp(held.values):
        return None
    if given.normalize is not None:
        mean, deviation = float(judged.mean()), float(judged.std())
        if abs(mean) > 3 or not 0.1 <= deviation <= FAR:
            return f"mean {number(mean)}, deviation {number(deviation)}"
        return None
    if given.divides:
        low, top = np.quantile(judged, (0.001, 0.999))
        if top < 0.1 or top > 2 or low < -1:
            return f"{number(float(low))}..{number(float(top))}"
    return None


def number(value: float) -> str:
    """
    >>> number(0.0000123), number(12345.678), number(-0.0), number(0.9999)
    ('1.23e-05', '12346', '0', '1')
    """
    if value and abs(value) < 0.001:
        return f"{value:.3g}"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value + 0.0:.3g}"

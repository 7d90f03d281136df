"""What samples of the data hold, and what the network gets of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from batchseg.job.recipe import Recipe, spread
from batchseg.job.settings import Scale
from batchseg.models.package import Normalize

Floats = NDArray[np.float64]

FILL_SHARE = 0.01
"""Pixels that hold the lowest value in all bands, or the highest, are taken for untagged nodata from this
share of all on: they are shown, and not judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueSample:
    """Valid pixels of one source."""

    source_id: str
    dtype: str
    """Of the file."""
    pixels: NDArray[np.generic]
    """(bands, n), raw."""
    scale: Scale
    """The recipe's, or the scene's own where the recipe takes it from metadata."""
    said: Scale | None = None
    """What metadata say of the scene, whatever the recipe takes; None: nothing."""


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
    def in_words(self) -> str:
        if self.normalize is not None:
            deviation = number(float(self.values.std(axis=1).mean()))
            return f"mean {number(float(self.values.mean()))}, deviation {deviation}"
        return reach(self.values)


@dataclass(frozen=True)
class Held:
    """Pixels of all samples, with the recipe that is to make something of them."""

    samples: tuple[ValueSample, ...]
    recipe: Recipe

    @cached_property
    def pixels(self) -> Floats:
        """(bands, n), raw."""
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

    @property
    def dtypes(self) -> list[str]:
        return sorted({sample.dtype for sample in self.samples})

    def alone(self) -> "list[Held]":
        """Each sample for itself."""
        return [replace(self, samples=(sample,)) for sample in self.samples]

    def given(self) -> Given:
        """What the network gets by the recipe."""
        return self._given([sample.scale for sample in self.samples], self.recipe.normalize)

    def given_by(self, scale: Scale | None, normalize: Normalize | None) -> Given:
        """What it would get of another scale (None: what metadata say of each) and normalisation."""
        scales = [scale or sample.said or sample.scale for sample in self.samples]
        return self._given(scales, normalize)

    def _given(self, scales: Sequence[Scale], normalize: Normalize | None) -> Given:
        parts = [scaled_pixels(s.pixels, scale) for s, scale in zip(self.samples, scales, strict=True)]
        scaled = np.concatenate(parts, axis=1)
        values = _normalized(scaled, normalize)
        return Given(scale=scales[0], normalize=normalize, scaled=scaled, values=values)


def hold(samples: Sequence[ValueSample], recipe: Recipe) -> Held | None:
    """Samples with their finite pixels alone; None where there is none."""
    kept = []
    for sample in samples:
        finite = np.isfinite(sample.pixels).all(axis=0)
        if finite.any():
            kept.append(replace(sample, pixels=sample.pixels[:, finite]))
    return Held(tuple(kept), recipe) if kept else None


def scaled_pixels(pixels: NDArray[np.generic], scale: Scale) -> Floats:
    """Raw pixels (bands, n) in the model's unit, before they are normalised."""
    low, high = (np.array(spread(v, len(pixels)))[:, None] for v in (scale.low, scale.high))
    scaled: Floats = (pixels.astype(np.float64) - low) / (high - low)
    return np.clip(scaled, 0, 1) if scale.clips else scaled


def _normalized(scaled: Floats, normalize: Normalize | None) -> Floats:
    if normalize is None:
        return scaled
    mean, std = (np.array(spread(v, len(scaled)))[:, None] for v in (normalize.mean, normalize.std))
    normalized: Floats = (scaled - mean) / std
    return normalized


def reach(values: Floats) -> str:
    return f"{number(float(values.min()))}..{number(float(values.max()))}"


def number(value: float) -> str:
    """
    >>> number(0.0000123), number(12345.678), number(-0.0), number(0.9999)
    ('1.23e-05', '12346', '0', '1')
    """
    if value and abs(value) < 0.001:
        return f"{value:.3g}"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value + 0.0:.3g}"

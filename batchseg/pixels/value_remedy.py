"""Which scale, and which normalisation, would make of the data what the network was trained for.

Each remedy is tried on the samples before it is named.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from batchseg.job.settings import Scale
from batchseg.models.package import Normalize
from batchseg.pixels.fit import out_of_scale
from batchseg.pixels.value_problems import (
    BITS,
    RANGES,
    REFLECTANCE,
    UNIT_MEAN,
    declared,
    hint_of,
    problem_of,
    says_more,
    values_of,
)
from batchseg.pixels.values import Given, Held

METADATA = "scale: metadata"

LANDSAT = Scale(kind="stretch", low=(7272.727,), high=(43636.364,))
"""Reflectance 0..1 of Landsat Collection 2 Level 2, whose integers times 0.0000275 less 0.2 are reflectance
(USGS LSDS-1619, 4.1)."""

LANDSAT_RANGE = (6500, 55000)
"""Of such integers; they are never lower where there is data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    keys: str
    """As a job file would say it."""
    given: Given
    meaning: str = ""
    """What the files hold if it is right."""
    changes: int
    """Keys of the job file."""


def remedy_for(held: Held, *, plain: bool, surely: bool = False) -> str | None:
    """What to write into the job instead, in words; None where there is nothing to say.

    Args:
        held: the samples.
        plain: the network takes pixels as they are (0..255), or nobody knows what it takes.
        surely: only a key that helps.
    """
    own, normalize = declared(held), held.recipe.normalize
    if normalize is None and own is not None:
        return "leave `normalize` out, as the model says itself how it normalises"
    if plain:
        return _as_they_are(held)
    passing = [one for one in _candidates(held) if not problem_of(held, one.given)]
    fine = [one for one in passing if not hint_of(held, one.given)]
    if not fine:
        return None if surely else "look at `normalize` and `bands` too: no usual `scale` alone helps"
    ways = _ways(held, fine)
    said = " or ".join(
        f"{one.keys}{f' for {one.meaning}' if one.meaning and ways[1:] else ''}" for one in ways
    )
    return f"set {said}: the network then gets {' or '.join(one.given.in_words for one in ways)}"


def _ways(held: Held, usable: list[_Candidate]) -> list[_Candidate]:
    """What metadata say; else the nearest to what the network was trained for, and others of a known meaning.

    Whether integers are bits or reflectance their owner alone knows.
    """
    if usable[0].keys == METADATA:
        return usable[:1]
    if held.recipe.normalize is None:
        return usable[:1] if not usable[0].meaning else [one for one in usable if one.meaning][:3]
    best = min(usable, key=lambda one: _distance(held, one.given) + 0.5 * one.changes)
    others = [one for one in usable if one.meaning and one.changes == best.changes and one is not best]
    return [best, *others[:2]] if best.meaning else [best]


def _distance(held: Held, given: Given) -> float:
    """From mean 0 and deviation 1."""
    values = given.values[:, held.judged]
    deviation = max(float(values.std(axis=1).mean()), 1e-9)
    return float(np.abs(values.mean(axis=1)).mean() + abs(np.log(deviation)))


def _candidates(held: Held) -> Iterator[_Candidate]:
    for scale, text, meaning in _scales(held):
        changed = bool(text)
        for normalize in _normalizations(held.recipe.normalize):
            keys = [text] if text else []
            if normalize != held.recipe.normalize and normalize is not None:
                keys.append(f"normalize: {_words(normalize)}")
            if keys:
                yield _Candidate(
                    keys=" and ".join(keys),
                    given=held.given_by(scale, normalize),
                    meaning=meaning,
                    changes=changed + (normalize != held.recipe.normalize),
                )


def _scales(held: Held) -> Iterator[tuple[Scale | None, str, str]]:
    """Those that are accepted of such files, the job's own first. None: each scene's."""
    own = held.recipe.scale
    if own.kind != "metadata" and _accepted(held, own):
        yield own, "", ""
    if own.kind != "metadata" and held.recipe.fit is None and all(map(says_more, held.samples)):
        yield None, METADATA, ""
    if held.dtypes == ["uint8"]:
        yield _divide(255.0), "scale: {divide: 255}", ""
        if len(_normalizations(held.recipe.normalize)) == 1:
            yield _divide(1.0), "scale: {divide: 1}", ""
        return
    values = values_of(held)
    if held.dtypes == ["uint16"] and LANDSAT_RANGE[0] <= values.low <= values.top <= LANDSAT_RANGE[1]:
        text = f"scale: {{stretch: [{LANDSAT.low[0]}, {LANDSAT.high[0]}]}}"
        yield LANDSAT, text, "reflectance of Landsat Collection 2"
    for high in _highs(held):
        scale, text = _divide(high), f"scale: {{divide: {_plain(high)}}}"
        if not _accepted(held, scale):  # 8 bits in a wider type
            scale, text = _stretch(high), f"scale: {{stretch: [0, {_plain(high)}]}}"
        meaning = "reflectance in integers" if high == REFLECTANCE else BITS.get(high, "")
        if scale != own and _accepted(held, scale):
            yield scale, text, meaning


def _highs(held: Held) -> list[float]:
    """What 1 may stand for in such data, the likelier first."""
    values = values_of(held)
    end = values.range_end
    highs = [end]
    if held.recipe.fit is None and (255 < end < REFLECTANCE < values.top * 100 or end == 16383.0):
        highs.insert(0, REFLECTANCE)
    if held.recipe.normalize is not None:
        highs.append(1.0)
        if end == 1.0:  # a mean in units of integers
            highs += [1 / 255, 1 / REFLECTANCE]
    return list(dict.fromkeys(highs))


def _as_they_are(held: Held) -> str | None:
    """For a network that takes values of 0..255, or whose unit nobody said."""
    end = values_of(held).range_end
    unit, byte = _divide(end), _divide(end / 255)
    said = []
    if _accepted(held, byte):
        said.append(
            f"scale: {{divide: {_plain(end / 255)}}} if the network takes 0..255 (it then gets "
            f"{held.given_by(byte, None).in_words})"
        )
    if not held.recipe.model.declares_transforms and _accepted(held, unit):
        said.append(
            f"scale: {{divide: {_plain(end)}}} if it takes 0..1 (it then gets "
            f"{held.given_by(unit, None).in_words})"
        )
    return f"set {', or '.join(said)}" if said else None


def _accepted(held: Held, scale: Scale) -> bool:
    return not any(out_of_scale(dtype, scale) for dtype in held.dtypes)


def _normalizations(own: Normalize | None) -> list[Normalize | None]:
    if own is None or not UNIT_MEAN < max(map(abs, own.mean)) <= RANGES[0]:
        return [own]
    shrunk = (tuple(float(f"{value / 255:.4g}") for value in values) for values in (own.mean, own.std))
    mean, std = shrunk
    return [own, Normalize(mean=mean, std=std)]


def _words(normalize: Normalize) -> str:
    mean, std = (", ".join(f"{v:g}" for v in values) for values in (normalize.mean, normalize.std))
    return f"{{mean: [{mean}], std: [{std}]}}"


def _divide(high: float) -> Scale:
    return Scale(kind="divide", low=(0.0,), high=(high,))


def _stretch(high: float) -> Scale:
    return Scale(kind="stretch", low=(0.0,), high=(high,))


def _plain(value: float) -> str:
    """A number that YAML reads as one."""
    return f"{value:.10f}".rstrip("0").rstrip(".") if value < 1 else f"{value:.8g}"

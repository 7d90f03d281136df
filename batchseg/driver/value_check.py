"""What the data's values are to the network: shown before a run begins, and refused where it cannot be meant.

A run looks at few pixels, while its predictors load. `batchseg plan` shows the same.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from batchseg.errors import ConfigError
from batchseg.inputs.source import Refusal, Scene
from batchseg.job.recipe import Recipe
from batchseg.job.settings import JobConfig
from batchseg.pixels.fit import mismatch, out_of_scale, value_mismatch
from batchseg.pixels.usual_values import odd_one
from batchseg.pixels.value_problems import (
    contradiction_of,
    declared,
    hint_of,
    odd_sample,
    problem_of,
    trained_for,
)
from batchseg.pixels.value_remedy import remedy_for
from batchseg.pixels.value_samples import chosen_scenes
from batchseg.pixels.values import Given, Held, ValueSample, hold, number, reach
from batchseg.system.amounts import counted

BANDS_SHOWN = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What samples showed."""

    lines: tuple[str, ...] = ()
    """What the files hold and what the network gets, per band."""
    warning: str = ""
    """What is odd about it."""
    remedy: str = ""
    """What to write into the job, where these sources do not fit it."""


def look_at_scenes(
    headers: Sequence[Scene | Refusal],
    recipe: Recipe,
    samples_of: Callable[[list[Scene], Recipe], Sequence[ValueSample]],
) -> Sequence[ValueSample]:
    """Samples of scenes that fit; where none does, of those that nothing but their values keep from it."""
    scenes = [header for header in headers if isinstance(header, Scene)]
    chosen = chosen_scenes(scenes)
    if not all(mismatch(scene, recipe) is None for scene in chosen):
        fitting = [scene for scene in scenes if mismatch(scene, recipe) is None]
        chosen = chosen_scenes(fitting or [scene for scene in scenes if value_mismatch(scene, recipe)])
    return samples_of(chosen, recipe) if chosen else []


def judge(samples: Sequence[ValueSample], recipe: Recipe, config: JobConfig) -> Looked:
    """What the samples show.

    Raises:
        ConfigError: the network would get what cannot be meant, and the job does not say that it is.
    """
    held = hold(samples, recipe)
    if held is None:
        return Looked()
    plain = recipe.normalize is None and recipe.scale.kind == "transforms"
    if recipe.scale.kind == "metadata" and any(sample.said is None for sample in held.samples):
        return Looked(remedy=_remedy_of(held, plain=False))
    if any(out_of_scale(sample.dtype, sample.scale) for sample in held.samples):
        return Looked(remedy=_remedy_of(held, plain=plain))
    given = held.given()
    lines = tuple(_table(held, given))
    problem = problem_of(held, given)
    if problem is None:
        odd = hint_of(held, given)
        apart = odd_sample(held) or odd_one(held.samples, surely=recipe.fit is None)
        warning = _odd(held, given, odd, plain=plain) if odd else apart
        return Looked(lines=lines, warning=warning)
    if not config.check_values:
        return Looked(lines=lines, warning=f"the job says check_values: false, and {problem}")
    remedy = remedy_for(held, plain=plain)
    msg = f"{config.path}: its values cannot be meant: {problem}"
    raise ConfigError(
        msg,
        *lines,
        *([f"{remedy[0].upper()}{remedy[1:]}."] if remedy else []),
        "If it is meant, set check_values: false.",
    )


def judge_unseen(recipe: Recipe, config: JobConfig) -> Looked:
    """What can be told without looking at the data. Raises as `judge`."""
    problem = contradiction_of(recipe.scale, recipe.normalize)
    if problem is None:
        return Looked()
    if not config.check_values:
        return Looked(warning=f"the job says check_values: false, and {problem}")
    msg = f"{config.path}: its values cannot be meant: {problem}"
    raise ConfigError(msg, "`batchseg plan` shows what mends it. If it is meant, set check_values: false.")


def _remedy_of(held: Held, *, plain: bool) -> str:
    """Of pixels that the header already refuses."""
    remedy = remedy_for(held, plain=plain)
    said = f": {remedy}" if remedy else ""
    return f"Samples hold {reach(held.pixels[:, held.judged])}{said}."


def _odd(held: Held, given: Given, odd: str, *, plain: bool) -> str:
    """A remedy is named only if it makes the difference."""
    remedy = (
        remedy_for(held, plain=plain, surely=True) if given.normalize is not None or declared(held) else None
    )
    condition = ", if that is what they hold" if remedy and "{" in remedy else ""
    said = f"; {remedy}{condition}" if remedy else ""
    return f"the network was trained for {trained_for(held, given)}, and gets {odd}: look at `scale`{said}"


def _table(held: Held, given: Given) -> list[str]:
    count = len({sample.source_id for sample in held.samples})
    dtypes = ", ".join(held.dtypes)
    lines = [
        f"samples of {counted(count, 'source')} ({dtypes}, {held.pixels.shape[1]:,} pixels); "
        f"the network was trained for {trained_for(held, given)}:"
    ]
    for band, raw, values in zip(held.recipe.bands, held.pixels, given.values, strict=True):
        lines.append(
            f"  band {band}: {reach(raw)} -> {reach(values)}, mean {number(float(np.mean(values)))}, "
            f"deviation {number(float(np.std(values)))}"
        )
    if len(lines) - 1 <= BANDS_SHOWN:
        return lines
    rest = held.recipe.bands[BANDS_SHOWN:]
    raw, values = held.pixels[BANDS_SHOWN:], given.values[BANDS_SHOWN:]
    return [
        *lines[: BANDS_SHOWN + 1],
        f"  {len(rest)} more, bands {rest[0]} to {rest[-1]}, together: {reach(raw)} -> {reach(values)}",
    ]

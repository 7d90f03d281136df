"""A few photographs that are looked at before predictors work: whether they fit the job, and their values."""

import itertools
import random
import time
from dataclasses import dataclass, replace

import pyarrow as pa

from batchseg.driver.photo_worker import BESIDE_BYTES, died
from batchseg.driver.value_check import Looked, judge
from batchseg.errors import ConfigError, SourceError
from batchseg.inputs.source import Doubt
from batchseg.job.recipe import Recipe
from batchseg.job.settings import JobConfig
from batchseg.pixels.band_order import given_colors, is_other_order, way_out
from batchseg.pixels.photo.limits import Limits
from batchseg.pixels.photo.load import Row, load
from batchseg.pixels.photo.room import Claim
from batchseg.pixels.values import ValueSample
from batchseg.predict.photo import Fitting, answer_bytes
from batchseg.predict.photo_values import sample_photo
from batchseg.system import storage
from batchseg.system.machine import memory_share
from batchseg.system.processes import MEMORY_BYTES, ProcessDiedError, each_in_fresh_process

LOOKED_AT = 6
"""A job that fits none of them is wrong; one that does not fit a few has odd ones."""

LOOK_SECONDS = 60.0
"""For all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One photograph; neither where it has no valid pixel, or takes too much memory to be looked at."""

    doubt: Doubt | None = None
    sample: ValueSample | None = None
    source_id: str = ""
    colors: tuple[str, ...] = ()
    """Of its channels, where the file says them."""
    is_rgb: bool = False
    """As `Picture` has it."""


def look_at_photographs(todo: pa.Table, recipe: Recipe, timeout: float, memory: int) -> list[Seen]:
    """Read, decode and fit some of many, one by one in a fresh process.

    Args:
        todo: LISTING rows.
        recipe: the pixel settings.
        timeout: seconds after which no more of them are looked at. One that hangs gets a third of that.
        memory: bytes that one may take.
    """
    few = todo.take(_places(todo.num_rows)).to_pylist()
    timeout = min(timeout, LOOK_SECONDS)
    until, each = time.monotonic() + timeout, max(5.0, timeout / 3)
    given = recipe, storage.environment(), memory, memory_share()
    most = max(MEMORY_BYTES, memory + BESIDE_BYTES)
    seen = []
    answers = each_in_fresh_process(_see, few, *given, timeout=each, memory=most)
    for row, answer in zip(few, answers, strict=True):
        seen.append(Seen(doubt=died(row, answer)) if isinstance(answer, ProcessDiedError) else answer)
        if time.monotonic() > until:
            break
    return seen


def _places(count: int) -> list[int]:
    """One at random of each of equal parts, the same each time: names repeat by fours and by tens."""
    bounds = [part * count // LOOKED_AT for part in range(LOOKED_AT + 1)]
    chance = random.Random(count)  # noqa: S311  no secret
    return [chance.randrange(low, high) for low, high in itertools.pairwise(bounds) if low < high]


def _see(row: Row, recipe: Recipe, where: dict[str, str], memory: int, share: float) -> Seen:
    storage.adopt(where)
    if row["size"] > share:
        return Seen()
    limits = Limits(memory=memory, answer_bytes=answer_bytes(recipe), has_room=Claim(None, share))
    loaded = load(row, with_content=False, limits=limits)
    if loaded.picture is None:
        return Seen(doubt=loaded.doubt)
    doubt = sample = None
    try:
        sample = sample_photo(row["source_id"], loaded.picture, recipe)
        Fitting(loaded.picture, recipe)
    except SourceError as e:
        doubt = Doubt.of(row["source_id"], e)
    return Seen(
        doubt=doubt,
        sample=sample,
        source_id=row["source_id"],
        colors=loaded.picture.colors,
        is_rgb=loaded.picture.is_rgb,
    )


def fitting_samples(seen: list[Seen]) -> list[ValueSample]:
    """Of those that fit the job."""
    return [one.sample for one in seen if one.sample is not None and one.doubt is None]


def judge_photographs(seen: list[Seen], recipe: Recipe, config: JobConfig, *, is_new: bool) -> Looked:
    """What they show.

    Args:
        seen: of the photographs to do.
        recipe: the pixel settings.
        config: the job.
        is_new: nothing of the output is done.

    Raises:
        ConfigError: those that are sound are not what the model takes, or the network would get what cannot
            be meant.
    """
    fitting = fitting_samples(seen)
    if fitting or not is_new:
        looked = judge(fitting, recipe, config)
        odd = "; ".join(filter(None, (looked.warning, _other_order(seen, recipe))))
        return replace(looked, warning=odd)
    doubts = [one.doubt for one in seen if one.doubt is not None]
    if doubts and len(doubts) == len(seen) and all(doubt.is_mismatch for doubt in doubts):
        samples = [one.sample for one in seen if one.sample is not None]
        remedy = judge(samples, recipe, config).remedy
        first = doubts[0]
        msg = f"{config.path} fits none of its inputs: {first.source_id} {first.reason}"
        raise ConfigError(msg, *([remedy] if remedy else []))
    return Looked()


def _other_order(seen: list[Seen], recipe: Recipe) -> str:
    """Photographs go by number: where one says that the network of three bands gets no red, green, blue."""
    for one in seen:
        given = given_colors(one.colors, recipe)
        if not is_other_order(given):
            continue
        return (
            f"bands: the network gets {', '.join(color or 'unknown' for color in given)} of {one.source_id}, "
            f"as the file says itself{way_out(one.colors)}"
        )
    return ""

"""A threshold by good images: how high a network's numbers reach where nothing is wrong."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from batchseg.errors import ConfigError, ModelError, SourceError
from batchseg.job.recipe import Recipe
from batchseg.job.settings import JobConfig, Values
from batchseg.pixels.photo.limits import Limits
from batchseg.pixels.photo.load import Row, load
from batchseg.predict.fleet import Meeting, together
from batchseg.predict.listed_beside import list_beside
from batchseg.predict.numbers import has_data
from batchseg.predict.photo import Fitting, answer_bytes
from batchseg.predict.predictor import Predictor, Preparation, load_predictor
from batchseg.predict.probe import silence_stdout
from batchseg.system import storage
from batchseg.system.processes import ProcessDiedError

START_SECONDS, PATIENCE = 600.0, 20.0
"""That a process may take: to start, and for each image beside what its tiles should."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Highest:
    """Of one image."""

    source_id: str
    number: float = 0.0
    why_not: str = ""
    """Why it has none, in words; empty: it has."""


def measured_threshold(
    config: JobConfig, recipe: Recipe, values: Values, *, workers: int, say: Callable[[str], None]
) -> tuple[float, str]:
    """A percentile of the highest number of each good image, as this recipe's engine gives them.

    Between two images it is interpolated linearly, as numpy does.

    Args:
        config: the job.
        recipe: as it will run.
        values: with a percentile.
        workers: processes at work at the same time.
        say: told what is done.

    Returns:
        The threshold, which float32 holds, and how it was found in words.

    Raises:
        ConfigError: there are no such images, none can be used, or they reach where the numbers end.
        ModelError: the network fails on them.
    """
    key, pattern = "values: threshold: of", values.good or ""
    rows = list_beside(config, key, pattern, config.photographs)[0].to_pylist()
    say(f"measuring the threshold on {len(rows)} images of {pattern}")
    # Numbers as they are, not as uint16 would clip them.
    plain = replace(recipe, values=replace(values, dtype="float32", scale=1.0, offset=0.0))
    memory = config.photographs.max_photo_memory if config.photographs else 0
    seconds = START_SECONDS + len(rows) * (PATIENCE + 10 * recipe.facts.seconds_per_tile)
    count = workers if recipe.device == "cpu" else 1
    where = storage.environment()
    try:
        parts = together(_highest, plain, rows, memory, where, workers=count, timeout=seconds)
    except ProcessDiedError as e:
        msg = f"model: the process that measured the threshold {e}"
        raise ModelError(msg) from e
    found = sorted((one for part in parts for one in part), key=lambda one: one.source_id)
    numbers = [one.number for one in found if not one.why_not]
    wrong = [f"{one.source_id}: {one.why_not}" for one in found if one.why_not]
    if not numbers:
        msg = f"{config.path}: {key}: of {len(rows)} images none can be used; the first: {wrong[0]}"
        raise ConfigError(msg)
    threshold = float(np.float32(np.percentile(np.array(numbers, np.float64), values.percentile or 0.0)))
    if _is_ceiling(threshold, numbers):
        msg = (
            f"{config.path}: values: threshold: {numbers.count(threshold)} of {len(numbers)} good images "
            f"reach exactly {threshold:.6g}, as numbers do that end there (anomalib's end at 1), and no "
            f"image could be above; take a lower percentile than {values.percentile:g}, other good images, "
            f"or a number"
        )
        raise ConfigError(msg)
    left_out = f"; {len(wrong)} could not be used, the first: {wrong[0]}" if wrong else ""
    words = (
        f"threshold {threshold:.6g}: percentile {values.percentile:g} of the highest numbers of "
        f"{len(numbers)} good images, {min(numbers):.6g} to {max(numbers):.6g}{left_out}"
    )
    return threshold, words


def _is_ceiling(threshold: float, numbers: Sequence[float]) -> bool:
    """Whether good images reach as high as the network's numbers can: two do not by chance reach the same."""
    return threshold == max(numbers) and (threshold == 1 or numbers.count(threshold) > 1)


def _highest(
    recipe: Recipe, rows: Sequence[Row], memory: int, where: dict[str, str], meeting: Meeting
) -> list[_Highest]:
    """Of one process's part of the images."""
    storage.adopt(where)
    silence_stdout()
    mine = meeting.share(rows)
    if not mine:
        return []
    predictor, preparation = load_predictor(recipe), Preparation(recipe)
    limits = Limits(memory=memory, answer_bytes=answer_bytes(recipe))
    return [_of_image(row, recipe, predictor, preparation, limits) for row in mine]


def _of_image(
    row: Row, recipe: Recipe, predictor: Predictor, preparation: Preparation, limits: Limits
) -> _Highest:
    name = row["source_id"]
    loaded = load(row, with_content=False, limits=limits)
    if loaded.picture is None:
        return _Highest(source_id=name, why_not=loaded.doubt.reason if loaded.doubt else "too large")
    try:
        fitting = Fitting(loaded.picture, recipe)
    except SourceError as e:
        return _Highest(source_id=name, why_not=str(e))
    buffer = preparation.buffer(1)
    for number in range(fitting.inputs):
        preparation(fitting.tile(number), buffer[0])
        fitting.place(number, predictor.run(buffer)[0])
    numbers = fitting.mask().values
    assert numbers is not None  # noqa: S101  the recipe asks for them
    known = numbers[has_data(numbers)]
    if not known.size:
        return _Highest(source_id=name, why_not="no pixel of it has data")
    return _Highest(source_id=name, number=float(known.max()))

"""`threshold`, `ignore_below`, `probabilities`: what is made of a network's scores beside the best class."""

import math
from dataclasses import replace

from batchseg.errors import ConfigError
from batchseg.job.class_names import class_ids
from batchseg.job.recipe import Recipe
from batchseg.job.resolve import UNKNOWN, classes
from batchseg.job.settings import JobConfig


def with_decisions(config: JobConfig, recipe: Recipe) -> Recipe:
    """The recipe by which scores become classes and layers as the job says.

    Args:
        config: the job.
        recipe: of a network that gives scores, where the job asks for any of it.

    Raises:
        ConfigError: a name is not among the classes, or a class is meant by other keys.
    """
    named = classes(config, recipe)
    thresholds = _thresholds(config, recipe)
    if config.probabilities is True:
        shown = tuple(range(recipe.facts.class_count or len(named)))
    else:
        shown = class_ids("probabilities", config.probabilities or (), named)
    recipe = replace(recipe, thresholds=thresholds, probabilities=shown)
    if not config.ignore_below and not all(thresholds or (0,)):
        return recipe
    if any(info.name == UNKNOWN.name for info in named):
        msg = (
            f"{config.path}: classes: {UNKNOWN.name!r} is what pixels become of which no class is told "
            f"(`ignore_below`, `threshold`); give the model's class another name"
        )
        raise ConfigError(msg)
    count = recipe.class_count or len(named)
    return replace(
        recipe,
        ignore_below=_byte(config.ignore_below or 0.0),
        unknown=count,
        class_count=count + 1,
    )


def _thresholds(config: JobConfig, recipe: Recipe) -> tuple[int, ...]:
    """Of every class as a byte; empty where none has one."""
    given = config.threshold or {}
    if not given:
        return ()
    if recipe.facts.output == "sigmoid":
        msg = f"{config.path}: threshold: this model gives one band; set model: {{threshold: ...}} for it"
        raise ConfigError(msg)
    named = classes(config, recipe)
    least = [0] * (recipe.facts.class_count or len(named))
    for name, probability in given.items():
        (class_id,) = class_ids("threshold", (name,), named)
        least[class_id] = _byte(probability)
    return tuple(least)


def _byte(probability: float) -> int:
    """The lowest byte that means as much."""
    return math.ceil(255 * probability - 1e-9)

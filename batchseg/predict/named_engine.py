"""An engine that a job names: held against the model's own before it is trusted."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from batchseg.errors import ConfigError, ModelError
from batchseg.job.recipe import Recipe
from batchseg.job.resolve import reference_engine
from batchseg.job.settings import JobConfig
from batchseg.predict.choice import describe_bench, figures, looser
from batchseg.predict.engine_trials import compare
from batchseg.predict.probe import try_out
from batchseg.predict.samples import sample_crops
from batchseg.predict.settled import check_offer, is_own, is_quantised_here
from batchseg.predict.trial import Occasion, Scope, Trial
from batchseg.predict.truth import Known, known_crops


def as_named(
    config: JobConfig, recipe: Recipe, occasion: Occasion, say: Callable[[str], None]
) -> tuple[Recipe, tuple[Mapping[str, Any], ...], bool]:
    """What a named engine showed, and whether it may be trusted; nothing where it is the model's own.
    And the recipe, which has a network in int8 where one was made.

    Raises:
        ModelError: this machine cannot run it, or it answers otherwise than the model's own.
        ConfigError: no source gives a tile to compare them with.
    """
    own = reference_engine(recipe.model)
    if (recipe.engine, recipe.precision) == (own, "fp32"):
        return recipe, (), True
    check_offer(recipe)
    if not is_own(recipe) and occasion.tries and (occasion.sources or is_quantised_here(recipe)):
        recipe, trial = _prove(config, recipe, occasion, say)
        return recipe, (figures(trial),), True
    if not is_quantised_here(recipe):
        try_out(recipe)
    if not is_own(recipe) and not occasion.tries:
        say(f"the first run compares {recipe.engine} with {own} on its own tiles")
    return recipe, (), is_own(recipe)


def _prove(
    config: JobConfig, recipe: Recipe, occasion: Occasion, say: Callable[[str], None]
) -> tuple[Recipe, Trial]:
    """The trial that a named engine passed, and the recipe as it was tried.

    Raises:
        ModelError: it answers otherwise than the model's own engine, crashes or hangs.
        ConfigError: no source gives a tile to compare them with.
    """
    own = reference_engine(recipe.model)
    try:
        samples = sample_crops(recipe, occasion.sources)
    except ConfigError as e:
        msg = (
            f"{config.path}: engine: {recipe.engine} must be compared with {own}, the model's own, first: {e}"
        )
        raise ConfigError(msg) from e
    scope = Scope(
        engines=(recipe.engine,),
        precisions=(recipe.precision,),
        workers=occasion.workers,
        gate=config.gate,
        known=known_of(config, recipe, say),
        int8=is_quantised_here(recipe),
        int8_asked=True,
    )
    found = compare(recipe, samples, scope, say=say)
    for line in describe_bench(found):
        say(f"  {line}")
    trial = found.chosen
    if trial.reason is None:
        return replace(recipe, quantized=found.quantized), trial
    msg = f"model: {trial.name} answers otherwise than {own}, the model's own engine: {trial.reason}"
    raise ModelError(msg, *_remedies(recipe, trial))


def _remedies(recipe: Recipe, trial: Trial) -> list[str]:
    """What to do about an engine that did not pass, a line each."""
    own = reference_engine(recipe.model)
    lines = [f"use the model's own, engine: {own}, or engine: auto, which takes another only if it agrees"]
    if recipe.precision != "fp32":
        lines.append(f"or {recipe.engine} in another precision, such as fp32")
    if trial.agreement is not None:
        lines.append(f"or, if that is near enough for you, {looser(trial)}")
    return lines


def known_of(config: JobConfig, recipe: Recipe, say: Callable[[str], None]) -> tuple[Known, ...]:
    """Crops of which the job says the classes. Raises ConfigError where it names none that can be used."""
    truth = config.gate.truth
    return () if truth is None else tuple(known_crops(config, recipe, truth, say))

"""The threshold of a job's numbers: measured once for an output, then kept."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from batchseg.driver.tasks import Stop
from batchseg.job.recipe import Recipe
from batchseg.job.settings import JobConfig
from batchseg.output.state import OutputState
from batchseg.predict.choice import Choice
from batchseg.predict.good_images import measured_threshold
from batchseg.predict.trial import Occasion
from batchseg.system.threads import start_aside, wait_for


def with_threshold(
    config: JobConfig,
    recipe: Recipe,
    choice: Choice | None,
    state: OutputState | None,
    occasion: Occasion,
    *,
    stop: Stop,
    say: Callable[[str], None],
) -> tuple[Recipe, Choice | None]:
    """The recipe with the threshold that good images give, where the job asks for that.

    Args:
        config: the job.
        recipe: as it will run.
        choice: what the output is to remember of how; None: a plan, which has tried nothing.
        state: of the output's earlier runs, which measured it; None: there are none, or all is replaced.
        occasion: says whether anything may be tried, and by how many processes.
        stop: asked often; a reason ends the run.
        say: told how it was found.

    Returns:
        Both, the choice with a note of it; None where the first run will measure.

    Raises:
        ConfigError: there are no such images, or none can be used.
        ModelError: the network fails on them.
    """
    values = recipe.values
    if values is None or values.percentile is None:
        return recipe, choice
    if state is not None:
        found = _kept(recipe, state)
        return (recipe, choice) if found is None else (_with(recipe, found), choice)
    if choice is None or not occasion.tries:
        say(f"the first run measures the threshold on the images of {values.good}")
        return recipe, None
    measuring = start_aside(
        partial(measured_threshold, config, recipe, values, workers=occasion.workers, say=say)
    )
    found, words = wait_for(measuring, stop)
    say(words)
    return _with(recipe, found), replace(choice, notes=(*choice.notes, words))


def _with(recipe: Recipe, threshold: float) -> Recipe:
    assert recipe.values is not None  # noqa: S101  there is one to be measured
    return replace(recipe, values=replace(recipe.values, threshold=threshold))


def _kept(recipe: Recipe, state: OutputState) -> float | None:
    """What an earlier run measured for the same question; None: it was another, and the job is refused."""
    asked = recipe.settings()
    told = ("values: threshold: percentile", "values: threshold: of")
    known: float | None = state.pixel.get("values: threshold")
    return known if all(state.pixel.get(key) == asked[key] for key in told) else None

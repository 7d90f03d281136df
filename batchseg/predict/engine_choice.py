"""Which engine, precision, tile and graph an output is made with: decided once per output, then kept."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any, get_args

from batchseg.errors import ConfigError
from batchseg.inputs.source import Source
from batchseg.job.recipe import Recipe
from batchseg.job.resolve import reference_engine
from batchseg.job.settings import JobConfig
from batchseg.models.package import EngineName, Precision
from batchseg.predict.choice import Choice, describe_bench, figures, halo_figures, side_figures
from batchseg.predict.engine_trials import bench
from batchseg.predict.halo import describe as describe_halos
from batchseg.predict.halo import enough, geometry
from batchseg.predict.halo_probe import is_narrow, known_halos, seconds_needed
from batchseg.predict.named_engine import as_named, known_of
from batchseg.predict.predictor import with_engine
from batchseg.predict.remembered import (
    recall_choice,
    recall_halos,
    recall_shapes,
    remember_choice,
    remember_halos,
    remember_shapes,
)
from batchseg.predict.samples import sample_crops, source_shapes, tried_of
from batchseg.predict.settled import as_before, bakeable, conversion_digest, is_own
from batchseg.predict.tile_size import LARGEST, work
from batchseg.predict.trial import Bench, Occasion, Scope

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
ENGINES: tuple[EngineName, ...] = get_args(EngineName)

WORK_SHARE = 0.05
"""Of the estimated work that trials may take, where that is more than `gate: budget`."""

PART = 1 / 3
"""Of that time may the halo take, and as much the side of tiles; else the usual ones are taken."""

STARTS = 6.0
"""Seconds that trials take at least, however light the network."""

PASSES = 4
"""How often trials predict as many tiles as the gate asks for: the reference, for its answers and for their
choice, an engine, and its speed."""


def asked_for(config: JobConfig) -> dict[str, Any]:
    return {
        "engine": config.engine,
        "precision": config.precision,
        "bake": config.bake,
        "tile_size": config.tile_size,
        "halo": config.halo,
    }


def is_open(config: JobConfig, kept: Choice | None) -> bool:
    """Whether anything is left to be chosen for this job."""
    resized = config.photographs is not None and config.photographs.fit == "resize"
    left_open = "auto" in (config.engine, config.precision) or (
        not resized and None in (config.tile_size, config.halo)
    )
    return kept is None and left_open


def choose(
    config: JobConfig,
    recipe: Recipe,
    kept: Choice | None,
    occasion: Occasion,
    *,
    say: Callable[[str], None],
) -> tuple[Recipe, Choice | None]:
    """Settle how the network is run. An engine that is not the model's own must pass the gate, named or not.

    Args:
        config: the job.
        recipe: with the reference engine and the usual tile, or what the job names.
        kept: what an earlier run of this output chose, for the same model and settings.
        occasion: what may be tried on what.
        say: told what is being tried, and what was chosen.

    Returns:
        The recipe, and what the output is to remember; None: the first run will try.

    Raises:
        ModelError: the network cannot be run as the job asks, or no longer as the output was made; or the
            engine that it names answers otherwise than the model's own.
        ConfigError: no source gives a tile to try engines with.
    """
    if kept is not None and (kept.compared is not False or not (occasion.tries and occasion.sources)):
        recipe = as_before(config, recipe, kept)
        if kept.compared is None and not kept.trials and not is_own(recipe):
            say(_never_compared(config, recipe))
        return recipe, kept
    recipe, notes = bakeable(with_engine(recipe, recipe.engine, recipe.precision))
    for note in notes:
        say(note)
    if is_open(config, None):
        found = _open(config, recipe, occasion, say)
        if found is None:
            seams, narrow = seams_of(config, recipe, occasion) if config.halo is not None else ("", False)
            if seams:
                say(f"{'warning: ' if narrow else ''}{seams}")
            return recipe, None
        recipe, choice = found
        choice = replace(choice, notes=(*notes, *choice.notes))
    else:
        recipe, trials, compared = as_named(config, recipe, occasion, say)
        choice = _choice_of(config, recipe, trials=trials, compared=compared, notes=notes)
    if choice.trials:
        say(f"chosen: {choice.summary}")
    return recipe, _with_seams(config, recipe, choice, occasion, say)


def _with_seams(
    config: JobConfig, recipe: Recipe, choice: Choice, occasion: Occasion, say: Callable[[str], None]
) -> Choice:
    seams, narrow = seams_of(config, recipe, occasion)
    if seams:
        say(f"{'warning: ' if narrow else ''}{seams}")
    return replace(choice, seams=seams, narrow=narrow)


def seams_of(config: JobConfig, recipe: Recipe, occasion: Occasion) -> tuple[str, bool]:
    """What the halo leaves of seams, in words, and whether another would be wide enough.

    It is measured once for a model and a kind of data. Empty: nothing is left, or nothing is known.

    Raises:
        ModelError: the network fails.
    """
    shapes = _shapes(recipe, occasion.sources) if config.gate.budget and occasion.sources else ()
    core = recipe.tile_size - 2 * recipe.halo
    if recipe.fit == "resize" or all(max(shape) <= core for shape in shapes):
        return "", False  # nothing can be tried, or every source is one tile
    seconds = config.gate.budget / 2
    try:
        table = known_halos(recipe, occasion.sources, workers=occasion.workers, seconds=seconds)
    except ConfigError:  # no source can be read, which the run will say
        return "", False
    narrow = is_narrow(recipe, table)
    if not table or (enough(table) is not None and not narrow):
        return "", False
    return describe_halos(table, recipe.halo), narrow


def _choice_of(config: JobConfig, recipe: Recipe, **found: Any) -> Choice:
    """What the recipe says, and what was found."""
    return Choice(
        engine=recipe.engine,
        precision=recipe.precision,
        device=recipe.device,
        baked=recipe.bake is not None,
        asked=asked_for(config),
        conversion=conversion_digest(recipe),
        tile_size=recipe.tile_size,
        halo=recipe.halo,
        quantized=None if recipe.quantized is None else asdict(recipe.quantized),
        **found,
    )


def _open(
    config: JobConfig, recipe: Recipe, occasion: Occasion, say: Callable[[str], None]
) -> tuple[Recipe, Choice] | None:
    """What an earlier output found on this machine, or trials do now; None: a plan does not try."""
    if not config.gate.budget or not occasion.sources:
        return _untried(config, recipe, occasion, "", say)
    shapes = _shapes(recipe, occasion.sources)
    before = recall_choice(config, recipe, shapes, occasion.workers)
    if before is not None:
        say("as trials of an earlier output chose on this machine")
        return _as_tried(config, recipe, before), replace(before, remembered=True)
    seconds, why_not = _budget(config, recipe, shapes, occasion)
    if why_not:
        say(f"no trials: {why_not}")
        return _untried(config, recipe, occasion, why_not, say)
    if not occasion.tries:
        return None
    started = time.monotonic()
    try:
        samples = sample_crops(recipe, occasion.sources)
    except ConfigError:  # what is wrong with the sources the run itself says, of each
        why_not = "no source gave a tile to try engines with"
        say(f"no trials: {why_not}")
        return _untried(config, recipe, occasion, why_not, say)
    scope = scope_of(config, recipe, occasion, seconds=seconds, say=say)
    found = bench(recipe, samples, scope, say=say)
    say(f"tried for {time.monotonic() - started:.0f} s")
    recipe, choice = _found(config, recipe, found, say)
    remember_choice(config, recipe, shapes, occasion.workers, choice)
    if found.halos:
        remember_halos(recipe, found.halos)
    return recipe, choice


def _untried(
    config: JobConfig, recipe: Recipe, occasion: Occasion, why: str, say: Callable[[str], None]
) -> tuple[Recipe, Choice]:
    """What is left open as the model has it; an engine that is named is compared all the same."""
    recipe, trials, compared = as_named(config, recipe, occasion, say)
    notes = (why,) if why else ()
    return recipe, _choice_of(config, recipe, trials=trials, compared=compared, notes=notes)


def _found(
    config: JobConfig, recipe: Recipe, found: Bench, say: Callable[[str], None]
) -> tuple[Recipe, Choice]:
    """What a bench chose, in words and as it is kept."""
    for line in describe_bench(found):
        say(f"  {line}")
    notes: tuple[str, ...] = ()
    recipe = _chosen(recipe, found)
    if found.chosen.bare:
        notes = (*notes, "nothing else agrees with the bare network")
        say(notes[-1])
    rate = found.chosen.tiles_per_second
    choice = _choice_of(
        config,
        recipe,
        trials=tuple(figures(trial) for trial in found.trials),
        compared=True,
        notes=notes,
        halos=halo_figures(found.halos),
        sides=side_figures(found.sides),
        untried=found.untried,
        seconds_per_tile=found.workers / rate if rate else None,
    )
    return _with_speed(recipe, choice), choice


def _with_speed(recipe: Recipe, choice: Choice) -> Recipe:
    """Shards and leases are cut by it."""
    if choice.seconds_per_tile is None:
        return recipe
    return replace(recipe, facts=replace(recipe.facts, seconds_per_tile=choice.seconds_per_tile))


def _as_tried(config: JobConfig, recipe: Recipe, before: Choice) -> Recipe:
    recipe = as_before(config, recipe, before)
    return _with_speed(recipe, before)


def _shapes(recipe: Recipe, sources: Sequence[Source]) -> tuple[tuple[int, int], ...]:
    """Of some sources; those of the same versions of them are known from before."""
    tried = tried_of(sources)
    shapes = recall_shapes(tried)
    if shapes is None:
        shapes = source_shapes(recipe, tried)
        remember_shapes(tried, shapes)
    return shapes


def _budget(
    config: JobConfig, recipe: Recipe, shapes_hw: Sequence[tuple[int, int]], occasion: Occasion
) -> tuple[float, str]:
    """Seconds that trials may take, and why none are made; empty: they are."""
    second = recipe.facts.seconds_per_tile / occasion.workers
    rest = 0.0
    if shapes_hw:
        seen = work(
            shapes_hw, recipe.tile_size, recipe.halo, sources=occasion.count, workers=occasion.workers
        )
        pixels = sum(height * width for height, width in shapes_hw) * occasion.count / len(shapes_hw)
        rest = seen * pixels / recipe.tile_size**2 * second
    allowed = max(config.gate.budget, WORK_SHARE * rest)
    needed = STARTS + PASSES * config.gate.tiles * second
    if needed > allowed:
        return 0.0, (
            f"they would take {needed:.0f} s or more, {allowed:.0f} s may be (gate: budget, or a twentieth "
            f"of the work, about {rest:.0f} s); what the job leaves open is as the model has it"
        )
    return allowed, ""


def scope_of(
    config: JobConfig,
    recipe: Recipe,
    occasion: Occasion,
    *,
    seconds: float,
    everything: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Scope:
    """What trials are to find: what the job leaves open, or every engine and precision there is."""
    resized = recipe.fit == "resize"
    halos = () if resized else recall_halos(recipe)
    return Scope(
        engines=ENGINES if everything or config.engine == "auto" else (recipe.engine,),
        precisions=PRECISIONS if everything or config.precision == "auto" else (recipe.precision,),
        workers=occasion.workers,
        gate=config.gate,
        open_halo=config.halo is None and not resized and bool(halos or _has_time_for_halos(recipe, seconds)),
        halos=halos,
        open_tile=config.tile_size is None and not resized and _has_time_for_sides(recipe, seconds),
        sources=occasion.count,
        seconds=seconds,
        everything=everything,
        known=known_of(config, recipe, say),
        int8=not recipe.model.quantized
        and (config.gate.truth is not None or config.precision == "int8" or everything),
        int8_asked=config.precision == "int8",
    )


def _has_time_for_halos(recipe: Recipe, seconds: float) -> bool:
    shape = geometry(recipe)
    return shape is not None and seconds_needed(recipe, shape) < PART * seconds


def _has_time_for_sides(recipe: Recipe, seconds: float) -> bool:
    """On a square of the largest side, which usual tiles cover, and those of two other sides."""
    core = recipe.tile_size - 2 * recipe.halo
    tiles = 3 * (LARGEST / core) ** 2
    return tiles * recipe.facts.seconds_per_tile < PART * seconds


def _chosen(recipe: Recipe, found: Bench) -> Recipe:
    """The recipe as the trial that was chosen ran it."""
    best = found.chosen
    recipe = replace(with_engine(recipe, best.engine, best.precision), device=best.device)
    recipe = replace(recipe.tiled(found.tile_size, found.halo), quantized=found.quantized)
    return replace(recipe, bake=None) if best.bare else recipe


def try_engines(
    config: JobConfig, recipe: Recipe, occasion: Occasion, *, say: Callable[[str], None]
) -> Bench:
    """Bench every engine and precision there is, and the tiles and halos that the job leaves open."""
    samples = sample_crops(recipe, occasion.sources)
    recipe, _ = bakeable(recipe)
    scope = scope_of(config, recipe, occasion, seconds=float("inf"), everything=True, say=say)
    return bench(recipe, samples, scope, say=say)


def _never_compared(config: JobConfig, recipe: Recipe) -> str:
    own = reference_engine(recipe.model)
    return (
        f"{recipe.engine} was named for this output and never compared with {own}, the model's own engine: "
        f"`batchseg model bench {config.path}` does it"
    )

"""Which engine, precision, tile and graph an output is made with: decided once per output, then kept."""

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, get_args

from batchseg.errors import ConfigError
from batchseg.inputs.source import Source
from batchseg.job.recipe import Recipe
from batchseg.job.resolve import reference_engine
from batchseg.job.settings import JobConfig
from batchseg.models.package import EngineName, Precision
from batchseg.predict.choice import Choice, describe_bench, figures, halo_figures, side_figures
from batchseg.predict.course import UnsurveyedError
from batchseg.predict.engine_trials import bench
from batchseg.predict.halo import HaloFigure, is_settled
from batchseg.predict.halo_choice import look, seams_of, with_halo
from batchseg.predict.named_engine import as_named, known_of
from batchseg.predict.predictor import with_engine
from batchseg.predict.remembered import (
    ShapesHW,
    recall_choice,
    recall_halos,
    recall_shapes,
    remember_choice,
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

HALO_SHARE, SIDES_SHARE = 1 / 2, 1 / 2
"""Of that time may the halo take, and of what is left the side of tiles; else the usual ones are taken."""

STARTS = 6.0
"""Seconds that trials take at least, however light the network."""

NO_TILE = "no source gave a tile to try engines with"

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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ground:
    """What is known before anything is tried."""

    shapes_hw: ShapesHW
    """Of some sources; empty: none may be looked at."""
    before: Choice | None
    """Of an earlier output, as trials on this machine found it."""
    seconds: float
    """That trials may take, the halo's included; 0: nothing may be tried."""
    why_not: str
    """Why no engines are tried; empty: they are, or the job asks for no trials."""


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
    ground = _ground(config, recipe, occasion)
    started = time.monotonic()
    seconds = 0.0 if ground.before is not None else HALO_SHARE * ground.seconds
    halos = look(config, recipe, occasion, ground.shapes_hw, seconds=seconds)
    left = ground.seconds - (time.monotonic() - started)
    if halos.why:
        notes = (*notes, f"what a halo of {recipe.halo} leaves of seams is not known: {halos.why}")
    recipe = with_halo(config, recipe, halos.table)
    for note in notes:
        say(note)
    seams = functools.partial(_with_seams, table=halos.table, say=say)
    if is_open(config, None):
        found = _open(config, recipe, occasion, replace(ground, seconds=left), halos.table, say)
        if found is None:
            if config.halo is not None or config.tile_size is not None:
                seams(recipe)
            return recipe, None
        recipe, choice = found
        choice = replace(choice, notes=(*notes, *choice.notes))
    else:
        recipe, trials, compared = as_named(config, recipe, occasion, say)
        choice = _choice_of(config, recipe, trials=trials, compared=compared, notes=notes)
    if choice.trials:
        say(f"chosen: {choice.summary}")
    words, narrow = seams(recipe)
    return recipe, replace(choice, seams=words, narrow=narrow)


def _with_seams(
    recipe: Recipe, *, table: Sequence[HaloFigure], say: Callable[[str], None]
) -> tuple[str, bool]:
    words, narrow = seams_of(recipe, table)
    if words:
        say(f"{'warning: ' if narrow else ''}{words}")
    return words, narrow


def _ground(config: JobConfig, recipe: Recipe, occasion: Occasion) -> _Ground:
    if not config.gate.budget or not occasion.sources:
        return _Ground(shapes_hw=(), before=None, seconds=0.0, why_not="")
    shapes = _shapes(recipe, occasion.sources)
    seconds, why_not = _budget(config, recipe, shapes, occasion)
    before = recall_choice(config, recipe, shapes, occasion.workers) if is_open(config, None) else None
    if before is not None and _is_outdated(config, recipe, before):
        before = None
    return _Ground(shapes_hw=shapes, before=before, seconds=seconds, why_not=why_not)


def _is_outdated(config: JobConfig, recipe: Recipe, before: Choice) -> bool:
    """Whether more is known of halos by now than when a choice was made."""
    table = recall_halos(recipe) if config.halo is None else None
    return bool(table) and before.halo != with_halo(config, recipe, table or ()).halo


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
    config: JobConfig,
    recipe: Recipe,
    occasion: Occasion,
    ground: _Ground,
    halos: tuple[HaloFigure, ...],
    say: Callable[[str], None],
) -> tuple[Recipe, Choice] | None:
    """What an earlier output found on this machine, or trials do now; None: a plan does not try."""
    if not config.gate.budget or not occasion.sources:
        return _untried(config, recipe, occasion, "", say)
    if ground.before is not None:
        say("as trials of an earlier output chose on this machine")
        recipe = as_before(config, recipe, ground.before)
        return _with_speed(recipe, ground.before), replace(ground.before, remembered=True)
    if ground.why_not:
        say(f"no trials: {ground.why_not}")
        return _untried(config, recipe, occasion, ground.why_not, say)
    if not occasion.tries:
        return None
    started = time.monotonic()
    scope = scope_of(config, recipe, occasion, halos, seconds=ground.seconds, say=say)
    if not scope.compares:
        say(_not_compared(recipe))
    try:
        samples = sample_crops(recipe, occasion.sources)
        found = bench(recipe, samples, scope, say=say)
    except (ConfigError, UnsurveyedError) as e:
        # What is wrong with the sources the run itself says, of each.
        why_not = NO_TILE if isinstance(e, ConfigError) else str(e).removeprefix("model: ")
        say(f"no trials: {why_not}")
        return _untried(config, recipe, occasion, why_not, say)
    say(f"tried for {time.monotonic() - started:.0f} s")
    recipe, choice = _found(config, recipe, found, say)
    if not scope.compares:
        choice = replace(choice, notes=(*choice.notes, _not_compared(recipe)))
    remember_choice(config, recipe, ground.shapes_hw, occasion.workers, choice)
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
        passed = any(trial.reason is None and not trial.bare for trial in found.trials)
        notes = (
            f"nothing {'that' if passed else 'else'} agrees with the bare network{' is faster' * passed}",
        )
        say(notes[-1])
    choice = _choice_of(
        config,
        recipe,
        trials=tuple(figures(trial) for trial in found.trials),
        compared=True,
        notes=notes,
        halos=halo_figures(found.halos),
        sides=side_figures(found.sides),
        untried=found.untried,
        seconds_per_tile=found.seconds_per_tile,
    )
    return _with_speed(recipe, choice), choice


def _with_speed(recipe: Recipe, choice: Choice) -> Recipe:
    """Shards and leases are cut by it."""
    if choice.seconds_per_tile is None:
        return recipe
    return replace(recipe, facts=replace(recipe.facts, seconds_per_tile=choice.seconds_per_tile))


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
    """Seconds that trials may take, and why no engines are tried; empty: they are."""
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
        return allowed, (
            f"they would take {needed:.0f} s or more, {allowed:.0f} s may be (gate: budget, or a twentieth "
            f"of the work, about {rest:.0f} s); what the job leaves open is as the model has it"
        )
    return allowed, ""


def scope_of(
    config: JobConfig,
    recipe: Recipe,
    occasion: Occasion,
    halos: tuple[HaloFigure, ...],
    *,
    seconds: float,
    everything: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Scope:
    """What trials are to find: what the job leaves open, or every engine and precision there is."""
    open_tile = config.tile_size is None and recipe.fit != "resize" and recipe.values is None
    free = not open_tile or is_settled(halos, recipe.halo)
    return Scope(
        engines=ENGINES if everything or config.engine == "auto" else (recipe.engine,),
        precisions=PRECISIONS if _tries_precisions(config, everything=everything) else (recipe.precision,),
        workers=occasion.workers,
        gate=config.gate,
        halos=halos,
        open_tile=open_tile,
        compares=free or _seconds_of_sides(recipe) < SIDES_SHARE * seconds,
        sources=occasion.count,
        seconds=seconds,
        everything=everything,
        known=known_of(config, recipe, say),
        int8=not recipe.model.quantized
        and recipe.values is None
        and (config.gate.truth is not None or config.precision == "int8" or everything),
        int8_asked=config.precision == "int8",
    )


def _tries_precisions(config: JobConfig, *, everything: bool) -> bool:
    """Numbers stay those of fp32 unless the job names less: bf16 keeps two or three digits of them."""
    return config.values is None and (everything or config.precision == "auto")


def _seconds_of_sides(recipe: Recipe) -> float:
    """On a square of the largest side, which usual tiles cover, and those of two other sides."""
    core = recipe.tile_size - 2 * recipe.halo
    return 3 * (LARGEST / core) ** 2 * recipe.facts.seconds_per_tile


def _not_compared(recipe: Recipe) -> str:
    return (
        f"tiles of other sides than {recipe.tile_size} were not compared: that would take "
        f"{_seconds_of_sides(recipe):.0f} s or more"
    )


def _chosen(recipe: Recipe, found: Bench) -> Recipe:
    """The recipe as the trial that was chosen ran it."""
    best = found.chosen
    recipe = replace(with_engine(recipe, best.engine, best.precision), device=best.device)
    recipe = replace(recipe.tiled(found.tile_size, found.halo), quantized=found.quantized)
    return replace(recipe, bake=None) if best.bare else recipe


def try_engines(
    config: JobConfig,
    recipe: Recipe,
    occasion: Occasion,
    *,
    say: Callable[[str], None],
    remember: bool = False,
) -> Bench:
    """Bench every engine and precision there is, and the tiles and halos that the job leaves open.

    Args:
        config: the job.
        recipe: with the reference engine and the usual tile, or what the job names.
        occasion: of it.
        say: told what is being tried.
        remember: whether what is chosen takes the place of what an earlier output chose.
    """
    recipe, _ = bakeable(recipe)
    shapes = _shapes(recipe, occasion.sources)
    halos = look(config, recipe, occasion, shapes, seconds=float("inf"))
    if halos.why:
        say(f"halos were not measured: {halos.why}")
    recipe = with_halo(config, recipe, halos.table)
    samples = sample_crops(recipe, occasion.sources)
    scope = scope_of(config, recipe, occasion, halos.table, seconds=float("inf"), everything=True, say=say)
    found = bench(recipe, samples, scope, say=say)
    if remember:
        _, choice = _found(config, recipe, found, lambda line: None)
        remember_choice(config, recipe, shapes, occasion.workers, choice)
    return found


def _never_compared(config: JobConfig, recipe: Recipe) -> str:
    own = reference_engine(recipe.model)
    return (
        f"{recipe.engine} was named for this output and never compared with {own}, the model's own engine: "
        f"`batchseg model bench {config.path}` does it"
    )

"""Which engine, precision and graph an output is made with: decided once per output, then kept."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from batchseg.engines.base import engine
from batchseg.errors import ConfigError, ModelError
from batchseg.inputs.source import Source
from batchseg.job.recipe import Recipe, engine_words
from batchseg.job.resolve import reference_engine
from batchseg.job.settings import JobConfig
from batchseg.models.package import EngineName, Precision
from batchseg.predict.engine_trials import Bench, Trial, bench, compare
from batchseg.predict.predictor import network_for, with_engine
from batchseg.predict.probe import offers, try_out
from batchseg.predict.samples import sample_tiles
from batchseg.system import fetch

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
ENGINES: tuple[EngineName, ...] = get_args(EngineName)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What an output remembers of it."""

    engine: EngineName
    precision: Precision
    device: Literal["cpu", "gpu"]
    baked: bool
    asked: Mapping[str, Any]
    """By the job: engine, precision, bake."""
    conversion: str | None = None
    """sha256 of the ONNX file beside a Paddle network, where it is what runs."""
    trials: tuple[Mapping[str, Any], ...] = ()
    """Engine, precision, tiles per second (where several were tried), agreement, reason."""
    compared: bool | None = None
    """Whether the engine is the model's own, or passed the gate. False: there was no source to try it with,
    and the next run decides anew. None: made by an earlier version, which trusted an engine that was named.
    """
    notes: tuple[str, ...] = field(default=())

    @property
    def summary(self) -> str:
        return engine_words(self.engine, self.precision, self.device, baked=self.baked)

    @property
    def proof(self) -> str:
        """How much faster than the first trial, and how near to the reference; empty if none was made."""
        mine = next(
            (t for t in self.trials if (t["engine"], t["precision"]) == (self.engine, self.precision)), None
        )
        if mine is None or mine["equal"] is None:
            return ""
        if not mine["tiles_per_second"]:
            return f"{mine['equal']:.3%} of pixels equal when tried"
        first = self.trials[0]
        ratio = ""
        if mine != first and first["tiles_per_second"]:
            times = mine["tiles_per_second"] / first["tiles_per_second"]
            ratio = f", {times:.1f} x {first['engine']} {first['precision']}"
        return (
            f"{mine['tiles_per_second']:.1f} tiles/s when tried{ratio}, {mine['equal']:.3%} of pixels equal"
        )


def asked_for(config: JobConfig) -> dict[str, Any]:
    return {"engine": config.engine, "precision": config.precision, "bake": config.bake}


def is_open(config: JobConfig, kept: Choice | None) -> bool:
    """Whether engines must be tried for this job."""
    return kept is None and "auto" in (config.engine, config.precision)


def choose(
    config: JobConfig,
    recipe: Recipe,
    kept: Choice | None,
    sources: Sequence[Source] | None,
    *,
    workers: int,
    say: Callable[[str], None],
) -> tuple[Recipe, Choice]:
    """Settle how the network is run. An engine that is not the model's own must pass the gate, named or not.

    Args:
        config: the job.
        recipe: with the reference engine, or the one that the job names.
        kept: what an earlier run of this output chose, for the same model and settings.
        sources: where probe tiles come from; None: a named engine is not compared, as in a plan.
        workers: predictors at work at the same time.
        say: told what is being tried, and what was chosen.

    Raises:
        ModelError: the network cannot be run as the job asks, or no longer as the output was made; or the
            engine that it names answers otherwise than the model's own.
        ConfigError: no source gives a tile to try engines with.
    """
    if kept is not None and (kept.compared is not False or not sources):
        recipe = _as_before(config, recipe, kept)
        if kept.compared is None and not kept.trials and not is_own(recipe):
            say(_never_compared(config, recipe))
        return recipe, kept
    recipe, notes = _bakeable(with_engine(recipe, recipe.engine, recipe.precision))
    for note in notes:
        say(note)
    trials: tuple[Mapping[str, Any], ...]
    if "auto" in (config.engine, config.precision):
        found = try_engines(config, recipe, sources or (), workers=workers, say=say)
        recipe = _chosen(recipe, found)
        for line in describe_bench(found):
            say(f"  {line}")
        if found.chosen.bare:
            notes = (*notes, "nothing else agrees with the bare network")
            say(notes[-1])
        trials, compared = tuple(figures(trial) for trial in found.trials), True
    else:
        trials, compared = _named(config, recipe, sources, say)
    choice = Choice(
        engine=recipe.engine,
        precision=recipe.precision,
        device=recipe.device,
        baked=recipe.bake is not None,
        asked=asked_for(config),
        conversion=_conversion_digest(recipe),
        trials=trials,
        compared=compared,
        notes=notes,
    )
    if trials:
        say(f"chosen: {choice.summary}")
    return recipe, choice


def _chosen(recipe: Recipe, found: Bench) -> Recipe:
    """The recipe as the trial that was chosen ran it."""
    best = found.chosen
    recipe = replace(with_engine(recipe, best.engine, best.precision), device=best.device)
    return replace(recipe, bake=None) if best.bare else recipe


def _named(
    config: JobConfig, recipe: Recipe, sources: Sequence[Source] | None, say: Callable[[str], None]
) -> tuple[tuple[Mapping[str, Any], ...], bool]:
    """What a named engine showed, and whether it may be trusted; nothing where it is the model's own.

    Raises:
        ModelError: this machine cannot run it, or it answers otherwise than the model's own.
        ConfigError: no source gives a tile to compare them with.
    """
    own = reference_engine(recipe.model)
    if (recipe.engine, recipe.precision) == (own, "fp32"):
        return (), True
    _check_offer(recipe)
    if not is_own(recipe) and sources:
        return (figures(_prove(config, recipe, sources, say)),), True
    try_out(recipe)
    if not is_own(recipe) and sources is None:
        say(f"the first run compares {recipe.engine} with {own} on its own tiles")
    return (), is_own(recipe)


def is_own(recipe: Recipe) -> bool:
    """Whether the network runs on the runtime that it was made for."""
    return recipe.engine == reference_engine(recipe.model)


def _never_compared(config: JobConfig, recipe: Recipe) -> str:
    own = reference_engine(recipe.model)
    return (
        f"{recipe.engine} was named for this output and never compared with {own}, the model's own engine: "
        f"`batchseg model bench {config.path}` does it"
    )


def _prove(config: JobConfig, recipe: Recipe, sources: Sequence[Source], say: Callable[[str], None]) -> Trial:
    """The trial that a named engine passed.

    Raises:
        ModelError: it answers otherwise than the model's own engine, crashes or hangs.
        ConfigError: no source gives a tile to compare them with.
    """
    own = reference_engine(recipe.model)
    try:
        samples = sample_tiles(recipe, sources, config.gate.tiles)
    except ConfigError as e:
        msg = (
            f"{config.path}: engine: {recipe.engine} must be compared with {own}, the model's own, first: {e}"
        )
        raise ConfigError(msg) from e
    found = compare(recipe, samples, gate=config.gate, say=say)
    for line in describe_bench(found):
        say(f"  {line}")
    trial = found.chosen
    if trial.reason is None:
        return trial
    msg = f"model: {trial.name} answers otherwise than {own}, the model's own engine: {trial.reason}"
    raise ModelError(msg, *_remedies(recipe, trial))


def _remedies(recipe: Recipe, trial: Trial) -> list[str]:
    """What to do about an engine that did not pass, a line each."""
    own = reference_engine(recipe.model)
    lines = [f"use the model's own, engine: {own}, or engine: auto, which takes another only if it agrees"]
    if recipe.precision != "fp32":
        lines.append(f"or {recipe.engine} in another precision, such as fp32")
    if trial.agreement is not None:
        # Below what is asked for by default, where confidences of another network would not pass.
        equal, iou = (
            min(math.floor(value * 1000) / 1000, 0.998)
            for value in (trial.agreement.equal_share, trial.agreement.worst_iou[1])
        )
        lines.append(f"or, if that is near enough for you, gate: {{equal_pixels: {equal:g}, iou: {iou:g}}}")
    return lines


def try_engines(
    config: JobConfig,
    recipe: Recipe,
    sources: Sequence[Source],
    *,
    workers: int,
    say: Callable[[str], None],
    everything: bool = False,
) -> Bench:
    """Bench what the job leaves open; or every engine and precision there is."""
    samples = sample_tiles(recipe, sources, config.gate.tiles)
    engines = ENGINES if everything or config.engine == "auto" else (recipe.engine,)
    open_precision = everything or _leaves_precision_open(config)
    return bench(
        recipe,
        samples,
        workers=workers,
        gate=config.gate,
        engines=engines,
        precisions=PRECISIONS if open_precision else (recipe.precision,),
        say=say,
    )


def _leaves_precision_open(config: JobConfig) -> bool:
    return config.precision == "auto" or (config.engine == "auto" and config.precision is None)


def _takes_owners_conversion(recipe: Recipe) -> bool:
    """An ONNX file that lies beside a Paddle network may be that of other weights: it must pass the gate."""
    formats = engine(recipe.engine).formats
    return recipe.model.conversion is not None and recipe.model.format not in formats


def _as_before(config: JobConfig, recipe: Recipe, kept: Choice) -> Recipe:
    """What the job leaves open is as the output's masks were made; the caller compares what it names."""
    is_auto = config.engine == "auto"
    name = kept.engine if is_auto else recipe.engine
    precision = kept.precision if _leaves_precision_open(config) else recipe.precision
    recipe = with_engine(recipe, name, precision)
    if name == kept.engine and config.device == "auto":
        recipe = replace(recipe, device=kept.device)
    if kept.asked.get("bake") and not kept.baked:
        recipe = replace(recipe, bake=None)
    if (name, precision) == (kept.engine, kept.precision):
        _check_offer(recipe, f"; this output's masks were made by {kept.summary}. Use another output")
        if _conversion_digest(recipe) != kept.conversion:
            msg = (
                f"model: {recipe.model.conversion or 'the ONNX file beside the network'} is not the one that "
                f"this output was made with; use another output, or --replace"
            )
            raise ModelError(msg)
    return recipe


def _conversion_digest(recipe: Recipe) -> str | None:
    """sha256 of the owner's conversion, if this engine takes it."""
    if recipe.model.conversion is None or not _takes_owners_conversion(recipe):
        return None
    return fetch.sha256(recipe.model.conversion)


def _check_offer(recipe: Recipe, remedy: str = "") -> None:
    """Raises ModelError where this machine cannot run the recipe's engine and precision."""
    known = offers(recipe.engine, recipe.model, recipe.device)
    offer = next((offer for offer in known if offer.precision == recipe.precision), None)
    reason = f"{recipe.engine} has no {recipe.precision}" if offer is None else offer.reason
    if reason:
        msg = f"model: {recipe.engine} in {recipe.precision} on {recipe.device}: {reason}{remedy}"
        raise ModelError(msg)


def _bakeable(recipe: Recipe) -> tuple[Recipe, tuple[str, ...]]:
    """The recipe, without a bake where the graph cannot take it, and why."""
    if recipe.bake is None:
        return recipe, ()
    try:
        network_for(recipe)
    except ModelError as e:
        reason = str(e).removeprefix("model: ")
        note = f"normalisation and classes stay outside the network: {reason}"
        return replace(recipe, bake=None), (note,)
    return recipe, ()


def describe_trial(trial: Trial) -> str:
    """One line of figures."""
    parts = []
    if trial.tiles_per_second is not None:
        parts.append(f"{trial.tiles_per_second:.1f} tiles/s")
    if trial.agreement is not None:
        class_id, worst = trial.agreement.worst_iou
        parts.append(f"{trial.agreement.equal_share:.4%} equal, worst IoU {worst:.4f} (class {class_id})")
        if trial.agreement.confidence_difference is not None:
            parts.append(f"confidence off by {trial.agreement.confidence_difference:.3f} at most")
    parts.append(f"out: {trial.reason}" if trial.reason else "passed")
    return f"{trial.name}: {', '.join(parts)}"


def describe_bench(found: Bench) -> list[str]:
    """A line per trial that was run, and what the tiles leave unproved."""
    lines = [describe_trial(trial) for trial in found.trials if trial.agreement is not None]
    return [*lines, *unproved(found)]


def unproved(found: Bench) -> list[str]:
    """A line where the tiles do not show every class."""
    if found.class_count is None or found.classes_seen >= found.class_count:
        return []
    seen = f"{found.classes_seen} of {found.class_count}"
    return [f"these tiles show {seen} classes; nothing is proved of the others"]


def figures(trial: Trial) -> dict[str, Any]:
    """As JSON holds it."""
    found = trial.agreement
    return {
        "engine": trial.engine,
        "precision": trial.precision,
        "device": trial.device,
        "tiles_per_second": trial.tiles_per_second and round(trial.tiles_per_second, 2),
        "equal": found and round(found.equal_share, 6),
        "iou": found and {str(class_id): round(value, 5) for class_id, value in found.iou},
        "confidence_difference": found and found.confidence_difference,
        "reason": trial.reason,
    }


def as_document(choice: Choice | None) -> dict[str, Any] | None:
    return None if choice is None else dataclasses.asdict(choice)


def from_document(document: Mapping[str, Any] | None) -> Choice | None:
    if document is None:
        return None
    return Choice(**{**document, "trials": tuple(document["trials"]), "notes": tuple(document["notes"])})

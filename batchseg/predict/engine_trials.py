"""Engines and precisions tried on a job's own tiles, each in processes of its own.

An engine that crashes, hangs or answers otherwise than the reference is out; the run goes on.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from batchseg.engines.graphs.quantize import int8_offer
from batchseg.errors import BatchsegError, ModelError
from batchseg.job.recipe import Quantized, Recipe
from batchseg.job.resolve import reference_engine
from batchseg.models.package import EngineName, Precision
from batchseg.predict.course import Course, saved, surveyed
from batchseg.predict.predictor import with_engine
from batchseg.predict.probe import offers
from batchseg.predict.samples import Samples
from batchseg.predict.trial import Bench, Scope, Trial

FASTER = 1.05
"""As much faster than the reference engine another must be to be chosen: less is noise."""

LIKELY: tuple[tuple[EngineName, Precision], ...] = (
    ("openvino", "int8"),
    ("onnxruntime", "int8"),
    ("openvino", "bf16"),
    ("paddle", "bf16"),
    ("onnxruntime-tensorrt", "fp16"),
    ("onnxruntime", "fp16"),
    ("paddle-tensorrt", "fp16"),
    ("openvino", "fp32"),
    ("onnxruntime", "fp32"),
)
"""The likely fastest first, as docs/engines.md measured them: on CPUs OpenVINO's bf16 was before Paddle's and
before all fp32 with each of eight networks. What comes behind one that passed and is faster than the
reference is not tried."""


def bench(
    recipe: Recipe, samples: Samples, scope: Scope, *, say: Callable[[str], None] = lambda line: None
) -> Bench:
    """Find the tile, try engines and precisions, and choose the fastest that agrees with the reference.

    Args:
        recipe: of the job, with its halo; its engine and precision do not matter.
        samples: the job's own pixels.
        scope: what is open, and what it may cost.
        say: told what is being tried.

    Raises:
        ModelError: the reference itself fails; or nothing of what was asked for agrees with it.
    """
    until = time.monotonic() + scope.seconds
    with saved(samples, scope) as folder:
        course = surveyed(recipe, samples, scope, folder, say)
        found = _try_all(course, scope, until, say)
        usual = recipe.tile_size
        lost = any(trial.reason and trial.agreement and trial.precision != "int8" for trial in found.trials)
        open_side = found.tile_size != usual and usual > 4 * found.halo and time.monotonic() < until
        if _is_own(found.chosen, recipe) and lost and open_side:
            # An engine's conversion may be right for the usual side alone.
            say(f"none agrees with tiles of {found.tile_size}; trying {usual}")
            again = surveyed(recipe, samples, replace(scope, open_tile=False), folder, say)
            second = _try_all(again, scope, until, say)
            if not _is_own(second.chosen, recipe):
                found = replace(second, sides=found.sides)
            else:
                say(f"none agrees with those either: tiles of {found.tile_size} stay")
        return found


def compare(
    recipe: Recipe, samples: Samples, scope: Scope, *, say: Callable[[str], None] = lambda line: None
) -> Bench:
    """Hold a recipe's engine and precision against the reference; no speed is measured.

    Returns:
        One trial, which says whether it passed.

    Raises:
        ModelError: the reference itself fails.
    """
    trial = _trial_of(recipe)
    with saved(samples, scope) as folder:
        course = surveyed(recipe, samples, scope, folder, say)
        say(f"comparing {trial.name}")
        tried = course.quantised(recipe) if scope.int8 else recipe
        trial = course.run(tried, trial, timed=False)
    return course.bench((trial,), trial, quantized=tried.quantized)


def _trial_of(recipe: Recipe) -> Trial:
    return Trial(
        engine=recipe.engine, precision=recipe.precision, device=recipe.device, tile_size=recipe.tile_size
    )


def _is_own(trial: Trial, recipe: Recipe) -> bool:
    return (trial.engine, trial.precision) == (reference_engine(recipe.model), "fp32")


def candidates(recipe: Recipe, scope: Scope) -> list[tuple[Recipe, str | None]]:
    """How the network may be run, and why not: the likely ones first, the reference's own fp32 last."""
    own = reference_engine(recipe.model)
    found: list[tuple[Recipe, str | None]] = []
    for name in scope.engines:
        device = recipe.facts.device if name == own else recipe.device
        for offer in offers(name, recipe.model, recipe.device):
            tried = with_engine(recipe, name, offer.precision)
            if (name, offer.precision) == (own, "fp32"):
                tried = replace(tried, device=device)
            reason = offer.reason
            if (name, offer.precision) == ("openvino", "int8") and scope.int8:
                reason = int8_offer(recipe.model, recipe.device).reason
            if offer.precision in scope.precisions:
                found.append((tried, reason))

    def rank(item: tuple[Recipe, str | None]) -> int:
        what = (item[0].engine, item[0].precision)
        if what == (own, "fp32"):
            return len(LIKELY) + 1
        return LIKELY.index(what) if what in LIKELY else len(LIKELY)

    return sorted(found, key=rank)


def _try_all(course: Course, scope: Scope, until: float, say: Callable[[str], None]) -> Bench:
    """Trials in the likely order, until one in a lower precision has passed, or the time is up.

    Where the model's own engine is not among what is asked for, something must pass, whatever time it takes.
    """
    base = course.reference()
    own_asked = base.engine in scope.engines and "fp32" in scope.precisions
    trials, untried = [base], list[Trial]()
    passed, quantized, ran = False, None, 0
    for tried, reason in candidates(course.recipe, scope):
        trial = replace(_trial_of(tried), reason=reason, offered=reason is None)
        if reason is None:
            spent = ran and time.monotonic() > until and (own_asked or _any_passed(trials))
            if not scope.everything and (passed or spent):
                untried.append(trial)
                continue
            ran += 1
            say(f"trying {trial.name}")
            trial, made = _tried(course, tried, trial)
            quantized = made or quantized
            # A network that was quantised here is not faster than bf16 for certain.
            is_fast = trial.precision != "fp32" and made is None and trial.device == "cpu"
            is_fast &= (trial.tiles_per_second or 0) > FASTER * (base.tiles_per_second or 0)
            passed = passed or (is_fast and trial.reason is None)
        trials.append(trial)
    # What was quantised here may be a choice where a truth proves it, or the job asks for it.
    proved = bool(scope.known) or scope.int8_asked
    asked = [trial for trial in trials[1:] if trial.precision != "int8" or proved or not scope.int8]
    own = next((trial for trial in untried if _is_own(trial, course.recipe)), None)
    chosen = _choose(asked, base if own_asked else None, own)
    why = "something faster than the reference has passed" if passed else "the time is up"
    names = [trial.name for trial in untried]
    return replace(course.bench(tuple(trials), chosen, quantized), untried=tuple(names), untried_why=why)


def _any_passed(trials: Sequence[Trial]) -> bool:
    return any(trial.reason is None and not trial.bare for trial in trials)


def _tried(course: Course, tried: Recipe, trial: Trial) -> tuple[Trial, Quantized | None]:
    """The trial, and the network that was quantised for it."""
    if (tried.precision, tried.model.quantized) == ("int8", False):
        try:
            tried = course.quantised(tried)
        except BatchsegError as e:
            return replace(trial, reason=str(e).removeprefix("model: ")), None
    return course.run(tried, trial), tried.quantized


def _choose(asked: Sequence[Trial], base: Trial | None, untried: Trial | None = None) -> Trial:
    """The fastest that passed, if it is faster than the model's own engine by more than noise.

    Args:
        asked: trials of what the job asks for.
        base: of the bare network on the model's own engine in fp32; None: the job asks for others.
        untried: the same with what is baked into it, where there was no time to try it: it is what runs
            without trials.

    Raises:
        ModelError: nothing of what was asked for passed.
    """
    passed = [trial for trial in asked if trial.reason is None and trial.tiles_per_second]
    best = max(passed, key=lambda trial: trial.tiles_per_second or 0, default=None)
    if base is None:
        if best is None:
            msg = "model: no engine answers as the reference does:"
            raise ModelError(msg, *(f"  {trial.name}: {trial.reason}" for trial in asked))
        return best
    tried = next((one for one in passed if (one.engine, one.precision) == (base.engine, "fp32")), None)
    own = tried or untried or base
    stood = (tried or base).tiles_per_second or 0
    if best is None or (best.tiles_per_second or 0) < FASTER * stood:
        return own
    return best

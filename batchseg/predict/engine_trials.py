"""Engines and precisions tried on a job's own tiles, each in processes of its own.

An engine that crashes, hangs or answers otherwise than the reference is out; the run goes on.
"""

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from batchseg.engines.base import Device, telling_line
from batchseg.errors import BatchsegError, ModelError
from batchseg.job.recipe import Recipe
from batchseg.job.resolve import reference_engine
from batchseg.job.settings import Gate
from batchseg.models.package import EngineName, Precision
from batchseg.predict.attempt import attempt
from batchseg.predict.fleet import MAX_PROCESSES, together
from batchseg.predict.gate import Agreement, agreement, shortfall
from batchseg.predict.halo import HaloFigure, enough
from batchseg.predict.predictor import network_for, with_engine
from batchseg.predict.probe import offers
from batchseg.predict.samples import Samples
from batchseg.predict.survey import Question, Survey, TileAt, joined, save_crops, survey
from batchseg.predict.tile_size import TileFigure, work
from batchseg.system.processes import ProcessDiedError
from batchseg.system.temp_folders import cache_root

PATIENCE = 10.0
"""A trial may take this many times as long as the reference took, and START_SECONDS more."""

START_SECONDS = 60.0

REFERENCE_SECONDS = 600.0
"""That the reference may take."""

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
"""The fastest first, as docs/engines.md measured them: on CPUs OpenVINO's bf16 was before Paddle's with all
of eight networks, and bf16 before all fp32. The order saves trials, and decides nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What one engine in one precision showed."""

    engine: EngineName
    precision: Precision
    device: Device = "cpu"
    tile_size: int | None = None
    """That it was tried with."""
    tiles_per_second: float | None = None
    """Of all workers together, from raw pixels to class ids."""
    megapixels_per_second: float | None = None
    """Of the sources: what is seen twice counts once."""
    agreement: Agreement | None = None
    """With the reference: the bare network on its reference engine in fp32."""
    memory: int | None = None
    """Bytes that a process of it took at most."""
    reason: str | None = None
    """Why it is not used; None: it passed the gate."""
    bare: bool = False
    """Nothing is baked: the reference itself, where nothing else agrees with it."""

    @property
    def name(self) -> str:
        return f"{self.engine} {self.precision}{' on gpu' if self.device == 'gpu' else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    trials: tuple[Trial, ...]
    """In the order tried; the first one is the bare network on the reference engine in fp32."""
    chosen: Trial
    tiles: int
    workers: int
    class_count: int | None
    """Of the model; None: not known."""
    classes_seen: int
    """By the reference, in these tiles."""
    tile_size: int
    halo: int
    halos: tuple[HaloFigure, ...] = ()
    """What was found of halos; empty: the job names one, or none could be tried."""
    sides: tuple[TileFigure, ...] = ()
    """What was found of tiles' sides, the usual one first."""
    scene_megapixels: float = 0.0
    """Of all the job's sources, by those that were looked at."""
    untried: tuple[str, ...] = ()
    """Engines for which no time was left, or which are slower than one that passed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a bench is to find."""

    engines: Sequence[EngineName]
    precisions: Sequence[Precision]
    workers: int
    """Predictors at work at the same time."""
    gate: Gate
    open_halo: bool = False
    open_tile: bool = False
    sources: int = 1
    """Of the job."""
    seconds: float = float("inf")
    """That all of it may take; what was begun is finished."""
    everything: bool = False
    """Engines are tried also where a faster one has passed."""


def bench(
    recipe: Recipe, samples: Samples, scope: Scope, *, say: Callable[[str], None] = lambda line: None
) -> Bench:
    """Find halo and tile, try engines and precisions, and choose the fastest that agrees with the reference.

    Args:
        recipe: of the job; its engine and precision do not matter.
        samples: the job's own pixels.
        scope: what is open, and what it may cost.
        say: told what is being tried.

    Raises:
        ModelError: the reference itself fails; or nothing of what was asked for agrees with it.
    """
    until = time.monotonic() + scope.seconds
    with _saved(samples) as folder:
        course = _surveyed(recipe, samples, scope, folder, say)
        found = _try_all(course, scope, until, say)
        usual = recipe.tile_size
        if _is_own(found.chosen, recipe) and found.tile_size != usual and usual > 4 * found.halo:
            # An engine's conversion may be right for the usual side alone.
            say(f"none agrees with tiles of {found.tile_size}; trying {usual}")
            narrow = replace(scope, open_halo=False, open_tile=False)
            again = _surveyed(recipe.tiled(usual, found.halo), samples, narrow, folder, say)
            second = _try_all(again, scope, until, say)
            if not _is_own(second.chosen, recipe):
                found = replace(second, halos=found.halos, sides=found.sides)
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
    with _saved(samples) as folder:
        course = _surveyed(recipe, samples, scope, folder, say)
        say(f"comparing {trial.name}")
        trial = course.run(recipe.tiled(course.found.tile_size, course.found.halo), trial, timed=False)
    return course.bench((trial,), trial)


@contextlib.contextmanager
def _saved(samples: Samples) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="bench-", dir=cache_root()) as folder:
        yield save_crops(samples.crops, Path(folder))


def _trial_of(recipe: Recipe) -> Trial:
    return Trial(
        engine=recipe.engine, precision=recipe.precision, device=recipe.device, tile_size=recipe.tile_size
    )


def _is_own(trial: Trial, recipe: Recipe) -> bool:
    return (trial.engine, trial.precision) == (reference_engine(recipe.model), "fp32")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Course:
    """What every trial runs through."""

    folder: str
    """Of the crops."""
    recipe: Recipe
    """With the tile and the halo that were found."""
    found: Survey
    scope: Scope
    work: float
    """Pixels that the network sees per pixel of the sources."""
    limit: float
    """Seconds that one process may take."""
    megapixels: float
    """Of the job's sources."""

    @property
    def tiles(self) -> tuple[TileAt, ...]:
        return tuple(one.at for one in self.found.answered)

    def scene_rate(self, tiles_per_second: float) -> float:
        """Megapixels of sources per second."""
        return tiles_per_second * self.recipe.tile_size**2 / self.work / 1e6

    def reference(self) -> Trial:
        """Of the bare network, as the survey saw it."""
        rate = self.found.tiles_per_second
        return Trial(
            engine=reference_engine(self.recipe.model),
            precision="fp32",
            device=self.recipe.facts.device,
            tile_size=self.recipe.tile_size,
            tiles_per_second=rate,
            megapixels_per_second=self.scene_rate(rate),
            memory=self.found.memory,
            bare=True,
        )

    def run(self, recipe: Recipe, trial: Trial, *, timed: bool = True) -> Trial:
        """The trial with its figures, or with what went wrong."""
        try:
            network_for(recipe)  # what is derived once is not counted against the processes' time
            parts = together(
                attempt,
                recipe,
                self.folder,
                self.tiles,
                self.scope.gate.seconds if timed else 0.0,
                workers=_processes(recipe, self.scope.workers),
                timeout=self.limit,
            )
        except ProcessDiedError as e:
            return replace(trial, reason=f"its process {e}")
        except BatchsegError as e:
            return replace(trial, reason=str(e).removeprefix("model: "))
        except Exception as e:  # noqa: BLE001  engines raise what they like, and none of it may end the run
            return replace(trial, reason=telling_line(e))
        labels = {at: one for part in parts for at, one in part.labels}
        near = agreement(
            (one.labels for one in self.found.answered),
            (labels[at] for at in self.tiles),
            self.scope.gate.margin,
        )
        exact = recipe.precision == "fp32" and not recipe.model.quantized
        rate = sum(part.tiles_per_second for part in parts)
        return replace(
            trial,
            tile_size=recipe.tile_size,
            agreement=near,
            tiles_per_second=rate or None,
            megapixels_per_second=self.scene_rate(rate) or None,
            memory=max(part.memory for part in parts),
            reason=shortfall(near, self.scope.gate, exact=exact, noise=_noise(self.found)),
        )

    def bench(self, trials: tuple[Trial, ...], chosen: Trial, untried: Sequence[str] = ()) -> Bench:
        classes = (np.unique(one.labels.classes).tolist() for one in self.found.answered)
        return Bench(
            trials=trials,
            chosen=chosen,
            tiles=len(self.tiles),
            workers=self.scope.workers,
            class_count=self.recipe.class_count,
            classes_seen=len(set().union(*classes)),
            tile_size=self.found.tile_size,
            halo=self.found.halo,
            halos=self.found.halos,
            sides=self.found.sides,
            scene_megapixels=self.megapixels,
            untried=tuple(untried),
        )


def _noise(found: Survey) -> float:
    """The share of pixels that twice the halo changes, as far as it was measured."""
    figure = next((one for one in found.halos if one.halo >= found.halo), None)
    return 0.0 if figure is None else figure.share


def _processes(recipe: Recipe, workers: int) -> int:
    return min(workers, MAX_PROCESSES) if recipe.device == "cpu" else 1


def _surveyed(
    recipe: Recipe, samples: Samples, scope: Scope, folder: str, say: Callable[[str], None]
) -> _Course:
    own = reference_engine(recipe.model)
    say(f"reference: {own} fp32, {scope.gate.tiles} tiles")
    question = Question(
        recipe=recipe,
        shapes_hw=samples.shapes_hw,
        sources=scope.sources,
        workers=scope.workers,
        open_halo=scope.open_halo,
        open_tile=scope.open_tile,
        tiles=scope.gate.tiles,
        margin=scope.gate.margin,
        seconds=scope.gate.seconds,
    )
    count = _processes(replace(recipe, device=recipe.facts.device), scope.workers)
    started = time.monotonic()
    try:
        parts = together(survey, question, folder, workers=count, timeout=REFERENCE_SECONDS)
    except ProcessDiedError as e:
        msg = f"model: the process that predicted tiles as the reference {e}"
        raise ModelError(msg) from e
    found = joined(parts)
    shapes = samples.shapes_hw
    return _Course(
        folder=folder,
        recipe=recipe.tiled(found.tile_size, found.halo),
        found=found,
        scope=scope,
        work=1.0
        if recipe.fit == "resize"
        else work(shapes, found.tile_size, found.halo, sources=scope.sources, workers=scope.workers),
        limit=START_SECONDS + PATIENCE * (time.monotonic() - started) + scope.gate.seconds,
        megapixels=scope.sources * sum(h * w for h, w in shapes) / max(1, len(shapes)) / 1e6,
    )


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
            if offer.precision in scope.precisions:
                found.append((tried, offer.reason))

    def rank(item: tuple[Recipe, str | None]) -> int:
        what = (item[0].engine, item[0].precision)
        return LIKELY.index(what) if what in LIKELY and what != (own, "fp32") else len(LIKELY)

    return sorted(found, key=rank)


def _try_all(course: _Course, scope: Scope, until: float, say: Callable[[str], None]) -> Bench:
    """Trials in the likely order, until one in a lower precision has passed, or the time is up."""
    base = course.reference()
    trials, untried = [base], list[str]()
    passed = False
    for tried, reason in candidates(course.recipe, scope):
        trial = replace(_trial_of(tried), reason=reason)
        is_own = _is_own(trial, course.recipe)
        if reason is None:
            if not scope.everything and (passed or (time.monotonic() > until and len(trials) > 1)):
                if not is_own:
                    untried.append(trial.name)
                continue
            say(f"trying {trial.name}")
            trial = course.run(tried, trial)
            passed = passed or (trial.reason is None and trial.precision != "fp32" and trial.device == "cpu")
        trials.append(trial)
    asked = trials[1:]
    own_asked = base.engine in scope.engines and "fp32" in scope.precisions
    chosen = _choose(asked, base if own_asked else None)
    return course.bench(tuple(trials), chosen, untried)


def _choose(asked: Sequence[Trial], spare: Trial | None = None) -> Trial:
    """The fastest that passed; the reference's own unless another is faster by more than noise; else the
    bare network."""
    passed = [trial for trial in asked if trial.reason is None and trial.tiles_per_second]
    if not passed and spare is not None:
        return spare
    if not passed:
        msg = "model: no engine answers as the reference does:"
        raise ModelError(msg, *(f"  {trial.name}: {trial.reason}" for trial in asked))
    best = max(passed, key=lambda trial: trial.tiles_per_second or 0)
    own = next((t for t in passed if spare and (t.engine, t.precision) == (spare.engine, "fp32")), None)
    if own is not None and (best.tiles_per_second or 0) < FASTER * (own.tiles_per_second or 0):
        return own
    return best


def pools(found: Bench) -> bool:
    """Whether no halo is wide enough for the network."""
    return bool(found.halos) and enough(found.halos) is None

"""Engines and precisions tried on a job's own tiles, each in processes of its own.

An engine that crashes, hangs or answers otherwise than the reference is out; the run goes on.
"""

import contextlib
import pickle
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from batchseg.engines.base import Device, telling_line
from batchseg.errors import BatchsegError, ModelError
from batchseg.job.recipe import Recipe
from batchseg.job.resolve import reference_engine
from batchseg.job.settings import Gate
from batchseg.models.package import EngineName, Precision
from batchseg.predict.gate import Agreement, Labels, agreement, shortfall
from batchseg.predict.predictor import Preparation, load_predictor, with_engine
from batchseg.predict.probe import offers, silence_stdout
from batchseg.predict.samples import Sample
from batchseg.predict.stitch import classify, winning_probability
from batchseg.system.processes import ProcessDiedError, call_in_fresh_process
from batchseg.system.temp_folders import cache_root

PATIENCE = 10.0
"""A trial may take this many times as long as the reference took, and START_SECONDS more."""

START_SECONDS = 60.0

FASTER = 1.05
"""As much faster than the reference engine another must be to be chosen: less is noise."""

MAX_PROCESSES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What one engine in one precision showed."""

    engine: EngineName
    precision: Precision
    device: Device = "cpu"
    tiles_per_second: float | None = None
    """Of all workers together, from raw pixels to class ids."""
    agreement: Agreement | None = None
    """With the reference: the bare network on its reference engine in fp32."""
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
    """In the order tried; the first one is the reference engine in fp32."""
    chosen: Trial
    tiles: int
    workers: int
    class_count: int | None
    """Of the model; None: not known."""
    classes_seen: int
    """By the reference, in these tiles."""


def bench(
    recipe: Recipe,
    samples: Sequence[Sample],
    *,
    workers: int,
    gate: Gate,
    engines: Sequence[EngineName],
    precisions: Sequence[Precision],
    say: Callable[[str], None] = lambda line: None,
) -> Bench:
    """Try engines and precisions, and choose the fastest of those that agree with the reference.

    Args:
        recipe: of the job; its engine and precision do not matter.
        samples: the job's own tiles.
        workers: predictors at work at the same time.
        gate: how near to the reference an engine must come, and how long its speed is measured.
        engines: names to try; the reference engine is tried in any case.
        precisions: those to try; fp32 on the reference engine is tried in any case.
        say: told what is being tried.

    Raises:
        ModelError: the reference itself fails.
    """
    base = _reference_recipe(recipe)
    workers = min(workers, MAX_PROCESSES)
    with _course(base, samples, workers=workers, gate=gate, say=say) as course:
        trials: list[Trial] = []
        recipes: dict[str, Recipe] = {}
        for tried, reason in _candidates(recipe, base, engines, precisions):
            trial = Trial(engine=tried.engine, precision=tried.precision, device=tried.device, reason=reason)
            if reason is None:
                say(f"trying {trial.name}")
                trial = course.run(tried, trial)
            trials.append(trial)
            recipes[trial.name] = tried
        asked = [t for t in trials if t.engine in engines and t.precision in precisions]
        bare = Trial(engine=base.engine, precision="fp32", device=base.device, bare=True)
        spare = bare if any((t.engine, t.precision) == (bare.engine, "fp32") for t in asked) else None
        best = _choose(asked, spare)
        if best not in (asked[0], spare):
            say(f"timing {asked[0].name} and {best.name} again")
            again = {t: course.time_again(recipes[t.name], t) for t in (asked[0], best)}
            trials, asked = ([again.get(t, t) for t in some] for some in (trials, asked))
    return Bench(
        trials=tuple(trials),
        chosen=_choose(asked, spare),
        tiles=len(samples),
        workers=workers,
        class_count=recipe.class_count,
        classes_seen=course.classes_seen,
    )


def compare(
    recipe: Recipe, samples: Sequence[Sample], *, gate: Gate, say: Callable[[str], None] = lambda line: None
) -> Bench:
    """Hold a recipe's engine and precision against the reference; no speed is measured.

    Args:
        recipe: of the job, with its engine.
        samples: the job's own tiles.
        gate: how near to the reference the engine must come.
        say: told what is being tried.

    Returns:
        One trial, which says whether it passed.

    Raises:
        ModelError: the reference itself fails.
    """
    trial = Trial(engine=recipe.engine, precision=recipe.precision, device=recipe.device)
    with _course(_reference_recipe(recipe), samples, workers=1, gate=gate, say=say) as course:
        say(f"comparing {trial.name}")
        trial = course.run(recipe, trial, timed=False)
    return Bench(
        trials=(trial,),
        chosen=trial,
        tiles=len(samples),
        workers=1,
        class_count=recipe.class_count,
        classes_seen=course.classes_seen,
    )


def _reference_recipe(recipe: Recipe) -> Recipe:
    return replace(
        recipe,
        engine=reference_engine(recipe.model),
        precision="fp32",
        device=recipe.facts.device,
        quantized=None,
    )


@contextlib.contextmanager
def _course(
    base: Recipe, samples: Sequence[Sample], *, workers: int, gate: Gate, say: Callable[[str], None]
) -> Iterator["_Course"]:
    """The samples on the disk, and what the reference says of them."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=cache_root()) as folder:
        path = save_samples(samples, Path(folder))
        say(f"reference: {base.engine} fp32, {len(samples)} tiles")
        started = time.perf_counter()
        reference = _reference(base, path)
        limit = START_SECONDS + PATIENCE * (time.perf_counter() - started) + gate.seconds
        yield _Course(path=path, reference=reference, workers=workers, gate=gate, limit=limit)


def save_samples(samples: Sequence[Sample], folder: Path) -> str:
    """A file that the trials' processes read."""
    path = folder / "samples"
    path.write_bytes(pickle.dumps(list(samples)))
    return str(path)


def _candidates(
    recipe: Recipe, base: Recipe, engines: Sequence[EngineName], precisions: Sequence[Precision]
) -> Iterator[tuple[Recipe, str | None]]:
    """How the network may be run, and why not; the reference engine's fp32, wherever it ran, first."""
    yield base, None
    for name in engines:
        for offer in offers(name, recipe.model, recipe.device):
            tried = with_engine(recipe, name, offer.precision)
            if offer.precision in precisions and tried != base:
                yield tried, offer.reason


def _reference(base: Recipe, path: str) -> list[Labels]:
    """The bare network's answers: nothing baked, nothing converted."""
    try:
        return call_in_fresh_process(_labels, replace(base, bake=None), path, timeout=600.0)
    except ProcessDiedError as e:
        msg = f"model: the process that predicted tiles as the reference {e}"
        raise ModelError(msg) from e


@dataclass(frozen=True, slots=True, kw_only=True)
class _Course:
    """What every trial runs through."""

    path: str
    """Of the samples."""
    reference: list[Labels]
    workers: int
    gate: Gate
    limit: float
    """Seconds that one process may take."""

    @property
    def classes_seen(self) -> int:
        """By the reference."""
        return len(set().union(*(np.unique(one.classes).tolist() for one in self.reference)))

    def run(self, recipe: Recipe, trial: Trial, *, timed: bool = True) -> Trial:
        """The trial with its figures, or with what went wrong."""
        try:
            labels = call_in_fresh_process(_labels, recipe, self.path, timeout=self.limit)
            found = agreement(self.reference, labels)
            speed = self._speed(recipe) if timed else None
        except ProcessDiedError as e:
            return replace(trial, reason=f"its process {e}")
        except BatchsegError as e:
            return replace(trial, reason=str(e).removeprefix("model: "))
        except Exception as e:  # noqa: BLE001  engines raise what they like, and none of it may end the run
            return replace(trial, reason=telling_line(e))
        exact = recipe.precision == "fp32" and not recipe.model.quantized
        reason = shortfall(found, self.gate, exact=exact)
        return replace(trial, agreement=found, tiles_per_second=speed, reason=reason)

    def time_again(self, recipe: Recipe, trial: Trial) -> Trial:
        """With the higher of two speeds: whatever else the machine does only slows."""
        if trial.reason is not None or trial.tiles_per_second is None:
            return trial
        with contextlib.suppress(ProcessDiedError, BatchsegError):
            return replace(trial, tiles_per_second=max(trial.tiles_per_second, self._speed(recipe)))
        return trial

    def _speed(self, recipe: Recipe) -> float:
        return tiles_per_second(
            recipe,
            self.path,
            workers=self.workers if recipe.device == "cpu" else 1,
            seconds=self.gate.seconds,
            limit=self.limit,
        )


def _choose(asked: Sequence[Trial], spare: Trial | None = None) -> Trial:
    """The fastest that passed; the first, unless another is faster by more than noise; else the spare one."""
    passed = [trial for trial in asked if trial.reason is None and trial.tiles_per_second]
    if not passed and spare is not None:
        return spare
    if not passed:
        msg = "model: no engine answers as the reference does:"
        raise ModelError(msg, *(f"  {trial.name}: {trial.reason}" for trial in asked))
    best = max(passed, key=lambda trial: trial.tiles_per_second or 0)
    first = passed[0]
    if first == asked[0] and (best.tiles_per_second or 0) < FASTER * (first.tiles_per_second or 0):
        return first
    return best


def _batches(recipe: Recipe, path: str) -> list[tuple[Preparation, np.ndarray[Any, Any]]]:
    content = Path(path).read_bytes()
    samples: list[Sample] = pickle.loads(content)  # noqa: S301  this run's, from a folder of its own
    return [(Preparation(replace(recipe, scale=sample.scale)), sample.pixels) for sample in samples]


def _labels(recipe: Recipe, path: str) -> list[Labels]:
    """Classes as the job gets them; confidences from the same network wherever it has scores."""
    silence_stdout()
    labels = _predicted(recipe, path)
    if recipe.confidence or (recipe.facts.output == "classes" and not recipe.model.confidence_output):
        return labels
    bake = recipe.bake and replace(recipe.bake, confidence=True)
    scored = _predicted(replace(recipe, confidence=True, bake=bake), path)
    return [replace(one, confidence=other.confidence) for one, other in zip(labels, scored, strict=True)]


def _predicted(recipe: Recipe, path: str) -> list[Labels]:
    predictor = load_predictor(recipe)
    labels = []
    for preparation, pixels in _batches(recipe, path):
        buffer = preparation.buffer(1)
        preparation(pixels, buffer[0])
        (answer,) = predictor.run(buffer)
        confidence = answer.confidence
        if recipe.confidence and confidence is None:
            confidence = winning_probability(answer.output, recipe)
        classes = np.array(classify(answer.output, recipe))
        labels.append(
            Labels(classes=classes, confidence=None if confidence is None else np.array(confidence))
        )
    return labels


def tiles_per_second(
    recipe: Recipe, path: str, *, workers: int, seconds: float, limit: float, threads: int = 1
) -> float:
    """Tiles per second of `workers` processes with `threads` threads each, at work at the same time.

    As many as the run will have: they share the memory's bandwidth, so that one alone would look too fast.

    Raises:
        ProcessDiedError: one of them crashed, or did not answer within `limit` seconds.
        ModelError: the network cannot be loaded so.
    """
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir=cache_root()) as folder,
        ThreadPoolExecutor(workers) as pool,
    ):
        calls = [
            pool.submit(
                call_in_fresh_process,
                _paced,
                recipe,
                path,
                folder,
                workers,
                number,
                seconds,
                threads,
                timeout=limit,
            )
            for number in range(workers)
        ]
        return sum(call.result() for call in calls)


def _paced(
    recipe: Recipe, path: str, folder: str, workers: int, number: int, seconds: float, threads: int
) -> float:
    """Tiles per second of this process, measured while all of them work."""
    silence_stdout()
    predictor = load_predictor(recipe, threads=threads)
    batches = _batches(recipe, path)
    buffer = batches[0][0].buffer(1)

    def one(index: int) -> None:
        preparation, pixels = batches[index % len(batches)]
        preparation(pixels, buffer[0])
        for answer in predictor.run(buffer):
            classify(answer.output, recipe)
            if recipe.confidence and answer.confidence is None:
                winning_probability(answer.output, recipe)

    for index in range(2):
        one(index)
    # The first runs plan and compile; then all processes begin to measure at the same time.
    _meet(Path(folder), workers, number)
    done, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds or done < 2:
        one(done)
        done += 1
    return done / elapsed


def _meet(folder: Path, workers: int, number: int) -> None:
    """Wait until all processes are here; one that died is not waited for longer than a start takes."""
    (folder / str(number)).touch()
    until = time.monotonic() + START_SECONDS / 2
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            if len(list(folder.iterdir())) >= workers:
                return
        time.sleep(0.01)

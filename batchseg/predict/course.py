"""What every trial of engines runs through: crops, the reference's answers, and how near others come."""

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from batchseg.engines.base import telling_line
from batchseg.errors import BatchsegError, ModelError
from batchseg.job.recipe import Quantized, Recipe
from batchseg.job.resolve import reference_engine
from batchseg.predict.attempt import attempt
from batchseg.predict.calibrate import calibrate, kept_in_cache
from batchseg.predict.crop_tiles import TileAt, core_of, cut, save_crops, tiles_of
from batchseg.predict.fleet import fleet_size, together
from batchseg.predict.gate import LOW_TOLERANCE, VALUE_TOLERANCE, Agreement, Labels, agreement, shortfall
from batchseg.predict.halo import is_settled
from batchseg.predict.predictor import network_for, with_engine
from batchseg.predict.samples import Sample, Samples
from batchseg.predict.survey import (
    Question,
    Survey,
    joined,
    survey,
)
from batchseg.predict.tile_size import work
from batchseg.predict.trial import Bench, Scope, Trial
from batchseg.predict.truth import Accuracy, accuracy, loss
from batchseg.system.processes import ProcessDiedError
from batchseg.system.temp_folders import cache_root

PATIENCE = 10.0
"""A trial may take this many times as long as the reference took, and START_SECONDS more."""

START_SECONDS = 60.0

REFERENCE_SECONDS = 600.0
"""That the reference may take."""

JUDGING = 1 / 3
"""Of the time that trials may take for tiles of the side that was found."""

CALIBRATED = 24
"""Tiles that a network is quantised on: 20 and 54 gave one speed and as many other pixels (land cover)."""


class UnsurveyedError(ModelError):
    """The model's own engine gave no answers to hold others against."""


@contextlib.contextmanager
def saved(samples: Samples, scope: Scope) -> Iterator[str]:
    crops = [*samples.crops, *(known.sample for known in scope.known)]
    with tempfile.TemporaryDirectory(prefix="bench-", dir=cache_root()) as folder:
        yield save_crops(crops, Path(folder))


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What every trial runs through."""

    folder: str
    """Of the crops."""
    recipe: Recipe
    """With tiles that judge, which may be smaller than those that were found."""
    samples: Samples
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
        """Megapixels of sources per second, of all predictors that the job will have."""
        tiles_per_second *= self.scope.workers / _processes(self.recipe, self.scope.workers)
        return tiles_per_second * self.recipe.tile_size**2 / self.work / 1e6

    def _seconds_per_tile(self, trial: Trial) -> float | None:
        """Of one predictor beside the others, of the side that was found."""
        if not trial.tiles_per_second:
            return None
        larger = (self.found.tile_size / self.recipe.tile_size) ** 2
        return larger * _processes(self.recipe, self.scope.workers) / trial.tiles_per_second

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
            accuracy=self.accuracy({one.at: one.labels for one in self.found.known}),
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
                (*self.tiles, *(one.at for one in self.found.known)),
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
            VALUE_TOLERANCE if recipe.precision == "fp32" else LOW_TOLERANCE,
        )
        rate = sum(part.tiles_per_second for part in parts)
        known = self.accuracy(labels)
        return replace(
            trial,
            tile_size=recipe.tile_size,
            agreement=near,
            tiles_per_second=rate or None,
            megapixels_per_second=self.scene_rate(rate) or None,
            accuracy=known,
            memory=max(part.memory for part in parts),
            reason=self._reason(recipe, near, known),
        )

    def _reason(self, recipe: Recipe, near: Agreement, known: Accuracy | None) -> str | None:
        """Why the answers are not near enough; None: they are."""
        reference = self.accuracy({one.at: one.labels for one in self.found.known})
        if known is not None and reference is not None:
            return loss(known, reference, self.scope.gate)
        if recipe.quantized is not None and self.scope.int8_asked:
            return _far_off(near)
        exact = recipe.precision == "fp32" and not recipe.model.quantized
        return shortfall(near, self.scope.gate, exact=exact, noise=self._noise())

    def _noise(self) -> float:
        """The share of pixels that twice the halo changes, as far as it was measured."""
        figure = next((one for one in self.scope.halos if one.halo >= self.recipe.halo), None)
        return 0.0 if figure is None else figure.share

    def accuracy(self, labels: Mapping[TileAt, Labels]) -> Accuracy | None:
        """Of answers to the tiles of which the classes are known."""
        if not self.found.known:
            return None
        side, halo = self.recipe.tile_size, self.recipe.halo
        own = len(self.samples.crops)
        pairs = []
        for at in (one.at for one in self.found.known):
            known = self.scope.known[at.crop - own]
            window = core_of(known.sample, at, side, halo)
            right = known.classes[window.row_off : window.row_stop, window.col_off : window.col_stop]
            pairs.append((labels[at].classes[: window.height, : window.width], right))
        return accuracy(pairs, self.recipe.class_count)

    def quantised(self, recipe: Recipe) -> Recipe:
        """A recipe whose network is in int8, made on other tiles than those that judge.

        Raises:
            ModelError: it cannot be quantised.
        """
        side, halo = self.recipe.tile_size, self.recipe.halo
        crops = self.samples.crops
        judged = {at.crop for at in self.tiles}
        others = [at for at in tiles_of(crops, side, halo) if at not in self.tiles]
        others.sort(key=lambda at: at.crop in judged)  # of crops of their own as far as there are any
        chosen = [
            Sample(pixels=cut(crops[at.crop], at, side, halo), scale=crops[at.crop].scale)
            for at in (others or self.tiles)[:CALIBRATED]
        ]
        recipe = with_engine(recipe.tiled(side, halo), "openvino", "int8")
        with tempfile.TemporaryDirectory(prefix="int8-", dir=cache_root()) as folder:
            return replace(recipe, quantized=kept_in_cache(calibrate(recipe, chosen, Path(folder))))

    def bench(
        self,
        trials: tuple[Trial, ...],
        chosen: Trial,
        quantized: Quantized | None = None,
    ) -> Bench:
        classes = (np.unique(one.labels.classes).tolist() for one in self.found.answered)
        return Bench(
            trials=trials,
            chosen=chosen,
            tiles=len(self.tiles),
            workers=_processes(self.recipe, self.scope.workers),
            class_count=None if self.recipe.values is not None else self.recipe.class_count,
            classes_seen=len(set().union(*classes)),
            tile_size=self.found.tile_size,
            halo=self.recipe.halo,
            halos=self.scope.halos,
            sides=self.found.sides,
            scene_megapixels=self.megapixels,
            seconds_per_tile=self._seconds_per_tile(chosen),
            quantized=quantized if chosen.precision == "int8" else None,
        )


FAR_OFF = 0.9
"""Of the pixels must a network in int8 share with the reference that was asked for without a truth."""


def _far_off(near: Agreement) -> str | None:
    """Of a network that was quantised because the job asks for it: whether it is wrong altogether."""
    if near.equal_share >= FAR_OFF:
        return None
    return f"{1 - near.equal_share:.1%} of the pixels are of another class than in fp32"


def _processes(recipe: Recipe, workers: int) -> int:
    """At work at the same time: a GPU is measured with one."""
    return fleet_size(workers) if recipe.device == "cpu" else 1


def surveyed(
    recipe: Recipe, samples: Samples, scope: Scope, folder: str, say: Callable[[str], None]
) -> Course:
    """Answers of the reference, and the side of tiles.

    Raises:
        UnsurveyedError: it fails, or ends or hangs its process.
    """
    own = reference_engine(recipe.model)
    say(f"reference: {own} fp32, {scope.gate.tiles} tiles")
    question = Question(
        recipe=recipe,
        shapes_hw=samples.shapes_hw,
        sources=scope.sources,
        workers=scope.workers,
        open_tile=scope.open_tile,
        settled=is_settled(scope.halos, recipe.halo),
        compares=scope.compares,
        judging=JUDGING * scope.seconds,
        tiles=scope.gate.tiles,
        margin=scope.gate.margin,
        own=len(samples.crops),
        seconds=scope.gate.seconds,
    )
    count = _processes(replace(recipe, device=recipe.facts.device), scope.workers)
    started = time.monotonic()
    try:
        parts = together(survey, question, folder, workers=count, timeout=REFERENCE_SECONDS)
    except ProcessDiedError as e:
        msg = f"model: the process that predicted tiles as the reference {e}"
        raise UnsurveyedError(msg) from e
    except BatchsegError:
        raise
    except Exception as e:  # engines raise what they like
        msg = f"model: {own} cannot predict tiles of the job as the reference: {telling_line(e)}"
        raise UnsurveyedError(msg) from e
    found = joined(parts)
    shapes = samples.shapes_hw
    return Course(
        folder=folder,
        recipe=recipe.tiled(found.judging_size, recipe.halo),
        samples=samples,
        found=found,
        scope=scope,
        work=1.0
        if recipe.fit == "resize"
        else work(shapes, found.tile_size, recipe.halo, sources=scope.sources, workers=scope.workers),
        limit=START_SECONDS + PATIENCE * (time.monotonic() - started) + scope.gate.seconds,
        megapixels=scope.sources * sum(h * w for h, w in shapes) / max(1, len(shapes)) / 1e6,
    )

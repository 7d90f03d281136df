"""One engine in one precision on the tiles of a trial: what a process of it does."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from batchseg.job.recipe import Recipe
from batchseg.predict.answer import classify, winning_probability
from batchseg.predict.crop_tiles import TileAt, cut, load_crops
from batchseg.predict.fleet import Meeting
from batchseg.predict.gate import Labels
from batchseg.predict.predictor import Predictor, Preparation, load_predictor
from batchseg.predict.probe import silence_stdout
from batchseg.predict.survey import paced, peak_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Of one process."""

    labels: tuple[tuple[TileAt, Labels], ...]
    tiles_per_second: float
    memory: int


def attempt(recipe: Recipe, folder: str, tiles: Sequence[TileAt], seconds: float, meeting: Meeting) -> Part:
    """Answers to this process's tiles, and its speed while all work."""
    silence_stdout()
    crops, mine = load_crops(folder), meeting.share(tiles)
    preparations = [Preparation(replace(recipe, scale=crop.scale)) for crop in crops]
    pixels = {at: cut(crops[at.crop], at, recipe.tile_size, recipe.halo) for at in (*mine, *tiles[:1])}

    def answered(predictor: Predictor, by: Recipe, at: TileAt) -> Labels:
        buffer = preparations[at.crop].buffer(1)
        preparations[at.crop](pixels[at], buffer[0])
        (answer,) = predictor.run(buffer)
        confidence = answer.confidence
        if by.confidence and confidence is None:
            confidence = winning_probability(answer.output, by)
        values = None if by.values is None else answer.output[0]
        return Labels(classes=classify(answer.output, by), confidence=confidence, values=values)

    predictor = load_predictor(recipe)
    labels = {at: _copied(answered(predictor, recipe, at)) for at in mine}
    if mine and not recipe.confidence and _has_scores(recipe):
        # Confidences from the same network: what runs gives none.
        scored = replace(recipe, confidence=True, bake=recipe.bake and replace(recipe.bake, confidence=True))
        other = load_predictor(scored)
        for at in mine:
            labels[at] = replace(labels[at], confidence=_copied(answered(other, scored, at)).confidence)
        del other
    around = mine or tiles[:1]

    def one(index: int) -> None:
        answered(predictor, recipe, around[index % len(around)])

    rate = paced(one, seconds, lambda: meeting.exchange("speed", None)) if seconds else 0.0
    return Part(labels=tuple(labels.items()), tiles_per_second=rate, memory=peak_bytes())


def _copied(labels: Labels) -> Labels:
    """Out of buffers that the engine uses again."""
    confidence = None if labels.confidence is None else np.array(labels.confidence)
    values = None if labels.values is None else np.array(labels.values)
    return replace(labels, classes=np.array(labels.classes), confidence=confidence, values=values)


def _has_scores(recipe: Recipe) -> bool:
    if recipe.values is not None:
        return False
    return recipe.facts.output != "classes" or recipe.model.confidence_output

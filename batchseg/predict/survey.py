"""What the reference shows of a job's own tiles: which side of tiles serves best, and its answers.

Everything is decided by processes at work at the same time, one thread each, and by all of them alike.
"""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from batchseg.engines.graphs.derive import is_own_size
from batchseg.job.alignment import USUAL_STRIDE
from batchseg.job.recipe import Recipe
from batchseg.predict.answer import classify
from batchseg.predict.crop_tiles import (
    TileAt,
    choose_tiles,
    cut,
    in_time,
    known_tiles,
    load_crops,
    tiles_of,
)
from batchseg.predict.fleet import Meeting
from batchseg.predict.gate import Labels
from batchseg.predict.probe import silence_stdout
from batchseg.predict.samples import Sample
from batchseg.predict.scores import Scorer, centre
from batchseg.predict.tile_size import (
    Changes,
    TileFigure,
    best,
    changes,
    judged,
    sides_to_try,
    total,
    usual_side,
)
from batchseg.system.machine import memory_bytes

FEW = 4
"""Tiles that judge at least, where the job asks for as many, however large they are."""

LABELLED = 48
"""Tiles at most among which those are chosen that show most classes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of the reference."""

    recipe: Recipe
    """With the usual tile and halo, or those that the job names."""
    shapes_hw: tuple[tuple[int, int], ...]
    """Of sources."""
    sources: int
    """Of the job."""
    workers: int
    """Predictors of the job."""
    open_tile: bool
    settled: bool
    """Whether the halo is wide enough: then tiles of all sides answer alike, and none is compared."""
    compares: bool
    """Whether there is time to compare tiles of other sides, where the halo is not."""
    tiles: int
    """That are to be chosen for trials."""
    margin: float
    own: int
    """Crops of the job's own data, which come first; behind them are those whose classes are known."""
    judging: float
    """Seconds that it may take to judge with tiles of the side that is found; else with the usual ones, where
    the halo is wide enough for both to answer alike."""
    seconds: float
    """That a process may take for each of the side, the answers and their speed; one sample, and its share of
    `tiles`, are looked at in any case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A tile that was chosen, and what the reference says of it."""

    at: TileAt
    labels: Labels


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What was found; of one process its own tiles, together all."""

    tile_size: int
    judging_size: int
    """Side of the tiles that judge."""
    sides: tuple[TileFigure, ...]
    """The usual one first. Empty: none was tried."""
    answered: tuple[Answered, ...]
    known: tuple[Answered, ...]
    """Tiles of the crops whose classes are known."""
    tiles_per_second: float
    """Of the bare network, all processes together."""
    memory: int
    """Bytes that the largest process took."""


def survey(question: Question, folder: str, meeting: Meeting) -> Survey:
    """One process's part; to be called by `fleet.together`.

    Raises:
        ModelError: the network cannot be loaded.
        Exception: whatever the engine raises.
    """
    silence_stdout()
    base = peak_bytes()
    loaded, recipe = load_crops(folder), question.recipe
    crops, scorer = loaded[: question.own], Scorer(recipe)
    side, sides = _side(question, scorer, crops, base, meeting)
    halo, found = recipe.halo, side
    if question.settled and not _is_in_time(question, side, meeting.count):
        side = usual_side(recipe, halo)
    wanted = tiles_that_judge(question.tiles, recipe.tile_size, side)
    tiles = tiles_of(crops, side, halo)[
        : tiles_that_judge(max(LABELLED, question.tiles), recipe.tile_size, side)
    ]
    least = math.ceil(wanted / meeting.count)
    labels = _labels(scorer, crops, in_time(meeting.share(tiles), question.seconds, least), side, halo)
    known = _labels(scorer, loaded, meeting.share(known_tiles(loaded, question.own, side, halo)), side, halo)
    counts: dict[TileAt, dict[int, int]] = {}
    for part in meeting.exchange("classes", {at: _sure(one, question.margin) for at, one in labels.items()}):
        counts |= part
    chosen = choose_tiles([at for at in tiles if at in counts], counts, wanted)
    speed = _speed(question, scorer, crops, tiles, side, halo, meeting)
    return Survey(
        tile_size=found,
        judging_size=side,
        sides=sides,
        answered=tuple(Answered(at=at, labels=labels[at]) for at in chosen if at in labels),
        known=tuple(Answered(at=at, labels=one) for at, one in known.items()),
        tiles_per_second=speed,
        memory=peak_bytes(),
    )


def _is_in_time(question: Question, side: int, processes: int) -> bool:
    """Whether a few tiles of a side can be predicted for their answers and, twice, for their speed."""
    model, usual = question.recipe.model, usual_side(question.recipe, question.recipe.halo)
    if is_own_size(model, (side, side)) != is_own_size(model, (usual, usual)):
        return True  # another file is run
    tile = question.recipe.facts.seconds_per_tile * (side / question.recipe.tile_size) ** 2
    return 3 * FEW * tile / processes < question.judging


def tiles_that_judge(count: int, usual: int, side: int) -> int:
    """Tiles of a side that show as many pixels as so many of the usual one; a few at least.

    >>> [tiles_that_judge(8, 512, side) for side in (512, 768, 1216)]
    [8, 4, 4]
    """
    return max(min(count, FEW), math.ceil(count * (usual / side) ** 2))


def joined(parts: Sequence[Survey]) -> Survey:
    """What all processes found."""
    return replace(
        parts[0],
        answered=_in_order(one for part in parts for one in part.answered),
        known=_in_order(one for part in parts for one in part.known),
        tiles_per_second=sum(part.tiles_per_second for part in parts),
        memory=max(part.memory for part in parts),
    )


def _in_order(answered: Iterable[Answered]) -> tuple[Answered, ...]:
    return tuple(sorted(answered, key=lambda one: (one.at.crop, one.at.row, one.at.col)))


def _side(
    question: Question, scorer: Scorer, crops: Sequence[Sample], base: int, meeting: Meeting
) -> tuple[int, tuple[TileFigure, ...]]:
    """The side of tiles; `base` is what the process took before it had a network."""
    recipe, halo = question.recipe, question.recipe.halo
    if not question.open_tile:
        return recipe.tile_size, ()
    stride = recipe.facts.stride or USUAL_STRIDE
    usual = usual_side(recipe, halo)
    first, *others = sides_to_try(
        recipe,
        usual,
        halo,
        question.shapes_hw,
        sources=question.sources,
        workers=question.workers,
        pooled=not question.settled,
    )
    if not question.settled and not question.compares:
        return usual, (first,)
    if not question.settled and others:
        wanted = [one.tile_size for one in others]
        mine = in_time(meeting.share(crops), question.seconds)
        parts = meeting.exchange("sides", _changes(scorer, usual, halo, wanted, stride, mine))
        found = [one for part in parts for one in part or ()]
        if None in parts:
            others = [replace(one, reason="the network does not take such tiles") for one in others]
        else:
            moved = total(one.moved for one in found)
            others = [
                judged(one, total(dict(each.by_side)[one.tile_size] for each in found), moved)
                for one in others
            ]
    # All processes' memory, as they are at work now; a network takes it by the pixel.
    room = memory_bytes() / 2 / question.workers
    if others and not scorer.largest:
        scorer.output(centre(crops[0].pixels, usual), crops[0])
    seen, taken = (max(each) for each in zip(*meeting.exchange("memory", _memory(scorer)), strict=True))
    figures = (first, *(_fits(one, seen, room, base, taken) for one in others))
    return best([one for one in figures if one.reason is None]).tile_size, figures


def _changes(
    scorer: Scorer, usual: int, halo: int, sides: Sequence[int], stride: int, samples: Iterable[Sample]
) -> list[Changes] | None:
    """Of each sample; None: the network does not take all of these sides, whatever it declares."""
    try:
        return [changes(scorer, usual, halo, sides, stride, sample) for sample in samples]
    except Exception:  # noqa: BLE001  engines raise what they like
        return None


def _memory(scorer: Scorer) -> tuple[int, int]:
    """The side of the largest tile that a process answered, and the bytes that it took at most."""
    return scorer.largest, peak_bytes()


def _fits(figure: TileFigure, seen: int, room: float, base: float, taken: float) -> TileFigure:
    """A side that would take more than its share of the machine's memory is not taken.

    Args:
        figure: of the side.
        seen: the side that was seen to take `taken`.
        room: bytes for one predictor.
        base: bytes that a process took without a network.
        taken: bytes that it took so far.
    """
    expected = base + (taken - base) * max(1.0, (figure.tile_size / max(1, seen)) ** 2)
    if figure.reason is None and expected > room:
        return replace(figure, reason=f"takes {expected / 2**30:.1f} GiB a predictor")
    return figure


def peak_bytes() -> int:
    """The most memory that this process has taken."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _labels(
    scorer: Scorer, crops: Sequence[Sample], tiles: Iterable[TileAt], side: int, halo: int
) -> dict[TileAt, Labels]:
    return {at: scorer.labels(cut(crops[at.crop], at, side, halo), crops[at.crop], halo) for at in tiles}


def _sure(labels: Labels, margin: float) -> dict[int, int]:
    """Pixels of each class that count."""
    counted = labels.classes if labels.margin is None else labels.classes[labels.margin > margin]
    ids, numbers = np.unique(counted, return_counts=True)
    return dict(zip(ids.tolist(), numbers.tolist(), strict=True))


def _speed(
    question: Question,
    scorer: Scorer,
    crops: Sequence[Sample],
    tiles: Sequence[TileAt],
    side: int,
    halo: int,
    meeting: Meeting,
) -> float:
    """Tiles per second of this process while all of them work."""
    mine = meeting.share(tiles) or list(tiles[:1])

    def one(index: int) -> None:
        at = mine[index % len(mine)]
        crop = crops[at.crop]
        kept = scorer.output(cut(crop, at, side, halo), crop)[..., halo : side - halo, halo : side - halo]
        classify(kept, scorer.recipe(side, crop))

    return paced(one, question.seconds / 2, lambda: meeting.exchange("speed", None))


def paced(one: Callable[[int], None], seconds: float, meet: Callable[[], Any]) -> float:
    """Calls per second, once all have met; the first call, which plans and compiles, is not counted."""
    one(0)
    meet()
    done, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds or not done:
        one(done)
        done += 1
    return done / elapsed

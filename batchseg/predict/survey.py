"""What the reference shows of a job's own tiles: the halo that it needs, the side of tiles, and its answers.

Everything is decided by processes at work at the same time, one thread each, and by all of them alike.
"""

import math
import pickle
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.job.alignment import USUAL_STRIDE
from batchseg.job.recipe import Recipe
from batchseg.job.resolve import usual_halo
from batchseg.pixels.grid import TileGrid, Window, cut_tile
from batchseg.predict.fleet import Meeting
from batchseg.predict.gate import CLASS_PIXELS, Labels
from batchseg.predict.halo import HaloFigure, enough, geometry, halos_to_try, measure, merged
from batchseg.predict.probe import silence_stdout
from batchseg.predict.samples import Sample
from batchseg.predict.scores import Scorer, centre
from batchseg.predict.stitch import classify
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

LABELLED = 48
"""Tiles at most among which those are chosen that show most classes."""

KNOWN = 48
"""Tiles at most of which the classes are known."""

CROPS_FILE = "crops"


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
    open_halo: bool
    halos: tuple[HaloFigure, ...]
    """What is known of halos; empty: they are measured where the halo is open."""
    open_tile: bool
    tiles: int
    """That are to be chosen for trials."""
    margin: float
    own: int
    """Crops of the job's own data, which come first; behind them are those whose classes are known."""
    seconds: float
    """That a process may take for each of the halo, the side, the answers and their speed; one sample, and
    its share of `tiles`, are looked at in any case."""


@dataclass(frozen=True, slots=True)
class TileAt:
    """A tile of a crop."""

    crop: int
    row: int
    col: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A tile that was chosen, and what the reference says of it."""

    at: TileAt
    labels: Labels


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What was found; of one process its own tiles, together all."""

    tile_size: int
    halo: int
    halos: tuple[HaloFigure, ...]
    sides: tuple[TileFigure, ...]
    """The usual one first. Empty: none was tried."""
    answered: tuple[Answered, ...]
    known: tuple[Answered, ...]
    """Tiles of the crops whose classes are known."""
    tiles_per_second: float
    """Of the bare network, all processes together."""
    memory: int
    """Bytes that the largest process took."""


def save_crops(samples: Sequence[Sample], folder: Path) -> str:
    """A folder that the processes read: an array each, which they map, and the scales."""
    for number, sample in enumerate(samples):
        np.save(folder / f"{CROPS_FILE}-{number}.npy", sample.pixels)
    (folder / CROPS_FILE).write_bytes(pickle.dumps([sample.scale for sample in samples]))
    return str(folder)


def load_crops(folder: str) -> list[Sample]:
    scales = pickle.loads((Path(folder) / CROPS_FILE).read_bytes())  # noqa: S301  this run's, in its own folder
    return [
        Sample(pixels=np.load(Path(folder) / f"{CROPS_FILE}-{number}.npy", mmap_mode="r"), scale=scale)
        for number, scale in enumerate(scales)
    ]


def survey(question: Question, folder: str, meeting: Meeting) -> Survey:
    """One process's part; to be called by `fleet.together`.

    Raises:
        ModelError: the network cannot be loaded.
        Exception: whatever the engine raises.
    """
    silence_stdout()
    loaded, recipe = load_crops(folder), question.recipe
    crops, scorer = loaded[: question.own], Scorer(recipe)
    halo, halos = _halo(question, scorer, crops, meeting)
    side, sides = _side(question, scorer, crops, halo, halos, meeting)
    tiles = tiles_of(crops, side, halo)[: max(LABELLED, question.tiles)]
    least = math.ceil(question.tiles / meeting.count)
    labels = _labels(scorer, crops, in_time(meeting.share(tiles), question.seconds, least), side, halo)
    known = _labels(scorer, loaded, meeting.share(known_tiles(loaded, question.own, side, halo)), side, halo)
    counts: dict[TileAt, dict[int, int]] = {}
    for part in meeting.exchange("classes", {at: _sure(one, question.margin) for at, one in labels.items()}):
        counts |= part
    chosen = choose_tiles([at for at in tiles if at in counts], counts, question.tiles)
    speed = _speed(question, scorer, crops, tiles, side, halo, meeting)
    return Survey(
        tile_size=side,
        halo=halo,
        halos=halos,
        sides=sides,
        answered=tuple(Answered(at=at, labels=labels[at]) for at in chosen if at in labels),
        known=tuple(Answered(at=at, labels=one) for at, one in known.items()),
        tiles_per_second=speed,
        memory=peak_bytes(),
    )


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


def in_time(items: Iterable[Any], seconds: float, at_least: int = 1) -> Iterator[Any]:
    """As many as there is time for."""
    until = time.monotonic() + seconds
    for number, item in enumerate(items):
        if number >= at_least and time.monotonic() > until:
            return
        yield item


def _halo(
    question: Question, scorer: Scorer, crops: Sequence[Sample], meeting: Meeting
) -> tuple[int, tuple[HaloFigure, ...]]:
    recipe = question.recipe
    shape = geometry(recipe) if question.open_halo else None
    if shape is None:
        return recipe.halo, question.halos
    table = question.halos
    if not table:
        halos = halos_to_try(recipe, shape)
        mine = in_time(meeting.share(crops), question.seconds)
        table = merged(meeting.exchange("halo", measure(scorer, recipe, shape, mine, halos)))
    good = enough(table)
    # A tile that is named, or that there is no time to choose, must keep a core.
    if good is None or (not question.open_tile and recipe.tile_size - 2 * good < recipe.tile_size / 4):
        return usual_halo(recipe.model, recipe.tile_size, recipe.facts.stride), table
    return good, table


def _side(
    question: Question,
    scorer: Scorer,
    crops: Sequence[Sample],
    halo: int,
    halos: Sequence[HaloFigure],
    meeting: Meeting,
) -> tuple[int, tuple[TileFigure, ...]]:
    """The side of tiles. A halo that is wide enough leaves nothing to compare: sides answer alike."""
    recipe = question.recipe
    if not question.open_tile:
        return recipe.tile_size, ()
    stride = recipe.facts.stride or USUAL_STRIDE
    usual = usual_side(recipe, halo)
    good = enough(halos)
    settled = good is not None and halo >= good
    first, *others = sides_to_try(
        recipe,
        usual,
        halo,
        question.shapes_hw,
        sources=question.sources,
        workers=question.workers,
        pooled=not settled,
    )
    if not settled and others:
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
    figures = (first, *(_fits(one, seen, room, taken) for one in others))
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


def _fits(figure: TileFigure, seen: int, room: float, taken: float) -> TileFigure:
    """A side that would take more than its share of the machine's memory is not taken.

    Args:
        figure: of the side.
        seen: the side that was seen to take `taken`.
        room: bytes for one predictor.
        taken: bytes that a process took so far.
    """
    expected = taken * max(1.0, (figure.tile_size / max(1, seen)) ** 2)
    if figure.reason is None and expected > room:
        return replace(figure, reason=f"takes {expected / 2**30:.1f} GiB a predictor")
    return figure


def peak_bytes() -> int:
    """The most memory that this process has taken."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def tiles_of(crops: Sequence[Sample], side: int, halo: int) -> list[TileAt]:
    """All tiles of the crops in turn: of each crop first those that hold most of its own pixels."""
    ranked = []
    for number, crop in enumerate(crops):
        grid = _grid(crop, side, halo)
        rows, cols = grid.shape_hw
        inside = sorted(
            (-grid.tile(row, col).window.clip(grid.height, grid.width).size, row, col)
            for row in range(rows)
            for col in range(cols)
        )
        ranked += [(rank, TileAt(number, row, col)) for rank, (_, row, col) in enumerate(inside)]
    return [at for _, at in sorted(ranked, key=lambda item: (item[0], item[1].crop))]


def _grid(crop: Sample, side: int, halo: int) -> TileGrid:
    height, width = crop.pixels.shape[-2:]
    return TileGrid(height=height, width=width, tile_size=side, halo=halo)


def core_of(crop: Sample, at: TileAt, side: int, halo: int) -> Window:
    """Where a tile's core lies in its crop."""
    return _grid(crop, side, halo).tile(at.row, at.col).core


def cut(crop: Sample, at: TileAt, side: int, halo: int) -> NDArray[Any]:
    """The raw pixels (C, side, side) of a tile."""
    grid = _grid(crop, side, halo)
    whole = Window(row_off=0, col_off=0, height=grid.height, width=grid.width)
    return np.ascontiguousarray(cut_tile(crop.pixels, whole, grid.tile(at.row, at.col)))


def _labels(
    scorer: Scorer, crops: Sequence[Sample], tiles: Iterable[TileAt], side: int, halo: int
) -> dict[TileAt, Labels]:
    return {at: scorer.labels(cut(crops[at.crop], at, side, halo), crops[at.crop], halo) for at in tiles}


def known_tiles(crops: Sequence[Sample], own: int, side: int, halo: int) -> list[TileAt]:
    """Tiles of the crops behind the job's own."""
    tiles = tiles_of(crops[own:], side, halo)
    return [replace(at, crop=own + at.crop) for at in tiles[:KNOWN]]


def _sure(labels: Labels, margin: float) -> dict[int, int]:
    """Pixels of each class that count."""
    counted = labels.classes if labels.margin is None else labels.classes[labels.margin > margin]
    ids, numbers = np.unique(counted, return_counts=True)
    return dict(zip(ids.tolist(), numbers.tolist(), strict=True))


def choose_tiles(tiles: Sequence[TileAt], counts: dict[TileAt, dict[int, int]], count: int) -> list[TileAt]:
    """Those that together show most classes with enough pixels to be judged; of equals, of another crop.

    An engine that is right wherever classes are common may be wrong of a rare one.
    """
    left, chosen, shown = list(tiles), list[TileAt](), dict[int, int]()
    while left and len(chosen) < count:
        crops = [at.crop for at in chosen]

        def gain(at: TileAt, crops: Sequence[int] = crops) -> tuple[float, int]:
            new = sum(
                min(number, max(0, CLASS_PIXELS - shown.get(class_id, 0)))
                for class_id, number in counts[at].items()
            )
            return new, -crops.count(at.crop)

        most = max(left, key=gain)
        left.remove(most)
        chosen.append(most)
        for class_id, number in counts[most].items():
            shown[class_id] = shown.get(class_id, 0) + number
    return chosen


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
    """Calls per second, once all have met; the first calls, which plan and compile, are not counted."""
    one(0)
    meet()
    done, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds or done < 2:
        one(done)
        done += 1
    return done / elapsed

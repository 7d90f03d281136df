"""Which tiles cover a job's sources with the least work, and whether larger ones answer alike.

A tile costs its whole side, its core alone counts: of 512 with a halo of 64 the core is 56 %.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from batchseg.job.alignment import USUAL_STRIDE
from batchseg.job.recipe import Recipe
from batchseg.predict.gate import RAW_SHARE, Agreement, Labels, agreement
from batchseg.predict.halo import is_open
from batchseg.predict.samples import CROP_SIDE, Sample
from batchseg.predict.scores import Scorer, centre, mosaic

LARGEST = CROP_SIDE

UNIT, POOLED_UNIT = 64, 128
"""Sides are multiples: of networks that pool their whole tile to a few cells conversions are right only where
these divide the coarsest map, as 4 divides that of 128 pixels at stride 32."""

WORTH = 0.97
"""Of the usual tile's work: what saves less is not tried."""

EVEN = 1.1
"""Of two sides whose work differs by less the smaller is taken: what a larger one saves there, it lost again
at the ends of runs, and it takes more memory (land cover, 43 megapixels: 896 and 1408 took the same time)."""

CORE_SHARE = 0.25
"""Of a tile that the halo may take per side at most."""

SLACK = 1.25
"""As many times may a tile of another size change as moving the usual tiles changes: both are samples."""

IOU_SLACK = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class TileFigure:
    """Another side beside the usual tiles, on the same pixels."""

    tile_size: int
    work: float
    """Pixels that the network sees per pixel of the sources, the predictors' last round filled up."""
    changed: float | None = None
    """Share of pixels of another class than with the usual tiles; None: it was not compared."""
    moved: float | None = None
    """Share that changes where the usual tiles are moved by half a core."""
    reason: str | None = None
    """Why it is not taken; None: it may be."""


def work(
    shapes_hw: Sequence[tuple[int, int]], tile_size: int, halo: int, *, sources: int, workers: int
) -> float:
    """Pixels that the network sees per pixel of the sources.

    Args:
        shapes_hw: of the sources that were looked at.
        tile_size: of the tiles.
        halo: per side.
        sources: of the whole job.
        workers: predictors at work at the same time: the last of a job's tiles may leave some without.
    """
    core = tile_size - 2 * halo
    tiles = sum(math.ceil(height / core) * math.ceil(width / core) for height, width in shapes_hw)
    pixels = sum(height * width for height, width in shapes_hw)
    whole = tiles * sources / len(shapes_hw)
    rounds = math.ceil(whole / workers - 1e-9) * workers
    return tile_size**2 * tiles / pixels * rounds / whole


def usual_side(recipe: Recipe, halo: int) -> int:
    """The recipe's tile, or the next of which the halo takes no more than a quarter per side."""
    if halo <= CORE_SHARE * recipe.tile_size or not is_open(recipe):
        return recipe.tile_size
    step = math.lcm(recipe.facts.stride or USUAL_STRIDE, recipe.model.size_divisor)
    return math.ceil(halo / CORE_SHARE / step) * step


def sides_to_try(
    recipe: Recipe,
    usual: int,
    halo: int,
    shapes_hw: Sequence[tuple[int, int]],
    *,
    sources: int,
    workers: int,
    pooled: bool,
) -> tuple[TileFigure, ...]:
    """The usual side first, then up to two that promise most: the best, and that with the least work."""

    def figure(side: int) -> TileFigure:
        return TileFigure(tile_size=side, work=work(shapes_hw, side, halo, sources=sources, workers=workers))

    first = figure(usual)
    if not is_open(recipe):
        return (first,)
    stride = recipe.facts.stride or USUAL_STRIDE
    unit = math.lcm(stride, recipe.model.size_divisor, POOLED_UNIT if pooled else UNIT)
    least = max(unit, math.ceil(halo / CORE_SHARE / unit) * unit)
    others = [
        figure(side)
        for side in range(least, LARGEST + 1, unit)
        if side != usual and (side - 2 * halo) % stride == 0
    ]
    others = [one for one in others if one.work < WORTH * first.work]
    if not others:
        return (first,)
    least_work = min(others, key=lambda one: (one.work, one.tile_size))
    return tuple(dict.fromkeys((first, best(others), least_work)))


def best(figures: Sequence[TileFigure]) -> TileFigure:
    """The smallest whose work is about the least."""
    least = min(one.work for one in figures)
    return min((one for one in figures if one.work <= EVEN * least), key=lambda one: one.tile_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What other tiles change on some samples."""

    by_side: tuple[tuple[int, Agreement], ...]
    """(tile_size, agreement with the usual tiles)."""
    moved: Agreement
    """Of the usual tiles moved by half a core with themselves."""


def changes(
    scorer: Scorer, usual: int, halo: int, sides: Sequence[int], stride: int, sample: Sample
) -> Changes:
    """Compare sides with the usual one on the same pixels of one sample."""
    core = usual - 2 * halo
    step = max(stride, core // 2 // stride * stride)
    # Where a row ends the mosaic's last tile lies at another phase: a moved one must not be that itself.
    square = max(*sides, usual + core + step)
    still = Labels(classes=mosaic(scorer, sample, square, usual, halo))
    found = [
        (side, agreement([still], [Labels(classes=mosaic(scorer, sample, square, side, halo))]))
        for side in sides
    ]
    pixels = centre(sample.pixels, square)
    moved, offsets = [], range(step, square - usual, core)
    for row in offsets:
        for col in offsets:
            tile = pixels[:, row : row + usual, col : col + usual]
            seen = Labels(classes=still.classes[row : row + core, col : col + core])
            moved.append(agreement([seen], [scorer.labels(tile, sample, halo)]))
    return Changes(by_side=tuple(found), moved=total(moved))


def total(parts: Iterable[Agreement]) -> Agreement:
    """Of several samples together; of each class the worst IoU."""
    listed = list(parts)
    worst: dict[int, float] = {}
    for class_id, iou in (item for part in listed for item in part.iou):
        worst[class_id] = min(iou, worst.get(class_id, 1.0))
    return Agreement(
        pixels=sum(part.pixels for part in listed),
        equal=sum(part.equal for part in listed),
        iou=tuple(sorted(worst.items())),
    )


def judged(figure: TileFigure, change: Agreement, noise: Agreement) -> TileFigure:
    """Whether a side may be taken: it changes no more than what is left to chance with the usual one."""
    changed, moved = 1 - change.equal_share, 1 - noise.equal_share
    allowed = max(RAW_SHARE, SLACK * moved)
    worst, usual_worst = change.worst_iou, noise.worst_iou
    reason = None
    if changed > allowed:
        reason = f"changes {changed:.2%} of the pixels, moving the usual tiles {moved:.2%}"
    elif worst is not None and worst[1] < (usual_worst[1] if usual_worst else 1.0) - IOU_SLACK:
        reason = f"IoU of class {worst[0]} is {worst[1]:.3f} beside the usual tiles"
    return replace(figure, changed=changed, moved=moved, reason=reason)

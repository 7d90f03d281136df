"""How wide a halo a network needs, found from outside: the same core, seen with more and more around it.

What stays as it is with twice the surroundings is settled. A network that pools or attends over its whole
input never settles: then some pixels depend on where tiles lie, whatever the halo.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.engines.graphs.derive import can_open
from batchseg.job.alignment import USUAL_STRIDE, may_be_opened
from batchseg.job.recipe import Recipe
from batchseg.predict.answer import classify, probabilities
from batchseg.predict.gate import VALUE_TOLERANCE, Ids
from batchseg.predict.samples import Sample
from batchseg.predict.scores import Scorer, centre

HALOS = (16, 32, 64, 96, 128, 256)
"""Pixels per side that are tried."""

WIDEST, CORE = 512, 256
"""Pixels per side around the core with which the others are compared, and of the core."""

QUICK = 2
"""By this are both divided where the time is short: a fourth of the work, which shows halos up to 128."""

ENOUGH = 1e-4
"""Share of pixels that may change with more around them."""

SETTLED = 0.05
"""By which a class's probability may change at most. Images that show one class alone have no pixel that
could change, and prove nothing."""

SHOWN = 0.01
"""Share of pixels that another class than the commonest must have, before a halo is believed to be enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HaloFigure:
    """What one halo changes beside the widest."""

    halo: int
    pixels: int
    changed: int
    """Pixels of another class, or whose number is off by more than `gate.VALUE_TOLERANCE` of their span."""
    probability: float | None
    """The largest change of a class's probability, or of a number as a share of their span; None where the
    network gives ids."""
    lines_up: bool = True
    """Whether the halo is a multiple of the network's stride. One that is not may be wrong again."""
    shown: int = 0
    """Pixels of other classes than the commonest of their sample, or of other numbers than the middle one:
    without borders nothing can change."""

    @property
    def share(self) -> float:
        """Of pixels that change."""
        return self.changed / self.pixels

    @property
    def is_enough(self) -> bool:
        return self.share < ENOUGH and (self.probability is None or self.probability < SETTLED)

    def with_more(self, other: "HaloFigure") -> "HaloFigure":
        """The same of more pixels."""
        largest = [p for p in (self.probability, other.probability) if p is not None]
        return replace(
            self,
            pixels=self.pixels + other.pixels,
            changed=self.changed + other.changed,
            probability=max(largest, default=None),
            shown=self.shown + other.shown,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """The squares of one halo probe, in pixels."""

    core: int
    widest: int
    step: int
    """Of which both are multiples, and tiles' sides."""
    fixed: int | None = None
    """The only side that the network takes."""

    @property
    def side(self) -> int:
        """Of the square from which all tiles are cut; the core begins `widest` behind its first pixel."""
        if self.fixed is not None:
            return self.widest + self.fixed
        return self.core + 2 * self.widest + self.step

    def tile(self, halo: int) -> tuple[int, int]:
        """Where in the square the tile begins, and its side; what the side is rounded up by lies behind."""
        if self.fixed is not None:
            return self.widest - halo, self.fixed
        return self.widest - halo, -(-(self.core + 2 * halo) // self.step) * self.step


def geometry(recipe: Recipe, *, part: int = 1) -> Geometry | None:
    """Of the probe of a recipe's network; None where none is possible: its transforms resize a tile.

    Args:
        recipe: of the network.
        part: by which the usual core and halo are divided.
    """
    if recipe.model.geometry or recipe.fit == "resize":
        return None
    stride = recipe.facts.stride or USUAL_STRIDE
    step = math.lcm(stride, recipe.model.size_divisor)
    sides = {side for side in recipe.model.size_hw if side is not None}
    if sides and not is_open(recipe):
        fixed = next(iter(sides))
        widest = (fixed - stride) // 2 // stride * stride
        return (
            Geometry(core=fixed - 2 * widest, widest=widest, step=step, fixed=fixed) if widest > 0 else None
        )
    core, widest = (-(-size // part // step) * step for size in (CORE, WIDEST))
    return Geometry(core=core, widest=widest, step=step)


def is_telling(sample: Sample, shape: Geometry) -> bool:
    """Whether a sample holds half of the probe's square: what is reflected around less looks alike to a
    network that pools over its whole tile, however much of it there is."""
    height, width = sample.pixels.shape[-2:]
    return bool(2 * min(height, width) >= shape.side)


def is_open(recipe: Recipe) -> bool:
    """Whether the network takes tiles of other sizes, or can be made to."""
    model = recipe.model
    if model.geometry or recipe.fit == "resize":
        return False
    return model.size_hw == (None, None) or (may_be_opened(model) and can_open(model) is None)


def halos_to_try(recipe: Recipe, shape: Geometry, wanted: Sequence[int] | None = None) -> tuple[int, ...]:
    """Those that are narrower than the widest, ascending; without any the usual ones, made to line up."""
    if wanted is None:
        stride = recipe.facts.stride or 1
        wanted = [-(-halo // stride) * stride for halo in HALOS]
    return tuple(halo for halo in sorted(set(wanted)) if 0 <= halo < shape.widest)


def measure(
    scorer: Scorer, recipe: Recipe, shape: Geometry, samples: Iterable[Sample], halos: Sequence[int]
) -> tuple[HaloFigure, ...]:
    """Figures of each halo over some samples; none of a halo whose tile the network does not take.

    None at all where it does not take one that lines up: then it is of one size, whatever it declares.
    """
    found: dict[int, HaloFigure] = {}
    for sample in samples:
        square = centre(sample.pixels, shape.side)
        settled = _core(scorer, sample, square, shape, shape.widest)
        if settled is None:
            return ()
        for halo in halos:
            lines_up = halo % (recipe.facts.stride or 1) == 0
            seen = _core(scorer, sample, square, shape, halo)
            if seen is None:
                if lines_up:
                    return ()
                continue  # a U-Net's halves do not meet where a side is no multiple of its stride
            compared = _compared if recipe.values is None else _numbers_compared
            figure = replace(compared(seen, settled), halo=halo, lines_up=lines_up)
            found[halo] = found[halo].with_more(figure) if halo in found else figure
    return tuple(found[halo] for halo in sorted(found))


_Seen = tuple[Ids, NDArray[np.float32] | None]


def _core(scorer: Scorer, sample: Sample, square: NDArray[Any], shape: Geometry, halo: int) -> _Seen | None:
    """Classes and probabilities, or numbers, of the core with a halo around it; None: no tile of that side is
    taken."""
    start, side = shape.tile(halo)
    tile = square[:, start : start + side, start : start + side]
    inside = slice(halo, halo + shape.core)
    try:
        output = scorer.output(tile, sample)[..., inside, inside]
    except Exception:  # noqa: BLE001  engines raise what they like
        return None
    recipe = scorer.recipe(side, sample)
    if recipe.values is not None:
        return np.array(classify(output, recipe)), output[0].astype(np.float32)
    return np.array(classify(output, recipe)), probabilities(output, recipe)


def _compared(seen: _Seen, settled: _Seen) -> HaloFigure:
    apart = None if seen[1] is None or settled[1] is None else float(np.abs(seen[1] - settled[1]).max())
    changed = int((seen[0] != settled[0]).sum())
    pixels = settled[0].size
    shown = pixels - int(np.unique(settled[0], return_counts=True)[1].max())
    return HaloFigure(halo=0, pixels=pixels, changed=changed, probability=apart, shown=shown)


def _numbers_compared(seen: _Seen, settled: _Seen) -> HaloFigure:
    """The same of numbers, in shares of their span: what counts as changed is what engines may not be off."""
    assert seen[1] is not None  # noqa: S101  of numbers both are there
    assert settled[1] is not None  # noqa: S101  of numbers both
    known = np.isfinite(seen[1]) & np.isfinite(settled[1])
    numbers = settled[1][known]
    span = float(np.ptp(numbers)) if numbers.size else 0.0
    off = np.zeros(known.shape, np.float32)
    off[known] = np.abs(seen[1][known] - numbers) / (span or 1.0)
    off[np.isfinite(seen[1]) != np.isfinite(settled[1])] = 1.0
    middle = float(np.median(numbers)) if numbers.size else 0.0
    return HaloFigure(
        halo=0,
        pixels=off.size,
        changed=int((off > VALUE_TOLERANCE).sum()),
        probability=float(off.max()),
        shown=int((np.abs(numbers - middle) > VALUE_TOLERANCE * span).sum()),
    )


def merged(parts: Iterable[Sequence[HaloFigure]]) -> tuple[HaloFigure, ...]:
    """One table of several processes'."""
    found: dict[int, HaloFigure] = {}
    for figure in (figure for part in parts for figure in part):
        found[figure.halo] = found[figure.halo].with_more(figure) if figure.halo in found else figure
    return tuple(found[halo] for halo in sorted(found))


def enough(table: Sequence[HaloFigure]) -> int | None:
    """The smallest halo that lines up and with which nothing changes any more; None: none is wide enough."""
    good: int | None = None
    for figure in reversed(table):
        if figure.lines_up and not figure.is_enough:
            break
        good = figure.halo if figure.lines_up else good
    return good


def is_settled(table: Sequence[HaloFigure], halo: int) -> bool:
    """Whether nothing changes any more with such a halo, as far as a table tells."""
    good = enough(table)
    return good is not None and is_wide(table, good, halo)


def is_proof(table: Sequence[HaloFigure]) -> bool:
    """Whether the samples showed several classes, or that no halo is enough, which one class can as well."""
    return bool(table) and (enough(table) is None or all(one.shown >= SHOWN * one.pixels for one in table))


def describe(table: Sequence[HaloFigure], halo: int) -> str:
    """What the table says of the network and of the halo that is taken, in words."""
    good, near = enough(table), _at_least(table, halo)
    about = "about " if near.halo == halo else "at least "
    if good is not None and is_wide(table, good, halo):
        return (
            f"a halo of {good} is enough: less than {ENOUGH:.2%} of the pixels change with more around them"
        )
    if good is not None:
        said = "" if near.is_enough else f"{about.removeprefix('about ')}{_changes(near)}; "
        return f"a halo of {halo} is narrow for this network: {said}{good} is enough"
    if not any(one.lines_up for one in table):
        return "none of the halos that were tried is a multiple of the network's stride"
    if not near.changed:  # by chance: with others some do
        near = max(table, key=lambda one: (one.changed, one.probability or 0.0))
    depends = f"{about}{_percent(near.share)} of the pixels depend on where tiles lie"
    if not near.changed:  # images of one class
        depends = f"a class's probability depends by up to {near.probability:.2g} on where tiles lie"
    depends += f", as {near.pixels / 1e6:.1g} Mpx of the first images showed"
    return f"{depends}; no halo ends that, as the network looks at the whole tile"


def _at_least(table: Sequence[HaloFigure], halo: int) -> HaloFigure:
    """The halo's own figure, or that of the next wider one, which changes less."""
    wider = [one for one in table if one.halo == halo or (one.halo > halo and one.lines_up)]
    return wider[0] if wider else table[-1]


def _changes(figure: HaloFigure) -> str:
    """What makes a halo too narrow: of so few pixels their probabilities alone tell."""
    said = f"{_percent(figure.share)} of the pixels change with more around them"
    if figure.share < ENOUGH and figure.probability is not None:
        said += f", and a class's probability by up to {figure.probability:.2g}"
    return said


def is_wide(table: Sequence[HaloFigure], good: int, halo: int) -> bool:
    """Whether a halo is as wide as one that is enough, and is not measured to be wrong again."""
    said = next((one for one in table if one.halo == halo), None)
    return halo >= good and (said is None or said.is_enough)


def _percent(share: float) -> str:
    """Two digits that count.

    >>> _percent(0.0196), _percent(0.00077)
    ('2.0 %', '0.077 %')
    """
    return f"{float(f'{100 * share:.2g}'):g} %" if share < 0.0095 else f"{100 * share:.1f} %"

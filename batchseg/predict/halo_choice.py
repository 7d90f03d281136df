"""Which halo a job gets where it names none, and what the one that it has leaves of seams."""

from collections.abc import Sequence
from dataclasses import replace

from batchseg.errors import ConfigError
from batchseg.job.recipe import Recipe
from batchseg.job.resolve import DEFAULT_TILE_SIZE, usual_halo
from batchseg.job.settings import JobConfig
from batchseg.predict.halo import HaloFigure, describe, enough
from batchseg.predict.halo_probe import Halos, is_narrow, known_halos
from batchseg.predict.remembered import recall_halos
from batchseg.predict.tile_size import usual_side
from batchseg.predict.trial import Occasion

CORE_SHARE = 0.25
"""Of a tile that cannot grow must be left as its core, whatever halo would be enough."""

SMALL = 0.5
"""Of the tile that a model is used with: one that is smaller shows too little to a network without a halo."""


def look(
    config: JobConfig,
    recipe: Recipe,
    occasion: Occasion,
    shapes_hw: Sequence[tuple[int, int]],
    *,
    seconds: float,
) -> Halos:
    """What is known of the network's halos, or can be measured now.

    Args:
        config: the job.
        recipe: with the usual tile and halo, or those that it names.
        occasion: whose sources are looked at. A plan measures only for a halo that is named.
        shapes_hw: heights and widths of some sources.
        seconds: that it may take; 0: what is remembered has to do.

    Raises:
        ModelError: the network fails.
    """
    core = recipe.tile_size - 2 * recipe.halo
    if recipe.fit == "resize" or all(max(shape) <= core for shape in shapes_hw):
        return Halos()  # nothing may be tried, or every source is one tile
    if not seconds or (config.halo is None and not occasion.tries):
        return Halos(table=recall_halos(recipe) or ())
    try:
        return known_halos(recipe, occasion.sources, workers=occasion.workers, seconds=seconds)
    except ConfigError:  # no source can be read, which the run will say
        return Halos()


def with_halo(config: JobConfig, recipe: Recipe, table: Sequence[HaloFigure]) -> Recipe:
    """The recipe with the smallest halo that is enough; with its own where none is known, or it is named.

    The tile grows with it, and the time that it takes; one that is named, or that alone the network takes,
    keeps a core.
    """
    good = enough(table)
    if good is None or config.halo is not None or recipe.fit == "resize":
        return recipe
    side = recipe.tile_size if config.tile_size is not None else usual_side(recipe, good)
    if side - 2 * good < CORE_SHARE * side:
        good = usual_halo(recipe.model, side, recipe.facts.stride)
    taken = recipe.facts.seconds_per_tile * (side / recipe.tile_size) ** 2
    return replace(recipe.tiled(side, good), facts=replace(recipe.facts, seconds_per_tile=taken))


def seams_of(recipe: Recipe, table: Sequence[HaloFigure]) -> tuple[str, bool]:
    """What the recipe's halo leaves of seams, in words, and whether another or a larger tile leaves less.

    Args:
        recipe: as it runs.
        table: of halos; empty: nothing is known.

    Returns:
        Empty words: nothing is left, or nothing is known.
    """
    narrow, good = is_narrow(recipe, table), enough(table)
    if not table or recipe.fit == "resize" or (good is not None and not narrow):
        return "", False
    words = describe(table, recipe.halo)
    usual = max((side for side in recipe.model.size_hw if side), default=recipe.model.tile_size)
    if good is None and recipe.tile_size < SMALL * (usual or DEFAULT_TILE_SIZE):
        words += f"; tiles of {recipe.tile_size} show it less than usual ones: more than that may be wrong"
        narrow = True
    return words, narrow

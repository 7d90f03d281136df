"""Whether a photograph's own description contradicts the order in which the job reads its bands.

Photographs go by number, and a network of three bands gets red, green, blue of nearly all of them. So a file
that calls its first band blue is one that was written in another order than the others, or all are.
"""

from collections.abc import Sequence

from batchseg.job.recipe import Recipe
from batchseg.pixels.band_colors import RGB

ORDER = "its bands are "
"""How the reason begins of photographs of another order."""


def given_colors(colors: Sequence[str], recipe: Recipe) -> tuple[str, ...]:
    """The colours that a network of three bands gets; empty where it has others, or the file says none.

    Args:
        colors: of all channels, as `bands.described_colors` has them.
        recipe: of the job.
    """
    if len(recipe.bands) != 3 or max(recipe.bands) > len(colors):
        return ()
    return tuple(colors[band - 1] for band in recipe.bands)


def order_problem(colors: Sequence[str], recipe: Recipe) -> str:
    """Why a photograph is of another order than the job reads, in words; empty where it is not.

    Arguments as of `given_colors`. Near infrared in place of a colour is another kind of picture, no other
    order.

    >>> from types import SimpleNamespace
    >>> order_problem(("blue", "green", "red"), SimpleNamespace(bands=(1, 2, 3)))[:60]
    'its bands are blue, green, red, as it says itself, and the n'
    """
    given = given_colors(colors, recipe)
    if {*given} - {"", *RGB} or not is_other_order(given):
        return ""
    own = ", ".join(color or "unknown" for color in colors)
    gets = ", ".join(color or "unknown" for color in given)
    meant = "; if this order is meant, set check_values: false"
    return f"{ORDER}{own}, as it says itself, and the network gets {gets}{way_out(colors)}{meant}"


def is_other_order(given: Sequence[str]) -> bool:
    """Whether one of three colours is not where red, green, blue has it. One alone is enough to say so."""
    return any(color in RGB and color != wanted for color, wanted in zip(given, RGB, strict=False))


def turns(recipe: Recipe) -> bool:
    """Whether the job itself gives a network of three bands red, green, blue in another order."""
    return recipe.bands != (1, 2, 3) and sorted(recipe.bands) == [1, 2, 3]


def turned_warning(source_id: str, recipe: Recipe) -> str:
    """What to say of a job that `turns` photographs which are red, green, blue by their format.

    Args:
        source_id: of one of them; empty: there is none.
        recipe: of the job.
    """
    if not source_id or not turns(recipe):
        return ""
    gets = ", ".join(RGB[band - 1] for band in recipe.bands)
    return (
        f"bands: the network gets {gets} of photographs that are red, green, blue by their format, such as "
        f"{source_id}: that is right only if it was trained so, else leave `bands` out"
    )


def way_out(colors: Sequence[str]) -> str:
    """What gives the network red, green, blue of such a photograph, and of no other; empty: nothing does."""
    if not all(colors.count(color) == 1 for color in RGB):
        return ""
    numbers = [colors.index(color) + 1 for color in RGB]
    turned = " ".join(f"-b {number}" for number in numbers)
    return (
        f"; if it was trained on red, green, blue, do such photographs by a job with an output of its own "
        f"and bands: {numbers}, or turn them first: gdal_translate {turned}"
    )

"""Which photographs say themselves that their bands come in another order than the job reads."""

import pytest
from factories import make_recipe

from batchseg.pixels.band_order import ORDER, given_colors, order_problem
from batchseg.pixels.bands import described_colors

R, G, B, N = "red", "green", "blue", "nir"


@pytest.mark.parametrize(
    ("colors", "bands", "is_odd"),
    [
        ((R, G, B), (1, 2, 3), False),
        ((B, G, R), (1, 2, 3), True),
        ((B, G, R), (3, 2, 1), False),
        ((R, G, B), (3, 2, 1), True),
        ((B, G, R, N), (3, 2, 1), False),
        ((N, R, G), (1, 2, 3), False),  # colour infrared: another kind of picture
        ((B, "", R), (1, 2, 3), True),
        (("", G, B), (1, 2, 3), False),
        (("", "", R), (1, 2, 3), True),
        ((B, "", ""), (1, 2, 3), True),
        ((R, "", ""), (1, 2, 3), False),
        (("", "", R), (3, 2, 1), False),
        ((B, B, R), (1, 2, 3), True),
        ((N, "", R), (1, 2, 3), False),
        ((B,), (1, 2, 3), False),
        ((B, G, R, N), (1, 2, 3, 4), False),  # of four bands blue, green, red is the usual order
        ((), (1, 2, 3), False),
    ],
)
def test_red_green_blue_in_another_order_is_odd(colors: tuple, bands: tuple, is_odd: bool) -> None:
    recipe = make_recipe(bands=bands, fit="tile")
    assert bool(given_colors(colors, recipe)) == (len(colors) >= 3 == len(bands))
    problem = order_problem(colors, recipe)
    assert bool(problem) == is_odd
    assert not problem or problem.startswith(ORDER)


def test_the_way_out_is_named_where_there_is_one() -> None:
    recipe = make_recipe(bands=(1, 2, 3), fit="tile")
    assert "bands: [2, 3, 1], or turn them first: gdal_translate -b 2 -b 3 -b 1" in order_problem(
        (B, R, G), recipe
    )
    assert "gdal_translate" not in order_problem((B, "", R), recipe)


@pytest.mark.parametrize(
    ("names", "tags", "colors"),
    [
        (("", "", ""), (R, G, B), ()),
        (("", "", "", ""), (R, G, B, "alpha"), ()),
        (("", "", "", ""), (R, G, B, "undefined"), ()),
        (("", "", ""), (B, "undefined", "undefined"), (B, "", "")),
        ((B, "", ""), (R, G, B), (B, "", "")),
        (("", "", R), (R, G, B), ("", "", R)),
        ((B, B, R), (R, G, B), (B, B, R)),
        ((R, G, B), (B, G, R), (R, G, B)),
        (("", "", ""), (B, G, R), (B, G, R)),
        (("left", "middle", "right"), (B, G, R), (B, G, R)),
        (("B", "G", "R"), (R, G, B), (B, G, R)),  # names count
        (("B", "G", "X"), (R, G, B), (B, G, "")),
        (("red", "", ""), (R, G, B), (R, G, B)),
        (("", "", ""), ("gray", "undefined", "undefined"), ("", "", "")),
    ],
)
def test_what_nobody_meant_is_no_description(names: tuple, tags: tuple, colors: tuple) -> None:
    assert described_colors(names, tags) == colors

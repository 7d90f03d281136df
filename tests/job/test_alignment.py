"""Halo and core against a network's stride."""

import itertools
import re

import pytest
from factories import make_config, make_facts, make_package, make_recipe

from batchseg.errors import ConfigError
from batchseg.job.alignment import check_alignment, is_aligned, next_aligned, remedy
from batchseg.job.schema import LARGEST_TILE
from batchseg.models.package import Resize


def recipe_of(tile_size: int, halo: int, stride: int | None, **changes):
    return make_recipe(tile_size=tile_size, halo=halo, facts=make_facts(stride=stride), **changes)


@pytest.mark.parametrize(
    ("tile_size", "halo", "stride", "expected"),
    [
        (512, 64, 32, True),
        (512, 96, 16, True),
        (512, 100, 16, False),
        (500, 64, 32, False),
        (200, 0, 32, False),
        (640, 0, 32, True),
        (501, 7, 1, True),
        (501, 7, 0, True),  # it does not show
        (501, 7, None, True),
    ],
)
def test_halo_and_core_must_be_multiples_of_the_stride(tile_size, halo, stride, expected):
    assert is_aligned(recipe_of(tile_size, halo, stride)) is expected


def test_a_photograph_that_is_resized_has_no_tiles_to_line_up():
    assert is_aligned(recipe_of(200, 0, 32, fit="resize"))
    assert not is_aligned(recipe_of(200, 0, 32, fit="tile"))


@pytest.mark.parametrize(
    ("tile_size", "halo", "stride", "model", "expected"),
    [
        (512, 100, 16, {}, (512, 112)),
        (500, 64, 32, {}, (512, 64)),
        (200, 0, 32, {}, (224, 0)),
        (512, 250, 32, {}, (544, 256)),
        (512, 64, 14, {}, (518, 70)),
        (512, 64, 12, {"size_divisor": 32}, (576, 72)),
        (256, 100, 16, {"size_hw": (256, 256)}, (256, 112)),
        (256, 100, 32, {"size_hw": (256, 256)}, (256, 96)),  # 128 would leave no core, and no tile is larger
        (500, 64, 32, {"size_hw": (500, 500)}, None),
        (500, 64, 32, {"geometry": (Resize(target_hw=(500, 500)),)}, None),
        (8190, 64, 48, {}, (8160, 96)),
    ],
)
def test_the_next_numbers_are_the_smallest_that_line_up(tile_size, halo, stride, model, expected):
    assert next_aligned(tile_size, halo, stride, make_package(**model)) == expected


def test_every_remedy_lines_up_leaves_a_core_and_makes_no_halo_smaller():
    for size, halo, stride, divisor in itertools.product(
        range(8, 1200, 37), (0, 5, 64, 100), (2, 12, 16, 32, 128), (1, 4, 32)
    ):
        found = next_aligned(size, halo, stride, make_package(size_divisor=divisor))
        assert found is not None
        new_size, new_halo = found
        assert is_aligned(recipe_of(new_size, new_halo, stride))
        assert new_size % divisor == 0
        assert new_size - 2 * new_halo >= stride
        assert halo <= new_halo < halo + stride
        assert size <= new_size <= LARGEST_TILE


def test_tiles_that_do_not_line_up_are_refused_with_what_to_set():
    recipe = recipe_of(512, 100, 16)
    with pytest.raises(ConfigError) as caught:
        check_alignment(make_config(), recipe)
    said = str(caught.value)
    assert re.search(r"a halo of 100 and a core of 312 pixels .* network's stride is 16", said)
    assert said.endswith("Set halo: 112")
    assert remedy(recipe) == "halo: 112"
    with pytest.raises(ConfigError, match=r"a core of 372 .*Set tile_size: 512$"):
        check_alignment(make_config(), recipe_of(500, 64, 32))
    check_alignment(make_config(), recipe_of(512, 64, 32))


def test_a_network_of_one_odd_size_is_not_refused():
    check_alignment(make_config(), recipe_of(500, 64, 32, model=make_package(size_hw=(500, 500))))

"""Halo and core against a network's stride."""

import dataclasses
import itertools
import re

import pytest
from factories import make_config, make_facts, make_package, make_recipe
from hypothesis import given, settings
from hypothesis import strategies as st

from batchseg.errors import ConfigError
from batchseg.job.alignment import (
    check_alignment,
    check_core,
    is_aligned,
    next_aligned,
    other_tile,
    remedy,
)
from batchseg.job.resolve import make_recipe as resolved
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
        # An ONNX file's own size is kept; one that a job names has shown that it takes others.
        (256, 100, 32, {"size_hw": (256, 256), "format": "onnx"}, (256, 96)),
        (500, 100, 32, {"size_hw": (256, 256), "format": "onnx"}, (512, 128)),
        (512, 256, 32, {"size_hw": (256, 256), "format": "onnx"}, (544, 256)),
        (500, 100, 32, {"size_hw": (256, 256), "format": "onnx", "encrypted": True}, None),
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


def applied(words: str, tile_size: int, halo: int) -> tuple[int, int]:
    """The tile and halo of a job in which somebody has set what a message says."""
    told = {
        key: int(value) for key, value in re.findall(r"(tile_size|halo): (\d+)", words.partition("Set ")[2])
    }
    assert told
    return told.get("tile_size", tile_size), told.get("halo", halo)


@settings(deadline=None, max_examples=400)
@given(
    st.integers(8, 2048),
    st.integers(0, 1100),
    st.sampled_from([None, 0, 1, 4, 12, 14, 16, 32, 64, 128]),
    st.sampled_from([1, 4, 32]),
    st.sampled_from(["free", "fixed", "opened"]),
)
def test_a_job_that_does_what_it_is_told_is_taken_at_once(tile_size, halo, stride, divisor, kind):
    """Whatever is wrong with its numbers, by the way of every run: `make_recipe`, then `check_alignment`."""
    facts, is_fixed = make_facts(stride=stride), kind == "fixed"
    tile_size -= 0 if is_fixed else tile_size % divisor  # no size of this model otherwise
    side = {"free": None, "fixed": tile_size, "opened": 2 * tile_size or None}[kind]
    model = make_package(
        format="onnx", size_hw=(side, side), size_divisor=1 if is_fixed else divisor, bands=3
    )

    def take(tile_size, halo):
        config = make_config(tile_size=tile_size, halo=halo)
        check_alignment(config, resolved(config, model, facts, "cpu"))

    try:
        take(tile_size, halo)
    except ConfigError as e:
        if "a halo below" in str(e):  # of one size that is no multiple of its stride
            assert is_fixed
            assert tile_size % (stride or 32)
            take(tile_size, int(str(e).rpartition(" ")[2]) - 1)
            return
        take(*applied(str(e), tile_size, halo))


def test_a_halo_that_leaves_no_core_is_told_the_next_tile_that_lines_up():
    config = make_config(tile_size=256, halo=128)
    for stride, said in (
        (32, "tile_size: 288"),
        (16, "tile_size: 272"),
        (64, "tile_size: 320"),
        (None, "tile_size: 288"),
    ):
        with pytest.raises(ConfigError, match=f"halo 128 leaves no core in tile_size 256. Set {said}$"):
            check_core(config, make_package(), 256, 128, stride)
    check_core(config, make_package(), 257, 128, 32)


def test_larger_and_smaller_tiles_that_advice_names_line_up():
    for size, halo, stride, factor in itertools.product(
        range(32, 1500, 32), (0, 32, 64, 96), (None, 1, 16, 32, 64), (0.5, 2)
    ):
        recipe = recipe_of(size, halo, stride)
        found = other_tile(recipe, factor)
        if found is None:
            continue
        assert is_aligned(dataclasses.replace(recipe, tile_size=found))
        assert found > 2 * halo
        assert (found - size) * (factor - 1) > 0
    assert other_tile(recipe_of(512, 64, 32), 2) == 1024
    assert other_tile(recipe_of(512, 64, 32), 0.5) == 256
    assert other_tile(recipe_of(512, 64, 32, model=make_package(size_hw=(512, 512))), 2) is None
    assert other_tile(recipe_of(128, 32, 32), 0.5) is None
    onnx = make_package(format="onnx", size_hw=(512, 512))
    assert other_tile(recipe_of(512, 64, 32, model=onnx), 2) is None
    assert other_tile(recipe_of(1024, 64, 32, model=onnx), 0.5) == 512

"""Which tiles cover sources with the least work, and whether larger ones answer alike."""

import dataclasses
import math
from pathlib import Path

import pytest
from factories import make_facts, make_package, make_recipe
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from probed import RAW, bare, noise, write_conv
from strategies import sizes

from batchseg.pixels.grid import TileGrid
from batchseg.predict.gate import Agreement
from batchseg.predict.scores import Scorer
from batchseg.predict.tile_size import (
    EVEN,
    LARGEST,
    WORTH,
    TileFigure,
    best,
    changes,
    judged,
    sides_to_try,
    total,
    usual_side,
    work,
)

properties = settings(deadline=None, max_examples=60)


@properties
@given(
    st.lists(sizes(90), min_size=1, max_size=4),
    st.integers(0, 5),
    st.integers(1, 30),
    st.integers(1, 9),
    st.integers(1, 3),
)
def test_work_is_all_pixels_that_the_network_sees(shapes, halo, core, workers, copies):
    """Of sources that are all looked at, so many times; the last round of the predictors is filled up."""
    side = core + 2 * halo
    tiles = 0
    for height, width in shapes * copies:
        tiles += TileGrid(height=height, width=width, tile_size=side, halo=halo).count
    while tiles % workers:
        tiles += 1
    pixels = sum(height * width for height, width in shapes) * copies
    found = work(shapes, side, halo, sources=copies * len(shapes), workers=workers)
    assert found == pytest.approx(tiles * side**2 / pixels)


def test_one_tile_a_source_leaves_other_predictors_without_work_once_alone() -> None:
    assert work([(512, 512)], 512, 0, sources=1, workers=4) == pytest.approx(4)
    assert work([(512, 512)], 512, 0, sources=4, workers=4) == pytest.approx(1)
    assert work([(512, 512)], 512, 0, sources=4000, workers=3) == pytest.approx(4002 / 4000)


def open_recipe(stride: int | None, halo: int, divisor: int = 1, **model):
    package = make_package(size_divisor=divisor, **model)
    return make_recipe(model=package, facts=make_facts(stride=stride), tile_size=512, halo=halo)


@properties
@given(
    st.sampled_from([None, 0, 1, 4, 32, 48]),
    st.sampled_from([1, 3, 32]),
    st.integers(0, 5),
    st.lists(sizes(9000), min_size=1, max_size=3),
    st.booleans(),
    st.integers(1, 64),
)
def test_sides_that_are_tried_line_up_and_save_work(stride, divisor, cells, shapes, pooled, workers):
    step = stride or 32
    halo = cells * step
    assume(halo <= 256)
    recipe = open_recipe(stride, halo, divisor)
    usual = usual_side(recipe, halo)
    assert halo <= usual / 4
    assert usual == 512 or 4 * halo > 512
    others = {"sources": 7, "workers": workers}
    first, *more = sides_to_try(recipe, usual, halo, shapes, pooled=pooled, **others)
    assert first == TileFigure(tile_size=usual, work=work(shapes, usual, halo, **others))
    assert len(more) <= 2
    for figure in more:
        assert figure.work == work(shapes, figure.tile_size, halo, **others) < WORTH * first.work
        assert figure.tile_size % math.lcm(step, divisor, 128 if pooled else 64) == 0
        assert (figure.tile_size - 2 * halo) % step == 0
        assert 4 * halo <= figure.tile_size <= LARGEST


def test_one_large_tile_covers_a_photograph_with_less_work() -> None:
    recipe = open_recipe(32, 64)
    shapes = [(900, 1250)]
    figures = sides_to_try(recipe, 512, 64, shapes, sources=1000, workers=2, pooled=False)
    assert figures[0].work == pytest.approx(3 * 4 * 512**2 / (900 * 1250))
    assert best(figures).work < 0.9 * figures[0].work


@pytest.mark.parametrize(
    "changed",
    [{"model": make_package(size_hw=(512, 512))}, {"fit": "resize"}],
    ids=["one size", "resized"],
)
def test_a_network_that_takes_one_size_has_no_other(changed) -> None:
    recipe = dataclasses.replace(open_recipe(32, 256), **changed)
    assert usual_side(recipe, 256) == 512
    (figure,) = sides_to_try(recipe, 512, 192, [(5000, 7000)], sources=9, workers=2, pooled=False)
    assert figure.tile_size == 512


tile_figures = st.builds(
    TileFigure, tile_size=st.integers(1, 24).map(lambda n: 64 * n), work=st.floats(1, 4, width=16)
)


@given(st.lists(tile_figures, min_size=1, max_size=5))
def test_the_smallest_side_with_about_the_least_work_is_best(figures):
    found = best(figures)
    least = min(figure.work for figure in figures)
    assert found.work <= EVEN * least
    assert all(one.tile_size >= found.tile_size for one in figures if one.work <= EVEN * least)


def agreement_of(changed: int, iou=()) -> Agreement:
    return Agreement(pixels=10_000, equal=10_000 - changed, iou=iou)


@pytest.mark.parametrize(
    ("changed", "moved", "iou", "usual_iou", "word"),
    [
        (5, 0, (), (), None),
        (6, 0, (), (), "changes 0.06% of the pixels, moving the usual tiles 0.00%"),
        (250, 200, (), (), None),
        (251, 200, (), (), "changes 2.51% of the pixels, moving the usual tiles 2.00%"),
        (0, 0, ((0, 1.0), (2, 0.89)), (), "IoU of class 2 is 0.890 beside the usual tiles"),
        (0, 0, ((0, 1.0), (2, 0.91)), (), None),
        (0, 0, ((2, 0.71),), ((2, 0.8),), None),
        (0, 0, ((2, 0.69),), ((2, 0.8),), "IoU of class 2 is 0.690 beside the usual tiles"),
    ],
)
def test_a_side_may_change_what_moving_the_usual_tiles_changes(changed, moved, iou, usual_iou, word) -> None:
    figure = TileFigure(tile_size=1024, work=1.2)
    found = judged(figure, agreement_of(changed, iou), agreement_of(moved, usual_iou))
    assert found.reason == word
    assert (found.changed, found.moved) == pytest.approx((changed / 10_000, moved / 10_000))


def test_several_samples_are_one_and_of_each_class_the_worst_counts() -> None:
    found = total([agreement_of(3, ((0, 0.9), (1, 1.0))), agreement_of(4, ((1, 0.5),))])
    assert (found.pixels, found.equal, found.iou) == (20_000, 19_993, ((0, 0.9), (1, 0.5)))


@pytest.mark.parametrize(("halo", "changes_some"), [(8, False), (2, True)])
def test_other_sides_and_moved_tiles_change_what_the_halo_leaves(halo, changes_some, tmp_path: Path) -> None:
    recipe = bare(write_conv(tmp_path / "a.onnx", 6), scale=RAW, class_count=3)
    found = changes(Scorer(recipe), 64, halo, [96, 128], 1, noise(recipe))
    assert [side for side, _ in found.by_side] == [96, 128]
    for one in (found.moved, *(agreement for _, agreement in found.by_side)):
        assert one.pixels >= (64 - 2 * halo) ** 2
        assert (one.equal < one.pixels) is changes_some


def test_moved_tiles_are_others_also_where_no_other_side_is_larger(tmp_path: Path) -> None:
    """In a square of the usual tile and half a core the moved one would be the last of the row itself."""
    recipe = bare(write_conv(tmp_path / "a.onnx", 6), scale=RAW, class_count=3)
    found = changes(Scorer(recipe), 64, 2, [32], 1, noise(recipe))
    assert found.moved.pixels == 60**2
    assert found.moved.equal < found.moved.pixels

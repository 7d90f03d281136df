"""The halo that a network needs, found from outside."""

import dataclasses
from pathlib import Path

import pytest
from factories import make_facts, make_package, make_recipe
from fixed_graphs import declare_open, write_fixed
from hypothesis import given
from hypothesis import strategies as st
from models import RADIUS
from packages import paddle_package
from probed import RAW, bare, island, noise, write_conv

from batchseg.models.package import Resize
from batchseg.predict import halo as halo_module
from batchseg.predict.halo import HaloFigure, describe, enough, geometry, halos_to_try, measure, merged
from batchseg.predict.halo_probe import is_narrow, noise_crops
from batchseg.predict.scores import Scorer


@pytest.fixture(autouse=True)
def _small_squares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halo_module, "WIDEST", 48)
    monkeypatch.setattr(halo_module, "CORE", 32)


def table_of(recipe, samples, halos):
    shape = geometry(recipe)
    assert shape is not None
    return measure(Scorer(recipe), recipe, shape, samples, halos_to_try(recipe, shape, halos))


@pytest.mark.parametrize("radius", [0, 1, 4, 7, 15, 16, 17, 40])
def test_a_convolutions_reach_is_found_to_within_the_halos_that_are_tried(radius: int, tmp_path: Path):
    recipe = bare(write_conv(tmp_path / "a.onnx", radius, gain=20.0))
    halos = (0, 4, 8, 16, 24, 40)
    table = table_of(recipe, [noise(recipe), island(recipe)], halos)
    assert [figure.halo for figure in table] == list(halos)
    assert enough(table) == min(halo for halo in halos if halo >= radius)
    assert all(figure.pixels == 2 * 32 * 32 for figure in table)


@pytest.mark.parametrize("radius", [3, 8])
def test_the_reach_is_found_to_the_pixel(radius: int, tmp_path: Path) -> None:
    recipe = bare(write_conv(tmp_path / "a.onnx", radius, gain=20.0))
    assert enough(table_of(recipe, [noise(recipe)], range(12))) == radius


def test_a_network_that_pools_its_whole_tile_has_none_and_it_is_said(tmp_path: Path) -> None:
    recipe = bare(write_fixed(tmp_path / "a.onnx", "mean", side=None), stride=2, scale=RAW)
    table = table_of(recipe, [island(recipe)], (4, 8, 16, 32))
    assert enough(table) is None
    assert not is_narrow(recipe, table)  # no other would be better
    said = describe(table, 16)
    assert said.startswith("about ")
    assert said.endswith("no halo ends that, as the network looks at the whole tile")
    fully = bare(write_fixed(tmp_path / "b.onnx", "nothing", side=None), stride=2, scale=RAW)
    assert enough(table_of(fully, [island(fully)], (4, 8, 16, 32))) in (4, 8)


def test_a_halo_that_is_no_multiple_of_the_stride_is_wrong_again(tmp_path: Path) -> None:
    recipe = bare(write_fixed(tmp_path / "a.onnx", "nothing", side=None), stride=2)
    table = table_of(recipe, [noise(recipe)], (2, 7, 8, 9, 16, 17))
    by_halo = {figure.halo: figure for figure in table}
    assert [halo for halo, figure in by_halo.items() if figure.is_enough] == [8, 16]
    assert [halo for halo, figure in by_halo.items() if not figure.lines_up] == [7, 9, 17]
    assert enough(table) == 8
    for halo, narrow in ((2, True), (8, False), (9, True), (16, False), (17, True)):
        assert is_narrow(dataclasses.replace(recipe, halo=halo), table) is narrow
        assert ("is narrow" in describe(table, halo)) is narrow
    assert describe(table, 8).startswith("a halo of 8 is enough")


@pytest.mark.parametrize(
    ("stride", "expected"), [(1, (16, 32)), (7, (21, 35)), (12, (24, 36)), (0, (16, 32)), (None, (16, 32))]
)
def test_usual_halos_line_up_with_the_networks_stride(stride, expected) -> None:
    recipe = make_recipe(facts=make_facts(stride=stride), tile_size=84, halo=0)
    shape = geometry(recipe)
    assert shape is not None
    assert halos_to_try(recipe, shape) == expected


def test_images_of_one_class_prove_nothing_by_their_classes(tmp_path: Path) -> None:
    recipe = bare(write_conv(tmp_path / "a.onnx", 12, gain=8.0, lead=2.5))
    table = table_of(recipe, [noise(recipe)], (4, 8, 16))
    assert [figure.changed for figure in table] == [0, 0, 0]
    assert [figure.is_enough for figure in table] == [False, False, True]
    assert enough(table) == 16


def figure(halo: int, changed: int = 0, probability: float | None = None, **other: bool) -> HaloFigure:
    return HaloFigure(halo=halo, pixels=10_000, changed=changed, probability=probability, **other)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (
            [figure(16, 0, 0.083), figure(32, 0, 0.01)],
            "a halo of 16 is narrow for this network: 0 % of the pixels change with more around them, and a "
            "class's probability by up to 0.083; 32 is enough",
        ),
        (
            [figure(16, 20, 0.083), figure(32, 0, 0.01)],
            "a halo of 16 is narrow for this network: 0.2 % of the pixels change with more around them; 32 "
            "is enough",
        ),
        (
            [figure(16, 0, 0.2), figure(32, 0, 0.3)],
            "a class's probability depends by up to 0.3 on where tiles lie, as 0.01 Mpx of the first images "
            "showed; no halo ends that, as the network looks at the whole tile",
        ),
        (
            [figure(16, lines_up=False), figure(32, lines_up=False)],
            "none of the halos that were tried is a multiple of the network's stride",
        ),
    ],
)
def test_what_makes_a_halo_too_narrow_is_said(table: list[HaloFigure], said: str) -> None:
    assert describe(table, 16) == said


def test_a_network_of_one_size_is_tried_at_that_alone(models: Path) -> None:
    package = dataclasses.replace(paddle_package(models / "conv"), size_hw=(64, 64))
    recipe = make_recipe(
        model=package, facts=make_facts(stride=1, class_count=3), tile_size=64, halo=8, normalize=None
    )
    shape = geometry(recipe)
    assert shape is not None
    assert (shape.fixed, shape.core + 2 * shape.widest) == (64, 64)
    assert {shape.tile(halo)[1] for halo in range(shape.widest)} == {64}
    samples = [noise(recipe, seed=seed) for seed in range(4)]
    assert enough(table_of(recipe, samples, range(8))) == RADIUS


def test_a_network_that_gives_ids_is_judged_by_them(models: Path) -> None:
    package = dataclasses.replace(paddle_package(models / "ids"), bands=1)
    facts = make_facts(stride=1, output="classes", channels=1, class_count=None)
    recipe = make_recipe(model=package, facts=facts, bands=(1,), normalize=None, class_count=None)
    sample = noise(recipe)
    grey = dataclasses.replace(sample, pixels=sample.pixels[:1])
    (figure,) = table_of(recipe, [grey], (0,))
    assert (figure.changed, figure.probability, figure.is_enough) == (0, None, True)


def test_what_resizes_its_tiles_has_no_halo_to_find() -> None:
    assert geometry(make_recipe(fit="resize")) is None
    resized = make_package(geometry=(Resize(target_hw=(64, 64)),))
    assert geometry(make_recipe(model=resized)) is None


def test_a_network_that_declares_any_size_and_takes_one_gives_no_figures(tmp_path: Path) -> None:
    recipe = bare(declare_open(write_fixed(tmp_path / "a.onnx", "positions")), stride=2)
    assert Scorer(recipe).output(noise(recipe, 64).pixels, noise(recipe, 64)).shape == (5, 64, 64)
    assert table_of(recipe, [noise(recipe)], (8, 16)) == ()


figures = st.builds(
    HaloFigure,
    halo=st.integers(0, 9),
    pixels=st.just(10_000),
    changed=st.sampled_from([0, 0, 1, 50]),
    probability=st.sampled_from([None, 0.0, 0.049, 0.05]),
    lines_up=st.booleans(),
)


@given(st.lists(figures, max_size=8, unique_by=lambda figure: figure.halo))
def test_enough_is_the_smallest_from_which_on_nothing_changes(found):
    table = sorted(found, key=lambda figure: figure.halo)
    right = [figure for figure in table if figure.lines_up]
    expected = [
        figure.halo
        for number, figure in enumerate(right)
        if all(wider.changed == 0 and (wider.probability or 0) < 0.05 for wider in right[number:])
    ]
    assert enough(table) == min(expected, default=None)


@given(st.lists(st.lists(figures, max_size=4, unique_by=lambda figure: figure.halo), max_size=4))
def test_tables_of_several_processes_are_one(parts):
    table = merged(parts)
    assert [figure.halo for figure in table] == sorted({one.halo for part in parts for one in part})
    for figure in table:
        mine = [one for part in parts for one in part if one.halo == figure.halo]
        assert figure.pixels == sum(one.pixels for one in mine)
        assert figure.changed == sum(one.changed for one in mine)
        known = [one.probability for one in mine if one.probability is not None]
        assert figure.probability == max(known, default=None)


def test_noise_stands_for_images_that_nobody_gave() -> None:
    recipe = make_recipe()
    crops = noise_crops(recipe)
    pixels = crops[0].pixels
    assert (pixels.dtype, len(pixels)) == ("uint8", 3)
    assert pixels.std() > 20
    # Neighbours are alike, and places far apart are not.
    near = abs(pixels[:, 1:].astype(int) - pixels[:, :-1]).mean()
    far = abs(pixels[:, 700:].astype(int) - pixels[:, :-700]).mean()
    assert near < far / 2

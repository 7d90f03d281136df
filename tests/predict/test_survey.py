"""What the reference is asked of a job's tiles, and which of them judge engines."""

import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from factories import UINT8_SCALE
from fixed_graphs import declare_open, write_fixed
from hypothesis import given, settings
from hypothesis import strategies as st
from probed import RAW, bare, island, noise, write_conv
from strategies import sizes

from batchseg.job.recipe import Recipe
from batchseg.pixels.grid import TileGrid
from batchseg.predict import halo as halo_module
from batchseg.predict import survey as survey_module
from batchseg.predict.fleet import Meeting
from batchseg.predict.gate import CLASS_PIXELS, Labels
from batchseg.predict.halo import HaloFigure, enough
from batchseg.predict.samples import Sample
from batchseg.predict.scores import Scorer
from batchseg.predict.survey import (
    Answered,
    Question,
    Survey,
    TileAt,
    choose_tiles,
    core_of,
    cut,
    in_time,
    joined,
    known_tiles,
    load_crops,
    paced,
    save_crops,
    survey,
    tiles_of,
)
from batchseg.predict.tile_size import TileFigure, best

properties = settings(deadline=None, max_examples=40)


def crops_of(shapes) -> list[Sample]:
    random = np.random.default_rng(0)
    return [
        Sample(pixels=random.integers(0, 256, (3, *shape), dtype=np.uint8), scale=UINT8_SCALE)
        for shape in shapes
    ]


@properties
@given(st.lists(sizes(50), min_size=1, max_size=4), st.integers(0, 4), st.integers(3, 20))
def test_all_tiles_of_the_crops_are_there_once_and_the_fullest_of_each_come_first(shapes, halo, core):
    crops, side = crops_of(shapes), core + 2 * halo
    found = tiles_of(crops, side, halo)
    grids = [TileGrid(height=h, width=w, tile_size=side, halo=halo) for h, w in shapes]
    assert Counter(found) == {
        TileAt(number, row, col): 1
        for number, grid in enumerate(grids)
        for row in range(grid.shape_hw[0])
        for col in range(grid.shape_hw[1])
    }
    assert [at.crop for at in found[: len(crops)]] == list(range(len(crops)))
    for number, grid in enumerate(grids):
        mine = [at for at in found if at.crop == number]
        held = [grid.tile(at.row, at.col).window.clip(grid.height, grid.width).size for at in mine]
        assert held == sorted(held, reverse=True)


@properties
@given(sizes(50), st.integers(0, 4), st.integers(5, 20), st.randoms())
def test_a_tile_is_its_crops_pixels_around_its_core(shape, halo, core, random):
    (crop,) = crops_of([shape])
    side = core + 2 * halo
    at = random.choice(tiles_of([crop], side, halo))
    tile, window = cut(crop, at, side, halo), core_of(crop, at, side, halo)
    assert tile.shape == (3, side, side)
    inside = tile[:, halo : halo + window.height, halo : halo + window.width]
    rows = slice(window.row_off, window.row_stop)
    assert np.array_equal(inside, crop.pixels[:, rows, window.col_off : window.col_stop])


def test_crops_are_read_as_they_were_saved(tmp_path) -> None:
    crops = crops_of([(20, 30), (7, 9)])
    loaded = load_crops(save_crops(crops, tmp_path))
    assert [one.scale for one in loaded] == [one.scale for one in crops]
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(loaded, crops, strict=True))


def test_known_crops_lie_behind_the_jobs_own() -> None:
    crops = crops_of([(20, 30), (16, 16), (40, 16)])
    assert {at.crop for at in known_tiles(crops, 1, 16, 0)} == {1, 2}
    assert len(known_tiles(crops_of([(900, 900)]), 0, 16, 0)) == survey_module.KNOWN


def test_a_rare_class_is_found_wherever_it_lies() -> None:
    """One tile of forty shows it, and that less than any other class."""
    tiles = [TileAt(number % 5, number // 5, 0) for number in range(40)]
    for odd in tiles:
        counts = {at: {0: 30_000, 1: 20_000} for at in tiles}
        counts[odd] = {0: 49_990, 7: 10}
        assert odd in choose_tiles(tiles, counts, 2)


@properties
@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_chosen_tiles_show_what_can_be_shown(seed, count):
    random = np.random.default_rng(seed)
    tiles = [TileAt(int(random.integers(3)), number, 0) for number in range(12)]
    owner = {at: int(random.integers(4)) for at in tiles}
    counts = {at: {owner[at]: CLASS_PIXELS} for at in tiles}
    chosen = choose_tiles(tiles, counts, count)
    assert len(set(chosen)) == len(chosen) == count
    shown = {owner[at] for at in chosen}
    assert len(shown) == min(count, len(set(owner.values())))


def test_of_tiles_that_show_alike_those_of_other_crops_are_taken() -> None:
    tiles = [TileAt(crop, row, 0) for crop in range(3) for row in range(4)]
    chosen = choose_tiles(tiles, {at: {0: 5000} for at in tiles}, 6)
    assert Counter(at.crop for at in chosen) == {0: 2, 1: 2, 2: 2}
    assert choose_tiles(tiles, {at: {0: 5000} for at in tiles}, 99) != []


def test_what_there_is_no_time_for_is_left_but_for_the_least() -> None:
    assert list(in_time(range(5), 0.0, at_least=2)) == [0, 1]
    assert list(in_time(range(5), 60.0)) == [0, 1, 2, 3, 4]
    assert list(in_time([], 0.0)) == []


def test_speed_is_of_calls_after_all_have_met() -> None:
    calls: list[object] = []

    def one(index: int) -> None:
        calls.append(index)
        time.sleep(0.2 if len(calls) == 1 else 0.01)  # the first plans and compiles

    rate = paced(one, 0.1, lambda: calls.append("met"))
    assert calls[:2] == [0, "met"]
    assert 30 < rate <= 100
    assert len(calls) >= 4


@pytest.mark.parametrize(
    ("seen", "taken", "reason"),
    [
        (512, 100, None),
        (512, 300, "takes 1.2 GiB a predictor"),
        (1280, 300, None),  # as a halo was looked for
        (1280, 600, "takes 0.6 GiB a predictor"),
    ],
)
def test_a_side_that_takes_more_than_its_share_of_memory_is_out(seen, taken, reason) -> None:
    figure = TileFigure(tile_size=1024, work=1.2)
    assert survey_module._fits(figure, seen, 500 * 2**20, taken * 2**20).reason == reason


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of its own would fall silent; squares of halos are small."""
    monkeypatch.setattr(survey_module, "silence_stdout", lambda: None)
    monkeypatch.setattr(halo_module, "WIDEST", 48)
    monkeypatch.setattr(halo_module, "CORE", 32)


def alone(folder: Path) -> Meeting:
    place = folder / "meeting"
    place.mkdir()
    return Meeting(folder=str(place), number=0, count=1)


def asked(recipe: Recipe, crops: list[Sample], folder: Path, **changes) -> Survey:
    place = folder / "crops"
    place.mkdir()
    usual = {
        "recipe": recipe,
        "shapes_hw": tuple(crop.pixels.shape[1:] for crop in crops),
        "sources": 1000,
        "workers": 1,
        "open_halo": True,
        "halos": (),
        "open_tile": True,
        "tiles": 3,
        "margin": 0.05,
        "own": len(crops),
        "seconds": 0.2,
    }
    return survey(Question(**(usual | changes)), save_crops(crops, place), alone(folder))


@pytest.mark.usefixtures("small")
def test_with_a_halo_that_is_enough_the_side_with_the_least_work_is_taken_unseen(tmp_path: Path) -> None:
    recipe = bare(write_conv(tmp_path / "a.onnx", 9, gain=8.0))
    crops = [noise(recipe, 300), noise(recipe, 290, seed=1)]
    found = asked(recipe, crops, tmp_path)
    assert found.halo == 16
    assert [figure.halo for figure in found.halos if figure.is_enough] == [16, 32]
    assert [side.changed for side in found.sides] == [None] * len(found.sides)
    assert found.sides[0].tile_size == 64
    assert found.tile_size == best(found.sides).tile_size > 64
    assert len(found.answered) == 3
    for one in found.answered:
        core = core_of(crops[one.at.crop], one.at, found.tile_size, found.halo)
        assert one.labels.classes.shape == (found.tile_size - 32,) * 2
        # Enough halo: a tile's core is the same as of the whole crop.
        whole = Scorer(recipe).labels(square := padded(crops[one.at.crop].pixels), crops[0], 32)
        assert square.shape[1] >= core.row_stop
        expected = whole.classes[core.row_off : core.row_stop, core.col_off : core.col_stop]
        np.testing.assert_array_equal(one.labels.classes[: core.height, : core.width], expected)
    assert found.tiles_per_second > 0
    assert found.memory > 2**20


def padded(pixels: np.ndarray) -> np.ndarray:
    """As rasters' borders are, with 32 pixels around."""
    return np.pad(pixels, ((0, 0), (32, 32), (32, 32)), mode="reflect")


@pytest.mark.usefixtures("small")
def test_where_no_halo_is_enough_other_sides_are_compared_on_the_same_pixels(tmp_path: Path) -> None:
    network = write_fixed(tmp_path / "a.onnx", "mean", side=None)
    recipe = bare(network, stride=2, scale=RAW, tile_size=256)
    found = asked(recipe, [island(recipe, 700)], tmp_path)
    assert enough(found.halos) is None
    assert found.halo == 64  # as nobody knows better
    first, *others = found.sides
    assert others
    assert (first.changed, first.reason) == (None, None)
    for side in others:
        assert side.changed is not None
        assert side.moved is not None
        assert side.tile_size % 128 == 0
    assert found.tile_size == best([side for side in found.sides if side.reason is None]).tile_size


@pytest.mark.usefixtures("small")
def test_a_network_that_declares_any_size_and_takes_one_keeps_the_usual_tile(tmp_path: Path) -> None:
    recipe = bare(declare_open(write_fixed(tmp_path / "a.onnx", "positions")), stride=2)
    found = asked(recipe, [noise(recipe, 300)], tmp_path)
    assert (found.tile_size, found.halo, found.halos) == (64, 16, ())
    assert {side.reason for side in found.sides[1:]} == {"the network does not take such tiles"}
    assert len(found.answered) == 3


@pytest.mark.usefixtures("small")
def test_what_the_job_names_is_not_looked_for(tmp_path: Path) -> None:
    recipe = bare(write_conv(tmp_path / "a.onnx", 9, gain=8.0), halo=4)
    crops = [noise(recipe, 150), noise(recipe, 100, seed=1)]
    found = asked(recipe, crops, tmp_path, open_halo=False, open_tile=False, own=1)
    assert (found.tile_size, found.halo, found.halos, found.sides) == (64, 4, (), ())
    assert {one.at.crop for one in found.answered} == {0}
    assert {one.at.crop for one in found.known} == {1}
    assert len(found.known) == 4


@pytest.mark.usefixtures("small")
def test_halos_that_are_known_are_not_measured_again(tmp_path: Path) -> None:
    recipe = bare(write_conv(tmp_path / "a.onnx", 9, gain=8.0))
    known = (HaloFigure(halo=24, pixels=100_000, changed=0, probability=0.0),)
    found = asked(recipe, [noise(recipe, 150)], tmp_path, halos=known)
    assert (found.halo, found.halos) == (24, known)
    assert found.sides[0].tile_size == 96  # of 64 such a halo leaves too little


@pytest.mark.usefixtures("small")
def test_a_tile_that_is_named_keeps_a_core_whatever_halo_would_be_enough(tmp_path: Path) -> None:
    recipe = bare(write_conv(tmp_path / "a.onnx", 9, gain=8.0))
    known = (HaloFigure(halo=32, pixels=100_000, changed=0, probability=0.0),)
    found = asked(recipe, [noise(recipe, 150)], tmp_path, halos=known, open_tile=False)
    assert (found.tile_size, found.halo, found.halos) == (64, 16, known)


def test_parts_of_all_processes_are_one_survey() -> None:
    def part(rows: list[int], rate: float, memory: int) -> Survey:
        labels = Labels(classes=np.zeros((2, 2), np.uint8))
        answered = tuple(Answered(at=TileAt(0, row, 0), labels=labels) for row in rows)
        return Survey(
            tile_size=64,
            halo=8,
            halos=(),
            sides=(),
            answered=answered,
            known=answered[:1],
            tiles_per_second=rate,
            memory=memory,
        )

    found = joined([part([3, 1], 2.0, 10), part([2], 3.0, 5)])
    assert [one.at.row for one in found.answered] == [1, 2, 3]
    assert [one.at.row for one in found.known] == [2, 3]
    assert (found.tiles_per_second, found.memory) == (5.0, 10)

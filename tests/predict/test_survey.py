"""What the reference is asked of a job's tiles, and which of them judge engines."""

import time
from pathlib import Path

import numpy as np
import pytest
from fixed_graphs import declare_open, write_fixed
from probed import RAW, bare, island, noise, write_conv

from batchseg.job.recipe import Recipe
from batchseg.predict import survey as survey_module
from batchseg.predict.crop_tiles import TileAt, core_of, save_crops
from batchseg.predict.fleet import Meeting
from batchseg.predict.gate import Labels
from batchseg.predict.samples import Sample
from batchseg.predict.scores import Scorer
from batchseg.predict.survey import (
    Answered,
    Question,
    Survey,
    joined,
    paced,
    survey,
)
from batchseg.predict.tile_size import TileFigure, best


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
    ("seen", "base", "taken", "reason"),
    [
        (512, 0, 100, None),
        (512, 0, 300, "takes 1.2 GiB a predictor"),
        (512, 250, 300, None),  # most of it is no tile's
        (1280, 0, 300, None),
        (1280, 0, 600, "takes 0.6 GiB a predictor"),
    ],
)
def test_a_side_that_takes_more_than_its_share_of_memory_is_out(seen, base, taken, reason) -> None:
    figure = TileFigure(tile_size=1024, work=1.2)
    assert survey_module._fits(figure, seen, 500 * 2**20, base * 2**20, taken * 2**20).reason == reason


@pytest.fixture
def aloud(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of its own would fall silent, and take little memory."""
    monkeypatch.setattr(survey_module, "silence_stdout", lambda: None)
    monkeypatch.setattr(survey_module, "peak_bytes", lambda: 2**26)


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
        "open_tile": True,
        "settled": True,
        "compares": True,
        "judging": 60.0,
        "tiles": 3,
        "margin": 0.05,
        "own": len(crops),
        "seconds": 0.2,
    }
    return survey(Question(**(usual | changes)), save_crops(crops, place), alone(folder))


@pytest.mark.usefixtures("aloud")
def test_with_a_halo_that_is_enough_the_side_with_the_least_work_is_taken_unseen(tmp_path: Path) -> None:
    recipe = bare(write_conv(tmp_path / "a.onnx", 9, gain=8.0), halo=16)
    crops = [noise(recipe, 300), noise(recipe, 290, seed=1)]
    found = asked(recipe, crops, tmp_path)
    assert [side.changed for side in found.sides] == [None] * len(found.sides)
    assert found.sides[0].tile_size == 64
    assert found.tile_size == best(found.sides).tile_size > 64
    assert len(found.answered) == 3
    for one in found.answered:
        core = core_of(crops[one.at.crop], one.at, found.tile_size, 16)
        assert one.labels.classes.shape == (found.tile_size - 32,) * 2
        # Enough halo: a tile's core is the same as of the whole crop.
        whole = Scorer(recipe).labels(square := padded(crops[one.at.crop].pixels), crops[0], 32)
        assert square.shape[1] >= core.row_stop
        expected = whole.classes[core.row_off : core.row_stop, core.col_off : core.col_stop]
        np.testing.assert_array_equal(one.labels.classes[: core.height, : core.width], expected)
    assert found.tiles_per_second > 0
    assert found.memory == 2**26


def padded(pixels: np.ndarray) -> np.ndarray:
    """As rasters' borders are, with 32 pixels around."""
    return np.pad(pixels, ((0, 0), (32, 32), (32, 32)), mode="reflect")


@pytest.mark.usefixtures("aloud")
def test_where_no_halo_is_enough_other_sides_are_compared_on_the_same_pixels(tmp_path: Path) -> None:
    network = write_fixed(tmp_path / "a.onnx", "mean", side=None)
    recipe = bare(network, stride=2, scale=RAW, tile_size=256, halo=64)
    found = asked(recipe, [island(recipe, 700)], tmp_path, settled=False)
    first, *others = found.sides
    assert others
    assert (first.changed, first.reason) == (None, None)
    for side in others:
        assert side.changed is not None
        assert side.moved is not None
        assert side.tile_size % 128 == 0
    assert found.tile_size == best([side for side in found.sides if side.reason is None]).tile_size


@pytest.mark.usefixtures("aloud")
def test_a_network_that_declares_any_size_and_takes_one_keeps_the_usual_tile(tmp_path: Path) -> None:
    recipe = bare(declare_open(write_fixed(tmp_path / "a.onnx", "positions")), stride=2)
    found = asked(recipe, [noise(recipe, 300)], tmp_path, settled=False)
    assert found.tile_size == 64
    assert {side.reason for side in found.sides[1:]} == {"the network does not take such tiles"}
    assert len(found.answered) == 3


@pytest.mark.usefixtures("aloud")
def test_what_the_job_names_is_not_looked_for(tmp_path: Path) -> None:
    recipe = bare(write_conv(tmp_path / "a.onnx", 9, gain=8.0), halo=4)
    crops = [noise(recipe, 150), noise(recipe, 100, seed=1)]
    found = asked(recipe, crops, tmp_path, open_tile=False, own=1)
    assert (found.tile_size, found.sides) == (64, ())
    assert {one.at.crop for one in found.answered} == {0}
    assert {one.at.crop for one in found.known} == {1}
    assert len(found.known) == 4


@pytest.mark.usefixtures("aloud")
def test_where_tiles_of_the_side_that_is_found_take_too_long_usual_ones_judge(tmp_path: Path) -> None:
    recipe = bare(write_conv(tmp_path / "a.onnx", 9, gain=8.0), halo=16)
    crops = [noise(recipe, 300), noise(recipe, 290, seed=1)]
    found = asked(recipe, crops, tmp_path, judging=0.0)
    assert (found.tile_size, found.judging_size) == (best(found.sides).tile_size, 64)
    assert found.tile_size > 64
    assert {one.labels.classes.shape for one in found.answered} == {(32, 32)}


@pytest.mark.usefixtures("aloud")
def test_sides_that_there_is_no_time_to_compare_are_left_alone(tmp_path: Path) -> None:
    recipe = bare(write_conv(tmp_path / "a.onnx", 9, gain=8.0))
    found = asked(recipe, [noise(recipe, 300)], tmp_path, settled=False, compares=False)
    assert found.tile_size == 64
    assert [side.tile_size for side in found.sides] == [64]


def test_parts_of_all_processes_are_one_survey() -> None:
    def part(rows: list[int], rate: float, memory: int) -> Survey:
        labels = Labels(classes=np.zeros((2, 2), np.uint8))
        answered = tuple(Answered(at=TileAt(0, row, 0), labels=labels) for row in rows)
        return Survey(
            tile_size=64,
            judging_size=64,
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

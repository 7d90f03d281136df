"""Labels of water from the infrared band, and the figures counted against them."""

from pathlib import Path

import lake_accuracy
import naip_water
import numpy as np
import pytest
from conftest import write_raster
from dubai import IGNORED
from naip_water import NOT_WATER, VEGETATION, WATER


def scene(rows: int = 60, cols: int = 640) -> np.ndarray:
    """Fields of bare soil (4, rows, cols), a green lake on the left, crops on the right."""
    bands = np.empty((4, rows, cols), np.uint8)
    bands[:] = np.array([120, 110, 90, 125], np.uint8)[:, None, None]
    bands[:, 10:50, 20:80] = np.array([60, 90, 50, 10], np.uint8)[:, None, None]
    bands[:, 10:50, 610:] = np.array([50, 70, 60, 180], np.uint8)[:, None, None]
    return bands


def test_what_is_dark_in_the_infrared_is_water_and_its_shore_is_nothing() -> None:
    label = naip_water.water_label(scene())
    assert (label[13:47, 23:77] == WATER).all()
    assert (label[:, 100:600] == NOT_WATER).all()
    assert (label[10:50, 612:] == VEGETATION).all()
    assert label[9, 40] == IGNORED
    assert label[7, 40] == NOT_WATER


def test_dark_specks_shadows_and_missing_pixels_are_no_water() -> None:
    bands = scene()
    bands[3, 5, 200:203] = 0  # Too thin to be a lake.
    bands[:, 20:30, 300:310] = np.array([40, 30, 30, 40], np.uint8)[:, None, None]  # A shadow on soil.
    bands[:, 40:, 400:] = 0
    label = naip_water.water_label(bands)
    assert not (label[:, 100:] == WATER).any()
    assert (label[22:28, 302:308] == IGNORED).all()
    assert (label[42:, 402:] == IGNORED).all()


def test_west_and_east_share_no_column_and_no_year_that_is_missing_is_passed_over(tmp_path: Path) -> None:
    columns = np.arange(934)
    assert not set(columns[naip_water.WEST]) & set(columns[naip_water.EAST])
    assert naip_water.UNSEEN_YEAR not in naip_water.TRAINED
    write_raster(tmp_path / "m_14_1_20140720.tif", scene())
    (west,) = naip_water.examples(tmp_path, ("2014",), naip_water.WEST)
    assert (west.image.shape, west.label.shape) == ((60, 560, 3), (60, 560))
    assert west.name == "naip/m_14_1_20140720"
    with pytest.raises(ValueError, match="no scene of 2018"):
        naip_water.examples(tmp_path, ("2018",), naip_water.WEST)


def test_figures_of_water_are_those_counted_by_hand(tmp_path: Path, capsys, monkeypatch) -> None:
    bands = np.roll(scene(), 600, axis=2)  # The lake is at 620 to 680, the crops at 570 to 600.
    mask = np.ones((1, 60, 640), np.uint8)
    mask[:, 10:50, 630:] = WATER
    for year in lake_accuracy.YEARS:
        write_raster(tmp_path / f"m_{year}0101.tif", bands)
        write_raster(tmp_path / "results" / "masks" / f"m_{year}0101.tif", mask)
    label = naip_water.water_label(bands)[:, 600:]
    true, called = label == WATER, mask[0, :, 600:] == WATER
    hits, false = int((true & called).sum()), int((called & (label != IGNORED) & ~true).sum())
    assert hits
    iou, recall, precision = lake_accuracy.figures(
        lake_accuracy.pairs(tmp_path / "results", tmp_path, "2009")
    )
    assert recall == hits / true.sum()
    assert precision == hits / (hits + false)
    assert iou == hits / (true.sum() + false)
    monkeypatch.setattr("sys.argv", ["lake_accuracy", str(tmp_path / "results"), str(tmp_path)])
    lake_accuracy.main()
    assert f"all     {iou:>8.4f}" in capsys.readouterr().out

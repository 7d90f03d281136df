"""Layers of the model's grid brought to a scene's own, against numpy."""

import dataclasses
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from conftest import write_raster
from factories import make_recipe, make_scene
from numpy.typing import NDArray
from rasterio.crs import CRS

from batchseg.inputs.source import Georeference, Scene
from batchseg.job.recipe import Area
from batchseg.job.settings import Values
from batchseg.output import own_grid
from batchseg.output.cog import Piece
from batchseg.output.own_grid import on_own_grid
from batchseg.pixels.grid import Window

PLACE = Georeference(
    crs_wkt=CRS.from_epsg(32632).to_wkt(),
    transform=(1.0, 0.0, 500_000.0, 0.0, -1.0, 5_400_000.0),
    gcps=(),
    gcps_crs_wkt=None,
    rpcs=(),
)


def scene_of(own_hw: tuple[int, int], model_hw: tuple[int, int]) -> Scene:
    own = make_scene(*own_hw, georeference=PLACE)
    return dataclasses.replace(own, height=model_hw[0], width=model_hw[1], own=own)


def pieces_of(folder: Path, pixels: NDArray[np.generic]) -> list[Piece]:
    """Four that cover the raster."""
    pieces = []
    for rows in np.array_split(np.arange(len(pixels)), 2):
        for cols in np.array_split(np.arange(pixels.shape[1]), 2):
            window = Window(row_off=int(rows[0]), col_off=int(cols[0]), height=len(rows), width=len(cols))
            path = folder / f"{rows[0]}-{cols[0]}-{pixels.dtype}.tif"
            write_raster(path, pixels[None, rows[:, None], cols])
            pieces.append(Piece(path=str(path), window=window))
    return pieces


def centre(own: int, model: int) -> list[int]:
    """By fractions: in which of the model's pixels the centre of each of a scene's lies."""
    return [int(Fraction(2 * at + 1, 2) * model / own) for at in range(own)]


def read(piece: Piece, own_hw: tuple[int, int]) -> NDArray[np.generic]:
    assert (piece.window.height, piece.window.width) == own_hw
    with rasterio.open(piece.path) as made:
        pixels: NDArray[np.generic] = made.read(1)
    return pixels


@pytest.mark.parametrize("most", [40, 2**22])
@pytest.mark.parametrize("own_hw", [(40, 60), (133, 201), (13, 7), (5, 200)])
def test_each_pixel_has_what_the_model_said_at_its_centre(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_hw: tuple[int, int], most: int
) -> None:
    monkeypatch.setattr(own_grid, "STRIP_PIXELS", most)
    model_hw = 40, 60
    ids = np.random.default_rng(1).integers(0, 4, model_hw).astype(np.uint8)
    numbers = np.where(ids == 3, np.nan, ids * 1.5).astype(np.float32)
    recipe = make_recipe(confidence=True, values=Values())
    layers = {"mask": ids, "confidence": ids + np.uint8(7), "values": numbers}
    pieces = {name: pieces_of(tmp_path, pixels) for name, pixels in layers.items() if name != "confidence"}
    (tmp_path / "c").mkdir()
    pieces["confidence"] = pieces_of(tmp_path / "c", layers["confidence"])
    made = on_own_grid(pieces, scene_of(own_hw, model_hw), recipe, tmp_path)
    rows, cols = (centre(own, model) for own, model in zip(own_hw, model_hw, strict=True))
    for name, pixels in layers.items():
        (piece,) = made[name]
        np.testing.assert_array_equal(read(piece, own_hw), pixels[np.array(rows)[:, None], cols])


def test_what_no_piece_covers_or_lies_outside_the_area_has_no_data(tmp_path: Path) -> None:
    ids = np.full((20, 30), 2, np.uint8)
    pieces = pieces_of(tmp_path, ids)[:3]
    box = shapely.box(500_003.6, 5_399_900.0, 500_100.0, 5_400_000.0)  # from the own grid's column 4 on
    area = Area(wkb=shapely.to_wkb(box), crs="EPSG:32632", digest="0")
    scene = scene_of((40, 60), (20, 30))
    (piece,) = on_own_grid({"mask": pieces}, scene, make_recipe(area=area), tmp_path)["mask"]
    expected = np.full((40, 60), 2, np.uint8)
    expected[20:, 30:] = 255
    expected[:, :4] = 255
    np.testing.assert_array_equal(read(piece, (40, 60)), expected)

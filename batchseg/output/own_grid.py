"""What was predicted on the model's grid, brought back to a scene's own, strip by strip."""

from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window as RasterioWindow

from batchseg.inputs.source import Scene
from batchseg.job.recipe import Recipe
from batchseg.output.cog import Piece, vrt_of
from batchseg.output.layout import Layer
from batchseg.output.overviews import BLOCK, STRIP_PIXELS, scratch_profile
from batchseg.pixels.area import footprint
from batchseg.pixels.grid import Window
from batchseg.pixels.resample import nearest


def on_own_grid(
    layers: dict[Layer, list[Piece]], scene: Scene, recipe: Recipe, folder: Path
) -> dict[Layer, list[Piece]]:
    """Each layer as one file: a pixel has what was said where its centre lies, outside the area no data.

    Args:
        layers: pieces on the model's grid.
        scene: on the model's grid; its `own` is where they are brought.
        recipe: the pixel settings.
        folder: where the files go.
    """
    return {layer: [_brought(layer, pieces, scene, recipe, folder)] for layer, pieces in layers.items()}


def _brought(layer: Layer, pieces: list[Piece], scene: Scene, recipe: Recipe, folder: Path) -> Piece:
    own, path = scene.on_own_grid, folder / f"{layer}-own.tif"
    rows, cols = nearest(own.height, scene.height), nearest(own.width, scene.width)
    with rasterio.open(vrt_of(scene, recipe, layer, pieces)) as mosaic:
        profile = scratch_profile(own.height, own.width, mosaic.dtypes[0], count=mosaic.count)
        with rasterio.open(path, "w", **profile) as target:
            for at in _strips(own, scene, mosaic.count):
                wanted = rows[at.row_off : at.row_stop]
                top, stop = int(wanted[0]), int(wanted[-1]) + 1
                held = mosaic.read(window=RasterioWindow(0, top, scene.width, stop - top))
                strip = held[:, wanted - top][:, :, cols]
                _cut(strip, at, own, recipe, mosaic.nodata)
                target.write(strip, window=RasterioWindow(0, at.row_off, at.width, at.height))
    return Piece(path=str(path), window=Window(row_off=0, col_off=0, height=own.height, width=own.width))


def _strips(own: Scene, scene: Scene, bands: int) -> list[Window]:
    """Of the own grid; of either grid none holds many pixels."""
    most = STRIP_PIXELS // bands // max(own.width, scene.width * -(-scene.height // own.height))
    step = max(1, min(BLOCK, most))
    return [
        Window(row_off=row, col_off=0, height=min(step, own.height - row), width=own.width)
        for row in range(0, own.height, step)
    ]


def _cut(strip: NDArray[np.generic], at: Window, own: Scene, recipe: Recipe, nodata: float) -> None:
    """What lies outside the area of interest has no data."""
    inside = None if recipe.area is None else footprint(recipe.area, own).inside(at)
    if inside is not None:
        strip[:, ~inside] = nodata

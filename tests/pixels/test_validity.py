from pathlib import Path

import numpy as np
import pytest
import rasterio
import stacks
from conftest import reflectance, write_raster
from factories import REFLECTANCE, make_recipe, scene_of

from batchseg.inputs.source import Scene
from batchseg.pixels.fit import tile_grid
from batchseg.pixels.grid import ShardGrid
from batchseg.pixels.read import read_shards

WITHOUT = np.s_[5:9, 5:30]
"""Where the files say that there is no data."""


def valid_of(scene: Scene, nodata: float | str, bands: tuple[int, ...] = (1, 2, 3)) -> np.ndarray:
    recipe = make_recipe(nodata=nodata, bands=bands, scale=REFLECTANCE)
    shards = tuple(ShardGrid(tiles=tile_grid(recipe, 77, 101), tiles_hw=(99, 99)))
    (held,), _ = read_shards(scene, recipe, shards)
    return np.ones((77, 101), bool) if held.valid is None else held.valid


def written(folder: Path, how: str) -> Path:
    """A raster whose own nodata is said in one of all ways; the job's, 0, holds a corner."""
    pixels = reflectance(77, 101)[:3].astype("float32" if how == "NaN" else "uint16")
    pixels[:, :3, :4] = 0
    pixels[(slice(None), *WITHOUT)] = {"value": 60_000, "NaN": np.nan}.get(how, 77)
    keys = {"value": {"nodata": 60_000}, "NaN": {"nodata": np.nan}}.get(how, {})
    if how == "alpha":
        opaque = np.full((1, 77, 101), 65535, np.uint16)
        opaque[(slice(None), *WITHOUT)] = 0
        pixels = np.concatenate([pixels, opaque])
        keys = {"photometric": "RGB", "alpha": "yes"}
    path = write_raster(folder / "a.tif", pixels, **keys)
    if "mask" in how:
        held = np.ones((77, 101), bool)
        held[WITHOUT] = False
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=how == "mask"), rasterio.open(path, "r+") as dataset:
            dataset.write_mask(held)
    return path


@pytest.mark.parametrize("how", ["value", "NaN", "alpha", "mask", "mask beside it"])
def test_the_jobs_nodata_counts_beside_the_files(tmp_path: Path, how: str) -> None:
    path = written(tmp_path, how)
    files = np.ones((77, 101), bool)
    files[WITHOUT] = False
    both = files.copy()
    both[:3, :4] = False
    for scene in (
        scene_of(path),
        stacks.scene_of(path, write_raster(tmp_path / "b.tif", reflectance(77, 101)[:1])),
    ):
        np.testing.assert_array_equal(valid_of(scene, "source"), files)
        np.testing.assert_array_equal(valid_of(scene, 0.0), both)
        assert valid_of(scene, "none").all() == (how != "NaN")


def test_a_nodata_value_that_its_dtype_cannot_hold_marks_nothing(tmp_path: Path) -> None:
    vrt = tmp_path / "a.vrt"
    path = write_raster(tmp_path / "a.tif", reflectance(30, 40)[:3])
    bands = "".join(
        f'<VRTRasterBand dataType="UInt16" band="{b}"><NoDataValue>-3.4e+38</NoDataValue><SimpleSource>'
        f'<SourceFilename relativeToVRT="1">{path.name}</SourceFilename><SourceBand>{b}</SourceBand>'
        f"</SimpleSource></VRTRasterBand>"
        for b in (1, 2, 3)
    )
    vrt.write_text(f'<VRTDataset rasterXSize="40" rasterYSize="30">{bands}</VRTDataset>')
    recipe = make_recipe()
    (held,), _ = read_shards(
        scene_of(vrt, allow_vrt=True),
        recipe,
        tuple(ShardGrid(tiles=tile_grid(recipe, 30, 40), tiles_hw=(9, 9))),
    )
    assert held.valid is None

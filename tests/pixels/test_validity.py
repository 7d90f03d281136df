from pathlib import Path

import numpy as np
from conftest import reflectance, write_raster
from factories import make_recipe, scene_of

from batchseg.pixels.fit import tile_grid
from batchseg.pixels.grid import ShardGrid
from batchseg.pixels.read import read_shards


def test_nodata_that_the_job_names_replaces_the_files(tmp_path: Path) -> None:
    pixels = reflectance(77, 101)
    pixels[:, 5:9, 5:30] = 0
    scene = scene_of(write_raster(tmp_path / "a.tif", pixels, nodata=7))
    recipe = make_recipe(nodata=0.0)
    (held,), _ = read_shards(
        scene, recipe, tuple(ShardGrid(tiles=tile_grid(recipe, 77, 101), tiles_hw=(99, 99)))
    )
    assert held.valid is not None
    np.testing.assert_array_equal(held.valid, pixels[0] != 0)


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

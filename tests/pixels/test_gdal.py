from pathlib import Path

import numpy as np
import pytest
from conftest import write_raster
from factories import make_recipe, make_source, scene_of

from batchseg.errors import SourceError, SourceIOError
from batchseg.pixels.fit import tile_grid
from batchseg.pixels.gdal import check_bytes
from batchseg.pixels.grid import ShardGrid
from batchseg.pixels.read import read_shards


def test_a_jpeg_that_is_cut_off_is_refused_though_gdal_makes_up_the_rest(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 200, 300), dtype=np.uint8)
    path = write_raster(tmp_path / "a.jpg", pixels, driver="JPEG")
    recipe = make_recipe()
    shards = tuple(ShardGrid(tiles=tile_grid(recipe, 200, 300), tiles_hw=(99, 99)))
    assert len(read_shards(scene_of(path), recipe, shards)[0]) == 1
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + whole[-2:])
    with pytest.raises(SourceError, match="damaged or cut off"):
        read_shards(scene_of(path), recipe, shards)


def test_content_is_not_called_damaged_where_its_bytes_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(bytes(1000))
    check_bytes(make_source(uri=str(path)))
    path.unlink()
    path.symlink_to("/proc/self/mem")  # opens, and gives EIO where it is read
    with pytest.raises(SourceIOError, match="the storage does not give the file: Input/output error"):
        check_bytes(make_source(uri=str(path)))

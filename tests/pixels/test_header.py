from pathlib import Path

import numpy as np
import pytest
from conftest import reflectance, write_raster
from factories import make_recipe, source_of

from batchseg.errors import SourceError
from batchseg.inputs.source import Refusal
from batchseg.pixels.fit import tile_grid
from batchseg.pixels.grid import ShardGrid
from batchseg.pixels.header import read_header, read_headers_alone
from batchseg.pixels.read import read_shards


def test_a_cut_off_file_is_the_sources_fault(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", reflectance(300, 401))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    header = read_header(source_of(path))
    if isinstance(header, Refusal):
        assert not header.transient
        return
    recipe = make_recipe()
    with pytest.raises(SourceError, match="damaged or cut off") as caught:
        read_shards(header, recipe, tuple(ShardGrid(tiles=tile_grid(recipe, 300, 401), tiles_hw=(99, 99))))
    assert not caught.value.transient


def test_a_png_without_its_end_is_refused_though_gdal_reads_it(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (3, 50, 70), dtype=np.uint8)
    path = write_raster(tmp_path / "a.png", pixels, driver="PNG", compress=None, crs=None)
    path.write_bytes(path.read_bytes()[:-12])
    header = read_header(source_of(path))
    assert isinstance(header, Refusal)
    assert "cut off" in header.reason


def test_a_vanished_file_is_no_quarantine(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", reflectance(20, 30))
    source = source_of(path)
    path.unlink()
    header = read_header(source)
    assert isinstance(header, Refusal)
    assert header.transient
    assert "gone" in header.reason


def test_headers_read_alone_are_the_same(tmp_path: Path) -> None:
    good = source_of(write_raster(tmp_path / "a.tif", reflectance(20, 30)))
    (tmp_path / "b.tif").write_text("no raster")
    bad = source_of(tmp_path / "b.tif")
    assert list(read_headers_alone([good, bad], timeout=60)) == [read_header(good), read_header(bad)]

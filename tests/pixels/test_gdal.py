from pathlib import Path

import numpy as np
import pytest
from conftest import write_raster
from factories import find_sources, make_config, make_recipe, make_source, scene_of
from product_trees import OLI, landsat, packed

from batchseg.errors import SourceError, SourceIOError
from batchseg.inputs.source import Scene
from batchseg.job.settings import SceneSet
from batchseg.pixels.fit import tile_grid
from batchseg.pixels.gdal import check_bytes, storage_problem
from batchseg.pixels.grid import ShardGrid
from batchseg.pixels.header import read_header
from batchseg.pixels.read import read_shards
from batchseg.system import archives


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


@pytest.mark.parametrize("ending", ["zip", "tar"])
@pytest.mark.parametrize("where", ["begin", "middle", "whole"])
def test_damage_in_an_archive_is_the_sources_own(tmp_path, ending, where):
    noise = np.random.default_rng(1).integers(0, 2**16, (4, 300, 300), dtype=np.uint16)
    bands = {f"SR_B{number}": band for number, band in enumerate(noise, start=2)}
    made = landsat(tmp_path / "made", OLI, bands)
    archive = packed(made, tmp_path / "in" / f"{OLI}.{ending}")
    given = SceneSet(kind="landsat", path=f"{tmp_path}/in", columns=("red", "blue"))
    (source,), _ = find_sources(make_config(inputs=((None, given),)), {})
    data = bytearray(archive.read_bytes())
    member = archives.members(str(archive))[f"{OLI}_SR_B4.TIF"]
    at = member.offset or data.index(member.name.encode()) + len(member.name)
    span = {"begin": (0, 300), "middle": (60_000, 60_400), "whole": (0, member.size // 2)}[where]
    data[at + span[0] : at + span[1]] = bytes(value ^ 0x5A for value in data[at + span[0] : at + span[1]])
    archive.write_bytes(data)
    (source,), _ = find_sources(make_config(inputs=((None, given),)), {})
    assert source.problem == ""
    scene = read_header(source)
    if isinstance(scene, Scene):
        recipe = make_recipe(bands=(1, 2), all_bands=False, normalize=None)
        grid = ShardGrid(tiles=tile_grid(recipe, 300, 300), tiles_hw=(99, 99))
        try:
            read_shards(scene, recipe, tuple(grid))
        except SourceError as e:
            assert not e.transient and ("its file for red" in str(e) or "bad CRC in" in str(e))
        assert storage_problem(source) is None
        check_bytes(source)
    else:
        assert not scene.transient and scene.reason.startswith("its file for red: "), scene.reason
        assert "/vsi" not in scene.reason

"""Files with damaged blocks: what is sound equals rasterio's, the rest is marked, whatever the window."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
from conftest import SHARED, JobWriter, read_mask, reflectance, spectral_mask, write_raster
from damage import corrupt, offset_of, undecodable
from factories import make_recipe, scene_of
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.errors import RasterioIOError
from runs import run

from batchseg.errors import SourceError, SourceIOError
from batchseg.job.recipe import Recipe
from batchseg.job.settings import Scale
from batchseg.pixels.fit import tile_grid
from batchseg.pixels.grid import ShardGrid, Window
from batchseg.pixels.read import read_shards
from batchseg.pixels.windows import WindowReader
from batchseg.tools.status import read_status

HEIGHT, WIDTH = 237, 311
TILED = {"blockxsize": 64, "blockysize": 48}
STRIPED = {"tiled": False, "blockxsize": None, "blockysize": 16}


def cut_off(path: Path, row: int, col: int, band: int = 1) -> None:
    """End the file in the middle of a block."""
    offset, size = offset_of(path, row, col, band)
    path.write_bytes(path.read_bytes()[: offset + size // 2])


def whole(
    path: Path, recipe: Recipe, tiles_hw: tuple[int, int]
) -> tuple[NDArray[Any], NDArray[np.bool_], int]:
    """Pixels, validity and the number of bad pixels of a scene read in shards."""
    scene = scene_of(path)
    shape_hw = scene.height, scene.width
    pixels = np.zeros((len(recipe.bands), *shape_hw), dtype=scene.dtypes[0])
    valid = np.zeros(shape_hw, dtype=bool)
    read, _ = read_shards(
        scene, recipe, tuple(ShardGrid(tiles=tile_grid(recipe, *shape_hw), tiles_hw=tiles_hw))
    )
    for held in read:
        at = held.shard.core.slices_within(Window(row_off=0, col_off=0, height=1, width=1))
        within = held.shard.core.slices_within(held.shard.read)
        pixels[(slice(None), *at)] = held.pixels[(slice(None), *within)]
        valid[at] = True if held.valid is None else held.valid[within]
    return pixels, valid, sum(held.bad_pixels for held in read)


LAYOUTS = {
    f"{compress}, {'tiled' if blocks is TILED else 'striped'}, by {interleave}": (
        blocks | {"compress": compress, "interleave": interleave}
    )
    for compress, blocks, interleave in itertools.product(
        ("deflate", "lzw", "jpeg"), (TILED, STRIPED), ("pixel", "band")
    )
}


@pytest.mark.parametrize("damage", [corrupt, cut_off])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_sound_blocks_are_read_and_damaged_ones_invalid_whatever_the_shards(
    tmp_path: Path, layout: str, damage: object
) -> None:
    pixels = (reflectance(HEIGHT, WIDTH)[:3] // 40).astype(np.uint8)
    path = write_raster(tmp_path / "a.tif", pixels, **LAYOUTS[layout])
    with rasterio.open(path) as dataset:
        decoded = dataset.read()  # JPEG loses some
    block = (2, 1) if "tiled" in layout else (3, 0)
    damage(path, *block, band=2)  # type: ignore[operator]
    bad = undecodable(path, [1, 2, 3])
    assert bad.any()
    assert damage is cut_off or bad.mean() < 0.1
    recipe = make_recipe(on_bad_block="nodata")
    for tiles_hw in ((1, 40), (3, 4), (99, 99)):
        read, valid, bad_pixels = whole(path, recipe, tiles_hw)
        np.testing.assert_array_equal(valid, ~bad)
        np.testing.assert_array_equal(read[:, valid], decoded[:, valid])
        assert bad_pixels == np.count_nonzero(bad)
    with pytest.raises(SourceError, match="damaged or cut off"):
        whole(path, make_recipe(), (99, 99))


def test_a_damaged_band_that_the_job_does_not_read_is_no_damage(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", reflectance(HEIGHT, WIDTH), interleave="band")
    corrupt(path, 1, 1, band=4)
    recipe = make_recipe(on_bad_block="nodata", scale=Scale(kind="divide", low=(0.0,), high=(1e4,)))
    (held,), _ = read_shards(
        scene_of(path), recipe, tuple(ShardGrid(tiles=tile_grid(recipe, HEIGHT, WIDTH), tiles_hw=(99, 99)))
    )
    assert held.bad_pixels == 0


class Raster:
    """A raster in memory whose pixels fail to be read where they are -1."""

    def __init__(self, pixels: NDArray[np.int16]) -> None:
        self.pixels, self.reads = pixels, 0

    def read(self, window: object) -> NDArray[np.int16]:
        self.reads += 1
        part = self.pixels[window.toslices()]  # type: ignore[attr-defined]
        assert part.size
        if (part < 0).any():
            raise RasterioIOError("block")
        return part[None]


@st.composite
def damaged(draw: st.DrawFn) -> tuple[NDArray[np.int16], tuple[int, int]]:
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    block_hw = draw(st.integers(1, 17)), draw(st.integers(1, 17))
    pixels = np.arange(height * width, dtype=np.int16).reshape(height, width)
    rows, cols = (range(-(-size // block)) for size, block in zip((height, width), block_hw, strict=True))
    every = list(itertools.product(rows, cols))
    for row, col in draw(st.lists(st.sampled_from(every), max_size=6)):
        pixels[row * block_hw[0] : (row + 1) * block_hw[0], col * block_hw[1] : (col + 1) * block_hw[1]] = -1
    return pixels, block_hw


@settings(deadline=None, max_examples=150)
@given(damaged(), st.data())
def test_any_window_shows_the_same_damage(
    case: tuple[NDArray[np.int16], tuple[int, int]], data: st.DataObject
) -> None:
    pixels, block_hw = case
    height, width = pixels.shape
    row, col = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    at = Window(
        row_off=row,
        col_off=col,
        height=data.draw(st.integers(1, height - row)),
        width=data.draw(st.integers(1, width - col)),
    )
    raster = Raster(pixels)
    reader = WindowReader(at, raster_hw=(height, width), block_hw=block_hw, is_damage=lambda: True)
    answer = reader.pixels(raster.read, bands=1, dtype=np.dtype(np.int16))
    part = pixels[at.row_off : at.row_stop, at.col_off : at.col_stop]
    np.testing.assert_array_equal(answer[0], np.maximum(part, 0))
    bad = np.zeros_like(part, dtype=bool) if reader.bad is None else reader.bad
    np.testing.assert_array_equal(bad, part < 0)


def test_few_reads_find_few_damaged_blocks() -> None:
    pixels = np.zeros((4096, 6000), dtype=np.int16)
    pixels[640:656, 1280:1296] = -1
    raster = Raster(pixels)
    whole = Window(row_off=0, col_off=0, height=4096, width=6000)
    reader = WindowReader(whole, raster_hw=(4096, 6000), block_hw=(16, 16), is_damage=lambda: True)
    reader.pixels(raster.read, bands=1, dtype=np.dtype(np.int16))
    assert reader.bad is not None
    assert np.count_nonzero(reader.bad) == 256
    assert raster.reads < 50  # of 96,000 blocks


def test_what_the_storage_fails_to_give_is_no_damage() -> None:
    raster = Raster(np.full((5, 7), -1, dtype=np.int16))
    at = Window(row_off=0, col_off=0, height=5, width=7)
    for is_damage in (None, lambda: False):
        reader = WindowReader(at, raster_hw=(5, 7), block_hw=(2, 2), is_damage=is_damage)
        with pytest.raises(RasterioIOError):
            reader.pixels(raster.read, bands=1, dtype=np.dtype(np.int16))
        assert reader.bad is None


def test_a_read_that_fails_once_is_no_damage() -> None:
    slips: Iterator[bool] = iter([True, True])

    def read(window: object) -> NDArray[np.uint8]:
        if next(slips, False):
            raise RasterioIOError("a slip")
        return np.ones((1, 5, 7), dtype=np.uint8)

    at = Window(row_off=0, col_off=0, height=5, width=7)
    reader = WindowReader(at, raster_hw=(5, 7), block_hw=(9, 9), is_damage=lambda: True)
    assert reader.pixels(read, bands=1, dtype=np.dtype(np.uint8)).all()
    assert reader.bad is None or not reader.bad.any()


def test_a_file_that_is_gone_is_the_storages_fault_under_nodata_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_raster(tmp_path / "a.tif", reflectance(HEIGHT, WIDTH)[:3])
    corrupt(path, 0, 0)
    scene = scene_of(path)
    recipe = make_recipe(on_bad_block="nodata", scale=Scale(kind="divide", low=(0.0,), high=(1e4,)))
    monkeypatch.setattr("batchseg.pixels.gdal.storage_problem", lambda source: "the disk is gone")
    with pytest.raises(SourceIOError, match="disk is gone"):
        read_shards(scene, recipe, tuple(ShardGrid(tiles=tile_grid(recipe, HEIGHT, WIDTH), tiles_hw=(9, 9))))


@pytest.mark.parametrize("kind", ["internal", "sidecar", "sidecar of other blocks"])
def test_pixels_whose_mask_is_damaged_are_invalid(tmp_path: Path, kind: str) -> None:
    pixels = (reflectance(HEIGHT, WIDTH)[:3] // 40).astype(np.uint8)
    wanted = np.random.default_rng(1).random((HEIGHT, WIDTH)) < 0.7
    path = write_raster(tmp_path / "a.tif", pixels)
    if kind != "sidecar of other blocks":
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=kind == "internal"), rasterio.open(path, "r+") as dataset:
            dataset.write_mask(wanted)
    else:
        mask = wanted[None].astype(np.uint8) * 255
        side = write_raster(tmp_path / "a.tif.msk", mask, blockxsize=80, blockysize=112)
        with rasterio.open(side, "r+") as dataset:
            dataset.update_tags(**{f"INTERNAL_MASK_FLAGS_{band}": "2" for band in (1, 2, 3)})
    if kind == "internal":  # the mask's blocks are the file's last bytes
        path.write_bytes(path.read_bytes()[:-60] + b"\xff" * 60)
    else:
        corrupt(path.with_name("a.tif.msk"), 0, 0)
    recipe = make_recipe(on_bad_block="nodata")
    first = whole(path, recipe, (1, 1))
    for tiles_hw in ((3, 40), (99, 99)):
        again = whole(path, recipe, tiles_hw)
        np.testing.assert_array_equal(again[1], first[1])
        assert again[2] == first[2]
    read, valid, bad_pixels = first
    assert 0 < bad_pixels < 0.9 * HEIGHT * WIDTH
    assert not (valid & ~wanted).any()
    assert 0 < np.count_nonzero(wanted & ~valid) < bad_pixels
    np.testing.assert_array_equal(read[:, valid], pixels[:, valid])


def test_damaged_blocks_are_nodata_in_the_mask_and_counted(tmp_path: Path, write_job: JobWriter) -> None:
    pixels = reflectance(HEIGHT, WIDTH)
    path = write_raster(tmp_path / "in" / "a.tif", pixels, **TILED)
    write_raster(tmp_path / "in" / "sound.tif", pixels)
    corrupt(path, 1, 2)
    corrupt(path, 4, 4)
    bad = undecodable(path, [1, 2, 3, 4])
    job = write_job()
    assert [record.source_id for record in run(job).refused] == ["a.tif"]
    again = run(job)
    assert (again.tally.done, again.still_quarantined) == (0, 1)
    # The job that quarantined it has another way with it now; its sound scene is not predicted again.
    before = b""
    for shards in (1, 9):
        report = run(job, "on_bad_block=nodata", f"shard_tiles={shards}")
        assert [(r.source_id, r.bad_pixels) for r in report.damaged] == [("a.tif", np.count_nonzero(bad))]
        assert (report.tally.done, report.skipped, report.refused) == (1, 1, ())
        assert "cannot be decoded; they are nodata" in Path(report.log).read_text()
        np.testing.assert_array_equal(
            read_mask(tmp_path / "out", "a.tif"), spectral_mask(pixels, 10_000, ~bad)
        )
        mask = tmp_path / "out" / "masks" / "a.tif"
        assert before in (b"", mask.read_bytes())
        before = mask.read_bytes()
        mask.unlink()
    (row,) = pq.read_table(
        tmp_path / "out" / "items" / "items.parquet", filters=[("source_id", "=", "a.tif")]
    ).to_pylist()
    assert row["bad_pixels"] == np.count_nonzero(bad)
    (damaged,) = read_status(str(tmp_path / "out")).damaged
    assert damaged.bad_share == pytest.approx(bad.mean())


def test_blocks_are_left_out_of_geotiff_alone(tmp_path: Path, write_job: JobWriter, models: Path) -> None:
    path = write_raster(tmp_path / "src" / "a.tif", (reflectance(90, 130)[:3] // 40).astype(np.uint8))
    corrupt(path, 0, 1)
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{b}"><SimpleSource><SourceFilename relativeToVRT="0">{path}'
        f"</SourceFilename><SourceBand>{b}</SourceBand></SimpleSource></VRTRasterBand>"
        for b in (1, 2, 3)
    )
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.vrt").write_text(
        f'<VRTDataset rasterXSize="130" rasterYSize="90">{bands}</VRTDataset>'
    )
    keys = {"model": str(models / "conv"), "bands": [1, 2, 3], "scale": {"divide": 1}, "classes": None}
    job = write_job(inputs="in/*.vrt", allow_vrt=True, on_bad_block="nodata", **keys)
    (refused,) = run(job).refused
    assert "GeoTIFF alone, not of VRT" in refused.error
    assert run(job).still_quarantined == 1


@pytest.mark.parametrize("name", ["naip_cog_truncated_50pct.tif", "rasterio_corrupt_jpeg_tile.tif"])
def test_real_damaged_files(name: str) -> None:
    path = SHARED / "bad" / "other" / name
    if not path.exists():
        pytest.skip("no real imagery: set BATCHSEG_DATA")
    bad = undecodable(path, [1, 2, 3])
    recipe = make_recipe(on_bad_block="nodata", tile_size=512, halo=64)
    for tiles_hw in ((1, 1), (9, 9)):
        pixels, valid, bad_pixels = whole(path, recipe, tiles_hw)
        assert bad_pixels == np.count_nonzero(bad) > 0
        assert not valid[bad].any()
        with rasterio.open(path) as dataset:
            for _, window in dataset.block_windows(1):
                at = window.toslices()
                if not bad[at].any():
                    sound = dataset.dataset_mask(window=window) > 0
                    np.testing.assert_array_equal(valid[at], sound)
                    expected = dataset.read([1, 2, 3], window=window)[:, sound]
                    np.testing.assert_array_equal(pixels[(slice(None), *at)][:, sound], expected)

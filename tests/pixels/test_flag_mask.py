import numpy as np
import pytest
import rasterio
from conftest import UTM, write_raster
from factories import find_sources, make_config, make_recipe, make_scene, make_source
from hypothesis import given
from hypothesis import strategies as st
from rasterio.transform import Affine
from rasterio.windows import Window
from stacks import read

from batchseg.errors import SourceError
from batchseg.inputs.scene_rows import current_tag
from batchseg.inputs.source import Refusal, Scene, SourceMask
from batchseg.job.settings import MaskFlags, SceneSet
from batchseg.pixels.flag_mask import FlagMask
from batchseg.pixels.header import read_header

HALF = Affine(20.0, 0.0, UTM.c, 0.0, -20.0, UTM.f)
WHOLE = Window(0, 0, 60, 40)


def scene_of(folder, flags, bands, transform=UTM, dtype=None, **mask) -> Scene | Refusal:
    for name, pixels in (("red", bands[0]), ("nir", bands[1])):
        write_raster(folder / f"a_{name}.tif", pixels[None])
    write_raster(folder / "a_qa.tif", flags[None], transform=transform)
    patterns = tuple((name, f"{folder}/{{scene}}_{name}.tif") for name in ("red", "nir"))
    flags_of = MaskFlags(file=f"{folder}/{{scene}}_qa.tif", **{"by": "bits", "numbers": (3, 4)} | mask)
    given_set = SceneSet(kind="bands", patterns=patterns, mask=flags_of)
    (source,), _ = find_sources(make_config(inputs=((None, given_set),)), {})
    assert current_tag(source) == source.tag
    return read_header(source)


@pytest.fixture
def bands():
    return np.random.default_rng(1).integers(1, 9000, (2, 40, 60), dtype=np.uint16)


@given(bits=st.sets(st.integers(0, 15), min_size=1), seed=st.integers(0, 99))
def test_bits_are_numpys_bit_test(tmp_path_factory, bits, seed):
    flags = np.random.default_rng(seed).integers(0, 2**16, (40, 60), dtype=np.uint16)
    path = write_raster(tmp_path_factory.mktemp("f") / "qa.tif", flags[None])
    with rasterio.open(path) as one, rasterio.open(path) as other:
        mask = FlagMask(one, other, SourceMask(uri=str(path), by="bits", numbers=tuple(sorted(bits))))
        marked = np.zeros(flags.shape, bool)
        for bit in bits:
            marked |= (flags >> bit) % 2 == 1
        np.testing.assert_array_equal(mask.unmarked(WHOLE), ~marked)
        np.testing.assert_array_equal(mask.unmarked(Window(7, 5, 30, 20)), ~marked[5:25, 7:37])


@given(bands=st.sets(st.integers(1, 3), min_size=1), seed=st.integers(0, 9))
def test_bands_are_flags_of_their_own(tmp_path_factory, bands, seed):
    flags = np.random.default_rng(seed).integers(0, 2, (3, 20, 30), dtype=np.uint8)
    folder = tmp_path_factory.mktemp("f")
    fine = write_raster(folder / "red.tif", np.zeros((1, 40, 60), np.uint8))
    path = write_raster(folder / "classes.tif", flags, transform=HALF)
    with rasterio.open(path) as one, rasterio.open(path) as same, rasterio.open(fine) as other:
        asked = SourceMask(uri=str(path), by="bands", numbers=tuple(sorted(bands)))
        marked = flags[[band - 1 for band in bands]].any(axis=0)
        window = Window(0, 0, 30, 20)
        np.testing.assert_array_equal(FlagMask(one, same, asked).unmarked(window), ~marked)
        wide = np.kron(marked, np.ones((2, 2), bool))
        np.testing.assert_array_equal(FlagMask(one, other, asked).unmarked(WHOLE), ~wide)


def test_a_band_that_is_not_there_is_refused(tmp_path):
    path = write_raster(tmp_path / "qa.tif", np.zeros((2, 40, 60), np.uint8))
    with rasterio.open(path) as one, pytest.raises(SourceError, match=r"has 2 bands; band 3 is to be a flag"):
        FlagMask(one, one, SourceMask(uri=str(path), by="bands", numbers=(3,)))


def test_marked_pixels_have_no_data_like_nodata(tmp_path, bands):
    flags = np.random.default_rng(2).integers(0, 64, (40, 60), dtype=np.uint16)
    scene = scene_of(tmp_path, flags, bands)
    pixels, valid = read(scene)
    unmarked = (flags & 0b11000) == 0
    np.testing.assert_array_equal(valid, unmarked)
    np.testing.assert_array_equal(pixels[:, unmarked], bands[:, unmarked])
    _, by_parts = read(scene, tiles_hw=(1, 2))
    np.testing.assert_array_equal(by_parts, unmarked)
    _, valid = read(scene, nodata="none")
    np.testing.assert_array_equal(valid, unmarked)
    bands[:, :3] = 77
    _, valid = read(scene_of(tmp_path, flags, bands), nodata=77)
    np.testing.assert_array_equal(valid, unmarked & (bands != 77).any(axis=0))


def test_of_another_grid_the_nearest_pixel_counts_and_its_own_nodata_is_a_flag(tmp_path, bands):
    flags = np.random.default_rng(2).integers(0, 12, (20, 30), dtype=np.uint8)
    scene = scene_of(tmp_path, flags, bands, transform=HALF, by="values", numbers=(0, 3, 8, 9))
    with rasterio.open(tmp_path / "a_qa.tif", "r+") as dataset:
        dataset.nodata = 0
    unmarked = ~np.isin(np.kron(flags, np.ones((2, 2), np.uint8)), (0, 3, 8, 9))
    scene = scene_of(tmp_path, flags, bands, transform=HALF, by="values", numbers=(0, 3, 8, 9))
    for tiles_hw in ((99, 99), (1, 1)):
        _, valid = read(scene, tiles_hw=tiles_hw)
        np.testing.assert_array_equal(valid, unmarked)


def test_where_the_flags_end_nothing_is_known(tmp_path, bands):
    flags = np.zeros((10, 30), np.uint8)
    _, valid = read(scene_of(tmp_path, flags, bands, transform=HALF))
    assert valid[:20].all() and not valid[20:].any()


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.zeros((40, 60), np.float32), "its file for the mask: a_qa.tif holds float32; flags are whole"),
        (np.zeros((2, 40, 60), np.uint8), "its file for the mask: a_qa.tif has 2 bands; a mask has one"),
    ],
)
def test_other_rasters_are_refused(tmp_path, bands, pixels, words):
    write_raster(tmp_path / "x.tif", bands)
    scene = scene_of(tmp_path, pixels if pixels.ndim == 2 else pixels[0], bands)
    if pixels.ndim == 3:
        write_raster(tmp_path / "a_qa.tif", pixels)
        scene = read_header(scene.source)
    assert isinstance(scene, Refusal) and scene.reason.startswith(words), scene


def test_a_mask_that_is_no_raster_or_changes_is_seen(tmp_path, bands):
    flags = np.zeros((40, 60), np.uint8)
    source = scene_of(tmp_path, flags, bands).source
    (tmp_path / "a_qa.tif").write_bytes(b"no raster at all")
    assert current_tag(source) != source.tag
    refused = read_header(source)
    assert isinstance(refused, Refusal) and "its file for the mask: no raster" in refused.reason
    (tmp_path / "a_qa.tif").unlink()
    assert current_tag(source) is None
    other = scene_of(tmp_path, flags, bands, numbers=(3,)).source
    assert other.tag != scene_of(tmp_path, flags, bands, numbers=(4,)).source.tag


def test_recipes_remember_masks_and_those_without_keep_their_digest():
    assert "mask" not in make_recipe().settings()
    assert make_recipe(masks=("clouds",)).settings()["mask"] == ["clouds"]
    assert make_scene(source=make_source("a")).source.mask is None

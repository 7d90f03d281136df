from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import write_raster
from factories import find_sources, make_config, make_recipe
from hypothesis import given
from hypothesis import strategies as st
from photographs import encoded, listed, spotted
from rasterio.transform import Affine

from batchseg.errors import ConfigError
from batchseg.inputs.scene_rows import some_sources
from batchseg.job.resolution import ModelGrid, Resolution
from batchseg.job.settings import Fit, Scale
from batchseg.predict import samples as samples_module
from batchseg.predict.samples import (
    CROP_BYTES,
    CROP_SIDE,
    LEAST_SIDE,
    Sample,
    sample_crops,
    source_shapes,
    spread_over,
)


def sources(folder: Path):
    return find_sources(make_config(inputs=((None, f"{folder}/*.tif"),)), {})[0]


@given(st.integers(0, 1000), st.integers(1, 20))
def test_indices_are_spread_over_the_whole(length, count):
    indices = spread_over(length, count)
    assert indices == sorted(set(indices))
    assert len(indices) == min(length, count)
    assert all(0 <= index < length for index in indices)
    if indices:
        assert max(np.diff([-1, *indices, length])) <= 2 * -(-length // len(indices))


def test_crops_are_the_rasters_own_pixels_and_bad_files_are_passed_over(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(1, 256, (3, 60, 90), dtype=np.uint8)
    write_raster(tmp_path / "b.tif", pixels)
    write_raster(tmp_path / "c.tif", pixels[:2])  # fits no job of three bands
    (tmp_path / "a.tif").write_text("no raster")
    recipe = make_recipe()
    found = sample_crops(recipe, sources(tmp_path))
    (sample,) = found.crops
    np.testing.assert_array_equal(sample.pixels, pixels)
    assert (sample.scale, found.shapes_hw) == (recipe.scale, ((60, 90),))
    assert source_shapes(recipe, sources(tmp_path)) == ((60, 90),)


def here(function, items, *arguments, timeout):
    """In this process, where numbers are smaller."""
    return (function(item, *arguments) for item in items)


@pytest.fixture
def small_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples_module, "each_in_fresh_process", here)
    monkeypatch.setattr(samples_module, "CROP_SIDE", 16)
    monkeypatch.setattr(samples_module, "LEAST_SIDE", 16)


def places(sample: Sample, rasters: dict[str, np.ndarray]) -> list[tuple[str, int, int]]:
    """Where a crop lies: of a raster that counts its pixels the first one tells."""
    first = int(sample.pixels[0, 0, 0])
    found = [
        (name, *np.argwhere(raster[0] == first)[0]) for name, raster in rasters.items() if first in raster
    ]
    for name, row, col in found:
        height, width = sample.pixels.shape[1:]
        held = rasters[name][:, row : row + height, col : col + width]
        np.testing.assert_array_equal(sample.pixels, held)
    return found


@pytest.mark.usefixtures("small_crops")
def test_crops_are_spread_over_scenes_and_within_them(tmp_path: Path) -> None:
    rasters = {}
    for number, name in enumerate("ab"):
        counted = 1 + np.arange(96 * 128, dtype=np.uint16).reshape(96, 128) + number * 20_000
        rasters[name] = np.stack([counted] * 3)
        write_raster(tmp_path / f"{name}.tif", rasters[name])
    recipe = make_recipe(scale=Scale(kind="stretch", low=(0.0,), high=(65535.0,)))
    crops = sample_crops(recipe, sources(tmp_path), crops=8).crops
    found = [place for sample in crops for place in places(sample, rasters)]
    assert [name for name, _, _ in found] == ["a", "b"] * 4
    assert len(set(found)) == 8
    for name in "ab":
        rows = [row for which, row, _ in found if which == name]
        assert max(rows) - min(rows) >= 32


@pytest.mark.usefixtures("small_crops")
def test_crops_with_most_valid_pixels_come_first_and_empty_scenes_leave_others_their_share(tmp_path) -> None:
    pixels = np.random.default_rng(0).integers(1, 256, (3, 64, 64), dtype=np.uint8)
    half = pixels.copy()
    half[:, :, :40] = 0  # two and a half of four columns of tiles
    write_raster(tmp_path / "a.tif", half, nodata=0)
    write_raster(tmp_path / "b.tif", np.zeros_like(pixels), nodata=0)
    crops = sample_crops(make_recipe(), sources(tmp_path), crops=12).crops
    valid = [int(sample.pixels.any(axis=0).sum()) for sample in crops]
    assert 0 not in valid
    assert valid[0] == 256
    assert valid == sorted(valid, reverse=True)


def test_where_no_source_gives_a_tile_the_job_is_told_what_says_why(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_text("no raster")
    with pytest.raises(ConfigError, match=r"no source gave a tile: .* `batchseg plan` says why"):
        sample_crops(make_recipe(), sources(tmp_path))


@pytest.mark.usefixtures("small_crops")
@pytest.mark.parametrize("fit", ["tile", "resize"])
def test_photographs_give_what_the_network_will_see_of_them(tmp_path: Path, fit: Fit) -> None:
    grey = spotted(40, 61, seed=1)[..., :1]
    for name, data in (("a.png", encoded(grey[..., 0])), ("b.jpg", b"no photograph")):
        (tmp_path / name).write_bytes(data)
    recipe = make_recipe(fit=fit, halo=0 if fit == "resize" else 3)
    images = some_sources(listed(tmp_path), make_config())
    found = sample_crops(recipe, images)
    (sample,) = found.crops
    assert sample.pixels.shape == (3, 16, 16)
    whole = np.repeat(grey, 3, axis=2)
    if fit == "resize":
        np.testing.assert_array_equal(sample.pixels, cv2.resize(whole, (16, 16)).transpose(2, 0, 1))
    else:  # of its middle
        np.testing.assert_array_equal(sample.pixels, whole[12:28, 22:38].transpose(2, 0, 1))
    assert found.shapes_hw == source_shapes(recipe, images) == ((40, 61),)


@given(st.integers(1, 64))
def test_a_crop_is_no_larger_than_the_largest_tile_and_its_bytes_allow(bytes_per_pixel: int) -> None:
    side = samples_module._crop_side(bytes_per_pixel)
    assert side % LEAST_SIDE == 0
    assert LEAST_SIDE <= side <= CROP_SIDE
    assert side**2 * bytes_per_pixel <= CROP_BYTES


def test_crops_and_sizes_are_those_of_the_models_grid(tmp_path: Path) -> None:
    blocks = np.random.default_rng(0).integers(1, 256, (3, 90, 70), dtype=np.uint8)
    quarter = Affine(0.25, 0.0, 500_000.0, 0.0, -0.25, 4_600_000.0)
    write_raster(tmp_path / "a.tif", np.kron(blocks, np.ones((1, 4, 4), np.uint8)), transform=quarter)
    recipe = make_recipe(model_grid=ModelGrid(resolution=Resolution(1.0)))
    samples = sample_crops(recipe, sources(tmp_path))
    (crop,) = samples.crops
    np.testing.assert_array_equal(crop.pixels, blocks)
    assert samples.shapes_hw == source_shapes(recipe, sources(tmp_path)) == ((90, 70),)

from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import write_raster
from factories import find_sources, make_config, make_recipe
from hypothesis import given
from hypothesis import strategies as st
from photographs import encoded, listed, spotted

from batchseg.errors import ConfigError
from batchseg.inputs.scene_rows import some_sources
from batchseg.job.settings import Fit
from batchseg.predict.samples import spread_over


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


def test_tiles_are_the_rasters_own_pixels_and_bad_files_are_passed_over(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(1, 256, (3, 60, 90), dtype=np.uint8)
    write_raster(tmp_path / "b.tif", pixels)
    (tmp_path / "a.tif").write_text("no raster")
    recipe = make_recipe()
    samples = sample_tiles(recipe, sources(tmp_path), 4)
    assert len(samples) == 4
    tiles = {
        pixels[:, row : row + 16, col : col + 16].tobytes() for row in range(-3, 60) for col in range(-3, 90)
    }
    inside = [sample for sample in samples if sample.pixels.tobytes() in tiles]
    assert inside
    assert all(sample.pixels.shape == (3, 16, 16) for sample in samples)
    assert all(sample.scale == recipe.scale for sample in samples)


def test_where_no_source_gives_a_tile_the_job_must_name_an_engine(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_text("no raster")
    with pytest.raises(ConfigError, match="name the model's own `engine`"):
        sample_tiles(make_recipe(), sources(tmp_path), 4)


@pytest.mark.parametrize("fit", ["tile", "resize"])
def test_photographs_give_what_the_network_will_see_of_them(tmp_path: Path, fit: Fit) -> None:
    grey = spotted(40, 61, seed=1)[..., :1]
    for name, data in (("a.png", encoded(grey[..., 0])), ("b.jpg", b"no photograph")):
        (tmp_path / name).write_bytes(data)
    recipe = make_recipe(fit=fit, halo=0 if fit == "resize" else 3)
    (sample,) = sample_tiles(recipe, some_sources(listed(tmp_path), make_config()), 4)
    assert sample.pixels.shape == (3, 16, 16)
    whole = np.repeat(grey, 3, axis=2)
    if fit == "resize":
        np.testing.assert_array_equal(sample.pixels, cv2.resize(whole, (16, 16)).transpose(2, 0, 1))
    else:
        around = np.pad(whole, ((3, 16), (3, 16), (0, 0)), mode="reflect")
        windows = np.lib.stride_tricks.sliding_window_view(around, (16, 16), axis=(0, 1))
        assert (windows == sample.pixels).all(axis=(2, 3, 4)).any()

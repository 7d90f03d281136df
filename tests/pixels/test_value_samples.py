"""Windows all over a scene, of what holds data; what cannot be read is left out."""

from pathlib import Path

import numpy as np
from conftest import write_raster
from factories import find_sources, make_config, make_recipe

from batchseg.inputs.source import Scene
from batchseg.pixels.header import read_header
from batchseg.pixels.value_samples import (
    METADATA,
    WINDOW,
    WINDOWS,
    chosen_scenes,
    sample_alone,
    sample_scenes,
)


def scenes_in(folder: Path) -> list[Scene]:
    found = find_sources(make_config(inputs=((None, f"{folder}/*.tif"),)), {})[0]
    return [header for header in map(read_header, found) if isinstance(header, Scene)]


def test_windows_hold_the_scenes_own_pixels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(1, 5000, (3, 700, 900), dtype=np.uint16)
    write_raster(tmp_path / "a.tif", pixels)
    (sample,) = sample_scenes(scenes_in(tmp_path), make_recipe())
    assert (sample.source_id, sample.dtype) == ("a.tif", "uint16")
    assert WINDOWS // 2 * WINDOW**2 < sample.pixels.shape[1] <= WINDOWS * WINDOW**2
    known = {tuple(pixel) for pixel in pixels.reshape(3, -1).T.tolist()}
    assert {tuple(pixel) for pixel in sample.pixels.T.tolist()} <= known


def test_only_valid_pixels_count(tmp_path: Path) -> None:
    pixels = np.zeros((3, 700, 900), np.uint8)
    pixels[:, 300:] = 9
    write_raster(tmp_path / "a.tif", pixels, nodata=0)
    write_raster(tmp_path / "b.tif", np.zeros((3, 50, 60), np.uint8), nodata=0)
    (sample,) = sample_scenes(scenes_in(tmp_path), make_recipe())
    assert np.unique(sample.pixels).tolist() == [9]


def test_what_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(1, 250, (3, 300, 400), dtype=np.uint8)
    whole = write_raster(tmp_path / "a.tif", pixels)
    write_raster(tmp_path / "b.tif", pixels)
    scenes = scenes_in(tmp_path)
    data = whole.read_bytes()
    whole.write_bytes(data[: len(data) // 3])
    assert [sample.source_id for sample in sample_alone(scenes, make_recipe())] == ["b.tif"]


def test_a_scene_without_a_scale_is_sampled_for_what_it_holds(tmp_path: Path) -> None:
    write_raster(tmp_path / "a.tif", np.full((3, 70, 90), 900, np.uint16))
    (sample,) = sample_scenes(scenes_in(tmp_path), make_recipe(scale=METADATA))
    assert sample.said is None
    assert np.unique(sample.pixels).tolist() == [900]


def test_few_of_many_scenes_are_looked_at(tmp_path: Path) -> None:
    for number in range(7):
        write_raster(tmp_path / f"{number}.tif", np.ones((3, 20, 30), np.uint8))
    assert [scene.source.source_id for scene in chosen_scenes(scenes_in(tmp_path))] == [
        "1.tif",
        "3.tif",
        "5.tif",
    ]
    assert chosen_scenes([]) == []

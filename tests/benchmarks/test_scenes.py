"""benchmarks.scenes: a city's neighbouring images as one scene, and a part of it."""

from pathlib import Path

import numpy as np
import rasterio
from PIL import Image

from benchmarks import scenes


def make_images(data: Path) -> None:
    """Nine images, three by three, of one shade each; one is a row taller than the others."""
    folder = data / "dubai-mbrsc" / "Set" / "Tile 7" / "images"
    folder.mkdir(parents=True)
    for number in range(9):
        shape_hw = (65 if number == 4 else 64, 48)
        pixels = np.full((*shape_hw, 3), 20 * number, np.uint8)
        Image.fromarray(pixels).save(folder / f"image_part_{number + 1:03d}.jpg", quality=95)


def test_neighbouring_images_are_joined_row_by_row_and_mirrored(tmp_path: Path) -> None:
    make_images(tmp_path)
    path = scenes.city_scene(tmp_path, 300, tmp_path)
    with rasterio.open(path) as dataset:
        assert (dataset.count, dataset.shape, dataset.dtypes[0]) == (3, (300, 300), "uint8")
        assert dataset.compression.name == "deflate"
        assert dataset.block_shapes[0] == (512, 512)
        assert dataset.res == (1.0, 1.0)
        band = dataset.read(1).astype(int)
    # Three images of 64 x 48 each way are 192 x 144 pixels; behind them they come back.
    shades = band[32:192:64, 24:144:48].ravel()
    assert np.abs(shades - 20 * np.arange(9)).max() <= 2
    assert (band[:, 144:288] == band[:, 143::-1]).all()
    assert scenes.city_scene(tmp_path, 300, tmp_path) == path


def test_without_images_the_scene_is_noise(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(scenes, "CROP", 512)
    path = scenes.city_scene(tmp_path, 600, None)
    assert path.name.startswith("noise")
    part = scenes.part_of(path, tmp_path, 128)
    with rasterio.open(path) as whole, rasterio.open(part) as cut:
        assert cut.res == (1.0, 1.0)
        assert (cut.read() == whole.read()[:, :128, :128]).all()

"""Scenes of any size that compress as imagery does, and where to find real ones."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.transform import Affine
from rasterio.windows import Window
from scipy.ndimage import zoom

from benchmarks.record import SkippedError

BLOCK = 512

CROP = 2048
"""Pixels per side of generated content, which is then mirrored side by side as a real crop is."""

LOSSLESS = ("lzw", "deflate", "zstd", None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A scene's pixels and their coding."""

    dtype: str
    bands: int
    compress: str

    @property
    def name(self) -> str:
        return f"{self.bands}-{self.dtype}-{self.compress}"

    def profile(self) -> dict[str, object]:
        """Of GDAL: tiled, as archives' files are."""
        tiled = {"driver": "GTiff", "tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK}
        coding = {"photometric": "ycbcr", "jpeg_quality": 85} if self.compress == "jpeg" else {"predictor": 2}
        shape = {"count": self.bands, "dtype": self.dtype, "compress": self.compress}
        return {**tiled, **shape, **coding, "interleave": "pixel", "bigtiff": "if_safer"}


CITY = Kind(dtype="uint8", bands=3, compress="deflate")

CITY_IMAGES = "dubai-mbrsc/*/Tile 7/images/*.jpg"
"""Nine neighbours, three by three, which training and its choices never read (models/landcover)."""


def make_scene(folder: Path, kind: Kind, shape_hw: tuple[int, int], data: Path | None) -> Path:
    """A GeoTIFF of the user's imagery, or of noise, mirrored side by side; made once."""
    height, width = shape_hw
    content = None if data is None else real_crop(data, kind)
    path = folder / f"{'noise' if content is None else 'real'}-{kind.name}-{height}x{width}.tif"
    if not path.exists():
        write_scene(path, kind, shape_hw, smooth_noise(kind) if content is None else content)
    return path


def city_scene(folder: Path, side: int, data: Path | None) -> Path:
    """What models/landcover was made for, pixels of 1 m: images of the city that it never saw, mirrored side
    by side; noise where the data folder has none. Made once."""
    tiles = [] if data is None else sorted(data.glob(CITY_IMAGES))
    path = folder / f"{'city' if tiles else 'noise'}-{side}x{side}.tif"
    if not path.exists():
        content = _joined(tiles) if tiles else smooth_noise(CITY)
        write_scene(path, CITY, (side, side), content, pixel=1.0)
    return path


def part_of(scene: Path, folder: Path, side: int) -> Path:
    """The first rows and columns of a scene of three bands, as a scene of its own; made once."""
    path = folder / f"{scene.stem}-{side}.tif"
    if not path.exists():
        with rasterio.open(scene) as dataset:
            pixels = dataset.read([1, 2, 3], window=Window(0, 0, side, side))
            pixel = abs(dataset.transform.a)
        write_scene(path, CITY, pixels.shape[1:], pixels, pixel=pixel)
    return path


def _joined(images: Sequence[Path]) -> NDArray[np.uint8]:
    """(bands, height, width) of neighbouring images, which are numbered row by row; they differ by a pixel in
    size."""
    pixels = [np.asarray(Image.open(path).convert("RGB")) for path in images]
    height, width = (min(image.shape[axis] for image in pixels) for axis in (0, 1))
    across = max(1, math.isqrt(len(pixels)))
    rows = [
        np.concatenate([image[:height, :width] for image in pixels[first : first + across]], axis=1)
        for first in range(0, across * across, across)
    ]
    return np.ascontiguousarray(np.moveaxis(np.concatenate(rows), -1, 0))


def write_scene(
    path: Path, kind: Kind, shape_hw: tuple[int, int], crop: NDArray[np.generic], *, pixel: float = 10.0
) -> None:
    """A crop of (bands, height, width), mirrored side by side; `pixel` is the side of one in metres."""
    height, width = shape_hw
    rows, cols = mirrored(height, crop.shape[1]), mirrored(width, crop.shape[2])
    part = path.with_suffix(".part.tif")
    place = {"crs": "EPSG:32633", "transform": Affine(pixel, 0, 500_000, 0, -pixel, 5_400_000)}
    with rasterio.open(
        part, "w", height=height, width=width, num_threads="ALL_CPUS", **kind.profile(), **place
    ) as dataset:
        for top in range(0, height, BLOCK):
            strip = crop[:, rows[top : top + BLOCK]][:, :, cols]
            dataset.write(strip, window=Window(0, top, width, strip.shape[1]))
    part.rename(path)


def mirrored(length: int, size: int) -> NDArray[np.intp]:
    """Indices of a crop's rows that go there and back.

    >>> mirrored(7, 3).tolist()
    [0, 1, 2, 2, 1, 0, 0]
    """
    there = np.arange(length) % (2 * size)
    return np.where(there < size, there, 2 * size - 1 - there)


def smooth_noise(kind: Kind) -> NDArray[np.generic]:
    """Shapes from 2 to 256 pixels that the bands share, shades of their own, and a sensor's noise.

    Deflate with predictor 2 leaves 3.8 of 8 bits and 10.8 of 16; of an aerial image and a Landsat scene 4.5
    and 9.2. JPEG leaves 0.3; of the aerial image 0.6.
    """
    rng = np.random.default_rng(7)
    shapes = sum(_field(rng, size) * size**0.5 for size in (2, 4, 16, 256)) / 16
    top, noise = (255, 1.5) if kind.dtype == "uint8" else (10_000, 25.0)
    bands = [
        top * (0.35 + 0.12 * shapes + 0.05 * _field(rng, 64)) + rng.normal(0, noise, (CROP, CROP))
        for _ in range(kind.bands)
    ]
    return np.clip(np.stack(bands), 0, top).astype(kind.dtype)


def _field(rng: np.random.Generator, size: int) -> NDArray[np.float64]:
    """Interpolated normal noise with one value per `size` pixels."""
    count = CROP // size + 1
    field = zoom(rng.standard_normal((count, count)), CROP / count, order=1, mode="nearest")
    return np.asarray(field)


def real_crop(data: Path, kind: Kind) -> NDArray[np.generic] | None:
    """The largest losslessly compressed raster of that type below a folder; None: there is none.

    Where it has fewer bands than asked for, they come again, moved by some rows.
    """
    found = [
        path
        for path in _rasters(data)
        if _fits(path, dtype=kind.dtype, bands=min(kind.bands, 3), compressions=LOSSLESS)
    ]
    if not found:
        return None
    with rasterio.open(max(found, key=lambda path: path.stat().st_size)) as dataset:
        bands = [number % dataset.count + 1 for number in range(kind.bands)]
        pixels = dataset.read(bands)
    for number in range(dataset.count, kind.bands):
        pixels[number] = np.roll(pixels[number], 64 * number, axis=0)
    return np.asarray(pixels)


def largest_scene(data: Path) -> Path:
    """The RGB GeoTIFF with the most pixels. Raises SkippedError."""
    found = [path for path in _rasters(data) if _fits(path, dtype="uint8", bands=3, compressions=None)]
    if not found:
        msg = "--data has no GeoTIFF of three bands of 8 bits"
        raise SkippedError(msg)
    return max(found, key=_pixels)


def _rasters(data: Path) -> list[Path]:
    return sorted(path for path in data.rglob("*") if path.suffix.lower() in (".tif", ".tiff"))


def _fits(path: Path, *, dtype: str, bands: int, compressions: Sequence[str | None] | None) -> bool:
    """Whether a file is imagery without nodata, at least 500 pixels a side."""
    try:
        with rasterio.open(path) as dataset:
            compress = dataset.profile.get("compress")
            return (
                dataset.driver == "GTiff"
                and dataset.count >= bands
                and set(dataset.dtypes) == {dtype}
                and min(dataset.shape) >= 500
                and dataset.nodata is None
                and ColorInterp.alpha not in dataset.colorinterp
                and (compressions is None or compress in compressions)
            )
    except (rasterio.errors.RasterioIOError, ValueError):
        return False


def _pixels(path: Path) -> int:
    with rasterio.open(path) as dataset:
        return int(dataset.height * dataset.width)

"""Generate a four-band satellite scene whose true classes are known.

The scene is a pure function of the seed and of pixel coordinates: fields, towns, lakes, rivers
and roads come from sums of plane waves and from hashes of grid indices, so no array of scene size
ever exists. It is defined cell by cell (512 x 512 pixels, aligned with the tiles of the file);
a cell depends on nothing but its index, the seed and, for the collar, the scene's shape.

Truth is the geometry before the optics: reflectance is blurred by a point-spread function and
made noisy, so a correct classifier still errs on mixed pixels.

Usage:
    python jobs/demo_scene.py SCENE.tif TRUTH.tif [--height H --width W --seed S]
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin
from rasterio.windows import Window
from spectral import CLASSES

Floats = NDArray[np.float64]
Pixels = NDArray[np.float32]
Indices = NDArray[np.intp]
Bools = NDArray[np.bool_]

CELL = 512
HALO = 1  # Reach of the point-spread function, in pixels.
NODATA = 0
OUTSIDE = 255
DN_PER_REFLECTANCE = 10_000
PIXEL_M = 10.0
ORIGIN_M = (500_000.0, 5_400_000.0)
CRS = "EPSG:32632"
CACHE_MB = 128
NOISE_DN = 18.0  # Standard deviation of the sensor noise.

SOIL, WATER, VEGETATION, BRIGHT = range(len(CLASSES))

# Corners of the footprint as fractions of (height, width), clockwise: an orbit inclined to north.
FOOTPRINT = ((0.0, 0.11), (0.07, 1.0), (1.0, 0.89), (0.93, 0.0))

# Reflectance in red, green, blue, near infrared.
DARK_SOIL, LIGHT_SOIL = (0.100, 0.080, 0.055, 0.150), (0.250, 0.195, 0.145, 0.330)
SPARSE, LUSH = (0.085, 0.100, 0.060, 0.230), (0.028, 0.060, 0.024, 0.450)
FOREST_THIN, FOREST_DENSE = (0.034, 0.050, 0.028, 0.230), (0.020, 0.036, 0.018, 0.300)
CONCRETE, WHITE_ROOF = (0.300, 0.290, 0.275, 0.330), (0.520, 0.510, 0.490, 0.550)
DEEP_WATER, SHALLOW_WATER = (0.018, 0.036, 0.046, 0.010), (0.050, 0.074, 0.060, 0.026)
RIVER_WATER, ROADWAY = (0.072, 0.088, 0.060, 0.036), (0.400, 0.385, 0.360, 0.430)
STREET = (0.290, 0.282, 0.272, 0.310)


@dataclass(frozen=True)
class Grid:
    """A rotated grid of rectangles.

    Attributes:
        angle: Rotation, radians.
        size: Height and width of a rectangle, pixels.
    """

    angle: float
    size: tuple[float, float]

    def axes(self, rows: Floats, cols: Floats) -> tuple[Floats, Floats]:
        """Return grid coordinates, in rectangles; the arguments, in pixels, are broadcast."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        height, width = self.size
        down = rows * (cos / height) - cols * (sin / height)
        along = rows * (sin / width) + cols * (cos / width)
        return down, along

    def centre(self, down: Floats, along: Floats) -> tuple[Floats, Floats]:
        """Return the pixel coordinates (rows, columns) of points in grid coordinates."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        v, u = down * self.size[0], along * self.size[1]
        return v * cos + u * sin, u * cos - v * sin


PARCELS = Grid(angle=0.21, size=(58.0, 84.0))
LOTS = Grid(angle=0.21, size=(11.0, 14.0))
STREET_SHARE = (2.4 / 11.0, 2.4 / 14.0)


@dataclass(frozen=True)
class Waves:
    """A smooth random field of about unit variance: a sum of plane waves.

    Attributes:
        vectors: float64 (2, K), wave vectors along rows and columns, radians per pixel.
        phases: float64 (K,), radians.
        amplitudes: float64 (K,).
    """

    vectors: Floats
    phases: Floats
    amplitudes: Floats

    @classmethod
    def draw(cls, seed: tuple[int, ...], count: int, wavelengths: tuple[float, float], slope: float) -> Self:
        """Draw waves.

        Args:
            seed: Seed of the generator.
            count: Number of waves K.
            wavelengths: Shortest and longest, pixels; drawn evenly in the logarithm.
            slope: Amplitudes grow with this power of the wavelength.
        """
        rng = np.random.default_rng(seed)
        length = np.geomspace(*wavelengths, count) * rng.uniform(0.9, 1.1, count)
        heading = rng.uniform(0.0, 2 * np.pi, count)
        amplitudes = length**slope
        return cls(
            vectors=2 * np.pi / length * np.stack([np.sin(heading), np.cos(heading)]),
            phases=rng.uniform(0.0, 2 * np.pi, count),
            amplitudes=amplitudes * np.sqrt(2.0 / np.sum(amplitudes**2)),
        )

    def on(self, rows: Floats, cols: Floats) -> Pixels:
        """Evaluate on a raster.

        Args:
            rows: float64 (H,), row coordinates, pixels.
            cols: float64 (W,), column coordinates, pixels.

        Returns:
            float32 (H, W).
        """
        # sin(a + b) splits into products of row and column terms: one matrix product.
        a = np.outer(rows, self.vectors[0]) + self.phases
        b = np.outer(self.vectors[1], cols)
        left = np.hstack([np.sin(a) * self.amplitudes, np.cos(a) * self.amplitudes])
        right = np.vstack([np.cos(b), np.sin(b)])
        return left.astype(np.float32) @ right.astype(np.float32)

    def at(self, rows: Floats, cols: Floats) -> Floats:
        """Evaluate at points; rows and cols are float64 of equal shape, which is returned."""
        angles = np.multiply.outer(rows, self.vectors[0]) + np.multiply.outer(cols, self.vectors[1])
        values: Floats = np.sin(angles + self.phases) @ self.amplitudes
        return values


@dataclass(frozen=True)
class Strips:
    """Parallel winding strips, such as rivers or roads, that run along the columns or the rows.

    Attributes:
        spacing: Distance between centre lines, pixels.
        offset: Coordinate of one of the centre lines, pixels.
        slope: Drift of the centre lines across per pixel along.
        swing: Amplitude of the meanders, pixels.
        half_width: Pixels.
        meander: Meanders by distance along the strip; its second coordinate is the strip's number.
    """

    spacing: float
    offset: float
    slope: float
    swing: float
    half_width: float
    meander: Waves

    def mark(self, mask: Bools, across: Floats, along: Floats) -> None:
        """Set the pixels of the strips that cross a raster.

        Args:
            mask: bool (A, B), updated; axis 0 is across the strips.
            across: float64 (A,), coordinates of axis 0, pixels.
            along: float64 (B,), coordinates of axis 1, pixels.
        """
        reach = 4 * self.swing + self.half_width
        drift = self.offset + self.slope * along
        first = np.ceil((across[0] - reach - drift.max()) / self.spacing)
        last = np.floor((across[-1] + reach - drift.min()) / self.spacing)
        for number in np.arange(first, last + 1):
            bends = self.meander.at(along, np.full_like(along, number * 1e4))
            centre = drift + number * self.spacing + self.swing * bends
            low, high = centre.min() - self.half_width, centre.max() + self.half_width
            band = slice(*np.searchsorted(across, (low, high)))
            mask[band] |= np.abs(across[band, None] - centre) < self.half_width


@dataclass(frozen=True)
class Palette:
    """Materials that pixels refer to by index.

    Attributes:
        classes: uint8 (M,), class ids.
        spectra: float64 (4, M), reflectance in red, green, blue, near infrared.
    """

    classes: NDArray[np.uint8]
    spectra: Floats

    @classmethod
    def join(cls, *parts: Palette) -> Palette:
        """Concatenate palettes."""
        return cls(
            np.concatenate([part.classes for part in parts]),
            np.concatenate([part.spectra for part in parts], axis=1),
        )

    @classmethod
    def of(cls, *materials: tuple[int, tuple[float, ...]]) -> Palette:
        """Make a palette of (class id, reflectances) pairs."""
        classes, spectra = zip(*materials, strict=True)
        return cls(np.array(classes, np.uint8), np.array(spectra).T)


FIXED = Palette.of(
    (WATER, SHALLOW_WATER),
    (WATER, DEEP_WATER),
    (WATER, RIVER_WATER),
    (BRIGHT, ROADWAY),
    (BRIGHT, STREET),
)
AT_SHALLOW, AT_DEEP, AT_RIVER, AT_ROAD, AT_STREET = range(len(FIXED.classes))


@dataclass(frozen=True)
class Scene:
    """A scene of unlimited extent, seen through a footprint.

    Attributes:
        shape_hw: Height and width of the footprint's bounding box, pixels.
        seed: Seed of the landscape.
        lakes: Terrain wetness; lakes are where it is high.
        districts: Settlement where high, forest where low.
        bends: Deviation of parcel borders from straight lines.
        relief: Illumination.
        rivers: Rivers, which run along the columns.
        highways: Roads along the columns.
        byways: Roads along the rows.
        noise: float32 (2 * CELL, 2 * CELL), standard normal; cells take random crops of it.
    """

    shape_hw: tuple[int, int]
    seed: int
    lakes: Waves
    districts: Waves
    bends: Waves
    relief: Waves
    rivers: Strips
    highways: Strips
    byways: Strips
    noise: Pixels

    @classmethod
    def draw(cls, shape_hw: tuple[int, int], seed: int) -> Self:
        """Draw the landscape that belongs to a seed."""
        winding = Waves.draw((seed, 4), 12, (150.0, 1900.0), 1.0)
        straight = Waves.draw((seed, 5), 4, (900.0, 4000.0), 1.0)
        return cls(
            shape_hw=shape_hw,
            seed=seed,
            lakes=Waves.draw((seed, 0), 28, (45.0, 800.0), 0.9),
            districts=Waves.draw((seed, 1), 24, (500.0, 2500.0), 0.3),
            bends=Waves.draw((seed, 2), 8, (400.0, 1500.0), 0.5),
            relief=Waves.draw((seed, 3), 20, (16.0, 240.0), 0.4),
            rivers=Strips(2600.0, 1350.0, 0.12, 120.0, 9.0, winding),
            highways=Strips(1700.0, 500.0, 0.21, 12.0, 1.9, straight),
            byways=Strips(1450.0, 700.0, -0.21, 12.0, 1.9, straight),
            noise=np.random.default_rng((seed, 6)).standard_normal((2 * CELL, 2 * CELL), dtype=np.float32),
        )

    def cell(self, down: int, along: int) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
        """Render one cell.

        Args:
            down: Row of the cell, counted in cells.
            along: Column of the cell, counted in cells.

        Returns:
            Pixels, uint16 (4, CELL, CELL), reflectance x 10000 in red, green, blue, near
            infrared, 0 outside; and truth, uint8 (CELL, CELL), class ids, 255 outside.
        """
        rows = np.arange(-HALO, CELL + HALO, dtype=np.float64) + down * CELL
        cols = np.arange(-HALO, CELL + HALO, dtype=np.float64) + along * CELL
        core = slice(HALO, -HALO)
        inside = self._inside(rows[core], cols[core])
        if not inside.any():
            return (
                np.full((4, CELL, CELL), NODATA, np.uint16),
                np.full((CELL, CELL), OUTSIDE, np.uint8),
            )
        materials, palette = self._materials(rows, cols)
        truth = palette.classes[materials[core, core]]
        rng = np.random.default_rng((self.seed, 7, down, along))
        shade = self.relief.on(rows[core], cols[core])
        shade *= np.float32(0.035)
        shade += self._noise_crop(rng) * np.float32(0.03)
        shade += np.float32(1.0)
        pixels = np.empty((4, CELL, CELL), np.uint16)
        spectra = (palette.spectra * DN_PER_REFLECTANCE).astype(np.float32)
        mixed, spare = np.empty((2, *materials.shape), np.float32)
        for band, spectrum in zip(pixels, spectra, strict=True):
            np.take(spectrum, materials, out=mixed, mode="clip")
            signal = _blur(mixed, spare)
            signal *= shade
            noise = spare[: -2 * HALO, : -2 * HALO]
            np.multiply(self._noise_crop(rng), np.float32(NOISE_DN), out=noise)
            signal += noise
            # 0 is kept for nodata.
            np.clip(signal, 1.0, None, out=signal)
            band[...] = signal
        if not inside.all():
            pixels *= inside
            truth[~inside] = OUTSIDE
        return pixels, truth

    def _noise_crop(self, rng: np.random.Generator) -> Pixels:
        top, left = rng.integers(0, CELL, 2)
        return self.noise[top : top + CELL, left : left + CELL]

    def _inside(self, rows: Floats, cols: Floats) -> Bools:
        """Return where pixel centres lie in the footprint, bool (H, W)."""
        inside = np.ones((rows.size, cols.size), np.bool_)
        corners = np.array(FOOTPRINT) * self.shape_hw
        for (top, left), (bottom, right) in pairwise([*corners, corners[0]]):
            across = (right - left) * (rows + 0.5 - top)
            along = (bottom - top) * (cols + 0.5 - left)
            if across.min() < along.max():
                inside &= across[:, None] >= along
        return inside

    def _materials(self, rows: Floats, cols: Floats) -> tuple[Indices, Palette]:
        """Return the material of each pixel, intp (H, W), and the palette that it indexes."""
        materials, parcels, urban = self._parcels(rows, cols)
        palette = Palette.join(FIXED, parcels)
        town = np.flatnonzero(urban[materials]) if urban.any() else np.empty(0, np.intp)
        materials += FIXED.classes.size
        if town.size:
            y, x = np.divmod(town, cols.size)
            lot, lots = self._lots(rows[y], cols[x])
            materials.flat[town] = np.where(lot < 0, AT_STREET, lot + palette.classes.size)
            palette = Palette.join(palette, lots)
        wetness = self.lakes.on(rows, cols)
        materials[wetness > 1.25] = AT_SHALLOW
        materials[wetness > 1.45] = AT_DEEP
        for strips, transposed, material in (
            (self.rivers, False, AT_RIVER),
            (self.highways, False, AT_ROAD),
            (self.byways, True, AT_ROAD),
        ):
            mask = np.zeros(materials.shape, np.bool_)
            if transposed:
                strips.mark(mask.T, cols, rows)
            else:
                strips.mark(mask, rows, cols)
            materials[mask] = material
        return materials, palette

    def _parcels(self, rows: Floats, cols: Floats) -> tuple[Indices, Palette, Bools]:
        """Lay out fields and forests.

        Returns:
            The parcel of each pixel, intp (H, W); the materials of the parcels; and which
            parcels are built up, bool (M,).
        """
        down, along = PARCELS.axes(rows[:, None], cols)
        down += self.bends.on(rows, cols) * 0.12
        i, i_range = _cells_of(down)
        # Rows of parcels are shifted against each other like courses of bricks.
        shift: Floats = _uniform(self.seed, 10, i_range)
        along += shift[i]
        j, j_range = _cells_of(along)
        index = i * j_range.size + j

        grid_i, grid_j = (axis.ravel() for axis in np.meshgrid(i_range, j_range, indexing="ij"))
        pair = grid_j // 2
        merged = _uniform(self.seed, 11, grid_i, pair) < 0.35
        owner = np.where(merged, 2 * pair, grid_j)
        y, x = PARCELS.centre(grid_i.astype(np.float64) + 0.5, owner + 0.5 - shift[grid_i - i_range[0]])
        kind, quality = (_uniform(self.seed, salt, grid_i, owner) for salt in (12, 13))
        district = self.districts.at(y, x) + 0.5 * (kind - 0.5)
        fallow, forest = kind < 0.3, district < -1.0
        classes = np.where(fallow & ~forest, SOIL, VEGETATION).astype(np.uint8)
        spectra = np.where(
            forest,
            _between(FOREST_THIN, FOREST_DENSE, quality),
            np.where(fallow, _between(DARK_SOIL, LIGHT_SOIL, quality), _between(SPARSE, LUSH, quality)),
        )
        return index, Palette(classes, spectra), district > 1.3

    def _lots(self, rows: Floats, cols: Floats) -> tuple[Indices, Palette]:
        """Lay out the lots of towns.

        Args:
            rows: float64 (P,), row coordinates of pixels in towns.
            cols: float64 (P,), their column coordinates.

        Returns:
            The lot of each pixel, intp (P,), -1 for streets; and the materials of the lots.
        """
        down, along = LOTS.axes(rows, cols)
        i, i_range = _cells_of(down)
        j, j_range = _cells_of(along)
        street = (down - i_range[i] < STREET_SHARE[0]) | (along - j_range[j] < STREET_SHARE[1])
        lot = np.where(street, -1, i * j_range.size + j)

        grid_i, grid_j = (axis.ravel() for axis in np.meshgrid(i_range, j_range, indexing="ij"))
        kind, quality = (_uniform(self.seed, salt, grid_i, grid_j) for salt in (20, 21))
        garden, yard = kind < 0.22, kind > 0.93
        classes = np.select([garden, yard], [VEGETATION, SOIL], BRIGHT).astype(np.uint8)
        spectra = np.where(
            garden,
            _between(SPARSE, LUSH, quality),
            np.where(
                yard,
                _between(DARK_SOIL, LIGHT_SOIL, quality),
                _between(CONCRETE, WHITE_ROOF, quality**2),
            ),
        )
        return lot, Palette(classes, spectra)


def _cells_of(coordinates: Floats) -> tuple[Indices, Indices]:
    """Return floor(coordinates) as positions in a contiguous range, and that range."""
    low, high = int(np.floor(coordinates.min())), int(np.floor(coordinates.max()))
    # The difference is not negative, so truncation is the floor and much faster.
    positions = (coordinates - low).astype(np.intp)
    # One more than needed: the difference may round up to the next integer.
    return positions, np.arange(low, high + 2)


def _between(first: tuple[float, ...], second: tuple[float, ...], share: Floats) -> Floats:
    """Mix two spectra: float64 (4, M) for shares, 0..1, of shape (M,)."""
    a, b = np.array(first)[:, None], np.array(second)[:, None]
    mixed: Floats = a + (b - a) * share
    return mixed


def _uniform(seed: int, salt: int, *coordinates: Indices) -> Floats:
    """Hash integer coordinates of equal shape to float64 in [0, 1) of that shape."""
    state = np.full(coordinates[0].shape, (seed * 1000 + salt) % 2**64, np.uint64)
    for values in (np.zeros_like(coordinates[0]), *coordinates):
        # The finaliser of SplitMix64.
        state += values.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    return (state >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _blur(signal: Pixels, spare: Pixels) -> Pixels:
    """Apply the point-spread function, [1, 2, 1] / 4 on both axes.

    Args:
        signal: float32 (H, W), C-contiguous; overwritten.
        spare: float32 (H, W), C-contiguous; overwritten.

    Returns:
        float32 (H - 2, W - 2), a view of `signal`.
    """
    np.add(signal[:-1], signal[1:], out=spare[:-1])
    np.add(spare[:-2], spare[1:-1], out=signal[:-2])
    np.add(signal[:-2, :-1], signal[:-2, 1:], out=spare[:-2, :-1])
    np.add(spare[:-2, :-2], spare[:-2, 1:-1], out=signal[:-2, :-2])
    blurred = signal[:-2, :-2]
    blurred *= np.float32(1 / 16)
    return blurred


def _profile(shape_hw: tuple[int, int], **specific: Any) -> dict[str, Any]:
    return {
        "driver": "GTiff",
        "height": shape_hw[0],
        "width": shape_hw[1],
        "crs": CRS,
        "transform": from_origin(*ORIGIN_M, PIXEL_M, PIXEL_M),
        "tiled": True,
        "blockxsize": CELL,
        "blockysize": CELL,
        "compress": "zstd",
        "zstd_level": 1,
        "bigtiff": "if_safer",
        **specific,
    }


def write_scene(scene: Path, truth: Path, *, shape_hw: tuple[int, int] = (2900, 3700), seed: int = 7) -> None:
    """Write a scene and its truth, with memory that does not grow with the shape.

    Args:
        scene: GeoTIFF to write: uint16, bands red, green, blue, near infrared, reflectance
            x 10000, nodata 0.
        truth: GeoTIFF to write: uint8, ids of `spectral.CLASSES`, nodata 255.
        shape_hw: Height and width, pixels.
        seed: Seed of the landscape.
    """
    height, width = shape_hw
    source = Scene.draw(shape_hw, seed)
    image_profile = _profile(
        shape_hw, count=4, dtype="uint16", nodata=NODATA, predictor=2, interleave="pixel"
    )
    truth_profile = _profile(shape_hw, count=1, dtype="uint8", nodata=OUTSIDE)
    with (
        rasterio.Env(GDAL_CACHEMAX=CACHE_MB),
        rasterio.open(scene, "w", **image_profile) as image,
        rasterio.open(truth, "w", **truth_profile) as labels,
    ):
        image.descriptions = ("red", "green", "blue", "near infrared")
        image.colorinterp = (
            ColorInterp.red,
            ColorInterp.green,
            ColorInterp.blue,
            ColorInterp.undefined,
        )
        labels.write_colormap(
            1, {k: (*bytes.fromhex(colour[1:]), 255) for k, (_, colour) in enumerate(CLASSES)}
        )
        for top in range(0, height, CELL):
            for left in range(0, width, CELL):
                pixels, classes = source.cell(top // CELL, left // CELL)
                h, w = min(CELL, height - top), min(CELL, width - left)
                window = Window(left, top, w, h)
                image.write(pixels[:, :h, :w], window=window)
                labels.write(classes[:h, :w], 1, window=window)


def main() -> None:
    """Write the scene described on the command line."""
    parser = argparse.ArgumentParser(description="Generate a scene with known classes.")
    parser.add_argument("scene", type=Path)
    parser.add_argument("truth", type=Path)
    parser.add_argument("--height", type=int, default=2900, help="pixels")
    parser.add_argument("--width", type=int, default=3700, help="pixels")
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    write_scene(args.scene, args.truth, shape_hw=(args.height, args.width), seed=args.seed)


if __name__ == "__main__":
    main()

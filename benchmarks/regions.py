"""Case e: regions of a mask, streamed to GeoParquet, against rasterio's shapes of the whole mask to WKB.

CPU seconds of one process each. The reference is `rasterio.features.shapes` (4-connected), shapely geometries
and WKB, in one thread; it writes no file. The writer gets strips of 4 megapixels and writes a file with all
columns.
"""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import rasterio.features
import shapely
import shapely.geometry
from scipy.ndimage import uniform_filter

from batchseg.inputs.source import Georeference, Scene, Source
from batchseg.job.recipe import RegionSettings
from batchseg.regions.scene_table import RegionWriter
from benchmarks.options import Options
from benchmarks.record import Figure, in_turn

TITLE = "Regions"

SIZE = 4096
"""Pixels per side."""

STRIP_PIXELS = 4 * 2**20


def dense(size: int, classes: int = 5) -> np.ndarray:
    """The largest of smoothed noises: 34,000 regions of 4096 x 4096 pixels."""
    rng = np.random.default_rng(0)
    noise = (rng.standard_normal((size, size), dtype=np.float32) for _ in range(classes))
    smooth = [uniform_filter(uniform_filter(n, 25, mode="wrap"), 13, mode="wrap") for n in noise]
    return np.argmax(smooth, axis=0).astype(np.uint8) + np.uint8(1)


def sparse(size: int) -> np.ndarray:
    """A thousandth of the pixels in discs of up to 12 pixels' radius, on a background that has no regions."""
    rng = np.random.default_rng(0)
    mask = np.zeros((size, size), dtype=np.uint8)
    rows, cols = np.mgrid[-12:13, -12:13]
    for _ in range(size * size // 250_000):
        row, col = rng.integers(12, size - 13, 2)
        disc = rows**2 + cols**2 <= rng.uniform(4, 12) ** 2
        mask[row - 12 : row + 13, col - 12 : col + 13][disc] = rng.integers(1, 5)
    return mask


def scene_of(mask: np.ndarray) -> Scene:
    crs = rasterio.crs.CRS.from_epsg(32633).to_wkt()
    place = Georeference(
        crs_wkt=crs, transform=(10.0, 0.0, 6e5, 0.0, -10.0, 5e6), gcps=(), gcps_crs_wkt=None, rpcs=()
    )
    return Scene(
        source=Source(source_id="dense.tif", uri="dense.tif", files=(), tag="", size=0),
        driver="GTiff",
        height=mask.shape[0],
        width=mask.shape[1],
        dtypes=("uint8",),
        nodata=(None,),
        alpha_bands=(),
        block_hw=(512, 512),
        georeference=place,
    )


def write(mask: np.ndarray, folder: str) -> int:
    path = Path(folder, "dense.parquet")
    writer = RegionWriter(path, scene_of(mask), RegionSettings(), class_names=(), nodata=255)
    rows = STRIP_PIXELS // mask.shape[1]
    for row_off in range(0, len(mask), rows):
        writer.feed(row_off, mask[row_off : row_off + rows])
    return writer.close().rows


def reference(mask: np.ndarray) -> int:
    shapes = [
        shapely.geometry.shape(geometry)
        for geometry, _ in rasterio.features.shapes(mask, mask=mask != 0, connectivity=4)
    ]
    shapely.to_wkb(shapes)
    return len(shapes)


def measure(options: Options) -> tuple[Sequence[Figure], Mapping[str, object]]:
    """All of case e."""
    figures, counts = [], {}
    for name, make in (("dense", dense), ("sparse", sparse)):
        mask = make(SIZE)
        with tempfile.TemporaryDirectory() as folder:
            counts[name] = {"regions": write(mask, folder), "shapes": reference(mask)}
            sides = {
                "shapes": lambda mask=mask: _cpu(lambda: reference(mask)),
                "regions": lambda mask=mask, folder=folder: _cpu(lambda: write(mask, folder)),
            }
            found = in_turn(options.rounds, sides, lambda text, name=name: options.say(f"  {name} {text}"))
        figures.append(
            Figure(
                what=f"{name}, {SIZE} x {SIZE} pixels: shapes and WKB / batchseg",
                above=found["shapes"],
                below=found["regions"],
                above_unit="CPU s",
                below_unit="CPU s",
                **({"at_least": 3, "aim": 6} if name == "dense" else {}),
            )
        )
    return figures, counts


def _cpu(function: Callable[[], object]) -> float:
    """CPU seconds of this process, all threads."""
    started = time.process_time()
    function()
    return time.process_time() - started

"""Regions of a dense mask, streamed to GeoParquet, against rasterio's shapes of the whole mask to WKB.

    python benchmarks/regions.py [--size 4096] [--rounds 5]

CPU seconds of one process and one thread each, in turn; the ratio is of medians. The reference is
`rasterio.features.shapes` (4-connected), shapely geometries and WKB; it writes no file. The writer gets
strips of 4 megapixels and writes a file with all columns.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio.features
import shapely
import shapely.geometry
from scipy.ndimage import uniform_filter

from batchseg.recipe import RegionSettings
from batchseg.regions import RegionWriter
from batchseg.scene import Georeference, Scene, Source

STRIP_PIXELS = 4 * 2**20


def dense(size: int, classes: int = 5) -> np.ndarray:
    """The largest of smoothed noises: 34,000 regions of 4096 x 4096 pixels."""
    rng = np.random.default_rng(0)
    noise = (rng.standard_normal((size, size), dtype=np.float32) for _ in range(classes))
    smooth = [uniform_filter(uniform_filter(n, 25, mode="wrap"), 13, mode="wrap") for n in noise]
    return np.argmax(smooth, axis=0).astype(np.uint8) + np.uint8(1)


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


def reference(mask: np.ndarray) -> tuple[int, int]:
    shapes = [
        shapely.geometry.shape(geometry) for geometry, _ in rasterio.features.shapes(mask, connectivity=4)
    ]
    shapely.to_wkb(shapes)
    return len(shapes), shapes


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    mask = dense(options.size)
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.rounds):
            started = time.process_time()
            rows = write(mask, folder)
            ours.append(time.process_time() - started)
            started = time.process_time()
            count, shapes = reference(mask)
            theirs.append(time.process_time() - started)
    mine, other = statistics.median(ours), statistics.median(theirs)
    print(f"{rows} regions (reference {count}), {shapely.get_num_coordinates(shapes).sum()} vertices")
    print(f"regions {mine:.2f} s, reference {other:.2f} s, ratio {other / mine:.1f}")


if __name__ == "__main__":
    main()

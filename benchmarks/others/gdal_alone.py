"""GDAL reads all bands of a raster and writes one: `python gdal_alone.py SCENE MASK.tif` prints seconds.

All cores decode, all cores encode, and the band waits in memory: less cannot be done with the same library.
The band is as compressible as a mask: the shades of the first band, in four steps.
"""

import sys
import time

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.io import MemoryFile
from rasterio.windows import Window

STRIP_ROWS = 2048


def main(scene: str, mask: str) -> float:
    threads = {"GDAL_NUM_THREADS": "ALL_CPUS", "GDAL_CACHEMAX": 512}
    started = time.perf_counter()
    with rasterio.Env(**threads), rasterio.open(scene, num_threads="ALL_CPUS") as source:
        height, width = source.shape
        step = (256 if source.dtypes[0] == "uint8" else 10_000) // 4
        band = np.empty((height, width), dtype=np.uint8)
        for top in range(0, height, STRIP_ROWS):
            rows = min(STRIP_ROWS, height - top)
            pixels = source.read(window=Window(0, top, width, rows))
            np.minimum(pixels[0] // step, 3, out=band[top : top + rows], casting="unsafe")
        place = {"crs": source.crs, "transform": source.transform, "nodata": 255}
        shape = {"height": height, "width": width, "count": 1, "dtype": "uint8"}
        with MemoryFile() as memory:
            with memory.open(driver="GTiff", **shape, **place) as copy:
                copy.write(band, 1)
            with memory.open() as copy:
                rasterio.shutil.copy(
                    copy,
                    mask,
                    driver="COG",
                    COMPRESS="DEFLATE",
                    BLOCKSIZE="512",
                    OVERVIEW_RESAMPLING="NEAREST",
                    NUM_THREADS="ALL_CPUS",
                )
    return time.perf_counter() - started


if __name__ == "__main__":
    print(main(*sys.argv[1:]))

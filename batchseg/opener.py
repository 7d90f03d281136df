"""Rasters opened where they lie: local files by GDAL itself."""

import rasterio


def open_raster(uri: str) -> rasterio.DatasetReader:
    """Open a raster that nobody else holds open. Raises what rasterio raises."""
    return rasterio.open(uri, sharing=False)

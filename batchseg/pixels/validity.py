"""Which pixels of a scene hold data."""

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import MaskFlags
from rasterio.windows import Window as RasterioWindow

from batchseg.inputs.source import Scene
from batchseg.job.recipe import Recipe
from batchseg.pixels.stack import Stack
from batchseg.pixels.windows import WindowReader


def both_valid(one: NDArray[np.bool_] | None, other: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
    """True where both are; None stands for True everywhere."""
    if one is None or other is None:
        return one if other is None else other
    return one & other


def _covered(dataset: Stack, recipe: Recipe, window: RasterioWindow) -> NDArray[np.uint8]:
    """Where the files of a scene cover the window and their masks hold it."""
    held = dataset.valid(recipe.bands, window, masks=recipe.nodata == "source")
    if held is None:
        return np.ones((int(window.height), int(window.width)), dtype=np.uint8)
    return held.astype(np.uint8)


def valid_pixels(
    dataset: rasterio.DatasetReader | Stack,
    scene: Scene,
    recipe: Recipe,
    pixels: NDArray[np.generic],
    reader: WindowReader,
) -> NDArray[np.bool_] | None:
    """Which pixels hold data: masks, nodata values, alpha and NaN.

    In GDAL's order: a mask of the whole file, else nodata values, else alpha. By nodata a pixel is
    invalid where every selected band holds it, as in rasterio's `dataset_mask`. NaN in any selected
    band makes it invalid too. A band that the job names is data even where the file tags it as alpha,
    as near infrared often is. Of several files each one's mask counts, and none is valid where it ends.
    """
    valid: NDArray[np.bool_] | None = None
    flags = dataset.mask_flag_enums[recipe.bands[0] - 1]
    if isinstance(recipe.nodata, float | int):
        valid = np.any(pixels != recipe.nodata, axis=0)
    elif recipe.nodata == "source":
        if not isinstance(dataset, Stack) and MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags:
            valid = reader.mask(lambda window: dataset.read_masks(recipe.bands[0], window=window)) != 0
        else:
            # Where only some bands hold nodata the pixel counts: 0 is a usual dark value.
            valid = _differs_from_nodata(pixels, [scene.nodata[band - 1] for band in recipe.bands])
            if valid is None:
                alpha = dataset.alpha_of(recipe.bands) if isinstance(dataset, Stack) else scene.alpha_bands
                valid = _opaque(dataset, scene, set(alpha) - set(recipe.bands), reader)
    if isinstance(dataset, Stack):
        valid = both_valid(valid, reader.mask(lambda window: _covered(dataset, recipe, window)) != 0)
    if pixels.dtype.kind == "f":
        finite = np.isfinite(pixels).all(axis=0)
        valid = finite if valid is None else valid & finite
    return None if valid is None or valid.all() else valid


def _opaque(
    dataset: rasterio.DatasetReader | Stack, scene: Scene, bands: set[int], reader: WindowReader
) -> NDArray[np.bool_] | None:
    """Where alpha is not 0. GDAL itself takes alpha for a mask only in files of two or four bands."""
    if not bands:
        return None
    dtype = np.result_type(*(scene.dtypes[band - 1] for band in bands))
    alpha = reader.pixels(
        lambda window: dataset.read(sorted(bands), window=window), bands=len(bands), dtype=dtype
    )
    opaque: NDArray[np.bool_] = (alpha != 0).all(axis=0)
    return opaque


def _differs_from_nodata(pixels: NDArray[np.generic], nodata: list[float | None]) -> NDArray[np.bool_] | None:
    if any(value is None for value in nodata):
        return None  # a band without nodata value is valid everywhere
    valid = np.zeros(pixels.shape[1:], dtype=bool)
    for band, value in zip(pixels, nodata, strict=True):
        if value is None or np.isnan(value):
            valid |= ~np.isnan(band) if band.dtype.kind == "f" else True
        else:
            # GDAL keeps nodata as float64; a float32 band holds its rounding (-3.4e38, 1e20).
            with np.errstate(over="ignore"):
                valid |= band != np.array(value).astype(band.dtype) if _representable(value, band) else True
    return valid


def _representable(value: float, band: NDArray[np.generic]) -> bool:
    if band.dtype.kind == "f":
        return True
    info = np.iinfo(str(band.dtype))
    return value.is_integer() and info.min <= value <= info.max

"""Which pixels of a scene hold data."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class _Read:
    """What was read of a scene's window, and from what."""

    dataset: rasterio.DatasetReader | Stack
    scene: Scene
    recipe: Recipe
    pixels: NDArray[np.generic]
    reader: WindowReader


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
    band makes it invalid too, and so does the job's own value in all of them. A band that the job names
    is data even where the file tags it as alpha, as near infrared often is. Of several files each one
    that a band is read from must say that the pixel is valid, and none is where it ends; the job's value
    is that of each file that has none of its own.
    """
    read = _Read(dataset, scene, recipe, pixels, reader)
    valid = _by_stack(read, dataset) if isinstance(dataset, Stack) else _by_file(read, dataset)
    if isinstance(recipe.nodata, float | int):
        valid = both_valid(valid, np.any(pixels != recipe.nodata, axis=0))
    if pixels.dtype.kind == "f":
        valid = both_valid(valid, np.isfinite(pixels).all(axis=0))
    return None if valid is None or valid.all() else valid


def _by_file(read: _Read, dataset: rasterio.DatasetReader) -> NDArray[np.bool_] | None:
    """By a mask of the whole file, else nodata values, else alpha."""
    if read.recipe.nodata == "none":
        return None
    first = read.recipe.bands[0]
    flags = dataset.mask_flag_enums[first - 1]
    if MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags:
        held: NDArray[np.bool_] = read.reader.mask(lambda w: dataset.read_masks(first, window=w)) != 0
        return held
    return _by_values(read, range(len(read.recipe.bands)), read.scene.alpha_bands)


def _by_stack(read: _Read, stack: Stack) -> NDArray[np.bool_] | None:
    """The same of each file that a band is read from, and none where a file ends."""
    recipe, valid = read.recipe, None
    for part in stack.parts(recipe.bands):
        if recipe.nodata != "none" and not part.masked:
            valid = both_valid(valid, _by_values(read, part.at, part.alpha & set(read.scene.alpha_bands)))
        if isinstance(recipe.nodata, float | int):
            own = [read.pixels[place] for place in part.at]
            valid = both_valid(valid, _differs_from_nodata(own, [part.filled] * len(own)))

    def covered(window: RasterioWindow) -> NDArray[np.uint8]:
        held = stack.valid(recipe.bands, window, masks=recipe.nodata != "none")
        if held is None:
            return np.ones((int(window.height), int(window.width)), dtype=np.uint8)
        return held.astype(np.uint8)

    return both_valid(valid, read.reader.mask(covered) != 0)


def _by_values(read: _Read, at: Sequence[int], alpha: Collection[int]) -> NDArray[np.bool_] | None:
    """By the nodata of the bands at these places of the pixels, else by alpha."""
    # Where only some bands of a file hold nodata the pixel counts: 0 is a usual dark value.
    nodata = [read.scene.nodata[read.recipe.bands[place] - 1] for place in at]
    valid = _differs_from_nodata([read.pixels[place] for place in at], nodata)
    return _opaque(read, set(alpha) - set(read.recipe.bands)) if valid is None else valid


def _opaque(read: _Read, bands: set[int]) -> NDArray[np.bool_] | None:
    """Where alpha is not 0. GDAL itself takes alpha for a mask only in files of two or four bands."""
    if not bands:
        return None
    dtype = np.result_type(*(read.scene.dtypes[band - 1] for band in bands))
    alpha = read.reader.pixels(
        lambda window: read.dataset.read(sorted(bands), window=window), bands=len(bands), dtype=dtype
    )
    opaque: NDArray[np.bool_] = (alpha != 0).all(axis=0)
    return opaque


def _differs_from_nodata(
    bands: Sequence[NDArray[np.generic]], nodata: Sequence[float | None]
) -> NDArray[np.bool_] | None:
    if any(value is None for value in nodata):
        return None  # a band without nodata value is valid everywhere
    valid = np.zeros(bands[0].shape, dtype=bool)
    for band, value in zip(bands, nodata, strict=True):
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

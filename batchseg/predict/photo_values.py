"""A few pixels of a photograph, to see what its values are."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.job.recipe import Recipe
from batchseg.pixels.photo.picture import Picture, bands_of
from batchseg.pixels.values import ValueSample
from batchseg.predict.photo import Bools, Fitting, valid_pixels

SIDE = 96
"""Rows and columns that are looked at, evenly spaced: 9,216 pixels are plenty for a mean."""


def sample_photo(source_id: str, picture: Picture, recipe: Recipe) -> ValueSample | None:
    """Valid pixels all over a photograph; None where it has none.

    Raises:
        MismatchError: it has not the bands that the model takes.
    """
    pixels = bands_of(picture, len(recipe.bands), None if recipe.all_bands else recipe.bands)
    return _thinned(source_id, pixels, valid_pixels(picture, pixels, recipe), recipe)


def sample_fitting(source_id: str, fitting: Fitting, recipe: Recipe) -> ValueSample | None:
    """The same of one on its way through the network, whose valid pixels are known."""
    return _thinned(source_id, fitting.pixels, fitting.valid, recipe)


def _thinned(source_id: str, pixels: NDArray[Any], valid: Bools | None, recipe: Recipe) -> ValueSample | None:
    down, across = (-(-side // SIDE) for side in pixels.shape[-2:])
    rows, columns = slice(down // 2, None, down), slice(across // 2, None, across)
    thinned = np.ascontiguousarray(pixels[:, rows, columns])
    some = thinned.reshape(len(thinned), -1)
    if valid is not None:
        some = some[:, valid[rows, columns].ravel()]
    if not some.size:
        return None
    return ValueSample(source_id=source_id, dtype=str(pixels.dtype), pixels=some, scale=recipe.scale)

"""Raw tiles to the network's input: scaling, normalisation, layout."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.job.recipe import Recipe, spread
from batchseg.models import resize

_Step = tuple[Callable[..., Any], tuple[Any, ...]]


class Preparation:
    """In float32 and in PaddleSeg's order of operations, or as raw pixels where the graph does it."""

    def __init__(self, recipe: Recipe) -> None:
        raw = recipe.bake is not None and recipe.bake.pixels == "uint8"
        self._recipe = recipe
        self._dtype = np.dtype("uint8" if raw else recipe.model.dtype)
        layout = recipe.bake.layout if raw and recipe.bake else recipe.model.layout
        self._channels_last = layout == "NHWC"
        side = recipe.tile_size
        self._shape_hw = resize.network_shape(recipe.model.geometry, (side, side))
        count = len(recipe.bands)
        low, high = (np.array(spread(v, count)) for v in (recipe.scale.low, recipe.scale.high))
        self._scale = [*_step(np.subtract, low, neutral=0), *_step(np.divide, high - low, neutral=1)]
        if recipe.scale.clips:
            self._scale.append((np.clip, (0, 1)))
        self._normalize: list[_Step] = []
        if recipe.normalize is not None:
            self._normalize += _step(np.subtract, np.array(recipe.normalize.mean), neutral=0)
            self._normalize += _step(np.divide, np.array(recipe.normalize.std), neutral=1)
        # Padding values are in units of 0..255; pixels that are not scaled keep theirs.
        self._white = 255.0 if recipe.scale.kind == "transforms" and recipe.normalize is None else 1.0
        self._direct = self._dtype == np.float32 and not self._channels_last and not recipe.model.geometry

    def buffer(self, count: int) -> NDArray[Any]:
        """Room for `count` tiles, in the network's layout and dtype."""
        (height, width), bands = self._shape_hw, len(self._recipe.bands)
        shape = (height, width, bands) if self._channels_last else (bands, height, width)
        return np.empty((count, *shape), dtype=self._dtype)

    def __call__(self, tile: NDArray[np.generic], out: NDArray[Any]) -> None:
        """Write the network's input for a raw tile (C, H, W) into `out`, one item of a buffer."""
        planes = np.moveaxis(out, -1, 0) if self._channels_last else out
        steps = self._recipe.model.geometry
        if self._dtype == np.uint8 and not steps:
            np.copyto(planes, tile, casting="unsafe")
            return
        prepared: NDArray[np.float32] = out if self._direct else np.empty(tile.shape, dtype=np.float32)
        np.copyto(prepared, tile, casting="unsafe")
        _apply(self._scale, prepared)
        prepared = resize.apply(steps, prepared, white=self._white)
        _apply(self._normalize, prepared)
        if self._dtype == np.uint8:
            np.rint(prepared, out=prepared)
        if not self._direct:
            np.copyto(planes, prepared, casting="unsafe")


def _step(operation: np.ufunc, values: NDArray[np.float64], *, neutral: float) -> list[_Step]:
    """One operation with a value per band; none where it would change nothing."""
    if np.all(values == neutral):
        return []
    return [(operation, (values.astype(np.float32)[:, None, None],))]


def _apply(steps: list[_Step], prepared: NDArray[np.float32]) -> None:
    for operation, operands in steps:
        operation(prepared, *operands, out=prepared)

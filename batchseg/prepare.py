"""Raw tiles to the network's input: scaling, normalisation, layout."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.recipe import Recipe, spread


class Preparation:
    """In float32 and in PaddleSeg's order of operations, or as raw pixels where the graph does it."""

    def __init__(self, recipe: Recipe) -> None:
        raw = recipe.bake is not None and recipe.bake.pixels == "uint8"
        self._recipe = recipe
        self._dtype = np.dtype("uint8" if raw else recipe.model.dtype)
        self._channels_last = raw or recipe.model.layout == "NHWC"
        self._steps: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        if self._dtype != np.uint8:
            self._add_scale(recipe)
        self._direct = self._dtype == np.float32 and not self._channels_last

    def _add_scale(self, recipe: Recipe) -> None:
        count = len(recipe.bands)
        low, high = (np.array(spread(v, count)) for v in (recipe.scale.low, recipe.scale.high))
        self._add(np.subtract, low, neutral=0)
        self._add(np.divide, high - low, neutral=1)
        if recipe.scale.clips:
            self._steps.append((np.clip, (0, 1)))
        if recipe.normalize is not None:
            self._add(np.subtract, np.array(recipe.normalize.mean), neutral=0)
            self._add(np.divide, np.array(recipe.normalize.std), neutral=1)

    def _add(self, operation: np.ufunc, values: NDArray[np.float64], neutral: float) -> None:
        if np.any(values != neutral):
            self._steps.append((operation, (values.astype(np.float32)[:, None, None],)))

    def buffer(self, count: int) -> NDArray[Any]:
        """Room for `count` tiles, in the network's layout and dtype."""
        side, bands = self._recipe.tile_size, len(self._recipe.bands)
        shape = (side, side, bands) if self._channels_last else (bands, side, side)
        return np.empty((count, *shape), dtype=self._dtype)

    def __call__(self, tile: NDArray[np.generic], out: NDArray[Any]) -> None:
        """Write the network's input for a raw tile (C, H, W) into `out`, one item of a buffer."""
        planes = np.moveaxis(out, -1, 0) if self._channels_last else out
        if self._dtype == np.uint8:
            np.copyto(planes, tile, casting="unsafe")
            return
        prepared = out if self._direct else np.empty(tile.shape, dtype=np.float32)
        np.copyto(prepared, tile, casting="unsafe")
        for operation, operands in self._steps:
            operation(prepared, *operands, out=prepared)
        if not self._direct:
            np.copyto(planes, prepared, casting="unsafe")

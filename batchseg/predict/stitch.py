"""Tiles' answers placed into a shard: cores side by side, rims blended. Pure numpy."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.job.recipe import Recipe
from batchseg.pixels.grid import Shard, Tile, Window
from batchseg.predict.answer import Answer, Decided, decide, said_of, shares_of
from batchseg.predict.blend import FULL, Blender, Strip, alone
from batchseg.predict.numbers import Stored, no_data, stored


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardMask:
    """The predicted cores of one shard."""

    shard: Shard
    classes: NDArray[np.unsignedinteger[Any]] | None
    """Shape (height, width) of `shard.core`; None: no pixel of it is valid."""
    confidence: NDArray[np.uint8] | None
    """Probability of the winning class, 1..255 for 0..1; 0 where invalid. None unless asked for."""
    predicted: int
    """Tiles that went through the model; those without a valid core pixel do not."""
    bad_pixels: int = 0
    """That lie in blocks which cannot be decoded."""
    values: Stored | None = None
    """The network's numbers as they are stored; None: it tells classes, or no pixel is valid."""
    probabilities: NDArray[np.uint8] | None = None
    """(N, height, width), 1..255 for 0..1 of each class that the job asks for; 0 where invalid."""
    strips: tuple[Strip, ...] = ()
    """Its part in the zones that tiles of other shards answer as well; there `classes` is still nodata."""

    def layer(self, name: str) -> NDArray[Any] | None:
        """The pixels of one of `output.layout.Layer`: (H, W), or (N, H, W) of several bands."""
        known: dict[str, NDArray[Any] | None] = {
            "mask": self.classes,
            "confidence": self.confidence,
            "values": self.values,
            "probabilities": self.probabilities,
        }
        return known[name]


class Stitcher:
    """Collects a shard's tiles, halo dropped, rims blended."""

    def __init__(self, recipe: Recipe, shard: Shard) -> None:
        self._recipe, self._shard = recipe, shard
        shape_hw = shard.core.height, shard.core.width
        self._classes = np.full(shape_hw, recipe.mask_nodata, dtype=recipe.mask_dtype)
        self._confidence = np.zeros(shape_hw, dtype=np.uint8) if recipe.confidence else None
        self._values = None if recipe.values is None else no_data(shape_hw, recipe.values)
        shares = len(recipe.probabilities)
        self._probabilities = np.zeros((shares, *shape_hw), np.uint8) if shares else None
        self._blender = Blender(recipe, shard) if recipe.rim else None
        self._predicted = 0

    def place(self, tile: Tile, answer: Answer, valid: NDArray[np.bool_] | None) -> None:
        """Put what is kept of a tile in its place.

        Args:
            tile: the next of the shard, in row-major order.
            answer: the network's, for the tile less its halo, its rim included.
            valid: (H, W) of `tile.kept`, True = usable; None: all.

        Raises:
            ModelError: a class id does not fit the mask.
        """
        self._predicted += 1
        given = self._given(tile)
        own: Window | None = tile.core
        if self._blender is not None:
            inside = tile.kept.slices_within(given)
            shares = shares_of(answer, self._recipe)[(..., *inside)]
            self._put(self._blender.add(tile, shares, valid))
            own = alone(tile, self._shard.grid)
        if own is not None:
            seen = None if valid is None else valid[own.slices_within(tile.kept)]
            self._put_own(own, answer, own.slices_within(given), seen)

    def _given(self, tile: Tile) -> Window:
        """What an answer is of: beyond the raster, too."""
        size, rim = self._recipe.tile_size, self._recipe.rim
        side = size - 2 * (self._recipe.halo - rim)
        return Window(
            row_off=tile.core.row_off - rim, col_off=tile.core.col_off - rim, height=side, width=side
        )

    def _put(self, sums: Iterable[tuple[Window, NDArray[np.uint32]]]) -> None:
        for window, summed in sums:
            self._write(window, decide(summed, FULL**2, self._recipe), None)

    def _put_own(
        self, own: Window, answer: Answer, inside: tuple[slice, slice], valid: NDArray[np.bool_] | None
    ) -> None:
        """What one tile alone says of a window, which lies there in its answer."""
        self._write(own, said_of(answer, inside, self._recipe), valid)
        if self._values is not None and self._recipe.values is not None:
            numbers = stored(answer.output[(0, *inside)], self._recipe.values)
            where: NDArray[np.bool_] | bool = True if valid is None else valid
            np.copyto(self._values[own.slices_within(self._shard.core)], numbers, where=where)

    def _write(self, window: Window, said: Decided, valid: NDArray[np.bool_] | None) -> None:
        at = window.slices_within(self._shard.core)
        where: NDArray[np.bool_] | bool = True if valid is None else valid
        np.copyto(self._classes[at], said.classes, where=where)
        if self._confidence is not None and said.confidence is not None:
            np.copyto(self._confidence[at], said.confidence, where=where)
        if self._probabilities is not None and said.probabilities is not None:
            np.copyto(self._probabilities[(..., *at)], said.probabilities, where=where)

    def finished(self, bad_pixels: int = 0) -> ShardMask:
        strips: tuple[Strip, ...] = ()
        if self._blender is not None:
            self._put(self._blender.settle())
            strips = tuple(self._blender.strips)
        return ShardMask(
            shard=self._shard,
            classes=self._classes if self._predicted else None,
            confidence=self._confidence if self._predicted else None,
            predicted=self._predicted,
            bad_pixels=bad_pixels,
            values=self._values if self._predicted else None,
            probabilities=self._probabilities if self._predicted else None,
            strips=strips,
        )

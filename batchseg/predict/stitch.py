"""Raw network output to class ids and confidence; tiles' cores placed into a shard. Pure numpy."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.errors import ModelError
from batchseg.job.recipe import Recipe
from batchseg.pixels.grid import Shard, Tile, Window
from batchseg.predict.blend import Blender, Strip, alone, decide
from batchseg.predict.numbers import Stored, divided, no_data, stored
from batchseg.predict.predictor import Answer


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
    strips: tuple[Strip, ...] = ()
    """Its part in the zones that tiles of other shards answer as well; there `classes` is still nodata."""

    def layer(self, name: str) -> NDArray[Any] | None:
        """The pixels of one of `output.layout.Layer`."""
        known: dict[str, NDArray[Any] | None] = {
            "mask": self.classes,
            "confidence": self.confidence,
            "values": self.values,
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
            found, at = decide(window, summed, self._recipe), window.slices_within(self._shard.core)
            self._classes[at] = found.classes
            if self._confidence is not None:
                self._confidence[at] = found.confidence

    def _put_own(
        self, own: Window, answer: Answer, inside: tuple[slice, slice], valid: NDArray[np.bool_] | None
    ) -> None:
        """What one tile alone says of a window, which lies there in its answer."""
        core = answer.output[(..., *inside)]
        classes = classify(core, self._recipe)
        at = own.slices_within(self._shard.core)
        if self._values is not None and self._recipe.values is not None:
            np.copyto(
                self._values[at],
                stored(core[0], self._recipe.values),
                where=True if valid is None else valid,
            )
        if valid is None:
            self._classes[at] = classes
        else:
            np.copyto(self._classes[at], classes, where=valid)
        if self._confidence is not None:
            if answer.confidence is None:
                confidence = winning_probability(core, self._recipe)
            else:
                confidence = np.maximum(answer.confidence[inside], 1)
            np.copyto(self._confidence[at], confidence, where=True if valid is None else valid)

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
            strips=strips,
        )


def classify(output: NDArray[Any], recipe: Recipe) -> NDArray[np.unsignedinteger[Any]]:
    """Class ids (H, W) of the mask's dtype. Of equal scores the first class wins, as in argmax.

    Of numbers 1 is above the threshold, and what is not finite is the mask's nodata.
    """
    kind = recipe.answer
    dtype = np.dtype(recipe.mask_dtype)
    classes: NDArray[np.unsignedinteger[Any]]
    if kind == "values":
        assert recipe.values is not None  # noqa: S101  both say so
        above = divided(output[0], recipe.values.threshold)
        return np.where(np.isfinite(output[0]), above, dtype.type(recipe.mask_nodata))
    if kind == "sigmoid":
        classes = (output[0] > recipe.model.threshold).astype(dtype)
        return classes
    if kind == "classes":
        ids = output[0] if output.ndim == 3 else output
        highest, lowest = int(ids.max()), int(ids.min())
        if highest >= recipe.mask_nodata or lowest < 0:
            wrong, needed = (lowest, "ids from 0") if lowest < 0 else (highest, f"num_classes: {highest + 1}")
            msg = (
                f"the model gave class id {wrong}; a {dtype} mask holds 0..{recipe.mask_nodata - 1} and "
                f"{recipe.mask_nodata} is its nodata. The job needs {needed}"
            )
            raise ModelError(msg)
        classes = ids.astype(dtype)
        return classes
    # np.argmax over the first axis of a (K, H, W) array is ten times slower than this.
    best = output[0].copy()
    classes = np.zeros(best.shape, dtype=dtype)
    for number, scores in enumerate(output[1:], start=1):
        wins = scores > best
        np.maximum(classes, wins * dtype.type(number), out=classes)
        np.maximum(best, scores, out=best)
    return classes


def winning_probability(output: NDArray[Any], recipe: Recipe) -> NDArray[np.uint8]:
    """Probability of the winning class as 1..255 (H, W); 0 is left for invalid pixels."""
    kind = recipe.facts.output
    if kind == "sigmoid":
        probability = np.where(output[0] > recipe.model.threshold, output[0], 1 - output[0])
    elif kind == "probabilities":
        probability = output.max(axis=0)
    else:
        best = output.max(axis=0)
        total = np.zeros_like(best)
        for scores in output:
            total += np.exp(scores - best)
        probability = 1 / total
    confidence: NDArray[np.uint8] = np.clip(np.rint(probability * 255), 1, 255).astype(np.uint8)
    return confidence


def shares_of(answer: Answer, recipe: Recipe) -> NDArray[np.uint8]:
    """255 x probability of every class (K, H, W), rounded; of one band also what it leaves to class 0."""
    shares = answer.probabilities
    if shares is None:
        found = probabilities(answer.output, recipe)
        assert found is not None  # noqa: S101  a job whose network gives no scores is refused
        return np.rint(255 * found).astype(np.uint8)
    return np.concatenate((255 - shares, shares)) if recipe.facts.output == "sigmoid" else shares


def margin(output: NDArray[Any], recipe: Recipe) -> NDArray[np.float32] | None:
    """By how much the best class's probability is above the second's (H, W), 0..1; None without scores.

    Of one band with a threshold t it is twice the distance to t: 2 |p - t|, which is |p - (1 - p)| at 0.5.
    """
    kind = recipe.facts.output
    if kind in ("classes", "values"):
        return None
    if kind == "sigmoid":
        return np.asarray(np.abs(2 * (output[0].astype(np.float32) - recipe.model.threshold)))
    first = output[0].astype(np.float32)
    second = np.full_like(first, -np.inf)
    for scores in output[1:]:
        second = np.maximum(second, np.minimum(first, scores))
        first = np.maximum(first, scores)
    if kind == "probabilities":
        return np.asarray(first - second, dtype=np.float32)
    total = np.zeros_like(first)
    for scores in output:
        total += np.exp(scores - first)
    return np.asarray((1 - np.exp(second - first)) / total, dtype=np.float32)


def probabilities(output: NDArray[Any], recipe: Recipe) -> NDArray[np.float32] | None:
    """Of every class (K, H, W), 0..1; None where the network gives ids."""
    kind = recipe.facts.output
    if kind in ("classes", "values"):
        return None
    scores = output.astype(np.float32)
    if kind == "sigmoid":
        return np.concatenate((1 - scores[:1], scores[:1]))
    if kind == "probabilities":
        return scores
    scores = np.exp(scores - scores.max(axis=0))
    return np.asarray(scores / scores.sum(axis=0), dtype=np.float32)

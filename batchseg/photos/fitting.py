"""A photograph to the network's tiles, and the network's answers to a mask of the photograph's own size."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.errors import SourceError
from batchseg.grid import Shard, ShardGrid, TileGrid, Window, cut_tile
from batchseg.models import geometry
from batchseg.photos.picture import Picture, bands_of
from batchseg.predict import Answer
from batchseg.recipe import Recipe, fill_values, out_of_scale
from batchseg.stitch import Stitcher, classify, winning_probability

Ids = NDArray[np.unsignedinteger[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoMask:
    """What the network says of one photograph."""

    classes: Ids
    """(H, W) class ids of the mask's dtype; its nodata where the picture is transparent."""
    confidence: NDArray[np.uint8] | None
    """(H, W), 1..255 for 0..1, 0 where invalid; None unless the job asks for it."""
    tiles: int
    """That went through the network."""


class Fitting:
    """One photograph on its way through the network."""

    def __init__(self, picture: Picture, recipe: Recipe) -> None:
        """Take a picture's bands.

        Raises:
            SourceError: its bands or its values are not what the model takes.
        """
        bands = None if recipe.all_bands else recipe.bands
        pixels = bands_of(picture, len(recipe.bands), bands)
        if reason := out_of_scale(str(pixels.dtype), recipe.scale):
            raise SourceError(reason)
        self.shape_hw = pixels.shape[-2], pixels.shape[-1]
        self._recipe = recipe
        self._valid = picture.valid if recipe.nodata == "source" else None
        if isinstance(recipe.nodata, float | int):
            self._valid = np.any(pixels != recipe.nodata, axis=0)
        if self._valid is not None:
            fill = fill_values(recipe, str(pixels.dtype))
            pixels = np.where(self._valid, pixels, fill[:, None, None])
        self._pixels: NDArray[np.generic] = pixels
        self._answer: Answer | None = None
        if recipe.fit == "resize":
            self._shard = None
            self.inputs: int = 1 if self._valid is None or self._valid.any() else 0
        else:
            self._shard = _whole(*self.shape_hw, recipe.tile_size, recipe.halo)
            self._stitcher = Stitcher(recipe, self._shard)
            self._tiles = [(t, v) for t in self._shard.tiles if (v := self._core_valid(t.core)) is not False]
            self.inputs = len(self._tiles)
        self._open = self.inputs

    @property
    def is_complete(self) -> bool:
        return not self._open

    def tile(self, number: int) -> NDArray[np.generic]:
        """The raw pixels of one of `inputs` tiles: (C, tile_size, tile_size)."""
        if self._shard is None:
            return _resized(self._pixels, self._recipe.tile_size)
        return cut_tile(self._pixels, self._shard.read, self._tiles[number][0])

    def place(self, number: int, answer: Answer) -> None:
        """Take the network's answer to a tile.

        Raises:
            ModelError: a class id does not fit the mask.
        """
        self._open -= 1
        if self._shard is None:
            self._answer = answer
            return
        tile, valid = self._tiles[number]
        self._stitcher.place(tile, answer, valid if isinstance(valid, np.ndarray) else None)

    def mask(self) -> PhotoMask:
        """The mask, once every tile is placed."""
        recipe = self._recipe
        if self._shard is not None:
            done = self._stitcher.finished()
            classes, confidence = done.classes, done.confidence
        elif self._answer is not None:
            classes, confidence = restore(self._answer, self.shape_hw, recipe)
            if self._valid is not None:
                classes = np.where(self._valid, classes, classes.dtype.type(recipe.mask_nodata))
                confidence = None if confidence is None else confidence * self._valid
        else:
            classes = confidence = None
        if classes is None:
            classes = np.full(self.shape_hw, recipe.mask_nodata, dtype=recipe.mask_dtype)
            confidence = np.zeros(self.shape_hw, np.uint8) if recipe.confidence else None
        return PhotoMask(classes=classes, confidence=confidence, tiles=self.inputs)

    def _core_valid(self, core: Window) -> NDArray[np.bool_] | bool:
        if self._valid is None:
            return True
        valid = self._valid[core.slices_within(Window(row_off=0, col_off=0, height=0, width=0))]
        return valid if valid.any() else False


@lru_cache(maxsize=64)
def _whole(height: int, width: int, tile_size: int, halo: int) -> Shard:
    """A photograph as one shard; cameras give few sizes."""
    tiles = TileGrid(height=height, width=width, tile_size=tile_size, halo=halo)
    return ShardGrid(tiles=tiles, tiles_hw=tiles.shape_hw).shard(0)


def _resized(pixels: NDArray[Any], side: int) -> NDArray[Any]:
    """(C, side, side) by OpenCV's bilinear interpolation, in the picture's own type.

    PaddleSeg's Resize works on float32: uint8 here is the same, rounded.
    """
    cv2 = geometry.opencv()
    if pixels.shape[-2:] == (side, side):
        return pixels
    if len(pixels) <= 4:  # OpenCV's limit of bands at once
        together = cv2.resize(np.moveaxis(pixels, 0, -1), (side, side), interpolation=cv2.INTER_LINEAR)
        return np.moveaxis(together.reshape(side, side, len(pixels)), -1, 0)
    planes = [cv2.resize(np.ascontiguousarray(p), (side, side)) for p in pixels]
    return np.stack(planes)


def restore(
    answer: Answer, shape_hw: tuple[int, int], recipe: Recipe
) -> tuple[Ids, NDArray[np.uint8] | None]:
    """An answer for a resized photograph, brought to the photograph's size.

    Scores are interpolated bilinearly and then classified, ids by nearest neighbour, both as PaddleSeg's
    `reverse_transform` does. Bilinear interpolation keeps the order of scores that is the same in all
    pixels: where one class wins everywhere, it does so in between, and nothing is interpolated.

    Args:
        answer: of (tile_size, tile_size) pixels.
        shape_hw: of the photograph.
        recipe: the pixel settings.

    Returns:
        Class ids (H, W) of the mask's dtype, and confidence (H, W) if the job asks for it.

    Raises:
        ModelError: a class id does not fit the mask.
    """
    output, wants_confidence = answer.output, recipe.confidence
    small = classify(output, recipe)
    first = small.flat[0]
    if recipe.answer == "classes":
        classes: Ids = np.ascontiguousarray(geometry.nearest(small, shape_hw))
        scores = None if answer.confidence is None else geometry.nearest(answer.confidence, shape_hw)
        return classes, None if scores is None else np.maximum(scores, 1)
    if not wants_confidence and bool((small == first).all()):
        return np.full(shape_hw, first, dtype=recipe.mask_dtype), None
    large = geometry.scores_at(output, shape_hw)
    return classify(large, recipe), winning_probability(large, recipe) if wants_confidence else None

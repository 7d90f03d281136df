"""A photograph to the network's tiles, and the network's answers to a mask of the photograph's own size."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.errors import MismatchError
from batchseg.inputs.places import place_refused
from batchseg.job.recipe import Recipe
from batchseg.models import resize
from batchseg.pixels.fit import fill_values, out_of_scale
from batchseg.pixels.grid import Shard, ShardGrid, Tile, TileGrid, Window, cut_tile
from batchseg.pixels.photo.picture import Picture, bands_of
from batchseg.predict.answer import Answer, classify, winning_probability
from batchseg.predict.numbers import Stored, no_data, stored
from batchseg.predict.stitch import Stitcher

Ids = NDArray[np.unsignedinteger[Any]]
Bools = NDArray[np.bool_]

ORIGIN = Window(row_off=0, col_off=0, height=0, width=0)

CENSUS_PIXELS = 2**20
"""Counted at once: numpy makes eight bytes of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoMask:
    """What the network says of one photograph."""

    classes: Ids
    """(H, W) class ids of the mask's dtype; its nodata where the picture is transparent."""
    confidence: NDArray[np.uint8] | None
    """(H, W), 1..255 for 0..1, 0 where invalid; None unless the job asks for it."""
    tiles: int
    """That went through the network."""
    values: Stored | None = None
    """(H, W), the network's numbers as they are stored; None where it tells classes."""

    @property
    def nbytes(self) -> int:
        """In memory."""
        layers = [self.classes] if self.only_class is None else []
        return sum(layer.nbytes for layer in (*layers, self.confidence, self.values) if layer is not None)

    @property
    def only_class(self) -> int | None:
        """The class that all pixels are known to have; None where nobody knows."""
        return int(self.classes[0, 0]) if self.classes.strides == (0, 0) else None


def answer_bytes(recipe: Recipe) -> int:
    """Bytes per pixel of a photograph that its answer takes, at most, beside the picture.

    A mask is copied where it is traced and encoded; scores that are brought to the photograph's size are
    planes of float32.
    """
    layers = recipe.layer_bytes
    if recipe.values is not None:
        return 2 * layers + (16 if recipe.fit == "resize" else 0)  # float64 on the way to uint16
    if recipe.fit != "resize" or recipe.answer == "classes":
        return 3 * layers
    if recipe.answer == "sigmoid":
        return layers + (16 if recipe.confidence else 5)
    return layers + (12 if recipe.confidence else 9)


class Fitting:
    """One photograph on its way through the network."""

    def __init__(self, picture: Picture, recipe: Recipe) -> None:
        """Take a picture's bands.

        Raises:
            MismatchError: its bands or its values are not what the model takes, or it has a place.
        """
        if picture.place:
            raise MismatchError(place_refused(picture.place))
        pixels = bands_of(picture, len(recipe.bands), None if recipe.all_bands else recipe.bands)
        if reason := out_of_scale(str(pixels.dtype), recipe.scale, recipe.fit, picture.stored):
            raise MismatchError(reason)
        self._recipe, self._valid = recipe, valid_pixels(picture, pixels, recipe)
        if self._valid is not None:
            fill = fill_values(recipe, str(pixels.dtype))
            pixels = np.where(self._valid, pixels, fill[:, None, None])
        self._pixels = pixels
        self.shape_hw = pixels.shape[-2], pixels.shape[-1]
        self._answer: Answer | None = None
        self._shard: Shard | None = None
        self.inputs = 1 if self._valid is None or self._valid.any() else 0
        """Tiles that have to go through the network."""
        if recipe.fit != "resize":
            self._shard = _whole(*self.shape_hw, recipe.tile_size, recipe.halo, recipe.rim)
            self._stitcher = Stitcher(recipe, self._shard)
            self._tiles = self._with_valid_pixels(self._shard)
            self.inputs = len(self._tiles)
        self._open = self.inputs

    @property
    def is_complete(self) -> bool:
        return not self._open

    @property
    def pixels(self) -> NDArray[Any]:
        """(C, H, W), raw; filled where they hold no data. Not to be written to."""
        return self._pixels

    @property
    def valid(self) -> Bools | None:
        """(H, W) of the pixels that hold data; None: all do."""
        return self._valid

    def tile(self, number: int) -> NDArray[np.generic]:
        """The raw pixels of one of `inputs` tiles: (C, tile_size, tile_size), perhaps a view."""
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
        else:
            tile, valid = self._tiles[number]
            self._stitcher.place(tile, answer, valid)

    def mask(self) -> PhotoMask:
        """The mask, once every tile is placed.

        Raises:
            ModelError: a class id does not fit the mask.
        """
        recipe = self._recipe
        if not self.inputs:
            classes = np.full(self.shape_hw, recipe.mask_nodata, dtype=recipe.mask_dtype)
            confidence = np.zeros(self.shape_hw, np.uint8) if recipe.confidence else None
            values = None if recipe.values is None else no_data(self.shape_hw, recipe.values)
            return PhotoMask(classes=classes, confidence=confidence, tiles=0, values=values)
        if self._answer is None:
            done = self._stitcher.finished()
            assert done.classes is not None  # noqa: S101  tiles were placed
            return PhotoMask(
                classes=done.classes, confidence=done.confidence, tiles=self.inputs, values=done.values
            )
        if recipe.values is not None:
            return self._numbers(resize.scores_at(self._answer.output, self.shape_hw))
        classes, confidence = restore(self._answer, self.shape_hw, recipe)
        if self._valid is not None:
            classes = np.where(self._valid, classes, classes.dtype.type(recipe.mask_nodata))
            confidence = None if confidence is None else confidence * self._valid
        return PhotoMask(classes=classes, confidence=confidence, tiles=self.inputs)

    def _numbers(self, numbers: NDArray[Any]) -> PhotoMask:
        """Of the network's numbers (1, H, W), interpolated to the photograph's size."""
        recipe = self._recipe
        assert recipe.values is not None  # noqa: S101  asked of such alone
        classes, values = classify(numbers, recipe), stored(numbers[0], recipe.values)
        if self._valid is not None:
            classes[~self._valid] = recipe.mask_nodata
            values[~self._valid] = recipe.values.nodata
        return PhotoMask(classes=classes, confidence=None, tiles=self.inputs, values=values)

    def _with_valid_pixels(self, shard: Shard) -> list[tuple[Tile, Bools | None]]:
        """Tiles that have anything to predict, with the validity of what is kept; None: all of it."""
        if self._valid is None:
            return [(tile, None) for tile in shard.tiles]
        kept = [(tile, self._valid[tile.kept.slices_within(ORIGIN)]) for tile in shard.tiles]
        return [(tile, valid) for tile, valid in kept if valid.any()]


def restore(
    answer: Answer, shape_hw: tuple[int, int], recipe: Recipe
) -> tuple[Ids, NDArray[np.uint8] | None]:
    """An answer for a resized photograph, brought to the photograph's size.

    Scores are interpolated bilinearly and then classified, ids by nearest neighbour, both as PaddleSeg's
    `reverse_transform` does. Where one class wins in all pixels it does so in between, as interpolation
    and its rounding keep the order of scores; then nothing is interpolated.

    Args:
        answer: of (tile_size, tile_size) pixels.
        shape_hw: of the photograph.
        recipe: the pixel settings.

    Returns:
        Class ids (H, W) of the mask's dtype, and confidence (H, W) if the job asks for it. Ids that are
        all the same take no memory: they have strides of 0, and cannot be written to.

    Raises:
        ModelError: a class id does not fit the mask.
    """
    if recipe.answer == "classes":
        classes: Ids = resize.nearest(classify(answer.output, recipe), shape_hw)
        if answer.confidence is None:
            return classes, None
        return classes, np.maximum(resize.nearest(answer.confidence, shape_hw), 1)
    if not recipe.confidence and (only := _only_class(answer.output, recipe)) is not None:
        return np.broadcast_to(np.dtype(recipe.mask_dtype).type(only), shape_hw), None
    if recipe.answer == "sigmoid":
        scores = resize.scores_at(answer.output, shape_hw)
        return classify(scores, recipe), winning_probability(scores, recipe) if recipe.confidence else None
    return _winners(answer.output, shape_hw, recipe)


def _winners(
    scores: NDArray[Any], shape_hw: tuple[int, int], recipe: Recipe
) -> tuple[Ids, NDArray[np.uint8] | None]:
    """`classify` and `winning_probability` of interpolated scores, one class in memory at a time.

    Of 50 megapixels a plane of scores takes 200 MB, and there may be many.
    """

    def plane_of(number: int) -> NDArray[Any]:
        return np.asarray(resize.scores_at(scores[number : number + 1], shape_hw)[0])

    best = plane_of(0).copy()
    classes = np.zeros(shape_hw, recipe.mask_dtype)
    for number in range(1, len(scores)):
        plane = plane_of(number)
        np.copyto(classes, classes.dtype.type(number), where=plane > best)
        np.maximum(best, plane, out=best)
        del plane  # before the next one is there
    if not recipe.confidence:
        return classes, None
    probability = best
    if recipe.scores == "logits":
        probability = np.zeros_like(best)
        is_own = scores.shape[-2:] != shape_hw
        # Interpolated a second time: to keep them is what there is no memory for.
        for number in range(len(scores)):
            plane = plane_of(number)
            plane = np.subtract(plane, best, out=plane if is_own else None)
            probability += np.exp(plane, out=plane)
            del plane
        del best
        np.divide(1, probability, out=probability)
    np.multiply(probability, 255, out=probability)
    np.rint(probability, out=probability)
    np.clip(probability, 1, 255, out=probability)
    return classes, probability.astype(np.uint8)


def _only_class(scores: NDArray[Any], recipe: Recipe) -> int | None:
    """The class that wins in all pixels of (K, H, W), of equal scores the first; None where several win.

    Most photographs have no defect, and this takes a fifth of the time of `classify`.
    """
    if recipe.answer == "sigmoid":
        is_one = scores[0] > recipe.model.threshold
        return int(is_one[0, 0]) if is_one.all() or not is_one.any() else None
    best = int(scores[:, 0, 0].argmax())
    # Of equal scores the first class wins, so a class before the best must be lower everywhere.
    wins = (scores[:best] < scores[best]).all() and (scores[best + 1 :] <= scores[best]).all()
    return best if wins else None


def census(classes: Ids, nodata: int) -> tuple[list[int], list[int]]:
    """Class ids of a mask (H, W), ascending, and the pixels of each; nodata is no class."""
    if not classes.any():
        return [0], [classes.size]
    rows = np.flatnonzero(classes.any(axis=1))  # a histogram takes long, and defects are small
    band = classes[rows[0] : rows[-1] + 1]
    step = max(1, CENSUS_PIXELS // classes.shape[1])
    counts = np.zeros(nodata + 1, np.int64)
    for row in range(0, len(band), step):
        counts += np.bincount(band[row : row + step].ravel(), minlength=nodata + 1)
    counts[0] += classes.size - band.size
    counts[nodata] = 0
    ids = np.flatnonzero(counts)
    return ids.tolist(), counts[ids].tolist()


def valid_pixels(picture: Picture, pixels: NDArray[Any], recipe: Recipe) -> Bools | None:
    """(H, W) of the pixels that hold data, None where all do; as `read` tells it of scenes.

    Args:
        picture: the whole photograph.
        pixels: (C, H, W), the bands that the network takes.
        recipe: says what stands for no data.
    """
    masks = [picture.valid] if recipe.nodata != "none" and picture.valid is not None else []
    if isinstance(recipe.nodata, float | int):
        masks.append(np.any(pixels != recipe.nodata, axis=0))
    if pixels.dtype.kind == "f":
        masks.append(np.isfinite(pixels).all(axis=0))
    valid: Bools | None = np.logical_and.reduce(masks) if masks else None
    return None if valid is None or valid.all() else valid


@lru_cache(maxsize=64)
def _whole(height: int, width: int, tile_size: int, halo: int, rim: int) -> Shard:
    """A photograph as one shard; cameras give few sizes."""
    tiles = TileGrid(height=height, width=width, tile_size=tile_size, halo=halo, rim=rim)
    return ShardGrid(tiles=tiles, tiles_hw=tiles.shape_hw).shard(0)


def _resized(pixels: NDArray[Any], side: int) -> NDArray[Any]:
    """(C, H, W) to (C, side, side) by OpenCV's bilinear interpolation, in the picture's own type.

    PaddleSeg's Resize works on float32: uint8 here is the same, rounded.
    """
    if pixels.shape[-2:] == (side, side):
        return pixels
    cv2 = resize.opencv()
    if pixels.strides[0] == 0:  # a grey picture for a network of three bands
        return np.broadcast_to(cv2.resize(pixels[0], (side, side)), (len(pixels), side, side))
    if len(pixels) > 4:  # OpenCV's limit of bands at once
        return np.stack([cv2.resize(np.ascontiguousarray(plane), (side, side)) for plane in pixels])
    together: NDArray[Any] = cv2.resize(np.ascontiguousarray(pixels.transpose(1, 2, 0)), (side, side))
    return together.reshape(side, side, len(pixels)).transpose(2, 0, 1)

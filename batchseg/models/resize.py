"""Steps that change the number of pixels: applied to a tile, undone on what the network answers.

Sizes, rounding and interpolation are those of PaddleSeg 2.8 (`transforms/functional.py` for the way there,
`core/infer.py: reverse_transform` for the way back: padding is cropped, scores are brought back
bilinearly, ids by nearest neighbour). Bands are resized one by one, as OpenCV takes at most four together
for some interpolations; against all at once the last bit of a float32 may differ.
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.errors import ModelError
from batchseg.models.package import (
    Geometry,
    Interpolation,
    LimitLong,
    Padding,
    Resize,
    ResizeByLong,
    ResizeByShort,
)

Shape = tuple[int, int]
"""(height, width)"""

_INTERPOLATION = {
    "nearest": "INTER_NEAREST",
    "linear": "INTER_LINEAR",
    "cubic": "INTER_CUBIC",
    "area": "INTER_AREA",
    "lanczos4": "INTER_LANCZOS4",
}
"""OpenCV's names."""


@cache
def opencv() -> Any:
    """The module, on one thread: a worker has one core. It reserves 150 MB; most models resize nothing."""
    import cv2

    cv2.setNumThreads(1)  # takes 0.1 ms
    return cv2


def network_shape(steps: Sequence[Geometry], shape_hw: Shape) -> Shape:
    """Height and width that the network sees for a tile of `shape_hw`.

    Raises:
        ModelError: a padding is smaller than what it is to hold.
    """
    for step in steps:
        shape_hw = _after(step, shape_hw)
    return shape_hw


def apply(steps: Sequence[Geometry], tile: NDArray[np.float32], *, white: float = 1.0) -> NDArray[np.float32]:
    """The tile as the network wants it, before normalisation.

    Args:
        steps: in order.
        tile: scaled pixels, (C, H, W).
        white: what 255 has become in the tile; paddings, which are in units of 0..255, follow it.

    Returns:
        (C, *network_shape(steps, (H, W))), C-contiguous; the tile itself where there is nothing to do.

    Raises:
        ModelError: a padding is smaller than what it is to hold.
    """
    for step in steps:
        target = _after(step, _shape(tile))
        if isinstance(step, Padding):
            tile = _pad(tile, target, step.value, white)
        elif target != _shape(tile):
            tile = _resize(tile, target, step.interp if isinstance(step, Resize) else "linear")
    return tile


def undo(steps: Sequence[Geometry], answer: NDArray[Any], shape_hw: Shape) -> NDArray[Any]:
    """The network's answer at the tile's size.

    Args:
        steps: as they were applied.
        answer: scores (K, h, w) of float, or ids (h, w) of whole numbers, at the network's size.
        shape_hw: of the tile.

    Returns:
        The same kind and dtype, at `shape_hw`; the answer itself where there is nothing to do.

    Raises:
        ValueError: the answer is not of the size that the steps lead to.
    """
    befores = [shape_hw]
    for step in steps:
        befores.append(_after(step, befores[-1]))
    if _shape(answer) != befores[-1]:
        msg = f"an answer of {_shape(answer)} pixels, expected {befores[-1]}"
        raise ValueError(msg)
    for step, before in zip(reversed(steps), reversed(befores[:-1]), strict=True):
        if isinstance(step, Padding):
            answer = np.ascontiguousarray(answer[..., : before[0], : before[1]])
        elif before != _shape(answer):
            is_scores = answer.dtype.kind == "f"
            answer = _resize(answer, before, "linear") if is_scores else nearest(answer, before)
    return answer


def scores_at(scores: NDArray[Any], shape_hw: Shape) -> NDArray[Any]:
    """Scores (K, h, w) of float, brought to another size bilinearly."""
    return scores if _shape(scores) == shape_hw else _resize(scores, shape_hw, "linear")


def nearest(ids: NDArray[Any], shape_hw: Shape) -> NDArray[Any]:
    """Paddle's `F.interpolate(mode="nearest")`: row r is row floor(r * before / after), in float32."""
    rows, cols = (
        (np.arange(after, dtype=np.float32) * (np.float32(before) / np.float32(after))).astype(np.intp)
        for before, after in zip(_shape(ids), shape_hw, strict=True)
    )
    height, width = _shape(ids)
    picked: NDArray[Any] = ids[..., np.minimum(rows, height - 1)[:, None], np.minimum(cols, width - 1)]
    return picked


def _shape(pixels: NDArray[Any]) -> Shape:
    return pixels.shape[-2], pixels.shape[-1]


def _after(step: Geometry, shape_hw: Shape) -> Shape:
    if isinstance(step, Resize):
        return _resized(step, shape_hw)
    if isinstance(step, ResizeByShort):
        return _scaled(shape_hw, _short_size(step, shape_hw), min(shape_hw))
    if isinstance(step, ResizeByLong):
        return _scaled(shape_hw, step.long_size, max(shape_hw))
    if isinstance(step, LimitLong):
        return _limited(step, shape_hw)
    if any(target < side for target, side in zip(step.target_hw, shape_hw, strict=True)):
        msg = (
            f"model: its Padding makes {step.target_hw[0]} x {step.target_hw[1]} pixels (height x width), "
            f"and is given {shape_hw[0]} x {shape_hw[1]}; make tile_size smaller"
        )
        raise ModelError(msg)
    return step.target_hw


def _resized(step: Resize, shape_hw: Shape) -> Shape:
    target = step.target_hw
    if step.keep_ratio:
        scale = min(max(target) / max(shape_hw), min(target) / min(shape_hw))
        target = (max(round(shape_hw[0] * scale), 1), max(round(shape_hw[1] * scale), 1))
    if step.size_divisor:
        divisor = step.size_divisor
        target = (math.ceil(target[0] / divisor) * divisor, math.ceil(target[1] / divisor) * divisor)
    return target


def _scaled(shape_hw: Shape, target: int, side: int) -> Shape:
    """Both sides by the factor that makes `side` the target. At least one pixel, where OpenCV would fail."""
    scale = float(target) / float(side)
    return max(round(shape_hw[0] * scale), 1), max(round(shape_hw[1] * scale), 1)


def _short_size(step: ResizeByShort, shape_hw: Shape) -> int:
    short, long = min(shape_hw), max(shape_hw)
    if step.max_size is not None and step.short_size / short * long > step.max_size:
        return int((step.max_size / long) * short)
    return step.short_size


def _limited(step: LimitLong, shape_hw: Shape) -> Shape:
    long = max(shape_hw)
    target = long
    if step.max_long is not None and long > step.max_long:
        target = step.max_long
    elif step.min_long is not None and long < step.min_long:
        target = step.min_long
    return shape_hw if target == long else _scaled(shape_hw, target, long)


def _pad(
    tile: NDArray[np.float32], target_hw: Shape, values: tuple[float, ...], white: float
) -> NDArray[np.float32]:
    """Below and to the right."""
    count, height, width = tile.shape
    if len(values) not in (1, count):
        msg = f"model: its Padding has {len(values)} values, its input {count} bands; give 1 or {count}"
        raise ModelError(msg)
    fill = np.asarray(values, np.float32) / np.float32(255) * np.float32(white)
    padded = np.empty((count, *target_hw), np.float32)
    padded[...] = np.broadcast_to(fill, (count,))[:, None, None]
    padded[:, :height, :width] = tile
    return padded


def _resize(planes: NDArray[Any], shape_hw: Shape, interpolation: Interpolation) -> NDArray[Any]:
    """Each plane of (K, h, w) floats; OpenCV knows no float16."""
    cv2 = opencv()
    flag = getattr(cv2, _INTERPOLATION[interpolation])
    resized = np.empty((len(planes), *shape_hw), np.float32)
    for plane, out in zip(planes.astype(np.float32, copy=False), resized, strict=True):
        cv2.resize(plane, (shape_hw[1], shape_hw[0]), dst=out, interpolation=flag)
    return resized.astype(planes.dtype, copy=False)

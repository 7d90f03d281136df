"""Whether the files of a scene have any pixel in common."""

import itertools
import math
from collections.abc import Sequence

from batchseg.inputs.source import Box, Scene
from batchseg.pixels.bands import called

EDGE = 1e-6
"""Pixels: a centre that lies this near to a file's edge is not in it."""


def apart(scene: Scene, bands: Sequence[int]) -> str | None:
    """Which two files of these bands share no pixel's centre, in words with both boxes; None: none do.

    Boxes that meet two by two have a point in common, so that pairs are enough. Of a file that lies turned
    its bounding box counts.
    """
    if not scene.boxes:
        return None
    whole: Box = (0.0, 0.0, float(scene.height), float(scene.width))
    found = {scene.boxes[band - 1]: called(scene, band) for band in reversed(bands)}
    found.setdefault(whole, "the finest file, whose grid is the scene's,")
    for (one, its), (other, others) in itertools.combinations(reversed(found.items()), 2):
        if not all(_meet(one[axis], one[axis + 2], other[axis], other[axis + 2]) for axis in (0, 1)):
            return (
                f"has files that share no pixel, so that none has data of all: {its} lies at "
                f"{_in_words(scene, one)}, {others} at {_in_words(scene, other)} in the CRS of both"
            )
    return None


def _meet(one: float, one_end: float, other: float, other_end: float) -> bool:
    """Whether two ranges of pixels have the centre of one in common."""
    first = math.ceil(max(one, other) - 0.5 + EDGE)
    return first + 0.5 <= min(one_end, other_end) - EDGE


def _in_words(scene: Scene, box: Box) -> str:
    assert scene.georeference.transform is not None  # noqa: S101  where files lie apart they have a place
    a, b, c, d, e, f = scene.georeference.transform
    corners = itertools.product((box[0], box[2]), (box[1], box[3]))
    xs, ys = zip(*((a * col + b * row + c, d * col + e * row + f) for row, col in corners), strict=True)
    return f"{min(xs):.10g}..{max(xs):.10g}, {min(ys):.10g}..{max(ys):.10g}"

"""A photograph made small, its defects outlined, and words that fit: ids of any length and script."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
import rasterio.features
import shapely
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps
from rasterio.transform import Affine
from scipy.ndimage import distance_transform_edt

from batchseg.system.escape import code_of

FINER = 2
"""Outlines are drawn so many times larger and reduced, which smooths them."""

LINE_PX = 1.5
HALO_PX = 1.25
"""Widths on the thumbnail. Both lie outside of a region: what is inside stays to be seen. Along its border a
line of two pixels would hide a crack of three."""

MARGIN = math.ceil(LINE_PX + HALO_PX)
"""Of paper around a thumbnail, for the outlines of regions that touch the image's border."""

SMALL_PX = 8
"""A region that is smaller than this on the thumbnail, both ways, gets a ring as well."""

RING_PX = 9
"""Radius of a ring on the thumbnail, at least."""

RINGS = 20
"""Rings on one thumbnail at most, around the largest of the small regions: more hide the image."""

LARGEST_SCALE = 4
"""Small images are enlarged by no more than this."""

DARK = (0, 0, 0)
STRETCH = (0.5, 99.5)
"""Percentiles of an image of more than 8 bits that become black and white."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Defect:
    """A region to draw."""

    polygon: shapely.Polygon
    """In the image's pixels, x to the right and y down, corners at whole numbers."""
    color: str
    """#rrggbb"""


def thumbnail(
    pixels: NDArray[Any], defects: Sequence[Defect], *, room_wh: tuple[int, int], paper: str = "#ffffff"
) -> Image.Image:
    """An image that fits into `room_wh` pixels, in its own proportions, with outlines around its defects.

    Args:
        pixels: (H, W, C) upright; grey, grey and alpha, or RGB and whatever follows; any real type.
        defects: later ones lie on top.
        room_wh: width and height, without the MARGIN that is added on each side.
        paper: the margin's colour.
    """
    height, width = pixels.shape[:2]
    scale = min(room_wh[0] / width, room_wh[1] / height, LARGEST_SCALE)
    small_w, small_h = (max(1, round(side * scale)) for side in (width, height))
    small = Image.fromarray(as_rgb(pixels)).resize((small_w, small_h), Image.Resampling.BICUBIC)
    framed = ImageOps.expand(small, MARGIN, paper)
    if not defects:
        return framed
    fine = framed.resize((framed.width * FINER, framed.height * FINER), Image.Resampling.NEAREST)
    shift = MARGIN * FINER
    place = Affine(small_w * FINER / width, 0, shift, 0, small_h * FINER / height, shift)
    drawn = np.array(fine)
    for color in dict.fromkeys(defect.color for defect in defects):
        own = [defect.polygon for defect in defects if defect.color == color]
        _outline(drawn, own, ~place, color)
    fine = Image.fromarray(drawn)
    _ring_small(fine, defects, place)
    return fine.reduce(FINER)


def as_rgb(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """(H, W, C) of any type to (H, W, 3) of bytes; other types than bytes are stretched, NaN is black."""
    colors = pixels[..., :3] if pixels.shape[2] >= 3 else pixels[..., :1]
    if colors.dtype != np.uint8:
        colors = _stretched(colors)
    return np.ascontiguousarray(np.broadcast_to(colors, (*colors.shape[:2], 3)))


def _stretched(values: NDArray[Any]) -> NDArray[np.uint8]:
    finite = values[np.isfinite(values)].astype(np.float64)
    if not finite.size:
        return np.zeros(values.shape, np.uint8)
    low, high = np.percentile(finite, STRETCH)
    scaled = (np.nan_to_num(values.astype(np.float64), nan=low, posinf=high, neginf=low) - low) / max(
        high - low, 1e-12
    )
    return np.asarray(scaled.clip(0, 1) * 255 + 0.5).astype(np.uint8)


def _outline(image: NDArray[np.uint8], polygons: Sequence[Any], transform: Affine, color: str) -> None:
    """Draw around regions into (H, W, 3), by each pixel's distance from the nearest of them."""
    inside = rasterio.features.rasterize(polygons, image.shape[:2], transform=transform, dtype=np.uint8)
    margin = int(np.ceil((LINE_PX + HALO_PX) * FINER)) + 1
    rows, cols = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not len(rows):
        return
    box = tuple(slice(max(0, at[0] - margin), at[-1] + margin + 1) for at in (rows, cols))
    far = distance_transform_edt(inside[box] == 0)
    part = image[box]
    part[(far > LINE_PX * FINER) & (far <= (LINE_PX + HALO_PX) * FINER)] = DARK
    part[(far > 0) & (far <= LINE_PX * FINER)] = bytearray.fromhex(color[1:])


def _ring_small(image: Image.Image, defects: Sequence[Defect], place: Affine) -> None:
    boxes = shapely.bounds([defect.polygon for defect in defects])
    boxes = boxes * [place.a, place.e, place.a, place.e] + [place.c, place.f, place.c, place.f]
    sides = np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
    small = np.flatnonzero(sides < SMALL_PX * FINER)
    draw = ImageDraw.Draw(image)
    for number in small[np.argsort(-sides[small], kind="stable")][:RINGS].tolist():
        x, y = (boxes[number, :2] + boxes[number, 2:]) / 2 - 0.5  # Pillow's pixel centres are whole numbers
        for color, width in ((DARK, LINE_PX + 2 * HALO_PX), (defects[number].color, LINE_PX)):
            radius = (RING_PX + width / 2) * FINER
            box = (x - radius, y - radius, x + radius, y + radius)
            draw.ellipse(box, outline=color, width=round(width * FINER))


Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


SYSTEM_FONTS = ("NotoSansCJK-Regular.ttc", "DejaVuSans.ttf", "LiberationSans-Regular.ttf")
"""The most scripts first. Pillow's own font, where the system has none of them, draws ASCII alone."""


MISSING = "\uffff"
"""Not a character: a font draws for it what it draws for all that it does not know."""


def cut(text: str, width: int, measure: Callable[[str], float] = len) -> str:
    """Text no wider than `width`, cut in its middle: ids differ at their ends.

    >>> cut("line-1/2026-11-19/part-00017.png", 20)
    'line-1...t-00017.png'
    """
    if measure(text) <= width:
        return text
    for kept in range(len(text) - 1, 0, -1):
        head = kept * 2 // 5
        short = f"{text[:head]}...{text[len(text) - (kept - head) :]}"
        if measure(short) <= width:
            return short
    return "..."


@cache
def load_font(size: int) -> Font:
    """Of `size` pixels: one of the system's, else Pillow's own."""
    for name in SYSTEM_FONTS:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)


def drawable(text: str, font: Font) -> str:
    """Text in which what the font cannot draw is replaced by its code."""
    return "".join(c if c.isprintable() and _can_draw(c, font) else code_of(c) for c in text)


@lru_cache(maxsize=65536)
def _can_draw(character: str, font: Font) -> bool:
    if character == " ":
        return True
    drawn, missing = font.getmask(character), font.getmask(MISSING)
    return (drawn.size, bytes(drawn)) != (missing.size, bytes(missing))

import numpy as np
import pytest
import rasterio.features
import shapely
from drawn import GREEN, GREY, RED, picture
from numpy.typing import NDArray
from PIL import ImageColor, ImageFont
from scipy import ndimage

from batchseg.tools.outlines import HALO_PX, LINE_PX, MARGIN, RING_PX, Defect, drawable, load_font, thumbnail


def defects_of(mask: NDArray[np.uint8], color: str = RED) -> list[Defect]:
    found = rasterio.features.shapes(mask, mask=mask > 0)
    return [Defect(polygon=shapely.geometry.shape(shape), color=color) for shape, _ in found]


def test_outlines_touch_the_defect_and_cover_none_of_it() -> None:
    """At the largest scale a pixel of the image is a square of the thumbnail, so that all is exact."""
    blocks = np.random.default_rng(2).random((9, 13)) < 0.4
    mask = np.kron(blocks, np.ones((3, 3))).astype(np.uint8)
    height, width = mask.shape
    image = np.array(thumbnail(picture(height, width), defects_of(mask), room_wh=(4 * width, 4 * height)))
    assert image.shape == (4 * height + 2 * MARGIN, 4 * width + 2 * MARGIN, 3)
    inside = np.pad(np.kron(mask, np.ones((4, 4))), MARGIN) > 0
    assert (image[inside] == GREY).all()
    beside = ndimage.binary_dilation(inside) & ~inside
    assert (image[beside] == ImageColor.getrgb(RED)).all()
    far = ndimage.distance_transform_edt(~inside) > LINE_PX + HALO_PX + 1
    plain = np.array(thumbnail(picture(height, width), [], room_wh=(4 * width, 4 * height)))
    np.testing.assert_array_equal(image[far], plain[far])
    assert far.any()


def test_holes_are_outlined_too_and_classes_have_their_colors() -> None:
    mask = np.zeros((60, 90), np.uint8)
    mask[10:50, 10:50] = 1
    mask[20:40, 20:40] = 0
    other = np.zeros_like(mask)
    other[10:50, 60:80] = 1
    defects = [*defects_of(mask), *defects_of(other, GREEN)]
    image = np.array(thumbnail(picture(60, 90), defects, room_wh=(90, 60)))[MARGIN:-MARGIN, MARGIN:-MARGIN]
    red, green = (np.all(image == ImageColor.getrgb(color), axis=2) for color in (RED, GREEN))
    assert red[30, 9] and red[30, 50] and red[30, 20] and red[30, 39] and green[30, 59]
    assert not red[30, 10:20].any() and not red[20:40, 60:].any()
    assert (image[30, 15] == GREY).all() and (image[30, 30] == GREY).all()


@pytest.mark.parametrize("value", [0, 255])
def test_small_defects_are_ringed_even_where_they_vanish(value: int) -> None:
    mask = np.zeros((1000, 1500), np.uint8)
    mask[400, 700] = 1
    image = np.array(thumbnail(picture(1000, 1500, value), defects_of(mask), room_wh=(150, 100)))
    rows, cols = np.nonzero(image.max(axis=2).astype(int) - image.min(axis=2) > 60)
    middle = MARGIN + 70.05, MARGIN + 40.05
    far = np.hypot(cols + 0.5 - middle[0], rows + 0.5 - middle[1])
    ring = far > RING_PX - 1
    assert ring.sum() > 40
    assert far.max() < RING_PX + LINE_PX + HALO_PX + 1
    assert np.abs([np.mean(cols[ring]) + 0.5 - middle[0], np.mean(rows[ring]) + 0.5 - middle[1]]).max() < 0.5


def test_what_a_font_cannot_draw_is_written_as_its_code() -> None:
    assert drawable("line 7/检#\n.png", ImageFont.load_default(14)) == r"line 7/\u68c0#\n.png"
    assert drawable("plain", load_font(14)) == "plain"

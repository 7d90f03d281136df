import numpy as np
import pytest
from encoded import CMYK, DEEP, GREY, HEIGHT, RGB, WHOLE, WIDTH, by_gdal, by_pillow
from PIL import Image

from batchseg.errors import SourceError
from batchseg.pixels.photo.decode import decode


@pytest.mark.parametrize("form", ["TIFF", "JPEG"])
def test_cmyk_is_expanded_as_pillow_does(form):
    expected = np.asarray(CMYK.convert("RGB"), int)
    picture = decode(by_pillow(CMYK, form, **({"quality": 100} if form == "JPEG" else {})), form)
    assert picture.kind == "CMYK"
    assert np.abs(picture.pixels - expected).max() <= (1 if form == "TIFF" else 6)


def frames(form):
    images = [Image.fromarray(np.roll(RGB, 5 * i, axis=0)) for i in range(3)]
    return by_pillow(images[0], form, save_all=True, append_images=images[1:])


@pytest.mark.parametrize(
    ("form", "words"),
    [("GIF", "animated GIF"), ("PNG", "animated PNG"), ("WEBP", "animated WebP"), ("TIFF", "holds 3 pages")],
)
def test_of_several_frames_none_is_chosen(form, words):
    with pytest.raises(SourceError, match=words):
        decode(frames(form), form)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (by_gdal(np.dstack([DEEP, DEEP[:, :, :1]]), photometric="CMYK"), "is 16-bit CMYK.*save it as RGB"),
        (by_pillow(Image.fromarray(RGB).convert("LAB"), "TIFF"), "is CIELab"),
        (by_gdal(GREY.astype(np.int32)), "has int32 pixels"),
        (by_gdal(GREY.astype(np.complex64)), "has complex64 pixels"),
        (by_gdal(GREY.astype(np.complex64), dtype="complex_int16"), "has complex_int16 pixels"),
        (by_gdal(np.zeros((HEIGHT, WIDTH), np.uint8), sparse_ok=True), "parts that were never written"),
        (by_pillow(GREY, "TIFF", tiffinfo={254: 1}), "is a preview"),
        (by_pillow(CMYK, "TIFF", tiffinfo={274: 6}), "is CMYK or YCbCr, and turned"),
    ],
)
def test_what_cannot_be_expanded_is_refused_by_name(data, words):
    with pytest.raises(SourceError, match=words):
        decode(data, "x.tif")


def test_a_wrong_checksum_is_damage():
    data = bytearray(WHOLE["PNG"])
    data[-30] ^= 1
    with pytest.raises(SourceError, match="wrong checksum of IDAT"):
        decode(bytes(data), "x.png")

import struct
import sys
import zlib

import numpy as np
import pytest
from encoded import ALPHA, CMYK, DEEP, GREY, HEIGHT, RGB, WHOLE, WIDTH, by_gdal, by_pillow
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


def with_chunk(kind, body, checksum=None):
    """A PNG with one chunk more, behind its header."""
    data = WHOLE["PNG"]
    check = zlib.crc32(kind + body) if checksum is None else checksum
    return data[:33] + struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check) + data[33:]


@pytest.mark.parametrize("checksum", [None, 7])
@pytest.mark.parametrize("kind", [b"eXIf", b"iCCP", b"zTXt", b"tEXt", b"pHYs", b"gAMA", b"prIV"])
def test_what_says_nothing_of_pixels_condemns_no_png(kind, checksum):
    for body in (b"", bytes(range(50, 250))):
        data = with_chunk(kind, body, checksum)
        assert np.array_equal(decode(data, "x.png").pixels, decode(WHOLE["PNG"], "x.png").pixels)


def test_a_png_whose_transparency_is_damaged_is():
    with pytest.raises(SourceError, match="wrong checksum of tRNS"):
        decode(with_chunk(b"tRNS", bytes(6), 7), "x.png")


def bmp_of(rgba):
    """32 bits a pixel with a V4 header that names an alpha mask, from the bottom up."""
    height, width = rgba.shape[:2]
    v4 = struct.pack("<IiiHHIIiiII", 108, width, height, 1, 32, 3, rgba.nbytes, 2835, 2835, 0, 0)
    v4 = (v4 + struct.pack("<IIII", 0xFF, 0xFF00, 0xFF0000, 0xFF000000)).ljust(108, b"\0")
    head = struct.pack("<2sIHHI", b"BM", 122 + rgba.nbytes, 0, 0, 122)
    return head + v4 + rgba[::-1].tobytes()


def test_a_bmp_whose_alpha_is_0_throughout_has_none():
    rgba = np.random.default_rng(2).integers(0, 256, (7, 9, 4), dtype=np.uint8)
    rgba[..., 3] = 0
    picture = decode(bmp_of(rgba), "x.bmp")
    assert (picture.valid, picture.kind) == (None, "RGB")
    assert np.array_equal(picture.pixels, rgba[..., :3])
    rgba[2, 3, 3] = 1
    picture = decode(bmp_of(rgba), "x.bmp")
    assert picture.valid is not None and picture.valid.sum() == 1 and picture.valid[2, 3]
    assert not decode(by_pillow(Image.fromarray(rgba * 0), "PNG"), "x.png").valid.any()


def test_avif_comes_upright_and_a_sequence_is_no_picture():
    turned = Image.Exif()
    turned[0x0112] = 6
    picture = decode(by_pillow(RGB, "AVIF", quality=100, subsampling="4:4:4", exif=turned), "x.avif")
    assert np.abs(picture.pixels.astype(int) - np.rot90(RGB, -1)).mean() < 2
    with pytest.raises(SourceError, match="is an animated AVIF"):
        decode(frames("AVIF"), "x.avif")


def test_of_an_mpo_the_first_picture_is_done():
    assert np.abs(decode(frames("MPO"), "x.mpo").pixels.astype(int) - RGB).mean() < 9


HEIC = b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf"


@pytest.mark.parametrize(
    "head", [HEIC, HEIC.replace(b"ftypheic", b"ftypmif1"), HEIC.replace(b"heic", b"heix")]
)
def test_heic_without_its_decoder_is_told_by_name(monkeypatch, head):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(SourceError, match=r"is a HEIC picture; install pillow-heif .*`batchseg retry`"):
        decode(head + bytes(99), "x.jpg")


def test_avif_without_its_decoder_is_told_by_name(monkeypatch):
    monkeypatch.setattr("PIL.AvifImagePlugin.SUPPORTED", False)
    with pytest.raises(SourceError, match="is an AVIF picture, which this Pillow was built without"):
        decode(b"\0\0\0\x1cftypavif\0\0\0\0mif1avifmiaf", "x.avif")


def test_heic_is_read_where_its_decoder_is_installed():
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    turned = Image.Exif()
    turned[0x0112] = 6
    picture = decode(by_pillow(RGB, "HEIF", quality=-1, exif=turned.tobytes()), "x.heic")
    assert np.abs(picture.pixels.astype(int) - np.rot90(RGB, -1)).mean() < 2
    clear = decode(by_pillow(np.dstack([RGB, ALPHA]), "HEIF", quality=-1), "x.heic")
    assert np.array_equal(clear.valid, ALPHA > 0)
    with pytest.raises(SourceError, match="holds several pictures"):
        decode(frames("HEIF"), "x.heic")

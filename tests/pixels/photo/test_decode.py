"""Photographs written by one library, decoded here, and compared with the array or with another decoder."""

import io
import os
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import REPOSITORY, SHARED
from encoded import (
    ALPHA,
    BITS,
    CMYK,
    DEEP,
    GREY,
    HEIGHT,
    PALETTE,
    RGB,
    RGBA,
    WHOLE,
    WIDTH,
    by_gdal,
    by_opencv,
    by_pillow,
    smooth,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from batchseg.errors import SourceError
from batchseg.pixels.photo.decode import decode
from batchseg.pixels.photo.limits import Limits, NoRoomError


def png(depth, color_type, raw, *chunks):
    """A PNG of rows that have their filter byte already."""
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, color_type, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    )


def low_bits(depth):
    """Packed rows of a grey picture of few bits, and its values."""
    values = GREY >> (8 - depth)
    bits = np.unpackbits(values[:, :, None], axis=2)[:, :, 8 - depth :].reshape(HEIGHT, -1)
    return b"".join(b"\0" + np.packbits(row).tobytes() for row in bits), values


INDEX = np.asarray(PALETTE)
COLORS = np.asarray(PALETTE.convert("RGB"))
COLORMAP = {i: (i * 7 % 256, 255 - i, i) for i in range(256)}
LOSSLESS = {
    "png grey": (by_opencv(GREY, ".png"), GREY, None, "grey"),
    "png RGB": (by_opencv(RGB, ".png"), RGB, None, "RGB"),
    "png RGBA": (by_opencv(RGBA, ".png"), RGB, ALPHA > 0, "RGBA"),
    "png LA": (by_pillow(np.dstack([GREY, ALPHA]), "PNG"), GREY, ALPHA > 0, "grey + alpha"),
    "png palette": (by_pillow(PALETTE, "PNG"), COLORS, None, "palette"),
    "png palette tRNS": (
        by_pillow(PALETTE, "PNG", transparency=bytes([9, 0, 255, 0])),
        COLORS,
        (INDEX != 1) & (INDEX != 3),
        "palette with transparency",
    ),
    "png grey tRNS": (by_pillow(GREY, "PNG", transparency=100), GREY, GREY != 100, "grey"),
    "png RGB tRNS": (
        by_pillow(RGB, "PNG", transparency=tuple(map(int, RGB[3, 4]))),
        RGB,
        (RGB[3, 4] != RGB).any(-1),
        "RGB",
    ),
    "png 1 bit": (by_pillow(BITS, "PNG"), BITS * np.uint8(255), None, "grey"),
    "png 2 bit": (png(2, 0, low_bits(2)[0]), low_bits(2)[1] * np.uint8(85), None, "grey"),
    "png 4 bit tRNS": (
        png(4, 0, low_bits(4)[0], (b"tRNS", b"\0\7")),
        low_bits(4)[1] * np.uint8(17),
        low_bits(4)[1] != 7,
        "grey",
    ),
    "png 16 grey": (by_opencv(DEEP[:, :, 0], ".png"), DEEP[:, :, 0], None, "16-bit grey"),
    "png 16 RGB": (by_opencv(DEEP, ".png"), DEEP, None, "16-bit RGB"),
    "png 16 RGBA": (
        by_opencv(np.dstack([DEEP, ALPHA.astype(np.uint16)]), ".png"),
        DEEP,
        ALPHA > 0,
        "16-bit RGBA",
    ),
    "png 16 RGB tRNS": (
        png(
            16,
            2,
            b"".join(b"\0" + row.astype(">u2").tobytes() for row in DEEP),
            (b"tRNS", DEEP[5, 6].astype(">u2").tobytes()),
        ),
        DEEP,
        (DEEP[5, 6] != DEEP).any(-1),
        "16-bit RGB",
    ),
    "png 16 LA": (
        by_gdal(np.dstack([DEEP[:, :, 0], ALPHA.astype(np.uint16)]), driver="PNG"),
        DEEP[:, :, 0],
        ALPHA > 0,
        "16-bit grey + alpha",
    ),
    "bmp grey": (by_opencv(GREY, ".bmp"), GREY, None, "grey"),
    "bmp RGB": (by_opencv(RGB, ".bmp"), RGB, None, "RGB"),
    "bmp RGBA": (by_opencv(RGBA, ".bmp"), RGB, ALPHA > 0, "RGBA"),
    "bmp palette": (by_pillow(PALETTE, "BMP"), COLORS, None, "palette"),
    "bmp 1 bit": (by_pillow(BITS, "BMP"), BITS * np.uint8(255), None, "grey"),
    "gif": (by_pillow(PALETTE, "GIF"), COLORS, None, "palette"),
    "gif transparent": (
        by_pillow(PALETTE, "GIF", transparency=3),
        COLORS,
        INDEX != 3,
        "palette with transparency",
    ),
    "webp RGB": (by_opencv(RGB, ".webp", (cv2.IMWRITE_WEBP_QUALITY, 101)), RGB, None, "RGB"),
    "webp RGBA": (by_pillow(RGBA, "WEBP", lossless=True, exact=True), RGB, ALPHA > 0, "RGBA"),
    "ppm": (by_pillow(RGB, "PPM"), RGB, None, "RGB"),
    "pgm": (by_pillow(GREY, "PPM"), GREY, None, "grey"),
    "jp2 grey": (by_pillow(GREY, "JPEG2000"), GREY, None, "grey"),
    "jp2 RGB": (by_pillow(RGB, "JPEG2000"), RGB, None, "RGB"),
    "jp2 RGBA": (by_pillow(RGBA, "JPEG2000"), RGB, ALPHA > 0, "RGBA"),
    "tiff grey": (by_pillow(GREY, "TIFF"), GREY, None, "grey"),
    "tiff RGB": (by_pillow(RGB, "TIFF", compression="tiff_lzw"), RGB, None, "RGB"),
    "tiff RGBA": (by_pillow(RGBA, "TIFF"), RGB, ALPHA > 0, "RGBA"),
    "tiff LA": (by_pillow(np.dstack([GREY, ALPHA]), "TIFF"), GREY, ALPHA > 0, "grey + alpha"),
    "tiff 1 bit": (by_pillow(BITS, "TIFF"), BITS * np.uint8(255), None, "grey"),
    "tiff 1 bit white": (
        by_pillow(BITS, "TIFF", compression="group4", tiffinfo={262: 0}),
        BITS * np.uint8(255),
        None,
        "grey",
    ),
    "tiff 4 bit": (by_gdal(GREY >> 4, nbits=4), (GREY >> 4) * np.uint8(17), None, "grey"),
    "tiff white": (by_gdal(255 - GREY, photometric="MINISWHITE"), GREY, None, "grey"),
    "tiff 16 white": (
        by_gdal(65535 - DEEP[:, :, 0], photometric="MINISWHITE"),
        DEEP[:, :, 0],
        None,
        "16-bit grey",
    ),
    "tiff 16 grey": (by_pillow(DEEP[:, :, 0], "TIFF"), DEEP[:, :, 0], None, "16-bit grey"),
    "tiff 16 RGB": (by_opencv(DEEP, ".tiff"), DEEP, None, "16-bit RGB"),
    "tiff 12 bit": (by_gdal(DEEP[:, :, 0] >> 4, nbits=12), DEEP[:, :, 0] >> 4, None, "12-bit grey"),
    "tiff float": (by_pillow(GREY / np.float32(7), "TIFF"), GREY / np.float32(7), None, "32-bit grey"),
    "tiff int16": (by_gdal(GREY.astype(np.int16)), GREY.astype(np.float32), None, "16-bit grey"),
    "tiff palette": (by_pillow(PALETTE, "TIFF"), COLORS, None, "palette"),
    "tiff palette of GDAL": (
        by_gdal(GREY, colormap=COLORMAP, photometric="PALETTE"),
        np.array([COLORMAP[i] for i in range(256)], np.uint8)[GREY],
        None,
        "palette",
    ),
    "tiff tiled": (
        by_gdal(RGB, photometric="RGB", tiled=True, blockxsize=16, blockysize=32, compress="deflate"),
        RGB,
        None,
        "RGB",
    ),
    "tiff nodata": (by_gdal(GREY, nodata=100), GREY, GREY != 100, "grey"),
    "tiff 7 bands": (by_gdal(smooth(np.uint16, 7)), smooth(np.uint16, 7), None, "16-bit 7 bands"),
    "tiff 4 bands": (
        by_gdal(RGBA, photometric="RGB", alpha="NO"),
        RGBA,
        None,
        "4 bands",
    ),
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_pictures_come_out_as_they_went_in(name):
    data, expected, valid, kind = LOSSLESS[name]
    picture = decode(data, name)
    expected = expected[:, :, None] if expected.ndim == 2 else expected
    assert picture.kind == kind
    assert picture.pixels.dtype == expected.dtype
    assert np.array_equal(picture.pixels, expected)
    assert picture.pixels.flags.c_contiguous
    if valid is None:
        assert picture.valid is None
    else:
        assert np.array_equal(picture.valid, valid)


LOSSY = {
    "grey": by_pillow(GREY, "JPEG"),
    "RGB": by_opencv(RGB, ".jpg"),
    "progressive": by_pillow(RGB, "JPEG", progressive=True, subsampling=0),
    "stored as RGB": by_pillow(RGB, "JPEG", keep_rgb=True),
    "CMYK": by_pillow(CMYK, "JPEG", quality=95),
    "webp": by_opencv(RGB, ".webp", (cv2.IMWRITE_WEBP_QUALITY, 90)),
}


@pytest.mark.parametrize("name", LOSSY)
def test_lossy_pictures_are_pillows(name):
    picture = decode(LOSSY[name], name)
    image = Image.open(io.BytesIO(LOSSY[name]))
    expected = np.asarray(image.convert("RGB") if image.mode == "CMYK" else image)
    assert np.array_equal(picture.pixels.squeeze(), expected)
    assert picture.kind == {"grey": "grey", "CMYK": "CMYK"}.get(name, "RGB")


def stored(form, orientation):
    """A picture that says how it is to be turned, and what it stores."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    if form == "TIFF":
        return by_pillow(RGB, form, tiffinfo={274: orientation})
    if form == "JPEG TIFF":
        ycbcr = Image.fromarray(RGB).convert("YCbCr")
        return by_pillow(ycbcr, "TIFF", compression="jpeg", tiffinfo={274: orientation})
    body = b"eXIf" + exif.tobytes()[6:]
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    if form == "PNG after the pixels":
        data = by_pillow(RGB, "PNG")
        return data[:-12] + chunk + data[-12:]
    if form == "PNG 16":
        data = by_opencv(DEEP, ".png")
        return data[:33] + chunk + data[33:]
    if form == "JPEG behind a comment":
        return by_pillow(RGB, "JPEG", exif=exif.tobytes(), comment=b"x" * 30000, icc_profile=b"y" * 70000)
    options = {"lossless": True} if form == "WEBP" else {}
    return by_pillow(RGB, form, exif=exif.tobytes(), **options)


@pytest.mark.parametrize(
    "form",
    ["JPEG", "JPEG behind a comment", "PNG", "PNG after the pixels", "PNG 16", "WEBP", "TIFF", "JPEG TIFF"],
)
def test_pictures_come_out_upright(form):
    plain = decode(stored(form, 1), form).pixels
    upright = {
        2: plain[:, ::-1],
        3: plain[::-1, ::-1],
        4: plain[::-1],
        5: plain.transpose(1, 0, 2),
        6: np.rot90(plain, -1),
        7: plain[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(plain),
    }
    for orientation, expected in upright.items():
        data = stored(form, orientation)
        picture = decode(data, form)
        assert np.array_equal(picture.pixels, expected), orientation
        assert picture.pixels.flags.c_contiguous


@given(name=st.sampled_from(sorted(WHOLE)), part=st.floats(0, 1, exclude_max=True), near_end=st.booleans())
@settings(deadline=None, max_examples=250)
def test_a_file_that_was_cut_off_is_refused_or_lost_nothing(name, part, near_end):
    whole = WHOLE[name]
    length = int(len(whole) * part) if not near_end else len(whole) - 1 - int(part * min(64, len(whole) - 1))
    try:
        picture = decode(whole[:length], name)
    except SourceError:
        return
    expected = decode(whole, name)
    assert np.array_equal(picture.pixels, expected.pixels)
    assert (picture.valid is None) == (expected.valid is None)
    if picture.valid is not None:
        assert np.array_equal(picture.valid, expected.valid)


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("part", [0.05, 0.5, 0.8])
def test_a_part_of_a_file_is_said_to_be_cut_off(name, part):
    with pytest.raises(SourceError, match=r"^cut off"):
        decode(WHOLE[name][: int(len(WHOLE[name]) * part)], name)


@given(name=st.sampled_from(sorted(WHOLE)), at=st.floats(0, 1, exclude_max=True), value=st.integers(1, 255))
@settings(deadline=None, max_examples=250)
def test_a_wrong_byte_gives_a_picture_or_words(name, at, value):
    damaged = bytearray(WHOLE[name])
    damaged[int(at * len(damaged))] ^= value
    try:
        picture = decode(bytes(damaged), name, limits=Limits(pixels=1_000_000))
    except SourceError as e:
        assert not re.search(r"vsimem| at 0x|image\.tif|^$", str(e))
        return
    assert picture.pixels.dtype in (np.uint8, np.uint16)


@pytest.mark.parametrize("name", [n for n in [*LOSSLESS, *LOSSY] if n != "tiff 7 bands"])
def test_too_many_pixels_are_refused(name):
    data = LOSSLESS[name][0] if name in LOSSLESS else LOSSY[name]
    decode(data, name, limits=Limits(pixels=HEIGHT * WIDTH))
    with pytest.raises(SourceError, match="claims 47 x 31 pixels, at most 1,456 are taken"):
        decode(data, name, limits=Limits(pixels=HEIGHT * WIDTH - 1))


@pytest.mark.parametrize("name", [*LOSSLESS, *LOSSY])
def test_more_memory_than_may_be_taken_is_refused_before_it_is_taken(name):
    data = LOSSLESS[name][0] if name in LOSSLESS else LOSSY[name]
    asked = []

    def has_room(decoding, needed):
        asked.append((decoding, needed))
        return len(asked) > 1

    with pytest.raises(NoRoomError):
        decode(data, name, limits=Limits(has_room=has_room))
    picture = decode(data, name, limits=Limits(has_room=has_room))
    decoding, needed = asked[-1]
    assert picture.pixels.nbytes <= decoding <= needed
    decode(data, name, limits=Limits(memory=needed))
    with pytest.raises(SourceError, match=r"claims 47 x 31 pixels, which need 1 MiB .*max_photo_memory"):
        decode(data, name, limits=Limits(memory=needed - 1))


def claiming(form, width, height):
    """A small file whose header says that it is large."""
    if form == "PNG":
        data = bytearray(by_pillow(GREY, "PNG"))
        data[16:24] = struct.pack(">II", width, height)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif form == "JPEG":
        data = bytearray(WHOLE["JPEG"])
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = struct.pack(">HH", height, width)
    elif form == "BMP":
        data = bytearray(WHOLE["BMP"])
        data[18:26] = struct.pack("<ii", width, height)
    elif form == "GIF":
        data = bytearray(WHOLE["GIF"])
        data[6:10] = struct.pack("<HH", width, height)
    elif form == "WebP":
        data = bytearray(stored("WEBP", 6))
        assert data[12:16] == b"VP8X"
        data[24:30] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    else:
        return (
            by_gdal(np.zeros((HEIGHT, WIDTH), np.uint8), sparse_ok=True)
            .replace(struct.pack("<HHIHH", 256, 3, 1, WIDTH, 0), struct.pack("<HHII", 256, 4, 1, width))
            .replace(struct.pack("<HHIHH", 257, 3, 1, HEIGHT, 0), struct.pack("<HHII", 257, 4, 1, height))
        )
    return bytes(data)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "GIF", "WebP", "TIFF"])
def test_an_absurd_size_is_refused_by_the_header(form):
    with pytest.raises(SourceError, match=r"claims 60000 x 50000 pixels, at most 300,000,000 are taken"):
        decode(claiming(form, 60000, 50000), form)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "the file is empty"),
        (b"<!DOCTYPE html><html>", "no image: it begins with text, '<!DOCTYPE html>"),
        ("Prüfprotokoll der Nacht".encode(), r"no image: it begins with text(?!, )"),
        (bytes(4096), "no image: it begins with zero bytes"),
        (b"\x01\x9b\xfe\x00\x80\x81\x82\x83" * 9, "no image: it begins with the bytes 01 9b fe"),
        (b"P2\n1 1\n255\n3\n", "is a Netpbm file other than a binary PGM or PPM; save it as JPEG"),
        (b"\0\0\0\x0cJXL \r\n", "is a JPEG XL picture; save it as JPEG"),
    ],
)
def test_what_is_no_photograph_is_told_in_words(data, words):
    with pytest.raises(SourceError, match=words):
        decode(data, "a.jpg")


def test_errors_note_the_file():
    with pytest.raises(SourceError) as caught:
        decode(b"", "line 3/ü.jpg")
    assert caught.value.__notes__ == ["line 3/ü.jpg"]


CHILD = """
import resource, sys, time
from pathlib import Path
from batchseg.errors import SourceError
from batchseg.pixels.photo.decode import decode
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sorted(p for p in Path(sys.argv[1]).rglob("*") if p.is_file()):
    data, start = path.read_bytes(), time.monotonic()
    try:
        decode(data, path.name)
    except SourceError as e:
        assert str(e)
    assert time.monotonic() - start < 5, path
    print(path.name)
assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 * 1024
"""


@pytest.mark.skipif(not (SHARED / "bad").exists(), reason="no shared data")
def test_hostile_files_neither_crash_nor_hang_nor_print():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", CHILD, str(SHARED / "bad")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == sum(p.is_file() for p in Path(SHARED / "bad").rglob("*"))

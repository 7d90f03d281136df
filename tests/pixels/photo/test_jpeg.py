import io
import struct
import time

import cv2
import numpy as np
import pytest
from conftest import SHARED
from encoded import WHOLE
from PIL import Image

from batchseg.errors import SourceError
from batchseg.pixels.photo.decode import decode
from batchseg.pixels.photo.jpeg import orientation_of


def test_a_jpeg_of_unusual_subsampling_is_pillows():
    data = bytearray(WHOLE["JPEG"])
    frame = data.index(b"\xff\xc0")
    data[frame + 14] = 0x12  # the second component's sampling: 1 x 2 beside 2 x 2
    expected = np.asarray(Image.open(io.BytesIO(data)))
    assert np.array_equal(decode(bytes(data), "x").pixels, expected)


class TestStrictJpeg:
    """libjpeg's warnings: which of them say that pixels are wrong."""

    JUNK = WHOLE["JPEG"][:20] + b"hello" + WHOLE["JPEG"][20:]
    """Between two segments of the header, as some writers leave it."""

    def test_junk_in_the_header_harms_nothing(self):
        assert np.array_equal(decode(self.JUNK, "x").pixels, decode(WHOLE["JPEG"], "x").pixels)

    def test_junk_in_the_header_hides_no_cut(self):
        with pytest.raises(SourceError, match="cut off: the JPEG ends"):
            decode(self.JUNK[:-100], "x")

    def test_an_unknown_jfif_revision_hides_no_cut(self):
        data = WHOLE["JPEG"].replace(b"JFIF\0\1", b"JFIF\0\7")
        assert np.array_equal(decode(data, "x").pixels, decode(WHOLE["JPEG"], "x").pixels)
        with pytest.raises(SourceError, match="cut off"):
            decode(data[:-100], "x")

    @pytest.mark.parametrize("padding", [1, 4, 16])
    def test_a_padded_end_harms_nothing(self, padding):
        data = WHOLE["JPEG"][:-2] + bytes(padding) + WHOLE["JPEG"][-2:]
        assert np.array_equal(decode(data, "x").pixels, decode(WHOLE["JPEG"], "x").pixels)

    def test_what_follows_the_end_harms_nothing(self):
        data = WHOLE["JPEG"] + bytes(1000)
        assert np.array_equal(decode(data, "x").pixels, decode(WHOLE["JPEG"], "x").pixels)

    @pytest.mark.parametrize("form", ["JPEG", "progressive JPEG"])
    def test_a_hole_in_the_middle_is_damage(self, form):
        whole = WHOLE[form]
        at = whole.index(b"\xff\xda") + 120
        with pytest.raises(SourceError, match="damaged"):
            decode(whole[:at] + whole[at + 60 :], "x")


def in_scans(count: int, size: int = 600, *, unusual: bool = False, mode: str = "L") -> bytes:
    """A progressive JPEG whose last scan comes again, until there are `count`."""
    file = io.BytesIO()
    Image.new(mode, (size, size)).save(file, "JPEG", progressive=True)
    data = bytearray(file.getvalue())
    starts = [at for at in range(len(data)) if data.startswith(b"\xff\xda", at)]
    if unusual:
        data[data.index(b"\xff\xc2") + 14] = 0x12
    return bytes(data[:-2] + data[starts[-1] : -2] * (count - len(starts)) + b"\xff\xd9")


class TestScans:
    @pytest.mark.parametrize("size", [600, 2500])
    def test_a_jpeg_of_very_many_is_refused_at_once(self, size):
        started = time.monotonic()
        with pytest.raises(SourceError, match="has more than 100 scans, at most 100 are taken"):
            decode(in_scans(20_000, size), "x")
        assert time.monotonic() - started < 2

    def test_pillow_is_given_none_either(self):
        with pytest.raises(SourceError, match="has more than 100 scans"):
            decode(in_scans(5000, unusual=True, mode="RGB"), "x")

    @pytest.mark.parametrize("fill", [b"\xff" * 3, b"\xff\xfe\0\4\xff\xda"])
    def test_bytes_between_scans_hide_none(self, fill):
        with pytest.raises(SourceError, match="has more than 100 scans"):
            decode(in_scans(5000).replace(b"\xff\xda", fill + b"\xff\xda"), "x")

    def test_a_hundred_are_taken(self):
        assert decode(in_scans(100, 2500), "x").pixels.shape == (2500, 2500, 1)
        with pytest.raises(SourceError, match="has more than 100 scans"):
            decode(in_scans(101, 2500), "x")

    @pytest.mark.parametrize("more", [b"\xff\xda" * 1000, in_scans(200)])
    def test_what_follows_the_end_has_none(self, more):
        assert decode(in_scans(10, 2500) + more, "x").pixels.shape == (2500, 2500, 1)

    def test_nor_has_a_thumbnail_in_the_header(self):
        data = in_scans(10, 2500)
        segment = b"\xff\xe5" + (2002).to_bytes(2, "big") + b"\xff\xda" * 1000
        assert decode(data[:2] + segment + data[2:], "x").pixels.shape == (2500, 2500, 1)


@pytest.mark.skipif(not (SHARED / "magnetic-tile").exists(), reason="no shared data")
def test_jpegs_are_opencvs_to_the_last_bit():
    files = sorted((SHARED / "magnetic-tile").rglob("*.jpg"))[::100]
    files += sorted((SHARED / "dubai-mbrsc").rglob("*.jpg"))[::20]
    assert len(files) > 5
    for path in files:
        data = path.read_bytes()
        expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        pixels = decode(data, path.name).pixels
        assert np.array_equal(np.broadcast_to(pixels, expected.shape), expected)


EXIF = Image.Exif()
EXIF[0x010E] = "a word of the photographer's"
EXIF[0x0112] = 6
BLOCK = EXIF.tobytes()
DAMAGED = {
    "junk": b"Exif\0\0" + bytes(range(60, 200)),
    "no byte order": b"Exif\0\0ZZ" + BLOCK[8:],
    "three bytes": BLOCK[:9],
    "cut in the directory": BLOCK[:20],
    "a directory beyond the end": BLOCK[:10] + b"\xff\xff\xff\xf0" + BLOCK[14:],
}


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_orientation_is_pillows():
    for order in (b"II*\0", b"MM\0*"):
        ways = "<" if order[:1] == b"I" else ">"
        for kind, count, value in ((3, 1, 6), (4, 1, 8), (1, 1, 3), (2, 2, 6), (3, 2, 6), (3, 1, 99)):
            packed = struct.pack(ways + {3: "H", 4: "I"}.get(kind, "B"), value)
            body = packed.ljust(4, b"\0")
            entry = struct.pack(f"{ways}HHI", 0x0112, kind, count) + body
            block = order + struct.pack(f"{ways}IH", 8, 1) + entry + bytes(4)
            read = Image.Exif()
            read.load(block)
            expected = read.get(0x0112)
            assert orientation_of(block) == (expected if isinstance(expected, int) else 1), (order, kind)
            assert orientation_of(b"Exif\0\0" + block) == orientation_of(block)
    assert orientation_of(None) == orientation_of(b"") == 1


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_exif_condemns_no_picture(form, damage):
    picture = Image.open(io.BytesIO(WHOLE["JPEG"]))
    plain, spoilt, cut = io.BytesIO(), io.BytesIO(), io.BytesIO()
    picture.save(plain, form)
    picture.save(spoilt, form, exif=DAMAGED[damage])
    assert np.array_equal(decode(spoilt.getvalue(), "x").pixels, decode(plain.getvalue(), "x").pixels)
    # What lies behind the orientation may be missing.
    picture.save(cut, form, exif=BLOCK[:-20])
    turned = decode(cut.getvalue(), "x").pixels
    assert np.array_equal(turned, np.rot90(decode(plain.getvalue(), "x").pixels, -1))

import io

import cv2
import numpy as np
import pytest
from conftest import SHARED
from encoded import WHOLE
from PIL import Image

from batchseg.errors import SourceError
from batchseg.pixels.photo.decode import decode


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

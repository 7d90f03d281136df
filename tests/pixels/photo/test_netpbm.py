import numpy as np
import pytest
from encoded import DEEP, HEIGHT, RGB, WIDTH

from batchseg.errors import SourceError
from batchseg.pixels.photo.decode import decode

SIZE = f"{WIDTH} {HEIGHT}"


@pytest.mark.parametrize("most", [4095, 65535])
@pytest.mark.parametrize("channels", [1, 3])
def test_deep_values_are_those_of_the_file(most, channels):
    pixels = DEEP[:, :, :channels] & most
    header = f"P{5 if channels == 1 else 6}\n# by a camera\n{SIZE}\n{most}\n".encode()
    picture = decode(header + pixels.astype(">u2").tobytes(), "x.pgm")
    assert np.array_equal(picture.pixels, pixels)
    assert picture.pixels.dtype == np.uint16
    assert picture.kind == f"{most.bit_length()}-bit {'grey' if channels == 1 else 'RGB'}"


def test_few_values_are_spread_as_those_of_few_bits_are():
    data = f"P5 {SIZE} 15 ".encode() + (RGB[:, :, 0] >> 4).tobytes()
    assert np.array_equal(decode(data, "x.pgm").pixels[:, :, 0], (RGB[:, :, 0] >> 4) * np.uint8(17))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (f"P6 {SIZE} 255 ".encode() + RGB.tobytes()[:-1], "cut off: the file ends before"),
        (2 * (f"P6 {SIZE} 255 ".encode() + RGB.tobytes()), "holds several pictures"),
        (b"P6\n#" + b"x" * 100_000, "has no header"),
        (b"P5 4 4 0 " + bytes(16), "highest value is 0"),
        (b"P5 0 4 255 ", "claims 0 x 4 pixels"),
        (b"P5 99999 99999 255 ", "at most 300,000,000"),
    ],
)
def test_what_is_wrong_is_told_in_words(data, words):
    with pytest.raises(SourceError, match=words):
        decode(data, "x.pgm")

"""PGM and PPM, as cameras of machines write them: the numbers as they stand in the file.

Pillow reduces 16 bits of colour to 8, and spreads 12 bits of grey over 16.
"""

import re

import numpy as np

from batchseg.errors import SourceError
from batchseg.pixels.photo.limits import Limits
from batchseg.pixels.photo.picture import Picture, make_picture

HEADER_BYTES = 4096

_SPACE = rb"(?:[ \t\r\n\v\f]|#[^\r\n]*[\r\n])"
_HEADER = re.compile(
    rb"P([56])" + _SPACE + rb"++(\d{1,9})" + _SPACE + rb"++(\d{1,9})" + _SPACE + rb"++(\d{1,9})[ \t\r\n\v\f]"
)
"""Of the binary kinds (netpbm's pgm(5) and ppm(5)); the last number is the highest value."""


def read(data: bytes, limits: Limits) -> Picture:
    """Decode a binary PGM or PPM of one picture.

    Raises:
        SourceError: it is too large, cut off, or of several pictures.
        NoRoomError: the limits have no room for it now.
    """
    header = _HEADER.match(data[:HEADER_BYTES])
    if header is None:
        msg = "damaged: it begins as a Netpbm file and has no header of one"
        raise SourceError(msg)
    channels = 1 if header[1] == b"5" else 3
    width, height, most = int(header[2]), int(header[3]), int(header[4])
    if not 0 < most < 65536:
        msg = f"damaged: its highest value is {most}, expected 1..65535"
        raise SourceError(msg)
    stored = np.dtype(np.uint8 if most < 256 else ">u2")
    picture = channels * stored.itemsize
    copied = 0 if most == 255 else picture
    limits.check(height, width, decoding=copied, picture=picture + 1, file_bytes=len(data))
    count, at = height * width * channels, header.end()
    if len(data) - at < count * stored.itemsize:
        msg = "cut off: the file ends before its picture does"
        raise SourceError(msg)
    if _HEADER.match(data[at + count * stored.itemsize :][:HEADER_BYTES].lstrip()):
        msg = "holds several pictures; save each as a file of its own"
        raise SourceError(msg)
    pixels = np.frombuffer(data, stored, count, at).reshape(height, width, channels)
    if most < 255:
        spread = (np.arange(256) * 255 / most).round().clip(0, 255).astype(np.uint8)
        pixels = spread[pixels]
    kind = "grey" if channels == 1 else "RGB"
    return make_picture(
        pixels.astype(stored.newbyteorder("="), copy=False),
        None,
        kind if most < 256 else f"{most.bit_length()}-bit {kind}",
    )

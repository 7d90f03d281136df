"""A photograph in memory: upright pixels and which of them are usable."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.errors import MismatchError
from batchseg.models.resize import opencv
from batchseg.pixels.band_colors import RGB

ROTATED = (5, 6, 7, 8)
"""EXIF orientations in which the stored picture lies on its side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A decoded photograph. Its arrays are shared, and may be read-only."""

    pixels: NDArray[Any]
    """Shape (height, width, channels), C-contiguous; uint8, uint16, or float32 (TIFF alone).

    One channel is grey, three are RGB; a TIFF without colour meaning has as many as it has bands. Grey of
    less than 8 bits is spread to 0..255, all else keeps the file's values.
    """
    valid: NDArray[np.bool_] | None
    """Shape (height, width), True where the pixel is usable; None: all are."""
    kind: str
    """What the file holds, in a word for messages: grey, RGB, palette, CMYK, RGBA, 16-bit grey ..."""
    place: str = ""
    """What the file says of its place on the ground, in words; empty: nothing."""
    colors: tuple[str, ...] = ()
    """Of a TIFF or JPEG 2000 file that says it: the colour of each channel; empty: unknown."""
    stored: str = ""
    """The type of the file's samples, where `pixels` are of another one."""

    @property
    def is_rgb(self) -> bool:
        """Whether its channels are red, green, blue by its format, and the file says nothing else of them."""
        made = "RGB" in self.kind or self.kind.startswith(("palette", "CMYK"))
        return made and not self.colors and self.pixels.shape[2] == len(RGB)

    @property
    def size_hw(self) -> tuple[int, int]:
        return self.pixels.shape[0], self.pixels.shape[1]


def turning_bytes(orientation: object, picture: float) -> float:
    """Bytes per pixel that `make_picture` takes for a stored picture of so many, which it turns upright."""
    copies = {5: 3, 7: 3}.get(orientation, 2) if orientation in (2, 3, 4, *ROTATED) else 1
    return copies * picture


def make_picture(
    pixels: NDArray[Any],
    valid: NDArray[np.bool_] | None,
    kind: str,
    *,
    orientation: Any = 1,
    place: str = "",
) -> Picture:
    """A picture of what a file stores.

    Args:
        pixels: (height, width) or (height, width, channels) as stored.
        valid: (height, width) as stored, or None.
        kind: see `Picture.kind`.
        orientation: EXIF's number, 1 to 8; anything else stands for 1, as EXIF 2.32 (4.6.4) has it.
        place: see `Picture.place`.
    """
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if valid is not None and valid.all():
        valid = None
    return Picture(
        pixels=np.ascontiguousarray(_upright(pixels, orientation)),
        valid=valid
        if valid is None
        else _upright(valid[:, :, None].view(np.uint8), orientation)[:, :, 0] > 0,
        kind=kind,
        place=place,
    )


def _upright(pixels: NDArray[Any], orientation: Any) -> NDArray[Any]:
    """(height, width, channels) turned as EXIF says.

    OpenCV turns 6 megapixels in 3 ms; numpy takes 45 ms, and is asked only where there are many channels.
    """
    if orientation not in (2, 3, 4, *ROTATED):
        return pixels
    if pixels.shape[2] in (1, 3):
        turned = _turned_by_opencv(pixels, orientation)
        return turned.reshape(*turned.shape[:2], pixels.shape[2])
    if orientation in (5, 7):
        pixels = pixels.swapaxes(0, 1)
    turns = {3: 2, 6: -1, 7: 2, 8: 1}.get(orientation, 0)
    return np.rot90({2: pixels[:, ::-1], 4: pixels[::-1]}.get(orientation, pixels), turns)


def _turned_by_opencv(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    cv2 = opencv()
    if orientation in (6, 8):
        turn = cv2.ROTATE_90_CLOCKWISE if orientation == 6 else cv2.ROTATE_90_COUNTERCLOCKWISE
        turned: NDArray[Any] = cv2.rotate(pixels, turn)
        return turned
    if orientation in (5, 7):
        pixels = cv2.transpose(pixels)
    return pixels if orientation == 5 else cv2.flip(pixels, {2: 1, 3: -1, 4: 0, 7: -1}[orientation])


def bands_of(picture: Picture, count: int, bands: tuple[int, ...] | None) -> NDArray[Any]:
    """What the network's bands are made of.

    Args:
        picture: a photograph.
        count: bands that the network takes.
        bands: what the job names, from 1 in the network's order; None: the picture's own.

    Returns:
        Shape (count, height, width), the picture's type. A view where the bands are evenly spaced: not to
        be written to, and of three equal bands of a grey picture no byte is copied.

    Raises:
        MismatchError: the picture has not so many channels, or others than the network takes.
    """
    planes = picture.pixels.transpose(2, 0, 1)
    channels = len(planes)
    if bands is not None:
        return _picked(planes, bands)
    if channels == count:
        return planes
    if channels == 1 and count == 3:
        return np.broadcast_to(planes, (3, *picture.size_hw))
    remedy = f"; name the job's `bands`, such as {list(range(1, count + 1))}" if count < channels else ""
    msg = f"is {picture.kind} ({_counted(channels)}), the model takes {_counted(count)}{remedy}"
    raise MismatchError(msg)


def _counted(bands: int) -> str:
    return f"{bands} band{'s' * (bands > 1)}"


def _picked(planes: NDArray[Any], bands: tuple[int, ...]) -> NDArray[Any]:
    channels = len(planes)
    if max(bands) > channels:
        msg = f"has {_counted(channels)}, the job asks for band {max(bands)}"
        raise MismatchError(msg)
    first, step = bands[0] - 1, bands[1] - bands[0] if len(bands) > 1 else 1
    if step and bands == tuple(range(bands[0], bands[0] + step * len(bands), step)):
        stop = first + step * len(bands)
        return planes[first : stop if stop >= 0 else None : step]
    return planes[[band - 1 for band in bands]]

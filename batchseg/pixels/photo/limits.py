"""What a photograph may take in memory: told from its header, before any of it is taken."""

from collections.abc import Callable
from dataclasses import dataclass

from batchseg.errors import SourceError
from batchseg.job.settings import MAX_PHOTO_MEMORY

MAX_PIXELS = 300_000_000
"""Six times a 50-megapixel camera. A header that claims more is wrong, or meant to do harm."""


class NoRoomError(Exception):
    """A picture that may be decoded, and for which there is no room now; nothing was taken."""


def _any_room(decoding: int, needed: int) -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one photograph may take."""

    pixels: int = MAX_PIXELS
    memory: int = MAX_PHOTO_MEMORY
    """Bytes."""
    answer_bytes: int = 0
    """Per pixel, of what is made of the picture while it is held."""
    has_room: Callable[[int, int], bool] = _any_room
    """Asked with the bytes that decoding it takes, and with all that it will take in the end."""

    def check(
        self, height: int, width: int, *, decoding: float, picture: float, file_bytes: int, more: int = 0
    ) -> None:
        """Look at what a header claims before memory is taken for it.

        Args:
            height: in pixels.
            width: in pixels.
            decoding: bytes per pixel at most until the picture is there, all copies counted.
            picture: bytes per pixel of the picture.
            file_bytes: of the file, which is held while it is decoded.
            more: bytes that decoding takes besides.

        Raises:
            SourceError: the photograph has no pixels, or takes more than it may.
            NoRoomError: it has to wait.
        """
        if height < 1 or width < 1:
            msg = f"claims {width} x {height} pixels"
            raise SourceError(msg)
        pixels = height * width
        if pixels > self.pixels:
            msg = f"claims {width} x {height} pixels, at most {self.pixels:,} are taken"
            raise SourceError(msg)
        now = int(pixels * decoding) + file_bytes + more
        needed = max(now, int(pixels * (picture + self.answer_bytes)))
        if needed > self.memory:
            msg = (
                f"claims {width} x {height} pixels, which need {_mebibytes(needed)} of memory; at most "
                f"{_mebibytes(self.memory)} are allowed (max_photo_memory)"
            )
            raise SourceError(msg)
        if not self.has_room(now, needed):
            raise NoRoomError


def _mebibytes(nbytes: int) -> str:
    return f"{-(-nbytes // 2**20):,} MiB"

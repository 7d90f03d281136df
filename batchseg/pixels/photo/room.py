"""Memory that photographs share while they are read ahead."""

import threading


class Room:
    """Memory that photographs take together, whatever threads decode them."""

    def __init__(self, nbytes: float) -> None:
        self._left, self._lock = nbytes, threading.Lock()

    def take(self, nbytes: int) -> bool:
        """False where there is not so much."""
        with self._lock:
            if nbytes > self._left:
                return False
            self._left -= nbytes
            return True

    def give_back(self, nbytes: int) -> None:
        with self._lock:
            self._left += nbytes


class Claim:
    """Asks for memory, photograph by photograph.

    Args:
        room: where it is taken from; None: it is there.
        share: bytes that one may take beside others.
    """

    def __init__(self, room: Room | None, share: float) -> None:
        self._share = share
        self.begin(room)

    def begin(self, room: Room | None) -> None:
        """Forget the photograph before."""
        self._room, self._taken = room, 0
        self.is_large = False

    def __call__(self, decoding: int, needed: int) -> bool:
        self.is_large = needed > self._share
        if self.is_large:
            return False
        if self._room is None:
            return True
        if not self._room.take(decoding):
            return False
        self._taken = decoding
        return True

    def shrink(self, nbytes: int) -> int:
        """Give back all but so many bytes; what is kept of them."""
        kept = min(self._taken, nbytes)
        if self._room is not None:
            self._room.give_back(self._taken - kept)
        return kept

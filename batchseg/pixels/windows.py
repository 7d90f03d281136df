"""Windows of a scene: where a block cannot be decoded, what is sound is read and the rest marked."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterioWindow

from batchseg.pixels.grid import Window
from batchseg.pixels.stack import FileError

BLOCKWISE_DRIVERS = frozenset(("GTiff",))
"""Formats whose blocks are decoded whole and alone: one that is damaged says nothing of the others."""

MASK_CELL = 512
"""Pixels per side, at most, of what is invalid where a validity mask cannot be decoded.

rasterio does not tell a mask's blocks; a fixed lattice makes the answer independent of windows.
"""

Pixels = NDArray[np.generic]
Read = Callable[[RasterioWindow], Pixels]


class WindowReader:
    """Reads one window of a raster several times (pixels, masks) and collects where it is damaged."""

    def __init__(
        self,
        at: Window,
        *,
        raster_hw: tuple[int, int],
        block_hw: tuple[int, int],
        is_damage: Callable[[], bool] | None,
    ) -> None:
        """Prepare the reads.

        Args:
            at: the window, inside the raster.
            raster_hw: height and width of the raster.
            block_hw: the file's internal block.
            is_damage: asked when a read fails; False where the storage is to blame. None: no error is
                left out.
        """
        self._at, self._raster_hw, self._block_hw = at, raster_hw, block_hw
        self._is_damage = is_damage
        self.bad: NDArray[np.bool_] | None = None
        """Shape (height, width) of the window, True in what cannot be decoded; None: all can."""

    def pixels(self, read: Read, *, bands: int, dtype: np.dtype[Any]) -> Pixels:
        """What `read` gives for the window, shape (bands, height, width); 0 in damaged blocks.

        Raises:
            RasterioError: nothing is left out, or the storage is to blame.
        """
        return self._read(read, self._at, self._block_hw, (bands,), dtype)

    def mask(self, read: Read) -> Pixels:
        """The same for a validity mask, shape (height, width): its blocks need not be the pixels'."""
        if self._is_damage is None:
            return read(_rasterio(self._at))
        height, width = (min(size, MASK_CELL) for size in self._block_hw)
        grown = _aligned(self._at, height, width).clip(*self._raster_hw)
        mask = self._read(read, grown, (height, width), (), np.dtype(np.uint8))
        return mask[self._at.slices_within(grown)]

    def _read(
        self, read: Read, at: Window, cell_hw: tuple[int, int], leading: tuple[int, ...], dtype: np.dtype[Any]
    ) -> Pixels:
        whole = self._attempt(read, at)
        if whole is not None:
            return whole
        array: Pixels = np.zeros((*leading, at.height, at.width), dtype=dtype)
        bad = np.zeros((at.height, at.width), dtype=bool)
        pending = [at]
        while pending:
            part = pending.pop()
            within = part.slices_within(at)
            halves = _halves(part, cell_hw)
            pixels = self._attempt(read, part)
            if pixels is None and not halves:
                pixels = self._attempt(read, part)  # once more: a slip of the storage is no damage
            if pixels is not None:
                array[(..., *within)] = pixels
            elif halves:
                pending += halves
            else:
                bad[within] = True
        bad = bad[self._at.slices_within(at)]
        self.bad = bad if self.bad is None else self.bad | bad
        return array

    def _attempt(self, read: Read, at: Window) -> Pixels | None:
        """The pixels; None where they cannot be decoded and may be left out."""
        try:
            return read(_rasterio(at))
        except (FileError, RasterioError, rasterio._err.CPLE_BaseError) as e:
            root: BaseException = e
            while root.__cause__ is not None:
                root = root.__cause__
            # Lack of memory says nothing of the file.
            starved = isinstance(root, rasterio._err.CPLE_OutOfMemoryError)
            if starved or self._is_damage is None or not self._is_damage():
                raise
            return None


def _rasterio(at: Window) -> RasterioWindow:
    return RasterioWindow(at.col_off, at.row_off, at.width, at.height)


def _aligned(at: Window, height: int, width: int) -> Window:
    """The smallest window of whole cells that holds `at`."""
    row_off, col_off = at.row_off // height * height, at.col_off // width * width
    return Window(
        row_off=row_off,
        col_off=col_off,
        height=-(-at.row_stop // height) * height - row_off,
        width=-(-at.col_stop // width) * width - col_off,
    )


def _halves(at: Window, cell_hw: tuple[int, int]) -> list[Window]:
    """A window cut in two between cells of the raster's lattice; empty where it lies in one cell.

    >>> at = Window(row_off=5, col_off=30, height=10, width=50)
    >>> [half.width for half in _halves(at, (100, 16))]
    [18, 32]
    >>> _halves(at, (100, 100))
    []
    """
    height, width = cell_hw
    lattice = _aligned(at, height, width)
    down, across = lattice.height // height, lattice.width // width
    if down == across == 1:
        return []
    if across == 1 or (down > 1 and lattice.height >= lattice.width):
        cut = lattice.row_off + down // 2 * height
        return [
            replace(at, height=cut - at.row_off),
            replace(at, row_off=cut, height=at.row_stop - cut),
        ]
    cut = lattice.col_off + across // 2 * width
    return [
        replace(at, width=cut - at.col_off),
        replace(at, col_off=cut, width=at.col_stop - cut),
    ]

"""Flags of a scene's pixels, such as clouds, in a raster beside its bands."""

import numpy as np
from numpy.typing import NDArray
from rasterio import DatasetReader
from rasterio.windows import Window as RasterioWindow

from batchseg.errors import SourceError
from batchseg.inputs.source import SourceMask
from batchseg.pixels.regrid import covered, file_name, read_warped, same_grid, warp


class FlagMask:
    """Which pixels of a grid flags leave; of a raster on another grid the nearest pixel counts."""

    def __init__(self, dataset: DatasetReader, reference: DatasetReader, mask: SourceMask) -> None:
        """
        Args:
            dataset: the raster, which is closed with this.
            reference: one on the grid that windows count in.
            mask: what marks a pixel.

        Raises:
            SourceError: the raster has other bands than flags are in, or other values than whole numbers.
            GridError: nothing says how it lies to the grid.
        """
        self._dataset, self._mask = dataset, mask
        self.uri = mask.uri
        self._bands = [1]
        if mask.by == "bands":
            self._bands = list(mask.numbers)
            if dataset.count < max(self._bands):
                msg = (
                    f"{file_name(dataset)} has {dataset.count} bands; band {max(self._bands)} is to be a flag"
                )
                raise SourceError(msg)
        elif dataset.count != 1:
            msg = f"{file_name(dataset)} has {dataset.count} bands; a mask has one"
            raise SourceError(msg)
        dtype = dataset.dtypes[0]
        if not dtype.startswith(("int", "uint")):
            msg = f"{file_name(dataset)} holds {dtype}; flags are whole numbers"
            raise SourceError(msg)
        self._warped = None
        if not same_grid(dataset, reference):
            # Without nodata: its value is a flag like others.
            self._warped = warp(dataset, reference, resampling="nearest", nodata=(None,), alpha=False)

    def unmarked(self, window: RasterioWindow) -> NDArray[np.bool_]:
        """Shape (height, width): False where a flag marks the pixel, and where the raster does not reach.

        Raises:
            What rasterio raises.
        """
        if self._warped is None:
            return ~self._marks(self._dataset.read(self._bands, window=window))
        shape = (len(self._bands), int(window.height), int(window.width))
        flags = np.zeros(shape, dtype=self._dataset.dtypes[0])
        read_warped(self._warped, self._bands, window, flags)
        reach = covered(self._dataset, self._warped.transform, window)
        left = ~self._marks(flags)
        return left if reach is None else left & reach

    def _marks(self, flags: NDArray[np.generic]) -> NDArray[np.bool_]:
        """Of flags (bands, height, width): (height, width)."""
        if self._mask.by == "bands":
            return np.asarray((flags != 0).any(axis=0))
        if self._mask.by == "values":
            return np.isin(flags[0], self._mask.numbers)
        bits = sum(1 << bit for bit in self._mask.numbers)
        return np.asarray((flags[0].astype(np.int64) & bits) != 0)

    def close(self) -> None:
        if self._warped is not None:
            self._warped.close()
        self._dataset.close()

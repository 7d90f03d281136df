"""What `merge` and `sieve` make of predicted classes: of a photograph in memory, of a scene in files.

GDAL's sieve gives a region below the least size the class of its largest neighbour, the first of equals in
reading order; where that is too small as well, the class of that one's largest neighbour, and so on. A chain
that goes in a circle of small regions changes nothing, though one of them may touch a large region. So it is
repeated until nothing changes: then a region below the least size is left only where none that can be
reached from it over pixels with data is large enough. Pixels without data are no neighbours, and never
change.
"""

import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import rasterio
import rasterio.features
from numpy.typing import NDArray
from rasterio.windows import Window as RasterioWindow

from batchseg.errors import NoRoomError
from batchseg.job.cleaning import Cleaning
from batchseg.output.overviews import Pixels, scratch_profile, strips_of

REGION_BYTES = 48
"""That GDAL takes for a region, at most: 25 to 40 were measured for each pixel that may begin one."""


def cleaned(ids: Pixels, cleaning: Cleaning, nodata: int) -> Pixels:
    """A clean copy of class ids (H, W), uint8 or uint16. What is `nodata` stays so."""
    made = _merged(ids, cleaning, nodata)
    if cleaning.sieve:
        _sieve(made, (made != nodata).view(np.uint8), cleaning)
    return made


def clean_scene(mosaic: str, folder: Path, cleaning: Cleaning, nodata: int, most_bytes: int) -> Path:
    """The same of a raster of any size, which is never in memory as a whole.

    Args:
        mosaic: what rasterio opens, of one band of class ids.
        folder: where the file goes; while it is sieved, its pixels lie there uncompressed, and a byte more
            for each.
        cleaning: what is done.
        nodata: of the band.
        most_bytes: that regions may take in memory, REGION_BYTES each.

    Returns:
        A GeoTIFF without a place.

    Raises:
        NoRoomError: there are too many regions.
        OSError, RasterioError: a file cannot be read or written.
    """
    target = folder / "cleaned.tif"
    with rasterio.open(mosaic) as predicted:
        shape_hw, dtype = (predicted.height, predicted.width), predicted.dtypes[0]
        strips: Iterator[tuple[int, Pixels]] = (
            (row_off, _merged(strip, cleaning, nodata)) for row_off, strip in strips_of(predicted)
        )
        if cleaning.sieve:
            strips = _sieved(strips, shape_hw, dtype, folder, cleaning, nodata, most_bytes)
        with rasterio.open(target, "w", **scratch_profile(*shape_hw, dtype)) as made:
            for row_off, strip in strips:
                made.write(strip, 1, window=RasterioWindow(0, row_off, strip.shape[1], len(strip)))
    return target


def _merged(ids: Pixels, cleaning: Cleaning, nodata: int) -> Pixels:
    """A copy in which merged classes have one id."""
    new_ids = np.arange(nodata + 1, dtype=ids.dtype)
    for merge in cleaning.merges:
        new_ids[list(merge.ids)] = merge.ids[0]
    made: Pixels = new_ids[ids]
    return made


def _sieve(ids: Pixels, valid: NDArray[np.uint8], cleaning: Cleaning) -> None:
    """Sieve in place. `valid`: (H, W), 1 where pixels have data, else 0."""
    if cleaning.sieve >= ids.size:  # rasterio refuses that: no region is larger than the mask
        return
    before = zlib.crc32(ids.data)
    while True:
        # GDAL reads a row before it writes it, and finds all regions before it writes the first row.
        rasterio.features.sieve(ids, cleaning.sieve, out=ids, mask=valid, connectivity=cleaning.connectivity)
        after = zlib.crc32(ids.data)
        if after == before:
            return
        before = after


def _sieved(
    strips: Iterator[tuple[int, Pixels]],
    shape_hw: tuple[int, int],
    dtype: str,
    folder: Path,
    cleaning: Cleaning,
    nodata: int,
    most_bytes: int,
) -> Iterator[tuple[int, Pixels]]:
    """Strips once all of them are sieved: GDAL looks for regions from the first row to the last."""
    files = folder / "sieved.raw", folder / "valid.raw"
    ids, valid = _on_disk(files[0], shape_hw, dtype), _on_disk(files[1], shape_hw, "uint8")
    regions, above, rows = 0, None, []
    for row_off, strip in strips:
        at = slice(row_off, row_off + len(strip))
        ids[at], valid[at] = strip, strip != nodata
        regions += _begun(strip, above)
        above = strip[-1]
        rows.append(at)
    if regions * REGION_BYTES > most_bytes:
        msg = (
            f"sieve: its mask has up to {regions:,} regions, which take {regions * REGION_BYTES:,} bytes of "
            f"memory, and half of this machine's is {most_bytes:,}; run the job on a machine with more, or "
            f"with `--set sieve=null`"
        )
        raise NoRoomError(msg)
    _sieve(ids, valid, cleaning)
    for at in rows:
        yield at.start, np.array(ids[at])
    for path in files:
        path.unlink()


def _begun(strip: Pixels, above: Pixels | None) -> int:
    """Pixels of another class than those to the left and above: GDAL takes each for a region's first until
    it finds that two are one."""
    is_first = np.ones(strip.shape, dtype=bool)
    is_first[:, 1:] = strip[:, 1:] != strip[:, :-1]
    is_first[1:] &= strip[1:] != strip[:-1]
    if above is not None:
        is_first[0] &= strip[0] != above
    return int(np.count_nonzero(is_first))


def _on_disk(path: Path, shape_hw: tuple[int, int], dtype: str) -> Pixels:
    """An array whose pixels are a file's: memory that the system takes back when others need it."""
    with path.open("wb") as file:
        # Room on the disk first: a process that writes where none is left is killed.
        os.posix_fallocate(file.fileno(), 0, shape_hw[0] * shape_hw[1] * np.dtype(dtype).itemsize)
    return np.memmap(path, dtype, "r+", shape=shape_hw)

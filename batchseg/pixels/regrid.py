"""Grids of several rasters: whether they are one, and bringing the coarser to the finest."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio import DatasetReader
from rasterio.enums import Resampling
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window as RasterioWindow

from batchseg.errors import GridError
from batchseg.inputs.source import Box

SAME_GRID = 1e-6
"""Pixels by which the corners of equal grids may differ."""

EXACT = 1e-9
"""Pixels: the warper's tolerance. Rasterio 1.4 cannot make a warper with none."""

STRIP = 128
"""Rows of coordinates in memory."""

Slices = tuple[slice, slice]


def finest(datasets: Sequence[DatasetReader]) -> DatasetReader:
    """The first of the smallest pixels; one without geotransform only if none has one."""
    placed = [dataset for dataset in datasets if not dataset.transform.is_identity]
    return min(placed or datasets, key=lambda dataset: abs(dataset.transform.determinant))


def same_grid(one: DatasetReader, reference: DatasetReader) -> bool:
    """Size, CRS and geotransform are equal; without any geotransform size is all that says it."""
    if one.shape != reference.shape:
        return False
    if one.transform.is_identity:
        return bool(reference.transform.is_identity)
    corners = [(0, 0), (one.width, 0), (0, one.height), (one.width, one.height)]
    there = [_at(~reference.transform, *_at(one.transform, *corner)) for corner in corners]
    apart = np.abs(np.subtract(there, corners)).max()
    return bool(one.crs == reference.crs and apart <= SAME_GRID)


def _at(transform: Affine, x: Any, y: Any) -> tuple[Any, Any]:
    """Points, or arrays of them, through an affine transform."""
    return transform.a * x + transform.b * y + transform.c, transform.d * x + transform.e * y + transform.f


def box_on(one: DatasetReader, reference: DatasetReader) -> Box:
    """Where a raster lies, in pixels of another one of its CRS; of one that lies turned its bounds."""
    corners = [(0, 0), (one.width, 0), (0, one.height), (one.width, one.height)]
    cols, rows = zip(*(_at(~reference.transform, *_at(one.transform, *at)) for at in corners), strict=True)
    return float(min(rows)), float(min(cols)), float(max(rows)), float(max(cols))


def warp(
    one: DatasetReader,
    reference: DatasetReader,
    *,
    resampling: str,
    nodata: Sequence[float | None],
    alpha: bool,
) -> WarpedVRT:
    """A raster on the grid of another one.

    Args:
        one: what is resampled.
        reference: whose CRS, geotransform and size the answer has.
        resampling: `none`, or GDAL's name of a method.
        nodata: of `one`, per band.
        alpha: add a band that is 0 where the mask of the whole file says that there is no data.

    Raises:
        GridError: resampling is `none`, or nothing says how they lie to each other.
    """
    apart = _differences(one, reference)
    lacking = [each for each in (one, reference) if each.transform.is_identity or not each.crs]
    if lacking:
        what = "geotransform" if lacking[0].transform.is_identity else "CRS"
        msg = (
            f"its files differ in {apart}, and {file_name(lacking[0])} has no {what} that says how they lie; "
            f"write it into the file (gdal_edit.py -a_srs, -a_ullr)"
        )
        raise GridError(msg)
    if one.crs != reference.crs:
        msg = f"its files differ in {apart}; bring them to one CRS first (gdalwarp -t_srs)"
        raise GridError(msg)
    if resampling == "none":
        msg = (
            f"its files differ in {apart}; set `resampling: bilinear` (or nearest, cubic, average) beside "
            f"the input's bands, columns or assets to bring all to the finest grid"
        )
        raise GridError(msg)
    if len({value for value in nodata if value is None or not math.isnan(value)}) > 1:
        msg = f"{file_name(one)} has another nodata value in each band, which cannot be resampled"
        raise GridError(msg)
    return WarpedVRT(
        one,
        crs=reference.crs,
        transform=reference.transform,
        width=reference.width,
        height=reference.height,
        resampling=Resampling[resampling],
        src_nodata=nodata[0],
        nodata=nodata[0],
        add_alpha=alpha,
        tolerance=EXACT,
    )


def read_warped(warped: WarpedVRT, bands: list[int], window: RasterioWindow, out: NDArray[Any]) -> None:
    """Read a window block by block: GDAL 3.10 warps larger requests in one, and its last bits differ."""
    for block, in_window, in_block in _blocks(warped, window):
        out[(slice(None), *in_window)] = warped.read(bands, window=block)[(slice(None), *in_block)]


def _blocks(warped: WarpedVRT, window: RasterioWindow) -> Iterator[tuple[RasterioWindow, Slices, Slices]]:
    """The warper's own blocks that meet a window, and where they do: in the window, and in the block."""
    down, across = warped.block_shapes[0]
    for row in range(window.row_off // down * down, window.row_off + window.height, down):
        for col in range(window.col_off // across * across, window.col_off + window.width, across):
            size_hw = min(down, warped.height - row), min(across, warped.width - col)
            rows = _overlap(row, size_hw[0], window.row_off, window.height)
            cols = _overlap(col, size_hw[1], window.col_off, window.width)
            block = RasterioWindow(col, row, size_hw[1], size_hw[0])
            yield block, (rows[1], cols[1]), (rows[0], cols[0])


def _overlap(one: int, one_size: int, two: int, two_size: int) -> tuple[slice, slice]:
    """Where two ranges meet, counted from the start of each."""
    start, end = max(one, two), min(one + one_size, two + two_size)
    return slice(start - one, end - one), slice(start - two, end - two)


def covered(one: DatasetReader, transform: Affine, window: RasterioWindow) -> NDArray[np.bool_] | None:
    """Which pixels of a window have their centre in a raster; None: all of them.

    Args:
        one: the raster.
        transform: of the grid that the window counts in.
        window: what is asked for.
    """

    def inside(rows: Any, cols: Any) -> NDArray[np.bool_]:
        col, row = _at(~one.transform, *_at(transform, cols + 0.5, rows + 0.5))
        edge = SAME_GRID  # what the warper may round to the outside counts as outside
        within = (col >= edge) & (row >= edge) & (col <= one.width - edge) & (row <= one.height - edge)
        return np.asarray(within)

    rows = np.arange(window.row_off, window.row_off + window.height)[:, None]
    cols = np.arange(window.col_off, window.col_off + window.width)
    if inside(rows[[0, -1]], cols[[0, -1]]).all():
        return None
    # In strips: coordinates are eight times as large as a byte of validity.
    return np.concatenate([inside(rows[top : top + STRIP], cols) for top in range(0, len(rows), STRIP)])


def _differences(one: DatasetReader, other: DatasetReader) -> str:
    """What of two grids differs, with both values: size, CRS, pixel size, origin, direction of the axes."""
    sizes, crs, *places = zip(_grid_words(one), _grid_words(other), strict=True)
    kinds = {"size": sizes, "CRS": crs}
    if one.transform.is_identity != other.transform.is_identity:
        mine, yours = ("none" if each.transform.is_identity else "one" for each in (one, other))
        kinds["geotransform"] = (mine, yours)
    elif not one.transform.is_identity:
        kinds |= dict(zip(("pixel size", "origin", "axes"), places, strict=True))
    found = [
        f"{kind} ({file_name(one)}: {mine}, {file_name(other)}: {yours})"
        for kind, (mine, yours) in kinds.items()
        if mine != yours or (kind == "CRS" and one.crs != other.crs)
    ]
    return " and ".join(found) or "grid by less than their numbers show"


def _grid_words(one: DatasetReader) -> tuple[str, str, str, str, str]:
    transform = one.transform
    across, down = (math.hypot(*transform.column_vectors[axis]) for axis in (0, 1))
    crs = one.crs.to_string() if one.crs else "none"
    turned = [f"{math.degrees(math.atan2(*vector[::-1])):.9g}" for vector in transform.column_vectors[:2]]
    return (
        f"{one.width} x {one.height} pixels",
        crs if len(crs) < 40 else crs[:40] + "...",
        f"{across:.9g} x {down:.9g}",
        f"{transform.c:.12g}, {transform.f:.12g}",
        " and ".join(turned) + " degrees",
    )


def file_name(dataset: DatasetReader) -> str:
    """Of its file, for messages; `pixels/open` says it of members of archives."""
    return getattr(dataset, "member", "") or str(dataset.name).rpartition("/")[2]

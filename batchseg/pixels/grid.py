"""Integer pixel geometry: windows, tiles and shards. No I/O, no floats.

A tile is the model's input window, `tile_size` pixels square. Its core is the tile less the halo on
each side; the cores partition the raster. Without a rim each pixel is predicted exactly once; with one the
answers of up to four tiles are blended around the corners and borders of cores. A shard is a rectangle of
whole tiles, so no tile is predicted for two of them.

One axis, width 10, tile_size 6, halo 1 (core 4), two tiles to a shard:

    core      |0 1 2 3|4 5 6 7|8 9|
    tile 0  -1 0 1 2 3 4
    tile 1           3 4 5 6 7 8
    tile 2                   7 8 9 10 11 12     pixels -1 and 10..12 are reflections
    shard 0   |0 1 2 3 4 5 6 7|                 tiles 0 and 1; reads 0..8: its core, and the halo inside
    shard 1                   |8 9|             tile 2; reads 7..9
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import overload

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Window:
    """Half-open pixel rectangle in rasterio's order. Offsets may be negative: outside the raster."""

    row_off: int
    col_off: int
    height: int
    width: int

    @property
    def row_stop(self) -> int:
        return self.row_off + self.height

    @property
    def col_stop(self) -> int:
        return self.col_off + self.width

    @property
    def size(self) -> int:
        """Number of pixels."""
        return self.height * self.width

    def clip(self, height: int, width: int) -> "Window":
        """Intersection with a raster of that size; both axes must overlap it."""
        row_off, col_off = max(self.row_off, 0), max(self.col_off, 0)
        return Window(
            row_off=row_off,
            col_off=col_off,
            height=min(self.row_stop, height) - row_off,
            width=min(self.col_stop, width) - col_off,
        )

    def meets(self, other: "Window") -> bool:
        """Whether the two have a pixel in common."""
        return (
            self.row_off < other.row_stop
            and other.row_off < self.row_stop
            and self.col_off < other.col_stop
            and other.col_off < self.col_stop
        )

    def common(self, other: "Window") -> "Window":
        """The pixels that lie in both, which meet."""
        row_off, col_off = max(self.row_off, other.row_off), max(self.col_off, other.col_off)
        return Window(
            row_off=row_off,
            col_off=col_off,
            height=min(self.row_stop, other.row_stop) - row_off,
            width=min(self.col_stop, other.col_stop) - col_off,
        )

    def slices_within(self, outer: "Window") -> tuple[slice, slice]:
        """(row, column) slices of this window in an array that holds `outer`."""
        row, col = self.row_off - outer.row_off, self.col_off - outer.col_off
        return slice(row, row + self.height), slice(col, col + self.width)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One input of the model."""

    core: Window
    """The pixels that are the tile's own; inside the raster."""
    kept: Window
    """The pixels of its answer that count: the core, and of its halo the rim; inside the raster."""
    window: Window
    """The pixels that the model sees: square, may reach beyond the raster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TileGrid:
    """Cores of `tile_size - 2 * halo` pixels, anchored at the raster's first pixel.

    >>> grid = TileGrid(height=7, width=10, tile_size=6, halo=1)
    >>> grid.shape_hw
    (2, 3)
    >>> grid.tile(1, 2).core
    Window(row_off=4, col_off=8, height=3, width=2)
    >>> grid.tile(1, 2).window
    Window(row_off=3, col_off=7, height=6, width=6)
    """

    height: int
    width: int
    tile_size: int
    halo: int
    rim: int = 0
    """The halo's innermost pixels, whose answers are blended with the neighbours': half of what two share."""

    def __post_init__(self) -> None:
        if self.core_size <= 0:
            msg = f"halo {self.halo} leaves no core in tile_size {self.tile_size}"
            raise ValueError(msg)
        if not 0 <= 2 * self.rim <= min(2 * self.halo, self.core_size):
            msg = f"rim {self.rim} is more than the halo {self.halo} or half of the core {self.core_size}"
            raise ValueError(msg)

    @property
    def core_size(self) -> int:
        return self.tile_size - 2 * self.halo

    @property
    def shape_hw(self) -> tuple[int, int]:
        """Number of tiles down and across."""
        return -(-self.height // self.core_size), -(-self.width // self.core_size)

    @property
    def count(self) -> int:
        rows, cols = self.shape_hw
        return rows * cols

    def tile(self, row: int, col: int) -> Tile:
        core = self.cores(row, row + 1, col, col + 1)
        window = Window(
            row_off=core.row_off - self.halo,
            col_off=core.col_off - self.halo,
            height=self.tile_size,
            width=self.tile_size,
        )
        return Tile(core=core, kept=core if not self.rim else self.grown(core), window=window)

    def grown(self, core: Window) -> Window:
        """A window and the rim around it, inside the raster."""
        return Window(
            row_off=core.row_off - self.rim,
            col_off=core.col_off - self.rim,
            height=core.height + 2 * self.rim,
            width=core.width + 2 * self.rim,
        ).clip(self.height, self.width)

    def cores(self, row: int, row_stop: int, col: int, col_stop: int) -> Window:
        """Union of the cores of a half-open range of tiles, clipped to the raster."""
        size = self.core_size
        return Window(
            row_off=row * size,
            col_off=col * size,
            height=min(row_stop * size, self.height) - row * size,
            width=min(col_stop * size, self.width) - col * size,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """A rectangle of whole tiles: the unit of reading, recording and resuming.

    It holds numbers, not tiles: a driver makes and sends thousands of shards a second.
    """

    core: Window
    """Union of the tiles' cores: the shard's key in the ledger."""
    read: Window
    """The pixels that its tiles need, clipped to the raster; none without tiles."""
    grid: TileGrid
    rows: tuple[int, int]
    cols: tuple[int, int]
    """Half-open ranges of the grid's tiles."""
    some: tuple[tuple[int, int], ...] | None = None
    """(row, column) of the tiles that are wanted; None: all of the rectangle."""

    @property
    def tiles(self) -> tuple[Tile, ...]:
        """Those that are wanted, in row-major order; made anew each time."""
        return tuple(self.grid.tile(row, col) for row, col in self._wanted())

    @property
    def count(self) -> int:
        """Number of tiles."""
        if self.some is not None:
            return len(self.some)
        return (self.rows[1] - self.rows[0]) * (self.cols[1] - self.cols[0])

    @property
    def pixels(self) -> int:
        """Number of pixels in its tiles' cores."""
        if self.some is None:
            return self.core.size
        return sum(tile.core.size for tile in self.tiles)

    def _wanted(self) -> Iterable[tuple[int, int]]:
        return product(range(*self.rows), range(*self.cols)) if self.some is None else self.some


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardGrid:
    """Shards of `tiles_hw` tiles each; those of the last row and column may hold fewer.

    >>> grid = ShardGrid(tiles=TileGrid(height=7, width=10, tile_size=6, halo=1), tiles_hw=(1, 2))
    >>> [shard.core for shard in grid][1]
    Window(row_off=0, col_off=8, height=4, width=2)
    """

    tiles: TileGrid
    tiles_hw: tuple[int, int]
    wanted: bytes | None = None
    """A bit per tile in row-major order, as numpy.packbits packs them; the others are left out. None: all."""

    @property
    def shape_hw(self) -> tuple[int, int]:
        """Number of shards down and across."""
        (rows, cols), (down, across) = self.tiles.shape_hw, self.tiles_hw
        return -(-rows // down), -(-cols // across)

    @property
    def count(self) -> int:
        rows, cols = self.shape_hw
        return rows * cols

    def shard(self, index: int) -> Shard:
        """The shard at `index` in row-major order."""
        shard_row, shard_col = divmod(index, self.shape_hw[1])
        (rows, cols), (down, across) = self.tiles.shape_hw, self.tiles_hw
        row, col = shard_row * down, shard_col * across
        row_stop, col_stop = min(row + down, rows), min(col + across, cols)
        some = self._some(row, row_stop, col, col_stop)
        if some is None:
            read = self._needed(row, row_stop, col, col_stop)
        elif some:
            (top, _), (bottom, _) = some[0], some[-1]
            across_too = [c for _, c in some]
            read = self._needed(top, bottom + 1, min(across_too), max(across_too) + 1)
        else:
            read = Window(row_off=0, col_off=0, height=0, width=0)
        return Shard(
            core=self.tiles.cores(row, row_stop, col, col_stop),
            read=read,
            grid=self.tiles,
            rows=(row, row_stop),
            cols=(col, col_stop),
            some=some,
        )

    def _some(self, row: int, row_stop: int, col: int, col_stop: int) -> tuple[tuple[int, int], ...] | None:
        """The tiles of a range that are wanted; None: all."""
        if self.wanted is None:
            return None
        tiles = list(product(range(row, row_stop), range(col, col_stop)))
        some = tuple(tile for tile in tiles if self._is_wanted(*tile))
        return None if len(some) == len(tiles) else some

    def _is_wanted(self, row: int, col: int) -> bool:
        number = row * self.tiles.shape_hw[1] + col
        # numpy.packbits puts the first of eight into the highest bit.
        return self.wanted is None or bool(self.wanted[number // 8] << number % 8 & 128)

    def _needed(self, row: int, row_stop: int, col: int, col_stop: int) -> Window:
        """All that a range of tiles sees of the raster: their windows, whole also where cores are cut off."""
        size, halo = self.tiles.core_size, self.tiles.halo
        return Window(
            row_off=row * size - halo,
            col_off=col * size - halo,
            height=(row_stop - row) * size + 2 * halo,
            width=(col_stop - col) * size + 2 * halo,
        ).clip(self.tiles.height, self.tiles.width)

    def reads(self) -> tuple[int, int]:
        """Pixels that its shards read together, and the largest of them alone, if all tiles are wanted."""
        (rows, cols), (down, across) = self.tiles.shape_hw, self.tiles_hw
        heights = [self._needed(row, min(row + down, rows), 0, 1).height for row in range(0, rows, down)]
        widths = [self._needed(0, 1, col, min(col + across, cols)).width for col in range(0, cols, across)]
        return sum(heights) * sum(widths), max(heights) * max(widths)

    def __iter__(self) -> Iterator[Shard]:
        return (self.shard(index) for index in range(self.count))


@dataclass(frozen=True, slots=True)
class AllShards(Sequence[Shard]):
    """The shards of a grid of which all tiles are wanted, each made when it is asked for.

    A driver sends thousands of whole scenes a second: a grid instead of its shards takes a tenth of the time.
    """

    grid: ShardGrid

    def __len__(self) -> int:
        return self.grid.count

    @overload
    def __getitem__(self, index: int) -> Shard: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Shard, ...]: ...

    def __getitem__(self, index: int | slice) -> Shard | tuple[Shard, ...]:
        at = range(len(self))[index]
        return self.grid.shard(at) if isinstance(at, int) else tuple(self.grid.shard(n) for n in at)


def tiles_in(shards: Sequence[Shard]) -> int:
    """Number of tiles of some shards together."""
    if isinstance(shards, AllShards):
        return shards.grid.tiles.count
    return sum(shard.count for shard in shards)


def pixels_in(shards: Sequence[Shard]) -> int:
    """Number of pixels in the cores of their tiles."""
    if isinstance(shards, AllShards):
        return shards.grid.tiles.height * shards.grid.tiles.width
    return sum(shard.pixels for shard in shards)


def pixels_read(shards: Sequence[Shard]) -> int:
    """Number of pixels that they need, those that two of them need counted twice."""
    return shards.grid.reads()[0] if isinstance(shards, AllShards) else sum(s.read.size for s in shards)


def cut_tile(array: NDArray[np.generic], held: Window, tile: Tile) -> NDArray[np.generic]:
    """The tile's pixels out of an array (..., H, W) that holds the window `held`.

    Pixels beyond the raster are reflections of the tile's own pixels, without the border's, as often as
    needed; a single pixel is repeated. Up to the halo's width from a
    core pixel they equal the reflection of the whole raster, and whatever the shard, they are the
    same: a tile does not depend on what was read beside it.

    Returns:
        A view where the tile lies inside, else a copy; shape (..., tile_size, tile_size).
    """
    row_stop, col_stop = held.row_stop, held.col_stop
    window = tile.window
    rows = slice(max(window.row_off, held.row_off), min(window.row_stop, row_stop))
    cols = slice(max(window.col_off, held.col_off), min(window.col_stop, col_stop))
    inside = array[
        ...,
        rows.start - held.row_off : rows.stop - held.row_off,
        cols.start - held.col_off : cols.stop - held.col_off,
    ]
    if inside.shape[-2:] == (window.height, window.width):
        return inside
    beyond = [(0, 0)] * (inside.ndim - 2)
    beyond.append((rows.start - window.row_off, window.row_stop - rows.stop))
    beyond.append((cols.start - window.col_off, window.col_stop - cols.stop))
    return np.pad(inside, beyond, mode="reflect")

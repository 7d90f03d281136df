"""Hypothesis strategies for rasters, grids and ledgers."""

from hypothesis import strategies as st

from batchseg.output.record import Record, SceneRecord, ShardRecord
from batchseg.pixels.grid import ShardGrid, TileGrid, Window


@st.composite
def sizes(draw: st.DrawFn, most: int = 40) -> tuple[int, int]:
    """Height and width of a raster that is not square."""
    height = draw(st.integers(1, most))
    width = draw(st.integers(1, most).filter(lambda w: w != height))
    return height, width


@st.composite
def tile_grids(draw: st.DrawFn, most: int = 40) -> TileGrid:
    height, width = draw(sizes(most))
    halo, core = draw(st.integers(0, 7)), draw(st.integers(1, 11))
    return TileGrid(height=height, width=width, tile_size=core + 2 * halo, halo=halo)


@st.composite
def shard_grids(draw: st.DrawFn, most: int = 40) -> ShardGrid:
    tiles_hw = draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    return ShardGrid(tiles=draw(tile_grids(most)), tiles_hw=tiles_hw)


WINDOWS = [Window(row_off=row, col_off=col, height=7, width=5) for row in (0, 7) for col in (0, 5, 10)]


def _records() -> st.SearchStrategy[Record]:
    ids, tags = st.sampled_from(["a.tif", "b/ü.tif"]), st.sampled_from(["t1", "t2"])
    shards = st.builds(
        lambda window, **rest: ShardRecord(
            row_off=window.row_off,
            col_off=window.col_off,
            height=window.height,
            width=window.width,
            **rest,
        ),
        st.sampled_from(WINDOWS),
        source_id=ids,
        tag=tags,
        pixel=st.sampled_from(["p", "q"]),
        grid=st.sampled_from(["1x1", "2x3"]),
        cpu_class=st.sampled_from(["avx2", "avx512"]),
        predicted=st.integers(0, 3),
        empty=st.booleans(),
    )
    ends = st.builds(
        SceneRecord,
        status=st.sampled_from(["done", "quarantined", "failed"]),
        source_id=ids,
        tag=tags,
        error=st.sampled_from(["", "cannot read: block 7"]),
        class_ids=st.just((0, 3)),
        class_pixels=st.tuples(st.integers(0, 2**40), st.integers(0, 9)),
        class_area_m2=st.sampled_from([(), (0.1, 2.5e9)]),
    )
    return st.one_of(shards, shards, shards, ends)


batches = st.lists(_records(), min_size=1, max_size=4)

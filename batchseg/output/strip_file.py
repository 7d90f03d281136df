"""A shard's strips as one file: what it has in common with other shards, until the scene is finished.

An Arrow file with a row per strip. The two bytes of a number lie apart, all low ones first: most
probabilities are 0 or 1, and zstd then needs a tenth.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchseg.errors import OutputError
from batchseg.pixels.grid import Window
from batchseg.predict.blend import Axis, Strip
from batchseg.system.location import Location

_COLUMNS: dict[str, pa.DataType] = {
    "axis": pa.string(),
    "is_before": pa.bool_(),
    "row_off": pa.int32(),
    "col_off": pa.int32(),
    "planes": pa.int32(),
    "height": pa.int32(),
    "width": pa.int32(),
    "sums": pa.large_binary(),
}
SCHEMA = pa.schema(_COLUMNS)

SIDES = b"sides"
"""Key of the schema's metadata: of which side of the shard each record batch is. A border's zone is closed by
one side of each shard along it, so no strip is unpacked twice."""


def strips_as_bytes(strips: Sequence[Strip]) -> bytes:
    """The file's content."""
    rows = [
        {
            "axis": strip.axis,
            "is_before": strip.is_before,
            "row_off": strip.window.row_off,
            "col_off": strip.window.col_off,
            "planes": len(strip.sums),
            "height": strip.window.height,
            "width": strip.window.width,
            "sums": _apart(strip.sums),
        }
        for strip in strips
    ]
    sides = list(dict.fromkeys((strip.axis, strip.is_before) for strip in strips))
    schema = SCHEMA.with_metadata({SIDES: " ".join(_side(*side) for side in sides)})
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", compression_level=1))
    with pa.ipc.new_file(sink, schema, options=options) as writer:
        for side in sides:
            of_side = [row for row in rows if (row["axis"], row["is_before"]) == side]
            writer.write_batch(pa.RecordBatch.from_pylist(of_side, schema=schema))
    return bytes(sink.getvalue())


def read_strips(path: str, name: Location | str, axis: Axis, is_before: bool) -> list[Strip]:
    """The strips of one side of a shard.

    Args:
        path: of a local file.
        name: what messages call it.
        axis: of the strips.
        is_before: whether the shard lies before the border.

    Raises:
        OutputError: it is no file of strips.
    """
    try:
        with pa.memory_map(path) as source:
            file = pa.ipc.open_file(source)
            if file.schema != SCHEMA:
                msg = f"{name} is no file of strips"
                raise OutputError(msg)
            sides = (file.schema.metadata or {})[SIDES].decode().split()
            if _side(axis, is_before) not in sides:
                return []
            rows = file.get_batch(sides.index(_side(axis, is_before)))
            return [_strip(row) for row in rows.to_pylist()]
    except (pa.ArrowException, ValueError, TypeError, KeyError, IndexError) as e:
        msg = f"{name} is damaged: {e}; remove it, and the next run predicts its shard again"
        raise OutputError(msg) from e


def _side(axis: str, is_before: bool) -> str:
    return f"{axis}-{'before' if is_before else 'after'}"


def _strip(row: dict[str, object]) -> Strip:
    height, width, planes = (int(str(row[key])) for key in ("height", "width", "planes"))
    window = Window(
        row_off=int(str(row["row_off"])), col_off=int(str(row["col_off"])), height=height, width=width
    )
    content = row["sums"]
    assert isinstance(content, bytes)  # noqa: S101  by the schema
    axis = str(row["axis"])
    return Strip(
        axis="rows" if axis == "rows" else "cols",
        is_before=bool(row["is_before"]),
        window=window,
        sums=_together(content, (planes, height, width)),
    )


def _apart(sums: NDArray[np.uint16]) -> bytes:
    little = np.ascontiguousarray(sums, dtype="<u2").view(np.uint8)
    return little.reshape(-1, 2).T.tobytes()


def _together(content: bytes, shape: tuple[int, int, int]) -> NDArray[np.uint16]:
    """Raises ValueError where the content is of another shape."""
    halves = np.frombuffer(content, np.uint8).reshape(2, *shape)
    sums: NDArray[np.uint16] = halves[1].astype(np.uint16) << 8 | halves[0]
    return sums

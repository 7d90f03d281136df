from itertools import product

import numpy as np
import pyarrow as pa
import pytest

from batchseg.errors import OutputError
from batchseg.output.strip_file import read_strips, strips_as_bytes
from batchseg.pixels.grid import Window
from batchseg.predict.blend import Strip


def strip(seed: int, axis: str = "rows") -> Strip:
    sums = np.random.default_rng(seed).integers(0, 2**16, (3, 4, 7), dtype=np.uint16)
    window = Window(row_off=40 * seed, col_off=9, height=4, width=7)
    return Strip(axis=axis, is_before=bool(seed % 2), window=window, sums=sums)


def test_strips_are_read_as_they_were_written(tmp_path):
    strips = [strip(1), strip(2, "cols"), strip(3), strip(4)]
    (tmp_path / "a.arrow").write_bytes(strips_as_bytes(strips))
    for side in product(("rows", "cols"), (True, False)):
        read = read_strips(str(tmp_path / "a.arrow"), "a.arrow", *side)
        written = [strip for strip in strips if (strip.axis, strip.is_before) == side]
        assert [(s.axis, s.is_before, s.window) for s in read] == [
            (s.axis, s.is_before, s.window) for s in written
        ]
        for one, other in zip(read, written, strict=True):
            assert one.sums.dtype == np.uint16
            assert np.array_equal(one.sums, other.sums)


def test_probabilities_near_0_and_1_take_little_room():
    shares = np.random.default_rng(1).choice([0, 255], (5, 64, 1000), p=[0.8, 0.2]).astype(np.uint16)
    blobs = np.repeat(np.repeat(shares[:, ::8, ::8], 8, axis=1), 8, axis=2) * 256
    made = Strip(
        axis="rows", is_before=True, window=Window(row_off=0, col_off=0, height=64, width=1000), sums=blobs
    )
    assert len(strips_as_bytes([made])) < blobs.nbytes / 20


@pytest.mark.parametrize("damage", ["cut", "other", "short", "no arrow"])
def test_what_is_no_file_of_strips_is_told_by_its_name(tmp_path, damage):
    path = tmp_path / "strips.arrow"
    data = strips_as_bytes([strip(1)])
    if damage == "cut":
        data = data[: len(data) // 2]
    elif damage == "no arrow":
        data = b"II*\0" + bytes(100)
    elif damage == "other":
        table = pa.table({"axis": ["rows"]})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        data = bytes(sink.getvalue())
    else:
        rows = pa.ipc.open_file(pa.BufferReader(data)).read_all()
        rows = rows.set_column(7, "sums", pa.array([b"12"], pa.large_binary()))
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, rows.schema) as writer:
            writer.write_table(rows)
        data = bytes(sink.getvalue())
    path.write_bytes(data)
    with pytest.raises(OutputError, match=r"shard-7\.arrow"):
        read_strips(str(path), "shard-7.arrow", "rows", True)

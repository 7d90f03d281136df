import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from outputs import EVERYWHERE, check
from runs import run
from stored import put, take

from batchseg.errors import OutputError
from batchseg.system import fetch
from batchseg.system.location import join
from batchseg.tools.tables import open_items


def test_what_a_run_leaves_is_as_recorded(job_and_output: tuple[Path, str]) -> None:
    job, output = job_and_output
    run(job)
    found = check(output)
    assert (found.problems, found.unrecorded) == ((), ())
    assert found.sources == 3
    assert found.files >= 4


@EVERYWHERE
def test_verify_names_what_is_missing_or_differs(job_and_output: tuple[Path, str]) -> None:
    job, output = job_and_output
    run(job)
    mask = join(output, "masks", "a.tif")
    data = fetch.read_bytes(mask)
    put(mask, data[:-1] + bytes([data[-1] ^ 1]))
    assert check(output, quick=True).problems == ()
    assert check(output).problems == ("masks/a.tif: its checksum is not the recorded one",)
    put(mask, data[:-1])
    assert check(output, quick=True).problems == (
        f"masks/a.tif: {len(data) - 1} bytes, recorded are {len(data)}",
    )
    take(mask)
    put(join(output, "masks", "strange.tif"), b"x")
    found = check(output)
    assert found.problems == ("masks/a.tif: missing",)
    assert found.unrecorded == ("masks/strange.tif",)
    assert run(job).tally.done == 1
    assert check(output).problems == ()


def test_verify_sees_a_table_that_says_something_else(job_and_output: tuple[Path, str]) -> None:
    job, output = job_and_output
    run(job)
    uri = join(output, "items", "items.parquet")
    import io

    rows = pq.read_table(io.BytesIO(fetch.read_bytes(uri)))
    sink = io.BytesIO()
    pq.write_table(rows.slice(1), sink)
    put(uri, sink.getvalue())
    assert check(output).problems == ("items/items.parquet: a.tif: its rows are not what the ledger says",)


def test_tables_and_names_that_somebody_planted_are_named(job_and_output: tuple[Path, str]) -> None:
    job, output = job_and_output
    run(job)
    strange = os.fsdecode(b"masks/\xff.tif")
    put(join(output, strange), b"x")
    pq.write_table(pa.table({"source_id": ["a.tif"]}), Path(output) / "annotations" / "part-x.parquet")
    pq.write_table(pa.table({"source_id": [1], "status": [[2]]}), Path(output) / "items" / "items.parquet")
    found = check(output)
    assert "masks/\\xff.tif" in found.unrecorded
    assert any("no column class_id" in problem for problem in found.problems)
    assert any("items/items.parquet: cannot be read" in problem for problem in found.problems)
    with pytest.raises(OutputError, match="no table of items"):
        open_items(output)

"""An output that a run left."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from batchseg.system import fetch
from batchseg.system.location import join
from batchseg.tools.verify import Verification, verify


def check(output: str | Path, *, quick: bool = False) -> Verification:
    return verify(str(output), quick=quick, say=lambda line: None)


EVERYWHERE = pytest.mark.parametrize("job_and_output", ["local", "s3"], indirect=True)


def items(output: str) -> list[dict[str, object]]:
    import io

    data = fetch.read_bytes(join(output, "items", "items.parquet"))
    return pq.read_table(io.BytesIO(data)).to_pylist()

"""The files of a ledger: which there are, and their rows."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from batchseg.errors import OutputError
from batchseg.output import layout, publish
from batchseg.output.columns import from_parquet
from batchseg.output.parquet_limits import Allowance
from batchseg.system import fetch, listing
from batchseg.system.location import Location


def parts_there(output: str) -> tuple[dict[int, int], dict[int, int]]:
    """Bytes of the snapshots and of the segments there are, by number, ascending."""
    folder = layout.ledger_folder(output)
    with publish.output_errors("list", folder):
        infos = sorted(listing.list_folder(folder), key=lambda info: info.uri)
    snapshots, segments = (
        {number: info.size for info in infos if (number := layout.ledger_number(info.uri, kind)) is not None}
        for kind in ("snapshot", "segment")
    )
    return snapshots, segments


def read_snapshot(uri: str) -> Iterator[pa.Table]:
    local = Location.of(uri).path
    if local is None:
        yield from next(read_parts([uri]))
    else:
        yield from _tables(uri, local)


def read_parts(uris: list[str]) -> Iterator[Iterator[pa.Table]]:
    """Rows of each part, in the order of the parts."""
    try:
        parts = fetch.read_many(uris)
    except FileNotFoundError:
        raise
    except OSError as e:
        msg = f"cannot read the ledger: {e}"
        raise OutputError(msg) from e
    allowance = Allowance(sum(len(data) for data in parts))  # of all: many small parts are as bad as one
    for uri, data in zip(uris, parts, strict=True):
        yield _tables(uri, data, allowance)


def _tables(uri: str, source: bytes | Path, allowance: Allowance | None = None) -> Iterator[pa.Table]:
    try:
        yield from from_parquet(source, allowance)
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException, LookupError, ValueError, TypeError) as e:
        msg = f"cannot read the ledger's {uri}: {e}"
        if getattr(e, "errno", None) is None:  # what the storage gave is no ledger
            msg += (
                "; restore it from a backup, or move it away and run the job again: what it alone recorded "
                "is predicted again"
            )
        raise OutputError(msg) from e

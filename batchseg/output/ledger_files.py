"""The files of a ledger: which there are, and their rows."""

from collections.abc import Iterator, Sequence

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
        {
            number: info.size or 0
            for info in infos
            if (number := layout.ledger_number(info.uri, kind)) is not None
        }
        for kind in ("snapshot", "segment")
    )
    return snapshots, segments


def read_snapshot(file: Location) -> Iterator[pa.Table]:
    """Rows of a snapshot, of which a local one is not read whole first."""
    yield from _tables(file, file) if file.is_local else next(read_parts([file]))


def read_parts(files: Sequence[Location]) -> Iterator[Iterator[pa.Table]]:
    """Rows of each part, in the order of the parts.

    A segment of a disk that has no byte has no rows: its driver was killed between two steps of
    `publish.create`, or is about to do the second. What it did is done again.
    """
    try:
        parts = fetch.read_many(files)
    except FileNotFoundError:
        raise
    except OSError as e:
        msg = f"cannot read the ledger: {e}"
        raise OutputError(msg) from e
    allowance = Allowance(sum(len(data) for data in parts))  # of all: many small parts are as bad as one
    for file, data in zip(files, parts, strict=True):
        yield iter(()) if not data and file.is_local else _tables(file, data, allowance)


def _tables(
    file: Location, source: bytes | Location, allowance: Allowance | None = None
) -> Iterator[pa.Table]:
    try:
        yield from from_parquet(source, allowance)
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException, LookupError, ValueError, TypeError) as e:
        msg = f"cannot read the ledger's {file}: {e}"
        if getattr(e, "errno", None) is None:  # what the storage gave is no ledger
            msg += (
                "; restore it from a backup, or move it away and run the job again: what it alone recorded "
                "is predicted again"
            )
        raise OutputError(msg) from e

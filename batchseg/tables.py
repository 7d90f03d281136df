"""Region tables as a whole: each living source once, and few files.

    annotations/crs=EPSG-32633/scene-<digest of id>.parquet   one source; replaced by name
    annotations/crs=EPSG-32633/part-<digest>.parquet          many small sources; its members in its footer

Readers list the folder, so a file counts as soon as it is there. A rewritten part is published under a
new name, recorded, and then the old files are deleted: interrupted anywhere, the next `tidy` ends it.
"""

import hashlib
import io
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batchseg import publishing, storage
from batchseg.errors import OutputError
from batchseg.finish import publish_output, scratch_folder
from batchseg.ledger import Ledger, Output, Record

SMALL_BYTES = 2**20
"""A part below it is worth joining with others."""

COMPACT_FROM = 16
"""Small parts of one CRS before they are joined."""

PART_BYTES = 64 * 2**20
"""Of a joined part at most, unless one member has more."""

MEMBERS = b"batchseg:members"


def tidy(output: str, ledger: Ledger) -> None:
    """Drop rows of sources that changed or are gone, join small parts, delete parts that nobody needs.

    Raises:
        OutputError: a part cannot be read or written.
    """
    sizes = region_parts(output)
    if not sizes:
        return
    members: dict[str, list[Record]] = defaultdict(list)
    for record in ledger.sources():
        if record.regions_part:
            members[record.regions_part].append(record)
    again = [path for path in sizes if members.get(path) and _holds_others(output, path, members[path])]
    for group in [*([path] for path in again), *_small_groups(sizes, members, set(again))]:
        _rewrite(output, ledger, group, [record for path in group for record in members[path]])
    needed = {record.regions_part for record in ledger.sources()}
    publishing.remove_files([storage.join(output, path) for path in sizes if path not in needed])


def read_part(output: str, path: str) -> pq.ParquetFile:
    """Raises OutputError where it cannot be read."""
    uri = storage.join(output, path)
    try:
        local = storage.local_path(uri)
        return pq.ParquetFile(local if local is not None else io.BytesIO(storage.read_bytes(uri)))
    except (OSError, pa.ArrowException) as e:
        msg = f"cannot read {uri}: {e}"
        raise OutputError(msg) from e


def region_parts(output: str) -> dict[str, int]:
    """Path below the output and bytes of each part."""
    root = storage.join(output, "annotations")
    with publishing.output_errors("list", root):
        infos = storage.list_below(root)
    sizes = {info.uri.removeprefix(output + "/"): info.size for info in infos}
    return {path: size for path, size in sizes.items() if path.endswith(".parquet")}


def _is_joined(path: str) -> bool:
    return path.rpartition("/")[2].startswith("part-")


def _holds_others(output: str, path: str, members: Sequence[Record]) -> bool:
    """Whether a joined part has rows of sources whose own record names another one."""
    if not _is_joined(path):
        return False
    held = json.loads(read_part(output, path).schema_arrow.metadata.get(MEMBERS, b"[]"))
    return set(held) != {record.source_id for record in members}


def _small_groups(
    sizes: dict[str, int], members: dict[str, list[Record]], without: set[str]
) -> Iterator[list[str]]:
    """Parts to join, by CRS, each group of at most PART_BYTES."""
    small: dict[str, list[str]] = defaultdict(list)
    for path in sorted(sizes):
        if path in members and path not in without and sizes[path] < SMALL_BYTES:
            small[path.rpartition("/")[0]].append(path)
    for paths in small.values():
        if len(paths) < COMPACT_FROM:
            continue
        group: list[str] = []
        for path in paths:
            if group and sum(sizes[p] for p in group) + sizes[path] > PART_BYTES:
                yield group
                group = []
            group.append(path)
        yield group


def _rewrite(output: str, ledger: Ledger, paths: Sequence[str], records: Sequence[Record]) -> None:
    """Put the living rows of some parts into a new one, and record it."""
    ids = sorted(record.source_id for record in records)
    digest = hashlib.sha256(json.dumps([sorted((r.source_id, r.tag, r.product) for r in records)]).encode())
    folder = paths[0].rpartition("/")[0]
    target = f"{folder}/part-{digest.hexdigest()[:16]}.parquet"
    with scratch_folder(output) as scratch:
        made = scratch / "part.parquet"
        _copy_rows(output, paths, ids, made)
        published = publish_output(output, target, made)
    ledger.append(_moved(record, published) for record in records)


def _copy_rows(output: str, paths: Sequence[str], ids: Sequence[str], target: Path) -> None:
    wanted = pa.array(ids, type=pa.string())
    schema = read_part(output, paths[0]).schema_arrow
    metadata = {**(schema.metadata or {}), MEMBERS: json.dumps(list(ids)).encode()}
    with pq.ParquetWriter(target, schema.with_metadata(metadata), compression="zstd") as writer:
        for path in paths:
            part = read_part(output, path)
            for number in range(part.num_row_groups):
                rows = part.read_row_group(number)
                kept = rows.filter(pc.is_in(rows.column("source_id"), value_set=wanted))
                writer.write_table(kept.replace_schema_metadata(metadata))


def _moved(record: Record, part: Output) -> Record:
    others = tuple(o for o in record.outputs if o.path != record.regions_part)
    return replace(record, outputs=(*others, part))

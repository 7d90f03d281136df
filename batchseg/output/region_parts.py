"""Region tables as a whole: each living source once, and few files.

    crs=EPSG-32633/scene-<digest of id>.parquet   one source; replaced by name
    crs=EPSG-32633/part-<digest>.parquet          many small sources; its members in its footer

Readers list the folder, so a file counts as soon as it is there. A rewritten part is published under a
new name, recorded, and then the old files are deleted: interrupted anywhere, the next `tidy` ends it.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from batchseg.errors import OutputError
from batchseg.output import layout, publish
from batchseg.output.columns import first_output, open_parquet, with_part
from batchseg.output.ledger import Ledger
from batchseg.output.scene_mask import publish_output, scratch_folder
from batchseg.system import listing, storage
from batchseg.system.json_text import parse_json

SMALL_BYTES = 2**20
"""A part below it is worth joining with others."""

COMPACT_FROM = 16
"""Small parts of one CRS before they are joined."""

PART_BYTES = 64 * 2**20
"""Of a joined part at most, unless one member has more."""

GROUP_BYTES = 8 * 2**20
"""In memory, of the rows that are written together."""

TAKE_ROWS = 2**17
"""Rows of the ledger copied at once while parts are written again."""

MEMBERS = b"batchseg:members"


def tidy(output: str, ledger: Ledger) -> None:
    """Drop rows of sources that changed or are gone, join small parts, delete parts that nobody needs.

    Args:
        output: root of the results.
        ledger: what is committed.

    Raises:
        OutputError: a part cannot be read or written.
    """
    sizes = region_parts(output)
    if not sizes:
        return
    ledger.guard()
    table = ledger.table()
    members = _members(table)
    living = [path for path in sizes if path in members]
    again = _with_others(output, [path for path in living if layout.is_shared(path)], table, members)
    small = [path for path in living if path not in again and sizes[path] < SMALL_BYTES]
    groups = [*([path] for path in again), *_small_groups(output, small, sizes)]
    needed = {path for path in living if path not in again}
    for group, rows in zip(groups, _rows_of(groups, table, members), strict=True):
        needed -= set(group)
        needed.add(_rewrite(output, ledger, group, rows))
    ledger.guard()
    publish.remove_files([layout.result_file(output, path) for path in sizes if path not in needed])


def part_path(crs: str, rows: pa.Table) -> str:
    """Where the regions of some sources go together, below the output: the name tells who they are.

    Args:
        crs: the CRS's code in folder names; "none" for photographs.
        rows: the sources' rows of the ledger, at least one.
    """
    ordered = rows.sort_by("source_id")
    return layout.shared_regions_path(crs, _digests(ordered, np.array([0, len(ordered)]))[0])


_NEEDED = ("source_id", "class_id", "geometry")


def read_part(output: str, path: str) -> pq.ParquetFile:
    """Raises OutputError where it cannot be read, or is no table of regions."""
    file = layout.result_file(output, path)
    try:
        part = open_parquet(file)
    except (OSError, pa.ArrowException) as e:
        msg = f"cannot read {file}: {e}"
        raise OutputError(msg) from e
    if missing := [name for name in _NEEDED if name not in part.schema_arrow.names]:
        msg = f"{file} is no table of regions: it has no column {missing[0]}; `batchseg verify` tells more"
        raise OutputError(msg)
    return part


def read_rows(
    part: pq.ParquetFile, path: str, columns: Sequence[str] | None = None, *, group: int | None = None
) -> pa.Table:
    """Rows of the region table of that path, without its metadata.

    Args:
        part: what `read_part` gave.
        path: for the error.
        columns: which; None: all.
        group: number of one row group; None: all.

    Raises:
        OutputError: it is damaged.
    """
    names = None if columns is None else list(columns)
    try:
        rows = part.read(names) if group is None else part.read_row_group(group, names)
    except (OSError, pa.ArrowException) as e:
        msg = f"cannot read {path}: {' '.join(str(e).split())}; `batchseg verify` tells more"
        raise OutputError(msg) from e
    return rows.replace_schema_metadata(None)


def region_parts(output: str) -> dict[str, int]:
    """Path below the output and bytes of each part."""
    root = layout.result_folder(output, layout.ANNOTATIONS)
    with publish.output_errors("list", root):
        infos = listing.list_below(root)
    sizes = {info.uri.removeprefix(output + "/"): info.size or 0 for info in infos}
    return {path: size for path, size in sizes.items() if path.endswith(".parquet")}


def _members(table: pa.Table) -> Mapping[str, NDArray[np.int64]]:
    """Numbers of the rows whose sources' regions a part has, ascending, by part."""
    parts: Any = first_output(table, layout.ANNOTATIONS)
    if not parts.type.equals(pa.dictionary(pa.int32(), pa.string())) or parts.null_count == len(parts):
        return {}
    rows = np.flatnonzero(parts.is_valid().to_numpy(zero_copy_only=False))
    codes = parts.indices.take(pa.array(rows)).to_numpy()
    order = np.argsort(codes, kind="stable")
    found, starts = np.unique(codes[order], return_index=True)
    names = parts.dictionary.take(pa.array(found)).to_pylist()
    return dict(zip(names, np.split(rows[order], starts[1:]), strict=True))


def _with_others(
    output: str, paths: Sequence[str], table: pa.Table, members: Mapping[str, NDArray[np.int64]]
) -> list[str]:
    """Shared parts with rows of sources whose own record names another part.

    A part's name is a digest of its members; only one that is not as its members say is opened.
    """
    if not paths:
        return []
    groups = [members[path] for path in paths]
    numbers: Any = pa.array(np.concatenate(groups))
    columns = table.select(list(_DIGESTED)).take(numbers)
    bounds = np.cumsum([0, *(len(group) for group in groups)])
    digests = _digests(columns, bounds)
    found = []
    for number, (path, digest) in enumerate(zip(paths, digests, strict=True)):
        if path != layout.shared_regions_path(layout.crs_of(path), digest):
            ids = columns.column("source_id").slice(bounds[number], len(groups[number])).to_pylist()
            if set(_held_by(output, path)) != set(ids):
                found.append(path)
    return found


_DIGESTED = ("source_id", "tag", "pixel", "product", "cpu_class")
"""What makes the rows of a source what they are."""


def _digests(columns: pa.Table, bounds: NDArray[np.int64]) -> list[str]:
    """A digest per group of consecutive rows, from one bound to the next."""
    text = pa.large_string()
    texts = [columns.column(name).cast(text) for name in _DIGESTED]
    join: Any = pc.binary_join_element_wise
    joined = join(*texts, pa.scalar("", text), pa.scalar("\0", text)).combine_chunks()
    # The text of all rows lies in one buffer: a group's is a stretch of it, hashed without a copy.
    _, offsets, data = joined.buffers()
    at = np.frombuffer(offsets, np.int64)[joined.offset + bounds]
    held = memoryview(data)
    return [hashlib.sha256(held[start:stop]).hexdigest()[:16] for start, stop in pairwise(at)]


def _held_by(output: str, path: str) -> list[str]:
    """Sources that a shared part was made of."""
    try:
        held = parse_json((read_part(output, path).schema_arrow.metadata or {}).get(MEMBERS, b"[]"))
    except ValueError:
        return []  # damaged: the part is written again
    return [name for name in held if isinstance(name, str)] if isinstance(held, list) else []


def _small_groups(output: str, small: Sequence[str], sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Parts to join, by CRS and columns, each group of at most PART_BYTES."""
    folders: dict[str, list[str]] = defaultdict(list)
    for path in sorted(small):
        folders[path.rpartition("/")[0]].append(path)
    alike: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for folder, paths in folders.items():
        if len(paths) >= COMPACT_FROM:
            names = storage.in_order(lambda path: read_part(output, path).schema_arrow.names, paths, output)
            for path, columns in zip(paths, names, strict=True):
                alike[(folder, *columns)].append(path)
    for paths in alike.values():
        if len(paths) >= COMPACT_FROM:
            yield from _filled(paths, sizes)


def _filled(paths: Sequence[str], sizes: Mapping[str, int]) -> Iterator[list[str]]:
    group: list[str] = []
    filled = 0
    for path in paths:
        if group and filled + sizes[path] > PART_BYTES:
            yield group
            group, filled = [], 0
        group.append(path)
        filled += sizes[path]
    yield group


def _rows_of(
    groups: Sequence[Sequence[str]], table: pa.Table, members: Mapping[str, NDArray[np.int64]]
) -> Iterator[pa.Table]:
    """The ledger's rows of each group's sources, sorted by id; of many groups at once, as it is slow."""
    numbers = [np.sort(np.concatenate([members[path] for path in group])) for group in groups]
    before = np.cumsum([0, *(len(group) for group in numbers)])
    first = 0
    while first < len(numbers):
        last = max(first + 1, int(np.searchsorted(before, before[first] + TAKE_ROWS, side="right")) - 1)
        indices: Any = pa.array(np.concatenate(numbers[first:last]))
        rows = table.take(indices)
        for number in range(first, last):
            yield rows.slice(before[number] - before[first], len(numbers[number]))
        first = last


def _rewrite(output: str, ledger: Ledger, paths: Sequence[str], rows: pa.Table) -> str:
    """Put the living rows of some parts into a new one, record it, and say where it is."""
    target = part_path(layout.crs_of(paths[0]), rows)
    with scratch_folder(output) as scratch:
        made = scratch / "part.parquet"
        _copy_rows(output, paths, rows.column("source_id"), made)
        published = publish_output(output, target, made)
    ledger.append_table(with_part(rows, published))
    return target


def _copy_rows(output: str, paths: Sequence[str], ids: Any, target: Path) -> None:
    wanted = ids.combine_chunks()
    schema = read_part(output, paths[0]).schema_arrow
    metadata = {**(schema.metadata or {}), MEMBERS: json.dumps(wanted.to_pylist()).encode()}
    with pq.ParquetWriter(target, schema.with_metadata(metadata), compression="zstd") as writer:
        for rows in _gathered(output, paths):
            kept = rows.filter(pc.is_in(rows.column("source_id"), value_set=wanted))
            if len(kept):
                writer.write_table(kept.replace_schema_metadata(metadata))


def _gathered(output: str, paths: Sequence[str]) -> Iterator[pa.Table]:
    """All rows of some parts, GROUP_BYTES of them at once: filtering and writing take 1 ms each time."""
    waiting: list[pa.Table] = []
    nbytes = 0
    for path, part in zip(paths, storage.in_order(partial(read_part, output), paths, output), strict=True):
        for number in range(part.num_row_groups):
            waiting.append(read_rows(part, path, group=number))
            nbytes += waiting[-1].nbytes
            if nbytes > GROUP_BYTES:
                yield pa.concat_tables(waiting)
                waiting, nbytes = [], 0
    if waiting:
        yield pa.concat_tables(waiting)

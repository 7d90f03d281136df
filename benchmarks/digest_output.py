"""What an output of batchseg holds, as digests, and how two of them differ. Knows only the layout of outputs.

    files      sha256 of the bytes of all below masks/ and confidence/, by their sources' ids
    parts      sha256 of the bytes of the region tables, by path
    regions    by CRS: the tables' columns and metadata; by source: how many rows, and sha256 of their values
    items      the items table: its columns, and each row's values

Region tables of photographs are compared by their rows, not by name and bytes: which photographs come into
one table depends on how fast they were. `recorded_at` of an item is a time, and left out. Versions name the
masks of a source differently, so what is a source's is called by its id, in the column `mask` too.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Digest = dict[str, Any]
"""JSON: the four entries above."""

SHOWN = 40
"""Differences of an output that are printed."""

TIMES = ("recorded_at",)
"""Columns of the items table that differ from run to run."""

LAYERS, SIDECAR = ("masks", "confidence"), ".aux.xml"

MEMBERS = b"batchseg:members"
"""Metadata of a shared part: the sources in it."""


def digest_output(output: Path, places: Mapping[str, str]) -> Digest:
    """Read an output.

    Args:
        output: a folder.
        places: folders that may lie elsewhere next time, and what stands for them in texts.
    """
    layers = [path for layer in LAYERS for path in files_below(output / layer)]
    tables = [path for path in files_below(output / "annotations") if path.suffix == ".parquet"]
    items = _items(output / "items" / "items.parquet", places)
    sources = _sources(items)
    return {
        "files": {_by_id(str(path.relative_to(output)), sources): sha256(path) for path in layers},
        "parts": {str(path.relative_to(output)): sha256(path) for path in tables},
        "regions": _regions(tables),
        "items": items,
    }


def _sources(items: Digest) -> dict[str, str]:
    """Ids of sources by the path of each one's mask below the folder of masks; the items then name the id."""
    sources = {}
    for source_id, row in items["rows"].items():
        if row.get("mask"):
            sources[row["mask"].partition("/")[2]] = source_id
            row["mask"] = _by_id(row["mask"], sources)
    return sources


def _by_id(path: str, sources: Mapping[str, str]) -> str:
    """A path with the source's id in place of the mask's name; as it is where it is no source's."""
    folder, _, name = path.partition("/")
    mask = name.removesuffix(SIDECAR)
    beside = SIDECAR if mask != name else ""
    return f"{folder}/{sources[mask]}{beside}" if mask in sources else path


def files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _regions(tables: Iterable[Path]) -> Digest:
    by_crs: dict[str, list[Path]] = defaultdict(list)
    for path in tables:
        by_crs[path.parent.name].append(path)
    return {crs: _regions_of(paths) for crs, paths in by_crs.items()}


def _regions_of(paths: Iterable[Path]) -> Digest:
    """Of one CRS. A source's rows are in one table, in their order."""
    schemas, rows = set(), {}
    for path in paths:
        table = pq.read_table(path, partitioning=None)
        schemas.add(_schema(table.schema))
        for source_id, values in _by_source(table):
            said = hashlib.sha256(repr(values).encode()).hexdigest()
            rows[source_id] = f"{len(values)} {said}" + (
                f" and {rows[source_id]}" if source_id in rows else ""
            )
    return {"schemas": sorted(schemas), "rows": dict(sorted(rows.items()))}


def _schema(schema: pa.Schema) -> str:
    """Columns with their types, and the metadata, `geo` above all."""
    columns = [f"{field.name}: {field.type}" for field in schema]
    metadata = {name: text for name, text in (schema.metadata or {}).items() if name != MEMBERS}
    return f"{', '.join(columns)}; {sorted(metadata.items())}"


def _by_source(table: pa.Table) -> Iterator[tuple[str, list[tuple[Any, ...]]]]:
    rows: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
    at = table.column_names.index("source_id")
    for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
        rows[row[at]].append(row)
    yield from rows.items()


def _items(path: Path, places: Mapping[str, str]) -> Digest:
    if not path.exists():
        return {"columns": {}, "rows": {}}
    table = pq.read_table(path)
    table = table.drop_columns([name for name in TIMES if name in table.column_names])
    text = json.dumps({row["source_id"]: row for row in table.to_pylist()}, sort_keys=True)
    for place, word in places.items():
        text = text.replace(place, word)
    columns = {field.name: str(field.type) for field in table.schema}
    return {"columns": columns, "rows": json.loads(text)}


def differences(before: Digest, after: Digest) -> list[str]:
    """One line for each file, table and value that differs; none where two digests agree."""
    found = list(_changed("file", before["files"], after["files"]))
    if not (_of_photographs(before) or _of_photographs(after)):
        found += _changed("region table", before["parts"], after["parts"])
    for crs in sorted({*before["regions"], *after["regions"]}):
        sides = [side["regions"].get(crs, {"schemas": [], "rows": {}}) for side in (before, after)]
        if sides[0]["schemas"] != sides[1]["schemas"]:
            found.append(
                f"{crs}: columns or metadata of the regions: {_pair(*(s['schemas'] for s in sides))}"
            )
        found += _changed(f"{crs}: regions of", *(side["rows"] for side in sides))
    return found + list(_items_changed(before["items"], after["items"]))


def shown(name: str, before: Digest, after: Digest) -> list[str]:
    """Differences of one job, the first of them."""
    lines = [
        f"exit code of {step}: {before[step]} -> {after[step]}"
        for step in ("run", "verify")
        if before.get(step) != after.get(step)
    ]
    lines += differences(before, after)
    rest = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return [f"{name}: {line}" for line in [*lines[:SHOWN], *rest]]


def _of_photographs(digest: Digest) -> bool:
    return "verdict" in digest["items"]["columns"]


def _changed(what: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted({*before, *after}):
        if name not in after:
            yield f"{what} {name}: is no more"
        elif name not in before:
            yield f"{what} {name}: is new"
        elif before[name] != after[name]:
            yield f"{what} {name}: {_pair(before[name], after[name])}"


def _items_changed(before: Digest, after: Digest) -> Iterator[str]:
    yield from _changed("column of items", before["columns"], after["columns"])
    if list(before["columns"]) != list(after["columns"]):
        yield "items: the columns have another order"
    if list(before["rows"]) != list(after["rows"]):
        yield from _changed("item", dict.fromkeys(before["rows"]), dict.fromkeys(after["rows"]))
    for name in sorted({*before["rows"]} & {*after["rows"]}):
        yield from _changed(f"item {name}:", before["rows"][name], after["rows"][name])


def _pair(before: object, after: object) -> str:
    return f"{before!s:.200} -> {after!s:.200}"


def summary(digest: Digest) -> str:
    """How much a digest covers."""
    regions = sum(int(row.split()[0]) for side in digest["regions"].values() for row in side["rows"].values())
    rows = digest["items"]["rows"].values()
    done = sum(row["status"] == "done" for row in rows)
    counts = f"{len(digest['files'])} files, {len(digest['parts'])} region tables of {regions} rows"
    return f"{counts}, {len(rows)} items ({done} done)"

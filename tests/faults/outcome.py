"""What a reader of an output sees, in a form that can be compared: bytes of masks, rows of tables."""

import hashlib
import io
from dataclasses import dataclass
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

TIMES = ("recorded_at",)
"""Columns that say when, not what."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """An output as readers have it."""

    masks: dict[str, str]
    """sha256 by path, of masks and confidences."""
    regions: tuple[str, ...]
    """A line per region row, its geometry included, sorted: which rows share a file depends on the run."""
    items: tuple[str, ...]
    """A line per row of the items, times apart."""


def outcome(output: str, **options: Any) -> Outcome:
    """Read an output, a folder or an s3:// URI; options are those of its file system."""
    files, root = fsspec.core.url_to_fs(output, **options)
    files.invalidate_cache()
    masks, regions, items = {}, [], []
    for path in files.find(root):
        name = path[len(root) :].lstrip("/")
        top = name.split("/", 1)[0]
        if top in ("masks", "confidence"):
            masks[name] = hashlib.sha256(files.cat_file(path)).hexdigest()
        elif top == "annotations" and name.endswith(".parquet"):
            regions += _lines(files.cat_file(path))
        elif top == "items" and name.endswith(".parquet"):
            items += _lines(files.cat_file(path))
    return Outcome(masks, tuple(sorted(regions)), tuple(sorted(items)))


def differences(found: Outcome, expected: Outcome) -> str:
    """In a sentence; empty where the two are equal."""
    said = []
    if found.masks != expected.masks:
        names = {n for n in found.masks | expected.masks if found.masks.get(n) != expected.masks.get(n)}
        said.append(f"masks differ: {sorted(names)[:3]} of {len(names)}")
    for what in ("regions", "items"):
        ours, theirs = getattr(found, what), getattr(expected, what)
        if ours != theirs:
            odd = sorted(set(ours) ^ set(theirs)) or ["rows twice"]
            said.append(f"{what} differ: {len(ours)} for {len(theirs)} rows, such as {odd[0][:200]}")
    return "; ".join(said)


def _lines(data: bytes) -> list[str]:
    table: pa.Table = pq.read_table(io.BytesIO(data))
    return [str(row) for row in table.drop([n for n in TIMES if n in table.column_names]).to_pylist()]

"""A job's inputs as one table of photographs: stable ids, tags, and what manifests say of them.

What an input means is what it means for scenes (`listing.find_sources`); here nothing is kept per file but
the cells of the table: its texts, and 45 bytes.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa

from batchseg.errors import ConfigError, CredentialsError, SourceIOError
from batchseg.inputs.ids import (
    InputRoot,
    check_names,
    common_folder,
    in_utf8,
    input_key,
    is_manifest,
    lies_inside,
    literal_prefix,
    new_root,
)
from batchseg.inputs.left_out import LeftOut
from batchseg.inputs.photo_ids import each_once, with_ids
from batchseg.inputs.photo_manifest import read_manifest
from batchseg.inputs.places import Places
from batchseg.inputs.selection import InputSelection
from batchseg.inputs.source import LISTING, Column, Source
from batchseg.inputs.source import compute as pc
from batchseg.job.settings import JobConfig, SceneSet
from batchseg.system import listing, storage, walk
from batchseg.system.location import PATH_BYTES, Location, unreadable
from batchseg.system.redact import public

PHOTOGRAPH_SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".gif"),
        *(".pgm", ".ppm", ".pnm", ".jp2", ".j2k", ".jpx", ".jpf", ".avif", ".heic", ".heif", ".hif"),
    )
)
"""What counts as a photograph in a folder. A glob takes whatever it matches."""

ABSENT = "absent"
"""Tag of a manifest's row that names no file."""

SAMPLED = 64
"""Photographs that engines may be tried on."""

_FOUND = pa.schema([field for field in LISTING if field.name != "source_id"])


@dataclass(frozen=True, slots=True)
class _Clock:
    now: float
    min_age: float

    def young(self, modified: list[float | None]) -> Column:
        """As `listing.find_sources` sees it: a time far ahead is wrong, not young."""
        times = np.array(modified, dtype=np.float64)  # None becomes NaN, which is never young
        return pa.array(np.abs(self.now - times) < self.min_age)


def list_photographs(
    config: JobConfig, recorded: Mapping[str, InputRoot], left_out: LeftOut | None = None
) -> tuple[pa.Table, dict[str, InputRoot]]:
    """List all inputs.

    Args:
        config: the job.
        recorded: roots of the output's earlier runs, by pattern.
        left_out: told what of the folders and manifests is no input.

    Returns:
        Columns as in `LISTING`, sorted by id, each id once; and the roots of this run, by pattern. A file
        that two inputs hold is the photograph of the first one, and has that one's attributes.

    Raises:
        ConfigError: an input matches nothing, a manifest cannot be read, or files of two inputs would have
            one id.
    """
    left_out = left_out or LeftOut()
    if not config.inputs:
        msg = f"{config.path}: inputs: the list is empty; name a file, a folder, a glob or a manifest"
        raise ConfigError(msg)
    check_names(config, recorded)
    clock = _Clock(now=time.time(), min_age=config.min_age)
    roots = dict(recorded)
    tables: list[pa.Table] = []
    # Known inputs first: a new one gets a name that none of their folders has.
    for given_name, given in sorted(config.inputs, key=lambda item: input_key(item[1]) not in recorded):
        if isinstance(given, SceneSet):
            msg = (
                f"{config.path}: inputs: {given.key}: photographs have one file each; name a folder, a glob "
                f"or a manifest, or leave out `fit`"
            )
            raise ConfigError(msg)
        found = _listed(given, config, clock, left_out)
        key = input_key(given)
        if key not in roots:
            prefix = literal_prefix(given, partial(_folder_of, found, given))
            taken = _first_parts(tables)
            roots[key] = new_root(key, given_name, prefix, roots, taken=taken, config=config)
        tables.append(with_ids(_unknown(found, tables), roots[key]))
        del found  # see _sorted
    present = [roots[input_key(given)] for _, given in config.inputs]
    return each_once(_sorted(tables), present, config), roots


def _listed(pattern: str, config: JobConfig, clock: _Clock, left_out: LeftOut) -> pa.Table:
    """What an input holds, without ids. Raises ConfigError."""
    try:
        if pattern.startswith("http") and any(c in pattern for c in "*["):
            msg = "web servers have no listings; name single URLs, or put them in a manifest"
            raise ValueError(msg)
        if is_manifest(pattern):
            found = _members(pattern, clock, left_out)
        else:
            found = _walked(pattern, config.output, clock, left_out)
    except (SourceIOError, CredentialsError, ImportError, OSError, ValueError) as e:
        raise storage.refusal(e, f"{config.path}: inputs: cannot list {pattern}: {e}") from e
    outside = pc.invert(pc.starts_with(found["uri"], config.output.rstrip("/") + "/"))
    rows = found if pc.all(outside).as_py() else found.filter(outside)
    if not rows and (found or lies_inside(f"{pattern}/", config.output)):
        msg = (
            f"{config.path}: inputs: all of {pattern} lies inside the output {config.output}; choose an "
            f"output beside the photographs or below them"
        )
        raise ConfigError(msg)
    if not rows and not config.allow_empty:
        msg = (
            f"{config.path}: inputs: {pattern} matches no photograph; check the path and that its disk is "
            f"mounted, or set allow_empty: true if an empty night is normal"
        )
        raise ConfigError(msg, *left_out.lines())
    return rows


def _walked(pattern: str, output: str, clock: _Clock, left_out: LeftOut) -> pa.Table:
    places = Places()
    selection = InputSelection(
        pattern,
        output,
        PHOTOGRAPH_SUFFIXES,
        left_out,
        whole_folder=listing.is_folder(pattern),
        notice=places.notice,
    )
    batches = walk.walk(pattern, selection=selection, without=output)
    found = pa.concat_tables([_FOUND.empty_table(), *(_columns(files, clock) for files in batches)])
    for folder in selection.results:  # what was found before it was seen that its folder is an output
        found = found.filter(pc.invert(pc.starts_with(found["uri"], f"{folder}/")))
    return _with_places(found, places)


def _with_places(found: pa.Table, places: Places) -> pa.Table:
    """Photographs beside which a georeference lies have a problem."""
    if not places:
        return found
    lower = pc.utf8_lower(found["uri"])
    refused = places.problems(lower.filter(pc.is_in(lower, value_set=pa.array(list(places)))).to_pylist())
    if not refused:
        return found
    reasons = pa.array(list(refused.values()), pa.string()).take(
        pc.index_in(lower, value_set=pa.array(list(refused), pa.string()))
    )
    problems = pc.if_else(pc.equal(found["problem"], ""), pc.fill_null(reasons, ""), found["problem"])
    return found.set_column(found.schema.get_field_index("problem"), _FOUND.field("problem"), problems)


def _columns(files: walk.Files, clock: _Clock) -> pa.Table:
    uris, problems = _texts(files.uris)
    return _found(uris, files, problems, pa.repeat("", len(files.uris)), clock)


def _texts(uris: list[str]) -> tuple[Column, Column]:
    """URIs as tables can hold them, and what is wrong with the original names."""
    try:
        return pa.array(uris, pa.string()), pa.repeat("", len(uris))
    except UnicodeEncodeError:
        pairs = [in_utf8(uri) for uri in uris]
        return pa.array([name for name, _ in pairs]), pa.array([problem for _, problem in pairs])


def _found(uris: Column, files: walk.Files, problems: Column, attributes: Column, clock: _Clock) -> pa.Table:
    columns = {
        "uri": uris,
        "tag": pc.fill_null(pa.array(files.tags, pa.string()), ABSENT),
        "size": pa.array(files.sizes, pa.int64()),
        "young": clock.young(files.modified),
        "problem": problems,
        "attributes": attributes,
    }
    return pa.table(columns, schema=_FOUND)


def _members(manifest: str, clock: _Clock, left_out: LeftOut) -> pa.Table:
    """A manifest's rows; one that names no file stays, as a photograph that cannot be done."""
    rows = [batch for batch in read_manifest(manifest, left_out) if batch]
    on_disk = not any(pc.any(pc.match_substring(batch["uri"], "://")).as_py() for batch in rows)
    if not on_disk and rows:  # in buckets each folder is listed once, for all its members
        rows = [pa.concat_tables(rows).combine_chunks()]
    found = pa.concat_tables([_FOUND.empty_table(), *(_looked_at(batch, clock) for batch in rows)])
    places = Places()
    folders = pc.unique(pc.replace_substring_regex(found["uri"], "(?s)/[^/]*$", "")).to_pylist()
    for folder in (folder for folder in folders if Location.of(folder).is_local):
        places.notice_all(folder)
    return _with_places(found, places)


def _looked_at(rows: pa.Table, clock: _Clock) -> pa.Table:
    uris: Column = rows["uri"]
    unreadable = _unreadable(uris)
    readable = pc.equal(unreadable, "")
    if pc.any(pc.invert(readable)).as_py():  # of no rows, `all` is null
        refused = rows.filter(pc.invert(readable))
        said = unreadable.filter(pc.invert(readable))
        found = _found(refused["uri"], _nothing(refused), said, refused["attributes"], clock)
        return pa.concat_tables([found, _looked_at(rows.filter(readable), clock)])
    files = walk.look(uris.to_pylist())
    gone = pa.array([tag is None for tag in files.tags], pa.bool_())
    problems = pc.if_else(gone, "there is no such file; bring it back, or correct the manifest", "")
    return _found(uris, files, problems, rows["attributes"], clock)


def _unreadable(uris: Column) -> Column:
    """`unreadable` of each."""
    long = pc.greater(pc.binary_length(uris), PATH_BYTES)
    if not pc.any(pc.or_(long, pc.match_substring_regex(uris, r"://|\x00"))).as_py():
        return pa.array([""] * len(uris), pa.string())
    return pa.array([unreadable(uri) for uri in uris.to_pylist()], pa.string())


def _nothing(rows: pa.Table) -> walk.Files:
    """What is known of files that are not even looked for."""
    files = walk.Files()
    for uri in rows["uri"].to_pylist():
        files.add(str(uri), 0, None, None)
    return files


def _folder_of(found: pa.Table, manifest: str) -> str:
    """The manifest's own where all members lie below it, else theirs; empty where they have none in common.

    The first night's members may all be of one line: later ones are of others.
    """
    if not found:
        return ""
    ends = pc.min_max(found["uri"])
    common = common_folder(public(ends["min"].as_py()), public(ends["max"].as_py()))
    own = manifest.rpartition("/")[0] or "/"
    return own if lies_inside(f"{common}/", own) else common


def _first_parts(tables: list[pa.Table]) -> set[str]:
    """Of all ids so far: the name of a further input must be none of them."""
    parts: set[str] = set()
    for table in tables:
        parts |= set(pc.replace_substring_regex(table["source_id"], "(?s)/.*", "").unique().to_pylist())
    return parts


def _unknown(found: pa.Table, tables: list[pa.Table]) -> pa.Table:
    """Without the files that another input holds as well."""
    for table in tables:
        known = pc.is_in(found["uri"], value_set=table["uri"])
        found = found.filter(pc.invert(known)) if pc.any(known).as_py() else found
    return found


def _sorted(tables: list[pa.Table]) -> pa.Table:
    """One table, sorted by id. The list is emptied: each column goes once its sorted form is there."""
    whole = pa.concat_tables(tables)
    ids = whole["source_id"]
    # Of fewer than two ids it is null.
    if pc.all(pc.less_equal(ids[:-1], ids[1:])).as_py() is not False:
        return whole
    columns = dict(zip(whole.column_names, whole.columns, strict=True))
    tables.clear()
    order = pc.sort_indices(ids)
    del whole, ids
    pool = pa.default_memory_pool()
    for name in LISTING.names:
        columns[name] = columns[name].take(order)
        # Else Arrow keeps the old column's memory to itself while the next one is sorted.
        pool.release_unused()
    return pa.table(columns, schema=LISTING)


def some_sources(listing: pa.Table) -> list[Source]:
    """Some photographs for trials of engines."""
    count = min(listing.num_rows, SAMPLED)
    # From the middle of as many equal stretches: ids that are neighbours are often images of one object.
    chosen = pa.array([(2 * n + 1) * listing.num_rows // (2 * count) for n in range(count)], pa.int64())
    rows = listing.take(chosen).to_pylist()
    return [
        Source(source_id=r["source_id"], uri=r["uri"], files=(r["uri"],), tag=r["tag"], size=r["size"])
        for r in rows
    ]

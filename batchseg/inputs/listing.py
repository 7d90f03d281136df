"""A job's inputs as one table: stable ids, tags, and what manifests say; of scenes and of photographs.

Nothing is kept per file but the cells of the table: its texts, and 50 bytes.
"""

import time
from collections.abc import Mapping
from typing import Protocol

import pyarrow as pa

from batchseg.errors import ConfigError, CredentialsError, SourceIOError
from batchseg.inputs.found import Clock
from batchseg.inputs.ids import InputRoot, check_names, input_key, lies_inside, new_root
from batchseg.inputs.left_out import LeftOut
from batchseg.inputs.row_ids import each_once, rasters_of, with_ids
from batchseg.inputs.source import LISTING, Column, words
from batchseg.inputs.source import compute as pc
from batchseg.job.settings import JobConfig, SceneSet
from batchseg.system import storage

SEVERAL = r'"rasters": \["(?:[^"\\]|\\.)*",'
"""In `more` of a scene of several rasters, of which another scene may have the first."""


class _Files(Protocol):
    """What scenes and photographs are listed by."""

    word: str

    def listed(self, given: str | SceneSet) -> pa.Table: ...

    def prefix(self, given: str | SceneSet, found: pa.Table) -> str: ...


def list_inputs(
    config: JobConfig, recorded: Mapping[str, InputRoot], left_out: LeftOut | None = None
) -> tuple[pa.Table, dict[str, InputRoot]]:
    """List all inputs.

    Args:
        config: the job.
        recorded: roots of the output's earlier runs, by pattern.
        left_out: told what of the folders and manifests is no input.

    Returns:
        Columns as in `LISTING`, sorted by id, each id once; and the roots of this run, by pattern. A file
        that two inputs hold is of the first one, and has that one's attributes.

    Raises:
        ConfigError: an input matches nothing, a manifest cannot be read, or files of two inputs would have
            one id.
    """
    left_out = left_out or LeftOut()
    if not config.inputs:
        msg = f"{config.path}: inputs: the list is empty; name a file, a folder, a glob or a manifest"
        raise ConfigError(msg)
    check_names(config, recorded)
    files = _files(config, left_out)
    roots = dict(recorded)
    tables: list[pa.Table] = []
    # Known inputs first: a new one gets a name that none of their folders has.
    for given_name, given in sorted(config.inputs, key=lambda item: input_key(item[1]) not in recorded):
        found, key = _listed(given, files, config, left_out), input_key(given)
        if key not in roots:
            prefix = files.prefix(given, found)
            taken = _first_parts(tables)
            roots[key] = new_root(key, given_name, prefix, roots, taken=taken, config=config)
        tables.append(with_ids(_unknown(found, tables), roots[key], given, left_out))
        del found  # see _sorted
    present = [roots[input_key(given)] for _, given in config.inputs]
    return each_once(_sorted(tables), present, config), roots


def _files(config: JobConfig, left_out: LeftOut) -> _Files:
    """Each kind imports its own when it is asked for."""
    clock = Clock(now=time.time(), min_age=config.min_age)
    if config.photographs is None:
        from batchseg.inputs.scene_files import RasterFiles

        return RasterFiles(config, left_out, clock)
    from batchseg.inputs.photo_files import PhotoFiles

    return PhotoFiles(config, left_out, clock)


def _listed(given: str | SceneSet, files: _Files, config: JobConfig, left_out: LeftOut) -> pa.Table:
    """What an input holds, without ids. Raises ConfigError."""
    key = input_key(given)
    try:
        found = files.listed(given)
    except (SourceIOError, CredentialsError, ImportError, OSError, ValueError) as e:
        raise storage.refusal(e, f"{config.path}: inputs: cannot list {key}: {e}") from e
    outside = pc.invert(_lies_within(found, config.output))
    rows = found if pc.all(outside).as_py() else found.filter(outside)
    is_inside = not isinstance(given, SceneSet) and lies_inside(f"{given}/", config.output)
    if not rows and (found or is_inside):
        msg = (
            f"{config.path}: inputs: all {files.word}s of {key} lie inside the output {config.output}; "
            f"choose an output beside them or below them"
        )
        raise ConfigError(msg)
    if not rows and not config.allow_empty:
        msg = (
            f"{config.path}: inputs: {key} matches no {files.word}{_looked_for(given)}; check the path and "
            f"that its disk is mounted, or set allow_empty: true if an empty night is normal"
        )
        raise ConfigError(msg, *left_out.lines())
    return rows


def _looked_for(given: str | SceneSet) -> str:
    from batchseg.inputs.products import looked_for

    return looked_for(given) if isinstance(given, SceneSet) else ""


def _lies_within(found: pa.Table, folder: str) -> Column:
    """Of each row whether one of its rasters lies in a folder."""
    inside = pc.starts_with(found["uri"], folder.rstrip("/") + "/")
    if "name" not in found.column_names:
        return inside
    rasters = map(rasters_of, words(found["more"]))
    several = [any(lies_inside(uri, folder) for uri in uris) for uris in rasters]
    return pa.array(several, pa.bool_())


def _first_parts(tables: list[pa.Table]) -> set[str]:
    """Of all ids so far: the name of a further input must be none of them."""
    parts: set[str] = set()
    for table in tables:
        parts |= set(pc.replace_substring_regex(table["source_id"], "(?s)/.*", "").unique().to_pylist())
    return parts


def _unknown(found: pa.Table, tables: list[pa.Table]) -> pa.Table:
    """Without the files that another input holds as well."""
    single = pc.invert(pc.match_substring_regex(found["more"], SEVERAL))
    for table in tables:
        several = pc.match_substring_regex(table["more"], SEVERAL)
        lacking = pc.and_(pc.match_substring(table["more"], '"of": '), pc.not_equal(table["problem"], ""))
        others = table["uri"].filter(pc.invert(pc.or_(several, lacking)))
        known = pc.and_(single, pc.is_in(found["uri"], value_set=others))
        if pc.any(known).as_py():
            keep = pc.invert(known)
            found, single = found.filter(keep), single.filter(keep)
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

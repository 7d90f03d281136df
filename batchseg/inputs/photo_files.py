"""Photographs of one input, in columns: their tags, what manifests say of them, and which have a place."""

from functools import partial

import pyarrow as pa

from batchseg.errors import ConfigError
from batchseg.inputs.found import (
    FOUND,
    LAST_PART,
    Clock,
    check_web,
    nothing_of,
    texts,
    unreadables,
    walked,
    without_results,
)
from batchseg.inputs.ids import common_folder, is_manifest, lies_inside, literal_prefix
from batchseg.inputs.left_out import LeftOut
from batchseg.inputs.photo_manifest import read_manifest
from batchseg.inputs.places import Places
from batchseg.inputs.source import Column
from batchseg.inputs.source import compute as pc
from batchseg.job.settings import JobConfig, SceneSet
from batchseg.system import walk
from batchseg.system.location import Location
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


class PhotoFiles:
    """How inputs of a job over photographs are listed."""

    word = "photograph"

    def __init__(self, config: JobConfig, left_out: LeftOut, clock: Clock) -> None:
        self._config, self._left_out, self._clock = config, left_out, clock

    def listed(self, given: str | SceneSet) -> pa.Table:
        """FOUND rows of an input. Raises ConfigError, ValueError, OSError, SourceIOError."""
        if isinstance(given, SceneSet):
            msg = (
                f"{self._config.path}: inputs: {given.key}: photographs have one file each; name a folder, a "
                f"glob or a manifest, or leave out `fit`"
            )
            raise ConfigError(msg)
        check_web(given)
        return self._members(given) if is_manifest(given) else self._walked(given)

    def prefix(self, given: str | SceneSet, found: pa.Table) -> str:
        """The folder that ids of what an input holds are relative to."""
        pattern = str(given)
        return literal_prefix(pattern, partial(_folder_of, found, pattern))

    def _walked(self, pattern: str) -> pa.Table:
        places = Places()
        batches, selection = walked(pattern, self._config, PHOTOGRAPH_SUFFIXES, self._left_out, places.notice)
        found = pa.concat_tables([FOUND.empty_table(), *map(self._columns, batches)])
        return _with_places(without_results(found, selection), places)

    def _columns(self, files: walk.Files) -> pa.Table:
        uris, problems = texts(files.uris)
        return self._found(uris, files, problems, pa.repeat("", len(files.uris)))

    def _found(self, uris: Column, files: walk.Files, problems: Column, attributes: Column) -> pa.Table:
        columns = {
            "uri": uris,
            "tag": pc.fill_null(pa.array(files.tags, pa.string()), ABSENT),
            "size": pc.fill_null(pa.array(files.sizes, pa.int64()), 0),
            "young": self._clock.young(files.modified),
            "problem": problems,
            "attributes": attributes,
            "more": pa.repeat("", len(files.uris)),
        }
        return pa.table(columns, schema=FOUND)

    def _members(self, manifest: str) -> pa.Table:
        """A manifest's rows; one that names no file stays, as a photograph that cannot be done."""
        rows = [batch for batch in read_manifest(manifest, self._left_out) if batch]
        on_disk = not any(pc.any(pc.match_substring(batch["uri"], "://")).as_py() for batch in rows)
        if not on_disk and rows:  # in buckets each folder is listed once, for all its members
            rows = [pa.concat_tables(rows).combine_chunks()]
        places = Places()
        found = pa.concat_tables([FOUND.empty_table(), *(self._looked_at(batch, places) for batch in rows)])
        folders = pc.unique(pc.replace_substring_regex(found["uri"], LAST_PART, "")).to_pylist()
        for folder in (folder for folder in folders if Location.of(folder).is_local):
            places.notice_all(folder)
        return _with_places(found, places)

    def _looked_at(self, rows: pa.Table, places: Places) -> pa.Table:
        uris: Column = rows["uri"]
        unreadable = unreadables(uris)
        readable = pc.equal(unreadable, "")
        if pc.any(pc.invert(readable)).as_py():  # of no rows, `all` is null
            refused = rows.filter(pc.invert(readable))
            said = unreadable.filter(pc.invert(readable))
            found = self._found(refused["uri"], nothing_of(refused["uri"]), said, refused["attributes"])
            return pa.concat_tables([found, self._looked_at(rows.filter(readable), places)])
        files = walk.look(uris.to_pylist(), places.notice)
        gone = pa.array([tag is None for tag in files.tags], pa.bool_())
        problems = pc.if_else(gone, "there is no such file; bring it back, or correct the manifest", "")
        return self._found(uris, files, problems, rows["attributes"])


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
    return found.set_column(found.schema.get_field_index("problem"), FOUND.field("problem"), problems)


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

"""Ids in columns, and what rows of one id mean."""

from typing import Any

import numpy as np
import pyarrow as pa

from batchseg.errors import ConfigError
from batchseg.inputs.ids import NAME_BYTES, InputRoot, relative_path, source_id_of, unfit_name
from batchseg.inputs.left_out import LeftOut, scene_left_out
from batchseg.inputs.manifest_parts import BATCH_ROWS
from batchseg.inputs.source import LISTING, Column, words
from batchseg.inputs.source import compute as pc
from batchseg.job.products import PRODUCT_IDS
from batchseg.job.settings import JobConfig, SceneSet
from batchseg.system.json_text import parse_json
from batchseg.system.redact import public

_ODD_ID = r"(^|/)\.{0,2}(/|$)"
"""Parts that an id must not have."""

_ODD_URI = r"^\w+://.*[?@]"
"""Those that may hold credentials, which no id may have."""

_DOUBTFUL_NAME = rf"[^/]{{{NAME_BYTES // 4},}}|[\x00-\x1f\x7f-\x{{9f}}]"
"""Characters have up to four bytes: such a name may be too long. Or it holds a control character."""


def with_ids(
    found: pa.Table, root: InputRoot, given: str | SceneSet = "", left_out: LeftOut | None = None
) -> pa.Table:
    """LISTING rows of what an input holds, which has their other columns.

    Args:
        found: FOUND rows; of a set NAMED.
        root: how the input's ids are made.
        given: the input.
        left_out: told which scenes have a name that no file can have.
    """
    if isinstance(given, SceneSet):
        return _of_set(found, root, given, left_out or LeftOut())
    batches = [_named(batch, root) for batch in found.to_batches(max_chunksize=BATCH_ROWS)]
    return pa.Table.from_batches(batches, schema=LISTING)


def _of_set(found: pa.Table, root: InputRoot, given: SceneSet, left_out: LeftOut) -> pa.Table:
    names, uris = words(found["name"]), words(found["uri"])
    ids = [_id_of_named(name, uri, root) for name, uri in zip(names, uris, strict=True)]
    for name in (name for name, source_id in zip(names, ids, strict=True) if not source_id):
        left_out.add_unread(scene_left_out(given.path, name))
    table = found.drop_columns("name").add_column(0, LISTING.field("source_id"), pa.array(ids, pa.string()))
    return table.filter(pc.not_equal(table["source_id"], ""))


def _id_of_named(name: str, uri: str, root: InputRoot) -> str:
    """Empty where no file can have the scene's name."""
    source_id = source_id_of(name or relative_path(uri, root), root)
    longest = max(len(part.encode()) for part in source_id.split("/"))
    return "" if source_id == root.name or longest > NAME_BYTES else source_id


def rasters_of(more: str) -> list[str]:
    """What LISTING's `more` says of a scene's rasters; none where it has one alone."""
    said: dict[str, Any] = parse_json(more) if more else {}
    rasters: list[str] = said.get("rasters", [])
    return rasters


def _named(found: pa.RecordBatch, root: InputRoot) -> pa.RecordBatch:
    uris: Column = found["uri"]
    prefix = root.prefix.rstrip("/") + "/"
    ids = pc.utf8_slice_codeunits(uris, len(prefix))
    if root.name:
        ids = pc.binary_join_element_wise(root.name, ids, "/")
    odd = pc.or_(pc.invert(pc.starts_with(uris, prefix)), pc.match_substring_regex(ids, _ODD_ID))
    odd = pc.or_(odd, pc.match_substring_regex(uris, _ODD_URI))
    if pc.any(odd).as_py():
        others = [source_id_of(relative_path(uri, root), root) for uri in uris.filter(odd).to_pylist()]
        ids = pc.replace_with_mask(ids, odd, pa.array(others, pa.string()))
    columns = {"source_id": ids, **dict(zip(found.schema.names, found.columns, strict=True))}
    columns["problem"] = _unfit_names_too(ids, columns["problem"])
    return pa.record_batch(columns, schema=LISTING)


def _unfit_names_too(ids: Column, problems: Column) -> Column:
    doubtful = pc.match_substring_regex(ids, _DOUBTFUL_NAME)
    if not pc.any(doubtful).as_py():
        return problems
    pairs = zip(ids.filter(doubtful).to_pylist(), problems.filter(doubtful).to_pylist(), strict=True)
    others = [problem or unfit_name(source_id) for source_id, problem in pairs]
    return pc.replace_with_mask(problems, doubtful, pa.array(others, pa.string()))


def each_once(table: pa.Table, roots: list[InputRoot], config: JobConfig) -> pa.Table:
    """Rows that say the same count once. Others of one id are one source that has a problem.

    Raises:
        ConfigError: files of two inputs have one id.
    """
    equal = _like_the_next(table, "source_id")
    if not equal.any():
        return table
    repeated = equal.copy()
    for name in ("uri", "attributes", "more"):
        repeated &= _like_the_next(table, name)
    table = table.filter(pa.array(np.append(~repeated, True)))
    again = np.append(False, _like_the_next(table, "source_id"))
    firsts = np.flatnonzero(np.append(again[1:], False) & ~again)
    if not len(firsts):
        return table
    rows = []
    for at in firsts:
        one, other = table.slice(int(at), 2).to_pylist()
        problem = _contradiction(one, other, roots, config)
        # By another tag: once the list is mended, it is another version, which is done.
        rows.append(one | {"problem": one["problem"] or problem, "tag": f"{one['tag']}-twice"})
    clear = ~again
    clear[firsts] = False
    return pa.concat_tables(
        [table.filter(pa.array(clear)), pa.Table.from_pylist(rows, schema=LISTING)]
    ).sort_by("source_id")


def _like_the_next(table: pa.Table, name: str) -> np.ndarray:
    column = table[name]
    return np.asarray(pc.equal(column[:-1], column[1:]), dtype=bool)


def _contradiction(
    one: dict[str, str], other: dict[str, str], roots: list[InputRoot], config: JobConfig
) -> str:
    """What is wrong with two rows of one id. Raises ConfigError where it is wrong with the inputs."""
    if one["attributes"] != other["attributes"] and one["uri"] == other["uri"]:
        return (
            f"is listed twice, with {one['attributes'] or 'nothing'} and with "
            f"{other['attributes'] or 'nothing'}; keep one row"
        )
    both = f"{public(one['uri'])} and {public(other['uri'])} would both be called {one['source_id']}"
    scenes = config.photographs is None
    if _are_of_one_input(one, other, roots):
        way_out = "give every scene a name of its own" if scenes else "rename one, or keep one row"
        if _is_product(one, config):  # its name is the agency's: it lies there as a folder and as an archive
            way_out = "they are one product: remove one of the two"
        return f"{both}; {way_out}"
    if scenes and rasters_of(other["more"]):
        way_out = "give every scene a name of its own, or the inputs names, as in `inputs: {north: ...}`"
    else:
        way_out = "give the inputs names, as in `inputs: {north: ..., south: ...}`"
    msg = f"{config.path}: inputs: {both}; {way_out}"
    raise ConfigError(msg)


def _is_product(row: dict[str, str], config: JobConfig) -> bool:
    """Whether an agency gave a scene its id."""
    number = _set_of(row)
    given = None if number is None else config.inputs[number][1]
    name = PRODUCT_IDS.get(given.kind) if isinstance(given, SceneSet) else None
    return name is not None and name.search(row["source_id"]) is not None


def _set_of(row: dict[str, str]) -> int | None:
    """Which of the job's inputs a set's row is of, by its place; None: it is of no set."""
    of: int | None = parse_json(row["more"] or "{}").get("of")
    return of


def _are_of_one_input(one: dict[str, str], other: dict[str, str], roots: list[InputRoot]) -> bool:
    """As far as their ids tell; rows of a set say of which one they are."""
    sets = [_set_of(row) for row in (one, other)]
    if sets != [None, None]:
        return sets[0] == sets[1]
    return any(
        all(source_id_of(relative_path(row["uri"], root), root) == row["source_id"] for row in (one, other))
        for root in roots
    )

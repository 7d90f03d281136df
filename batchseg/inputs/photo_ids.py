"""Ids of photographs in columns, and what rows of one id mean."""

import numpy as np
import pyarrow as pa

from batchseg.errors import ConfigError
from batchseg.inputs.ids import NAME_BYTES, InputRoot, relative_path, source_id_of, unfit_name
from batchseg.inputs.manifest_parts import BATCH_ROWS
from batchseg.inputs.source import LISTING, Column
from batchseg.inputs.source import compute as pc
from batchseg.job.settings import JobConfig
from batchseg.system.redact import public

_ODD_ID = r"(^|/)\.{0,2}(/|$)"
"""Parts that an id must not have."""

_ODD_URI = r"^\w+://.*[?@]"
"""Those that may hold credentials, which no id may have."""

_DOUBTFUL_NAME = rf"[^/]{{{NAME_BYTES // 4},}}|[\x00-\x1f\x7f-\x{{9f}}]"
"""Characters have up to four bytes: such a name may be too long. Or it holds a control character."""


def with_ids(found: pa.Table, root: InputRoot) -> pa.Table:
    """LISTING rows of what an input holds, which has their other columns."""
    batches = [_named(batch, root) for batch in found.to_batches(max_chunksize=BATCH_ROWS)]
    return pa.Table.from_batches(batches, schema=LISTING)


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
    """Rows that say the same count once. Others of one id are one photograph that has a problem.

    Raises:
        ConfigError: files of two inputs have one id.
    """
    equal = _like_the_next(table, "source_id")
    if not equal.any():
        return table
    repeated = equal & _like_the_next(table, "uri") & _like_the_next(table, "attributes")
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
    if one["uri"] == other["uri"]:
        return (
            f"is listed twice, with {one['attributes'] or 'nothing'} and with "
            f"{other['attributes'] or 'nothing'}; keep one row"
        )
    both = f"{public(one['uri'])} and {public(other['uri'])} would both be called {one['source_id']}"
    for root in roots:
        if all(
            source_id_of(relative_path(row["uri"], root), root) == row["source_id"] for row in (one, other)
        ):
            return f"{both}; rename one, or keep one row"
    msg = f"{config.path}: inputs: {both}; give the inputs names, as in `inputs: {{north: ..., south: ...}}`"
    raise ConfigError(msg)

"""Which photographs are to be predicted, and which results follow from others that are stored.

Stored results of the same pixels give other names, formats and regions; of photographs of equal content one
is predicted, and the others get results derived from its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchseg.inputs.source import LISTING, Column
from batchseg.inputs.source import compute as pc
from batchseg.job.recipe import Product, Recipe
from batchseg.output import layout
from batchseg.output.columns import is_below, outputs_of
from batchseg.output.rejudge import lacks_validity

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """A run's work."""

    predict: pa.Table
    """LISTING rows."""
    derive: pa.Table
    """LISTING rows of photographs whose names, formats, regions or kept masks are not what the job says, or
    of which too little is known for its rules."""
    results: pa.Table
    """Ledger rows, aligned with `derive`."""
    superseded: Mapping[str, Sequence[str]]
    """Masks (paths below the output) of photographs that are predicted or derived, by id."""


def revise(
    todo: pa.Table, known: pa.Table, recipe: Recipe, product: Product, *, vanished: Column
) -> Revision:
    """Split what has to be done.

    Args:
        todo: LISTING rows that triage found wanting.
        known: the ledger's latest row of each photograph.
        recipe: pixel settings.
        product: names, formats, which masks are kept.
        vanished: ids of photographs that are gone from the inputs: if too little is stored of one, nothing
            can be predicted any more, so its results stay as they are.
    """
    at = pc.index_in(todo["source_id"], value_set=known["source_id"].combine_chunks())
    met = pc.is_valid(at)
    before, again = known.take(at.drop_null()), todo.filter(met)
    derivable = (
        _is(before, "status", "done")
        & _is(before, "pixel", recipe.digest)
        & ~_is(before, "product", product.digest)
        & np.asarray(pc.equal(before["tag"], again["tag"]))
    )
    lacking = _are_current(known, recipe, product)
    lacking &= _lacks_mask(known, product) | lacks_validity(known, product.rules)
    unmasked = known.filter(pa.array(lacking))
    unmasked = _without(_without(unmasked, todo["source_id"]), vanished)
    results = pa.concat_tables([before.filter(pa.array(derivable)), unmasked])
    derived = again["source_id"].filter(pa.array(derivable))
    return Revision(
        predict=_without(todo, derived),
        derive=pa.concat_tables([again.filter(pa.array(derivable)), _as_listed(unmasked)]),
        results=results,
        superseded=_masks(pa.concat_tables([before, unmasked])),
    )


def surplus(known: pa.Table, product: Product) -> tuple[pa.Table, list[str]]:
    """Ledger rows without the masks that the job no longer keeps, and those masks' paths."""
    rows = known.filter(pa.array(_keeps_mask(known) & ~_wants_mask(known, product)))
    if not rows.num_rows:
        return rows, []
    outputs = outputs_of(rows)
    is_layer = _are_layers(outputs)
    kept = outputs.filter(pa.array(~is_layer))
    counts = np.bincount(kept["row"].to_numpy(), minlength=rows.num_rows)
    offsets: Any = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
    files: Any = kept.drop_columns("row").to_struct_array().combine_chunks()
    number = rows.schema.get_field_index("outputs")
    without = rows.set_column(number, "outputs", pa.ListArray.from_arrays(offsets, files))
    paths: Column = outputs["path"].filter(pa.array(is_layer))
    return without, paths.to_pylist()


def with_attributes(known: pa.Table, listed: pa.Table) -> pa.Table:
    """Ledger rows of some photographs, with the attributes that the inputs say now."""
    rows = known.take(pc.index_in(listed["source_id"], value_set=known["source_id"].combine_chunks()))
    number = rows.schema.get_field_index("attributes")
    field = rows.schema.field(number)
    return rows.set_column(number, field, listed["attributes"].cast(field.type))


def _are_current(known: pa.Table, recipe: Recipe, product: Product) -> Bools:
    """Done by today's settings."""
    return (
        _is(known, "status", "done")
        & _is(known, "pixel", recipe.digest)
        & _is(known, "product", product.digest)
    )


def _lacks_mask(known: pa.Table, product: Product) -> Bools:
    """The job wants a mask that was not kept."""
    return _wants_mask(known, product) & ~_keeps_mask(known)


def _wants_mask(known: pa.Table, product: Product) -> Bools:
    masks = product.photo_options.masks
    if masks == "all":
        return np.ones(known.num_rows, dtype=bool)
    if masks == "none":
        return np.zeros(known.num_rows, dtype=bool)
    return ~_is(known, "verdict", "PASS")


def _keeps_mask(known: pa.Table) -> Bools:
    """Whether each row names a mask, or numbers."""
    outputs = outputs_of(known)
    kept = np.zeros(known.num_rows, dtype=bool)
    kept[outputs["row"].to_numpy()[_are_layers(outputs)]] = True
    return kept


def _are_layers(outputs: pa.Table) -> Bools:
    """Which of `columns.OUTPUTS` are masks, their confidence or numbers: what the key `masks` is about."""
    return _are_below(outputs, layout.SHOWN)


def _are_below(outputs: pa.Table, folders: Sequence[str]) -> Bools:
    below: Bools = np.logical_or.reduce([is_below(outputs["path"], folder) for folder in folders])
    return below


def _masks(rows: pa.Table) -> dict[str, list[str]]:
    """Paths of all rasters, by id of the photographs that have any."""
    outputs = outputs_of(rows)
    outputs = outputs.filter(pa.array(_are_below(outputs, layout.RASTERS)))
    names: Column = rows["source_id"].take(outputs["row"])
    paths: Column = outputs["path"]
    masks: dict[str, list[str]] = {}
    for name, path in zip(names.to_pylist(), paths.to_pylist(), strict=True):
        masks.setdefault(name, []).append(path)
    return masks


def _without(rows: pa.Table, ids: Column) -> pa.Table:
    return rows.filter(pc.invert(pc.is_in(rows["source_id"], value_set=ids)))


def _as_listed(rows: pa.Table) -> pa.Table:
    """Ledger rows as listing rows; their files are not looked at."""
    count = rows.num_rows
    columns: dict[str, Any] = {
        name: rows[name].cast(pa.string()) for name in ("source_id", "uri", "tag", "attributes")
    }
    columns |= {
        "size": pa.array(np.zeros(count, np.int64)),
        "young": pa.array(np.zeros(count, dtype=bool)),
        "problem": pa.repeat(pa.scalar(""), count),
        "more": pa.repeat(pa.scalar(""), count),
    }
    return pa.table({name: columns[name] for name in LISTING.names}, schema=LISTING)


def _is(rows: pa.Table, column: str, value: str) -> Bools:
    """Where a column of words holds one."""
    return np.asarray(pc.equal(rows[column].cast(pa.string()), value))


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """What need not be predicted."""

    predict: pa.Table
    """LISTING rows: one of each content, and those whose content is not known."""
    copied: pa.Table
    """LISTING rows."""
    originals: Column
    """Their originals' ids, aligned with `copied`."""


def find_copies(todo: pa.Table, contents: pa.Table, known: pa.Table, *, pixel: str, product: str) -> Copies:
    """Compare contents.

    Args:
        todo: LISTING rows to do.
        contents: source_id and content of those that could be read.
        known: the ledger's latest rows.
        pixel: digest of the pixel settings: results of others are no use.
        product: digest of names and formats.
    """
    usable = pc.and_(
        pc.and_(
            pc.equal(known["status"].cast(pa.string()), "done"),
            pc.not_equal(pc.fill_null(known["content"], ""), ""),
        ),
        pc.and_(
            pc.equal(known["pixel"].cast(pa.string()), pixel),
            pc.equal(known["product"].cast(pa.string()), product),
        ),
    )
    before = known.filter(usable).select(["source_id", "content"])
    before = before.filter(pc.invert(pc.is_in(before["source_id"], value_set=todo["source_id"])))
    at = pc.index_in(todo["source_id"], value_set=contents["source_id"].combine_chunks())
    content = contents["content"].take(at)
    # Originals: what is done already, then the first of tonight, in the order of ids.
    pool = pa.concat_tables([before, pa.table({"source_id": todo["source_id"], "content": content})])
    first = pc.index_in(content, value_set=pool["content"].combine_chunks())
    originals = pool["source_id"].take(first)
    other = pc.fill_null(pc.not_equal(originals, todo["source_id"]), False)
    is_copy = pc.and_(pc.is_valid(content), other)
    return Copies(
        predict=todo.filter(pc.invert(is_copy)),
        copied=todo.filter(is_copy),
        originals=originals.filter(is_copy),
    )


def results_of(copies: Copies, known: pa.Table) -> tuple[pa.Table, pa.Table, pa.Table]:
    """What copies can be derived from, once the originals were done.

    Returns:
        LISTING rows and, aligned with them, their originals' ledger rows; and LISTING rows whose originals
        failed.
    """
    at = pc.index_in(copies.originals, value_set=known["source_id"].combine_chunks())
    rows = known.take(at)
    done = pc.fill_null(pc.equal(rows["status"].cast(pa.string()), "done"), False)
    return copies.copied.filter(done), rows.filter(done), copies.copied.filter(pc.invert(done))

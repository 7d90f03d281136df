"""What is to be predicted, and what follows from results that are stored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchseg.columns import is_below, outputs_of
from batchseg.photos.tables import LISTING, words
from batchseg.photos.tables import compute as pc
from batchseg.recipe import Product, Recipe
from batchseg.records import SCHEMA

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """A run's work."""

    predict: pa.Table
    """LISTING rows."""
    derive: pa.Table
    """LISTING rows of photographs whose names, formats, regions or kept masks are not what the job says."""
    results: pa.Table
    """Ledger rows, aligned with `derive`."""
    superseded: Mapping[str, Sequence[str]]
    """Masks (paths below the output) of photographs that are predicted or derived, by id."""


def revise(todo: pa.Table, known: pa.Table, recipe: Recipe, product: Product) -> Revision:
    """Split what has to be done.

    Args:
        todo: LISTING rows that triage found wanting.
        known: the ledger's latest row of each photograph.
        recipe: pixel settings.
        product: names, formats, which masks are kept.
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
    unmasked = known.filter(pa.array(_lacks_mask(known, recipe, product)))
    unmasked = unmasked.filter(pc.invert(pc.is_in(unmasked["source_id"], value_set=todo["source_id"])))
    results = pa.concat_tables([before.filter(pa.array(derivable)), unmasked])
    derived = again["source_id"].filter(pa.array(derivable))
    return Revision(
        predict=todo.filter(pc.invert(pc.is_in(todo["source_id"], value_set=derived))),
        derive=pa.concat_tables([again.filter(pa.array(derivable)), _as_listed(unmasked)]),
        results=results,
        superseded=_masks(pa.concat_tables([before, unmasked])),
    )


def surplus(known: pa.Table, product: Product) -> tuple[pa.Table, list[str]]:
    """Ledger rows without the masks that the job no longer keeps, and those masks' paths."""
    rows = known.filter(pa.array(_keeps_mask(known) & ~_wants_mask(known, product)))
    if not rows.num_rows:
        return rows, []
    lists = words(rows["outputs"])
    kept = [[made for made in outputs if not _is_layer(made["path"])] for outputs in lists]
    paths = [made["path"] for outputs in lists for made in outputs if _is_layer(made["path"])]
    number, field = rows.schema.get_field_index("outputs"), SCHEMA.field("outputs")
    return rows.set_column(number, field, pa.array(kept, field.type)), paths


def with_attributes(known: pa.Table, listed: pa.Table) -> pa.Table:
    """Ledger rows of some photographs, with the attributes that the inputs say now."""
    rows = known.take(pc.index_in(listed["source_id"], value_set=known["source_id"].combine_chunks()))
    number = rows.schema.get_field_index("attributes")
    field = rows.schema.field(number)
    return rows.set_column(number, field, listed["attributes"].cast(field.type))


def _lacks_mask(known: pa.Table, recipe: Recipe, product: Product) -> Bools:
    """Done by today's settings, and the job wants a mask that was not kept."""
    current = (
        _is(known, "status", "done")
        & _is(known, "pixel", recipe.digest)
        & _is(known, "product", product.digest)
    )
    return current & _wants_mask(known, product) & ~_keeps_mask(known)


def _wants_mask(known: pa.Table, product: Product) -> Bools:
    assert product.photographs is not None
    masks = product.photographs.masks
    if masks == "all":
        return np.ones(known.num_rows, dtype=bool)
    if masks == "none":
        return np.zeros(known.num_rows, dtype=bool)
    return ~_is(known, "verdict", "PASS")


def _keeps_mask(known: pa.Table) -> Bools:
    """Whether each row names a mask."""
    outputs = outputs_of(known)
    kept = np.zeros(known.num_rows, dtype=bool)
    kept[outputs["row"].to_numpy()[is_below(outputs["path"], "masks")]] = True
    return kept


def _is_layer(path: str) -> bool:
    return path.startswith(("masks/", "confidence/"))


def _masks(rows: pa.Table) -> dict[str, list[str]]:
    rows = rows.filter(pa.array(_keeps_mask(rows)))
    lists = words(rows["outputs"])
    return {
        name: [made["path"] for made in outputs if _is_layer(made["path"])]
        for name, outputs in zip(words(rows["source_id"]), lists, strict=True)
    }


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
    }
    return pa.table({name: columns[name] for name in LISTING.names}, schema=LISTING)


def _is(rows: pa.Table, column: str, value: str) -> Bools:
    """Where a column of words holds one."""
    return np.asarray(pc.equal(rows[column].cast(pa.string()), value))

"""What is to be predicted, and what follows from results that are stored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from batchseg.photos.tables import LISTING
from batchseg.recipe import Product, Recipe

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """A run's work."""

    predict: pa.Table
    """LISTING rows."""
    derive: pa.Table
    """LISTING rows of photographs whose names, formats, regions or kept masks differ from what the job says."""
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
    before = known.take(at)  # rows of nulls where nothing is known
    same = _all(
        pc.equal(before["status"].cast(pa.string()), "done"),
        pc.equal(before["tag"], todo["tag"]),
        pc.equal(before["pixel"].cast(pa.string()), recipe.digest),
    )
    other_product = _all(pc.not_equal(before["product"].cast(pa.string()), product.digest))
    derivable = same & other_product
    unmasked = known.filter(pa.array(_lacks_mask(known, recipe, product)))
    unmasked = unmasked.filter(pc.invert(pc.is_in(unmasked["source_id"], value_set=todo["source_id"])))
    results = pa.concat_tables([before.filter(pa.array(derivable)), unmasked])
    derive = pa.concat_tables([todo.filter(pa.array(derivable)), _as_listed(unmasked)])
    return Revision(
        predict=todo.filter(pa.array(~derivable)),
        derive=derive,
        results=results,
        superseded=_masks(pa.concat_tables([before.filter(pc.is_valid(before["source_id"])), unmasked])),
    )


def surplus(known: pa.Table, product: Product) -> tuple[pa.Table, list[str]]:
    """Ledger rows without the masks that the job no longer keeps, and those masks' paths."""
    rows = known.filter(pa.array(_keeps_mask(known) & ~_wants_mask(known, product)))
    if not rows.num_rows:
        return rows, []
    lists = rows["outputs"].to_pylist()
    kept = [[made for made in outputs if not _is_layer(made["path"])] for outputs in lists]
    paths = [made["path"] for outputs in lists for made in outputs if _is_layer(made["path"])]
    number = rows.schema.get_field_index("outputs")
    field = rows.schema.field(number)
    return rows.set_column(number, field, pa.array(kept, field.type)), paths


def _lacks_mask(known: pa.Table, recipe: Recipe, product: Product) -> Bools:
    """Done by today's settings, and the job wants a mask that was not kept."""
    current = _all(
        pc.equal(known["status"].cast(pa.string()), "done"),
        pc.equal(known["pixel"].cast(pa.string()), recipe.digest),
        pc.equal(known["product"].cast(pa.string()), product.digest),
    )
    return current & _wants_mask(known, product) & ~_keeps_mask(known)


def _wants_mask(known: pa.Table, product: Product) -> Bools:
    assert product.photographs is not None
    masks = product.photographs.masks
    if masks == "all":
        return np.ones(known.num_rows, dtype=bool)
    if masks == "none":
        return np.zeros(known.num_rows, dtype=bool)
    return _all(pc.not_equal(known["verdict"].cast(pa.string()), "PASS"))


def _keeps_mask(known: pa.Table) -> Bools:
    """Whether each row names a mask."""
    outputs = known["outputs"].combine_chunks()
    kept = np.zeros(known.num_rows, dtype=bool)
    paths = pc.struct_field(pc.list_flatten(outputs), "path")
    parents = pc.list_parent_indices(outputs)
    kept[parents.filter(pc.starts_with(paths, "masks/")).to_numpy()] = True
    return kept


def _is_layer(path: str) -> bool:
    return path.startswith(("masks/", "confidence/"))


def _masks(rows: pa.Table) -> dict[str, list[str]]:
    rows = rows.filter(pa.array(_keeps_mask(rows)))
    lists = rows["outputs"].to_pylist()
    return {
        name: [made["path"] for made in outputs if _is_layer(made["path"])]
        for name, outputs in zip(rows["source_id"].to_pylist(), lists, strict=True)
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


def _all(*conditions: Any) -> Bools:
    """Where all hold; null does not."""
    columns = [pc.fill_null(condition, False).to_numpy(zero_copy_only=False) for condition in conditions]
    held: Bools = np.logical_and.reduce([np.asarray(column, dtype=bool) for column in columns])
    return held

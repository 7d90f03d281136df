"""Photographs of equal content: one is predicted, the others get results derived from its own."""

from dataclasses import dataclass

import pyarrow as pa

from batchseg.inputs.tables import Column
from batchseg.inputs.tables import compute as pc


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

"""Which scenes or photographs need work: the listing against the ledger, in columns.

Both are sorted by id, so that slice after slice meets the rows of the same stretch of ids: beside the two
tables this holds a few bytes per source.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchseg.driver.stored_outputs import GONE, MASK_ALONE, WHOLE, Codes, StoredOutputs
from batchseg.inputs.formats import VRT_REFUSED
from batchseg.inputs.source import LISTING, Column
from batchseg.inputs.source import compute as pc
from batchseg.job.recipe import Product, Recipe
from batchseg.job.settings import JobConfig
from batchseg.output.ledger import Ledger
from batchseg.output.record import SCHEMA
from batchseg.pixels.fit import RESOLUTION_REFUSED
from batchseg.pixels.gdal import UNDECODABLE
from batchseg.pixels.model_grid import UNREADABLE
from batchseg.pixels.own_values import VALUES_REFUSED

ROWS = 65_536
"""Sources compared at a time."""

PREDICT, ENCODE, REMAKE = 0, 1, 2
"""What is to be done of a scene: all; what is made of its mask, as far as the job now says something else;
all that is made of its mask, as something of it is not there."""

Flags = NDArray[np.bool_]
OutputsThere = Callable[[Column], Codes]
"""Of a ledger's column `outputs`, per row: GONE, WHOLE or MASK_ALONE."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Triage:
    """Sources sorted by what the ledger says of them, before anything of them is read."""

    todo: pa.Table
    """LISTING rows, sorted by id: new, changed, predicted with other settings, or with results that are no
    longer there. Before them scenes that were begun; behind them, in any order, those that failed when they
    were last tried: what ended a run must not stand before the rest in the next one. A photograph with a
    `problem` is to be quarantined, not read."""
    stored: Codes
    """PREDICT, ENCODE or REMAKE of each row of `todo`; of photographs `revise` says more."""
    failed: int
    """Rows of `todo`, its last, that failed when they were last tried."""
    done: int
    quarantined: int
    """In earlier runs, and unchanged since."""
    young: int
    """Sources with work to do that are left to a later run: they may still be written."""
    vanished: Column
    """Ids, sorted, that the ledger knows and the inputs no longer hold; their outputs are kept."""
    changed_attributes: pa.Table
    """LISTING rows, sorted by id, of done and quarantined ones of which the inputs say something else than
    the ledger: nothing is predicted, their record is written again with the new attributes."""


@dataclass(frozen=True, slots=True)
class _Known:
    """The ledger's rows: what is compared row by row, and what is the same for all."""

    table: pa.Table
    current: Flags
    """Done, with these settings, and the results are there."""
    quarantined: Flags
    failed: Flags
    stored: Codes
    """PREDICT, ENCODE or REMAKE, where the source is the same."""

    def stretch(self, first: str, last: str) -> slice:
        ids = self.table["source_id"]
        return slice(
            bisect_left(ids, first, key=lambda cell: cell.as_py()),
            bisect_right(ids, last, key=lambda cell: cell.as_py()),
        )


@dataclass(frozen=True, slots=True)
class _Verdicts:
    """Of one slice of the listing."""

    rows: pa.Table
    done: Flags
    quarantined: Flags
    young: Flags
    ripe: Flags
    failed: Flags
    """When they were last tried, and have not changed since."""
    other_attributes: Flags
    stored: Codes


def all_there(outputs: Column) -> Codes:
    return np.full(len(outputs), WHOLE, np.int8)


def triage_job(
    config: JobConfig, listing: pa.Table, ledger: Ledger, recipe: Recipe, product: Product
) -> Triage:
    """Which sources of a job are left to do, by the ledger and by which results are still there."""
    is_photographs = config.photographs is not None
    return triage(
        listing,
        ledger.table(),
        pixel=recipe.digest,
        product=product.digest,
        outputs_there=StoredOutputs(
            config.output, product.class_names, bare=WHOLE if is_photographs else GONE
        ),
        try_again=worth_another_try(config),
        still_refused=() if recipe.model_grid is None else (f"{UNREADABLE} {recipe.model_grid.limits}",),
        begun=ledger.unfinished(),
    )


def worth_another_try(config: JobConfig) -> tuple[str, ...]:
    """How errors begin of what was quarantined for what the job now allows: its values; of scenes a damaged
    block, to be a VRT, its pixels' size on the ground."""
    of_scenes = config.photographs is None
    forgiven = {
        VALUES_REFUSED: not config.check_values,
        UNDECODABLE: of_scenes and config.on_bad_block == "nodata",
        RESOLUTION_REFUSED: of_scenes and config.resolution is not None,
        UNREADABLE: of_scenes,  # at another resolution, or with another `max_ratio`
        VRT_REFUSED: of_scenes and config.allow_vrt,
    }
    return tuple(error for error, allowed in forgiven.items() if allowed)


def triage(
    listing: pa.Table,
    known: pa.Table | None,
    *,
    pixel: str,
    product: str,
    outputs_there: OutputsThere = all_there,
    try_again: Collection[str] = (),
    still_refused: Collection[str] = (),
    begun: Collection[str] = (),
) -> Triage:
    """Which sources need work.

    Args:
        listing: columns as in `LISTING`, sorted by id: what the inputs hold now.
        known: columns as in `ledger.SCHEMA`, sorted by id, the latest row of each source; None: no ledger.
        pixel: digest of the pixel settings.
        product: digest of what is made of masks.
        outputs_there: asked once, for sources that are done with these pixel settings: `StoredOutputs`.
        try_again: how errors begin of quarantined ones with which the job now has a way.
        still_refused: how those of them begin with which it has none.
        begun: ids of scenes of which shards are recorded.
    """
    known = known if known is not None else SCHEMA.empty_table()
    ledger = _sorted_out(known, pixel, product, outputs_there, (try_again, still_refused))
    present = np.zeros(len(ledger.table), dtype=bool)
    verdicts = [_judge(rows, ledger, present) for rows in _slices(listing)]
    failed = _shuffled(_chosen(verdicts, "failed"))
    stored = [verdict.stored[verdict.ripe] for verdict in verdicts]
    ripe, stored_of_ripe = _begun_first(
        _chosen(verdicts, "ripe"), np.concatenate([np.zeros(0, np.int8), *stored]), begun
    )
    return Triage(
        todo=pa.concat_tables([ripe, failed]),
        stored=np.concatenate([stored_of_ripe, np.zeros(failed.num_rows, np.int8)]),
        failed=failed.num_rows,
        done=_count(verdicts, "done"),
        quarantined=_count(verdicts, "quarantined"),
        young=_count(verdicts, "young"),
        vanished=_whole(ledger.table["source_id"].filter(pa.array(~present))),
        changed_attributes=_chosen(verdicts, "other_attributes"),
    )


def _slices(table: pa.Table) -> Iterator[pa.Table]:
    return (table.slice(start, ROWS) for start in range(0, table.num_rows, ROWS))


def _flags(column: Column) -> Flags:
    return np.asarray(pc.fill_null(column, fill_value=False), dtype=bool)


def _sorted_out(
    table: pa.Table,
    pixel: str,
    product: str,
    outputs_there: OutputsThere,
    errors: tuple[Collection[str], Collection[str]],
) -> _Known:
    usable = _flags(pc.equal(table["status"], "done")) & _flags(pc.equal(table["pixel"], pixel))
    outputs = table["outputs"] if usable.all() else table["outputs"].filter(pa.array(usable))
    there = np.full(len(table), GONE, np.int8)
    there[usable] = outputs_there(outputs)
    fits = _flags(pc.equal(table["product"], product))
    quarantined = _flags(pc.equal(table["status"], "quarantined"))
    again, refused = (_begins_with(table["error"], some) for some in errors)
    quarantined &= ~again | refused
    stored = np.full(len(table), PREDICT, np.int8)
    stored[(there == WHOLE) & ~fits] = ENCODE
    stored[there == MASK_ALONE] = REMAKE
    return _Known(
        table=table,
        current=(there == WHOLE) & fits,
        quarantined=quarantined,
        failed=_flags(pc.equal(table["status"], "failed")),
        stored=stored,
    )


def _begins_with(errors: Column, beginnings: Collection[str]) -> Flags:
    """Which errors begin with any of these."""
    found = np.zeros(len(errors), dtype=bool)
    for begin in beginnings:
        found |= _flags(pc.starts_with(errors, begin))
    return found


def _judge(rows: pa.Table, ledger: _Known, present: Flags) -> _Verdicts:
    """Compare some rows of the listing; marks their ids in `present`, one flag per row of the ledger."""
    ids = rows["source_id"]
    stretch = ledger.stretch(ids[0].as_py(), ids[-1].as_py())
    there = ledger.table.slice(stretch.start, stretch.stop - stretch.start)
    index = pc.index_in(ids, value_set=there["source_id"])
    is_known = _flags(pc.is_valid(index))
    where = np.asarray(pc.fill_null(index, 0))[is_known] + stretch.start
    present[where] = True

    def of_known(flags: Flags) -> Flags:
        spread = np.zeros(len(rows), dtype=bool)
        spread[is_known] = flags[where]
        return spread

    same_tag = _flags(pc.equal(rows["tag"], there["tag"].take(index)))
    said = pc.not_equal(rows["attributes"], there["attributes"].take(index))
    done = same_tag & of_known(ledger.current)
    quarantined = same_tag & of_known(ledger.quarantined)
    young = _flags(rows["young"])
    settled, failed = done | quarantined, same_tag & of_known(ledger.failed) & ~young
    stored = np.full(len(rows), PREDICT, np.int8)
    stored[is_known] = ledger.stored[where]
    stored[~same_tag] = PREDICT
    return _Verdicts(
        rows=rows,
        done=done,
        quarantined=quarantined,
        young=~settled & young,
        ripe=~settled & ~young & ~failed,
        failed=failed,
        other_attributes=settled & _flags(said),
        stored=stored,
    )


def _count(verdicts: list[_Verdicts], name: str) -> int:
    return sum(int(np.count_nonzero(getattr(verdict, name))) for verdict in verdicts)


def _chosen(verdicts: list[_Verdicts], name: str) -> pa.Table:
    tables = [LISTING.empty_table()]
    for verdict in verdicts:
        flags: Flags = getattr(verdict, name)
        if flags.any():
            tables.append(verdict.rows if flags.all() else verdict.rows.filter(pa.array(flags)))
    return pa.concat_tables(tables)


def _begun_first(rows: pa.Table, stored: Codes, begun: Collection[str]) -> tuple[pa.Table, Codes]:
    """Scenes in progress hold fragments until they are finished."""
    if not begun:
        return rows, stored
    later = ~_flags(pc.is_in(rows["source_id"], value_set=pa.array(begun, pa.string())))
    order = np.argsort(later, kind="stable")
    return rows.take(order), stored[order]


def _shuffled(rows: pa.Table) -> pa.Table:
    """Of those that failed none must end run after run before the others are tried."""
    return rows.take(np.random.default_rng().permutation(rows.num_rows))


def _whole(column: Column) -> Column:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)

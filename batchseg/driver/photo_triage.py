"""Which photographs need work: the listing against the ledger, in columns.

Both are sorted by id, so that slice after slice meets the rows of the same stretch of ids: beside the two
tables this holds a few bytes per source.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchseg.inputs.source import LISTING, Column
from batchseg.inputs.source import compute as pc
from batchseg.output.record import SCHEMA
from batchseg.system import storage, walk
from batchseg.system.location import Location, join

ROWS = 65_536
"""Sources compared at a time."""

Flags = NDArray[np.bool_]
OutputsThere = Callable[[Column], Flags]
"""Of a ledger's column `outputs`, per row: all its files are there, in the recorded size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoTriage:
    """Photographs sorted by what the ledger says of them."""

    todo: pa.Table
    """LISTING rows, sorted by id: new, changed, predicted with other settings, or with results that are no
    longer there; behind them, in any order, those that failed when they were last tried. One with a
    `problem` is to be quarantined, not read."""
    done: int
    quarantined: int
    """In earlier runs, and unchanged since."""
    young: int
    """Photographs with work to do that are left to a later run: they may still be written."""
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


def all_there(outputs: Column) -> Flags:
    return np.ones(len(outputs), dtype=bool)


def triage_photographs(
    listing: pa.Table,
    known: pa.Table | None,
    *,
    pixel: str,
    product: str,
    outputs_there: OutputsThere = all_there,
) -> PhotoTriage:
    """Which photographs need work.

    Args:
        listing: columns as in `LISTING`, sorted by id: what the inputs hold now.
        known: columns as in `ledger.SCHEMA`, sorted by id, the latest row of each source; None: no ledger.
        pixel: digest of the pixel settings.
        product: digest of what is made of masks.
        outputs_there: asked once, for sources that are done with these settings: `StoredOutputs`.
    """
    ledger = _sorted_out(known if known is not None else SCHEMA.empty_table(), pixel, product, outputs_there)
    present = np.zeros(len(ledger.table), dtype=bool)
    verdicts = [_judge(rows, ledger, present) for rows in _slices(listing)]
    return PhotoTriage(
        todo=pa.concat_tables([_chosen(verdicts, "ripe"), _shuffled(_chosen(verdicts, "failed"))]),
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


def _sorted_out(table: pa.Table, pixel: str, product: str, outputs_there: OutputsThere) -> _Known:
    fits = _flags(pc.equal(table["status"], "done"))
    for name, digest in (("pixel", pixel), ("product", product)):
        fits &= _flags(pc.equal(table[name], digest))
    there = np.ones(len(table), dtype=bool)
    there[fits] = outputs_there(table["outputs"] if fits.all() else table["outputs"].filter(pa.array(fits)))
    return _Known(
        table=table,
        current=fits & there,
        quarantined=_flags(pc.equal(table["status"], "quarantined")),
        failed=_flags(pc.equal(table["status"], "failed")),
    )


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
    return _Verdicts(
        rows=rows,
        done=done,
        quarantined=quarantined,
        young=~settled & young,
        ripe=~settled & ~young & ~failed,
        failed=failed,
        other_attributes=settled & _flags(said),
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


def _shuffled(rows: pa.Table) -> pa.Table:
    """Of those that failed none must end run after run before the others are tried."""
    return rows.take(np.random.default_rng().permutation(rows.num_rows))


def _whole(column: Column) -> Column:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


class StoredOutputs:
    """Which recorded results are still there, by size; call it with a ledger's column `outputs`.

    On a local disk each file is asked for by itself (1.3 us against 1.7 us in a listing), a table of
    many photographs once for some ten thousand of them; a bucket is listed.
    """

    def __init__(self, output: str) -> None:
        self._output = output

    def __call__(self, outputs: Column) -> Flags:
        if Location.of(self._output).is_local:
            return self._compare(outputs, self._stat)
        listed = self._listed(outputs)
        return self._compare(
            outputs, lambda paths: pc.take(listed["size"], pc.index_in(paths, listed["path"]))
        )

    def _compare(self, outputs: Column, sizes: Callable[[Column], Column]) -> Flags:
        flags = [np.ones(0, dtype=bool)]
        for chunk in outputs.chunks:
            for start in range(0, len(chunk), ROWS):
                flags.append(_are_whole(chunk.slice(start, ROWS), sizes))
        return np.concatenate(flags)

    def _stat(self, paths: Column) -> Column:
        files = walk.look([join(self._output, path) for path in paths.to_pylist()])
        gone = [tag is None for tag in files.tags]
        return pa.array(files.sizes, pa.int64(), mask=np.array(gone, dtype=bool))

    def _listed(self, outputs: Column) -> pa.Table:
        """path, size of all files below the folders in which there is any of the recorded results."""
        tops: set[str] = set()
        for chunk in outputs.chunks:
            folders = pc.replace_substring_regex(_paths(pc.list_flatten(chunk)), "/.*", "")
            tops |= set(pc.unique(folders).to_pylist())
        columns: dict[str, Column] = {"path": pa.string(), "size": pa.int64()}
        schema = pa.schema(columns)
        tables = [schema.empty_table()]
        fs, root = storage.filesystem(self._output)
        prefix = fs.unstrip_protocol(root) + "/"  # as listings spell it: s3:// where the job says s3a://
        for top in sorted(tops):
            for files in walk.walk(join(self._output, top)):
                paths = [uri.removeprefix(prefix) for uri in files.uris]
                tables.append(pa.table({"path": paths, "size": files.sizes}, schema=schema))
        return pa.concat_tables(tables)


def _paths(files: Column) -> Column:
    """The ledger holds them as dictionaries, of which a slice need not use all words."""
    return pc.struct_field(files, "path").cast(pa.string())


def _are_whole(outputs: Column, sizes: Callable[[Column], Column]) -> Flags:
    """Per row; one without any file is whole."""
    files = pc.list_flatten(outputs)
    whole = np.ones(len(outputs), dtype=bool)
    if len(files):
        paths = pc.dictionary_encode(_paths(files))
        found = sizes(paths.dictionary).take(paths.indices)
        sound = _flags(pc.equal(found, pc.struct_field(files, "nbytes")))
        whole[np.asarray(pc.list_parent_indices(outputs))[~sound]] = False
    return whole

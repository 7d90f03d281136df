"""What is committed: an append-only series of Parquet segments and a merged snapshot.

    snapshot-00000041.parquet   everything up to segment 41
    segment-00000042.parquet    later commits, created only if absent

A segment appears whole or not at all, so a killed driver leaves a readable ledger. Only the driver
that holds the lock writes; readers need no lock. Outputs are published before they are recorded. A
driver claims the next number before it does anything: one that was thought dead and wakes then finds
its number taken, and stops.

In memory the latest row of each source is a row of an Arrow table (`columns.HELD`), and an object only
when it is asked for; the shards of unfinished scenes are objects.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from batchseg.errors import OutputError
from batchseg.output import layout, publish
from batchseg.output.columns import HELD, from_parquet, latest, to_parquet
from batchseg.output.ledger_files import parts_there, read_parts, read_snapshot
from batchseg.output.record import SCHEMA, Latest, Record, ShardRecord, sources_of, to_records, to_table
from batchseg.pixels.grid import Window
from batchseg.pixels.own_values import VALUES_REFUSED
from batchseg.system.redact import MAY_HOLD_CREDENTIALS, impersonal, public
from batchseg.system.threads import start_aside

MERGE_AFTER = 256
"""Segments in the tail before they are merged in mid-run: keeps a start-up after a crash short."""

MERGE_SHARE = 4
"""A merge in mid-run waits until the tail has this part of the snapshot's bytes, a fourth: so no more than
five rows are written for each that is new, 1 to 3 % of the time that photographs take."""

RECENT_ROWS = 2**16
"""Records of sources kept as objects, 1 KiB each; then they become rows, of a few hundred bytes."""

PAGE_ROWS = 16
"""Rows made into records at once where single sources are asked for: they are asked for in order."""


class Ledger:
    """The ledger of one output, replayed into memory."""

    def __init__(self, output: str) -> None:
        """Read snapshot and tail.

        Raises:
            OutputError: a part cannot be read.
        """
        self._output = output
        self._run = ""
        self.guard: Callable[[], None] = lambda: None
        """Raises where another run has taken the output over; asked before what cannot be taken back."""
        for attempts_left in (2, 1, 0):
            try:
                self._load()
                return
            except FileNotFoundError as e:  # who only reads may meet a merge, which removes parts
                if not attempts_left:
                    msg = f"cannot read the ledger: {e}"
                    raise OutputError(msg) from e

    def _load(self) -> None:
        self._settled = HELD.empty_table()
        self._appended: list[pa.Table] = []
        self._recent: dict[str, Latest] = {}
        self._page: dict[str, Latest] = {}
        self._open = _OpenShards()
        snapshots, segments = parts_there(self._output)
        self._last = max(snapshots, default=0)
        self._tail = {number: size for number, size in segments.items() if number > self._last}
        self._snapshot_bytes = snapshots.get(self._last, 0)
        if snapshots:
            newest = layout.ledger_file(self._output, "snapshot", self._last)
            ends = [self._replay(rows) for rows in read_snapshot(newest)]
            self._settled = pa.concat_tables([self._settled, *ends])  # sorted, each source once
        self._has_news = False
        for tables in read_parts(
            [layout.ledger_file(self._output, "segment", number) for number in self._tail]
        ):
            for rows in tables:
                self._has_news = self._has_news or bool(len(rows))
                self._appended.append(self._replay(rows))
        self._last = max(self._tail, default=self._last)

    def table(self) -> pa.Table:
        """The latest row of each source that is done, quarantined or failed, sorted by id.

        Columns are those of SCHEMA in types of HELD: what repeats comes as dictionaries, in chunks.
        """
        self._append(())
        if self._appended:
            tables = [self._settled, *self._appended]
            self._settled, self._appended, self._page = HELD.empty_table(), [], {}
            self._settled = latest(tables)
        return self._settled

    def sources(self) -> Iterator[Latest]:
        """The latest record of each source that is done, quarantined or failed, sorted by id."""
        return sources_of(self.table())

    def source(self, source_id: str) -> Latest | None:
        """The latest record of one source. Fast between commits of records; after `append_table` it sorts."""
        if source_id in self._recent:
            record = self._recent[source_id]
            return None if record.status == "removed" else record
        if self._appended:
            self.table()
        if source_id not in self._page:
            ids: Any = self._settled.column("source_id")
            at = bisect_left(range(len(ids)), source_id.encode(), key=lambda row: ids[row].as_py().encode())
            if at == len(ids) or ids[at].as_py() != source_id:
                return None
            page = sources_of(self._settled.slice(at, PAGE_ROWS))
            self._page = {record.source_id: record for record in page}
        return self._page[source_id]

    def shards(self, source_id: str) -> list[ShardRecord]:
        """Shards committed for a source that is not finished yet, in the order of their windows."""
        return self._open.of(source_id)

    def unfinished(self) -> list[str]:
        return self._open.ids()

    @property
    def is_settled(self) -> bool:
        """Whether the last run came to its end; else one is under way, or was killed."""
        return not self._tail

    @property
    def has_news(self) -> bool:
        """Whether something was recorded, when the ledger was read, since a run last came to its end.

        A run that is under way, or was killed, before it recorded anything left all as it was.
        """
        return self._has_news or not (self._snapshot_bytes or self.is_settled)

    def claim(self, run_id: str, guard: Callable[[], None] | None = None) -> None:
        """Take the ledger over for a run: from now on nobody else's commits succeed.

        Args:
            run_id: of the run.
            guard: see `guard`. That numbers are taken tells a run that was thought dead of its successor only
                until that one merges; the guard tells it ever after.

        Raises:
            OutputError: it cannot be read or written.
        """
        self._run, self.guard = run_id, guard or self.guard
        data = to_parquet([], run_id)
        # A number that is taken is of a run that went on after this one read the ledger: its rows come first.
        while not publish.create(layout.ledger_file(self._output, "segment", self._last + 1), data):
            for tables in read_parts([layout.ledger_file(self._output, "segment", self._last + 1)]):
                self._append(self._replay(rows) for rows in tables)
            self._last += 1
            self._tail[self._last] = 0
        self._last += 1
        self._tail[self._last] = len(data)

    def append(self, records: Iterable[Record]) -> None:
        """Commit records in one segment.

        Raises:
            OutputError: the segment cannot be written, or another driver wrote one of that number.
        """
        batch = [_discreet(record) for record in records]
        if not batch:
            return
        self._commit(to_parquet([to_table(batch, SCHEMA)], self._run, SCHEMA))
        for record in batch:
            self._open.note(record)
            if not isinstance(record, ShardRecord):
                self._recent[record.source_id] = record
        if len(self._recent) > RECENT_ROWS:
            self._append(())
        if _is_long(self._tail, self._snapshot_bytes):
            self.merge()

    def append_table(self, table: pa.Table) -> None:
        """Commit rows in one segment.

        Args:
            table: columns of SCHEMA, as they are or as in HELD; done, quarantined, failed or removed.

        Raises:
            OutputError: the segment cannot be written, or another driver wrote one of that number.
        """
        if not len(table):
            return
        _check(table)
        table = _discreet_rows(table)
        data = to_parquet([table], self._run)
        self._commit(data)
        # Read back: what was given may be a view of memory that others wait for.
        self._append(self._replay(rows) for rows in from_parquet(data))
        if _is_long(self._tail, self._snapshot_bytes):
            self.merge()

    def merge(self) -> None:
        """Write the snapshot and remove the parts that it covers. Interrupted anywhere, nothing is lost."""
        if not self._tail:
            return
        self.guard()
        unfinished = to_table(record for key in self.unfinished() for record in self.shards(key))
        data = to_parquet([self.table(), unfinished], self._run)
        parts = start_aside(parts_there, self._output)  # a bucket is asked while it takes the snapshot
        publish.publish(layout.ledger_file(self._output, "snapshot", self._last), data)
        # From here on who reads starts at the new snapshot; what it covers is passed over until it is gone.
        snapshots, segments = parts.result()
        file = partial(layout.ledger_file, self._output)
        covered = [file("snapshot", number) for number in snapshots if number < self._last]
        covered += [file("segment", number) for number in segments if number <= self._last]
        publish.remove_files(covered)
        self._tail, self._snapshot_bytes = {}, len(data)

    def _commit(self, data: bytes) -> None:
        self.guard()
        number = self._last + 1
        if not publish.create(layout.ledger_file(self._output, "segment", number), data):
            msg = f"ledger segment {number} exists already: another run took this output over"
            raise OutputError(msg)
        self._last = number
        self._tail[number] = len(data)

    def _append(self, tables: Iterable[pa.Table]) -> None:
        """Rows of sources that come after all that there are."""
        if self._recent:
            self._appended += _copied(to_table(self._recent.values()), self._run)
            self._recent = {}
        self._appended += tables

    def _replay(self, table: pa.Table) -> pa.Table:
        """Take shards from rows; what is left are the rows of sources."""
        is_shard = pc.equal(table.column("status"), pa.scalar("shard"))
        has_shards = pc.any(is_shard).as_py()
        if has_shards or self._open.ids():
            ids = table.column("source_id")
            begun = pa.array([*self._open.ids(), *pc.unique(ids.filter(is_shard)).to_pylist()], pa.string())
            for record in to_records(table.filter(pc.is_in(ids, value_set=begun))):
                self._open.note(record)
        return table.filter(pc.invert(is_shard)) if has_shards else table


class _OpenShards:
    """Shards of the scenes that are not finished."""

    def __init__(self) -> None:
        self._shards: dict[str, dict[Window, ShardRecord]] = {}

    def ids(self) -> list[str]:
        return sorted(self._shards)

    def of(self, source_id: str) -> list[ShardRecord]:
        """In the order of their windows."""
        shards = self._shards.get(source_id, {})
        return [shards[window] for window in sorted(shards)]

    def note(self, record: Record) -> None:
        """Take a record for what it means here."""
        if isinstance(record, ShardRecord):
            shards = self._shards.setdefault(record.source_id, {})
            other = next(iter(shards.values()), record)
            if _generation(other) != _generation(record):
                shards.clear()  # a new version of the source, or a run with --replace: what was is void
            shards[record.window] = record
        # A transient failure keeps what was predicted, and so do values that their owner may mean.
        elif record.status != "failed" and not record.error.startswith(VALUES_REFUSED):
            self._shards.pop(record.source_id, None)


def _generation(record: ShardRecord) -> tuple[str, str, str, str]:
    return record.tag, record.pixel, record.grid, record.cpu_class


def _is_long(tail: Mapping[int, int], snapshot_bytes: int) -> bool:
    """Whether segments, in bytes by number, are to be merged in mid-run."""
    return len(tail) >= MERGE_AFTER and sum(tail.values()) * MERGE_SHARE >= snapshot_bytes


def _discreet(record: Record) -> Record:
    """Without credentials in its URL and error."""
    uri = public(record.uri)
    if isinstance(record, ShardRecord):
        return record if uri == record.uri else replace(record, uri=uri)
    error = impersonal(record.error)
    return record if (uri, error) == (record.uri, record.error) else replace(record, uri=uri, error=error)


def _discreet_rows(table: pa.Table) -> pa.Table:
    """Without credentials in URLs and errors; nearly all tables are given back as they are."""
    for name, clean in (("uri", public), ("error", impersonal)):
        texts = table.column(name).cast(pa.string())
        odd: Any = pc.match_substring_regex(texts, MAY_HOLD_CREDENTIALS if name == "uri" else ".")
        if pc.any(odd).as_py():
            cleaned = pa.array([clean(str(text)) for text in texts.filter(odd).to_pylist()], pa.string())
            column: Any = pc.replace_with_mask(texts.combine_chunks(), odd.combine_chunks(), cleaned)
            field = table.schema.field(name)
            table = table.set_column(table.schema.get_field_index(name), name, column.cast(field.type))
    return table


def _check(table: pa.Table) -> None:
    strange = set(pc.unique(table.column("status").cast(pa.string())).to_pylist())
    strange -= {"done", "quarantined", "failed", "removed"}
    empty = [name for name in SCHEMA.names if table.column(name).null_count]
    if strange or empty:
        msg = f"rows for the ledger: status {sorted(map(str, strange))} is none of a source, null in {empty}"
        raise ValueError(msg)


def _copied(table: pa.Table, run_id: str) -> list[pa.Table]:
    return list(from_parquet(to_parquet([table], run_id)))

"""When records are committed, what goes with them, and what is recorded of sources that cannot be done.

With a commit go the results that it makes superfluous. A refusal is held back while those before it are all
alike: the same error on many sources is nobody's fault.
"""

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar

import pyarrow as pa

from batchseg.driver.events import Committed, Listener, SceneRefused
from batchseg.driver.given_up import GivenUpError
from batchseg.errors import OutputError
from batchseg.inputs.source import Source, words
from batchseg.inputs.source import compute as pc
from batchseg.output import publish
from batchseg.output.columns import is_below, outputs_of
from batchseg.output.layout import PREDICTED, result_file
from batchseg.output.ledger import Ledger
from batchseg.output.record import PhotoRecord, SceneRecord, ShardRecord, SourceRecord
from batchseg.output.scene_mask import discard_fragments
from batchseg.pixels.own_values import VALUES_REFUSED
from batchseg.system.location import Location
from batchseg.system.timing import Stopwatch

COMMIT_SECONDS, HURRY_SECONDS = 1.0, 0.1
"""At most this long after its end a shard is recorded, and a scene's last one. A segment takes 2 ms on a
disk and a request on a bucket, and thousands of small scenes must not make one each."""

COMMIT_SHARE, HURRY_SHARE, COMMIT_SECONDS_MOST = 0.1, 0.5, 10.0
"""Of the driver's time, which waits for its commits, that they take: on a bucket that needs 0.1 s for a
request they are 1 s apart, but however slow it is no more than ten. Half of it where a scene waits."""


OfScene = ShardRecord | SceneRecord

R = TypeVar("R", bound=SourceRecord)
R_contra = TypeVar("R_contra", bound=SourceRecord, contravariant=True)


class Commits:
    """Records that wait for the ledger.

    Args:
        output: root of the results.
        ledger: where to commit.
        clock: seconds, as time.monotonic.
        profile: hears how long each commit took; None: nobody asks.
    """

    def __init__(
        self, output: str, ledger: Ledger, clock: Callable[[], float], profile: Listener | None = None
    ) -> None:
        self._output, self._ledger, self._clock, self._profile = output, ledger, clock, profile
        self._waiting: list[OfScene] = []
        self._last, self._took = clock(), 0.0
        self._damaged: set[str] = set()
        self._sweeper = ThreadPoolExecutor(4, thread_name_prefix="sweeper")

    def add(self, *records: OfScene) -> None:
        self._waiting += records

    def mark_damaged(self, source_id: str) -> None:
        """A source's old results are not what was recorded: a failure does not keep them."""
        self._damaged.add(source_id)

    def is_due(self, *, hurry: bool) -> bool:
        """Whether it is time; a hurry is where a scene waits for its last shards to be recorded."""
        if hurry:
            pause = max(HURRY_SECONDS, self._took / HURRY_SHARE)
        else:
            pause = max(COMMIT_SECONDS, min(self._took / COMMIT_SHARE, COMMIT_SECONDS_MOST))
        return self._clock() - self._last >= pause

    def commit(self) -> list[OfScene]:
        """Commit what waits, and give it back as it was recorded. Raises OutputError."""
        with _timed(self._profile, len(self._waiting)):
            now = int(time.time())
            records = [_timed_record(self._with_outputs(r), now) for r in self._waiting]
            self._waiting = []
            stale = {r.source_id: self._stale(r) for r in records if isinstance(r, SceneRecord)}
            begun = {r.source_id for r in records if isinstance(r, ShardRecord)}
            begun |= {r.source_id for r in records if self._ledger.shards(r.source_id)}
            before = self._clock()
            self._ledger.append(records)
            self._last = self._clock()
            self._took = self._last - before
            for record in records:
                # What was predicted of one that is refused for its values stays: its owner may mean them.
                kept = record.status == "quarantined" and record.error.startswith(VALUES_REFUSED)
                ends = record.status in ("done", "quarantined") and record.source_id in begun
                if (ends or stale.get(record.source_id)) and not kept:
                    self._sweeper.submit(self._sweep, record.source_id, stale.get(record.source_id, ()))
        return records

    def close(self) -> None:
        """Wait for what is swept."""
        self._sweeper.shutdown()

    def _with_outputs(self, record: OfScene) -> OfScene:
        if isinstance(record, ShardRecord) or record.source_id in self._damaged:
            return record
        return _with_earlier_outputs(record, self._ledger)

    @cached_property
    def _has_predictions(self) -> bool:
        """Whether masks of the output were clean when the run began."""
        return bool(is_below(outputs_of(self._ledger.table())["path"], PREDICTED).any())

    def _stale(self, record: SceneRecord) -> Sequence[Location]:
        """Files that an earlier record of a source names, and this one does not."""
        # Else new results replace them all, and to look an earlier record up takes as long as thirty commits.
        if record.status != "quarantined" and not self._has_predictions:
            return ()
        before = self._ledger.source(record.source_id)
        if before is None:
            return ()
        new = {made.path for made in record.outputs}
        # Its rows in region tables, which others may share, go at the run's end.
        own = (made.path for made in before.outputs if made.path not in {*new, before.regions_part})
        if record.status == "failed":  # the next prediction takes the place of its mask
            own = (path for path in own if path == before.predicted_mask)
        return [result_file(self._output, path) for path in own]

    def _sweep(self, source_id: str, stale: Sequence[Location]) -> None:
        """Remove a source's fragments and old results; what stays behind goes at a later run's end."""
        with contextlib.suppress(OutputError):
            discard_fragments(self._output, source_id)
            publish.remove_files(stale)


class PhotoCommits:
    """Rows of photographs that wait for the ledger.

    Args:
        output: root of the results.
        ledger: where to commit.
        superseded: paths below the output of masks of earlier versions, by id.
        profile: hears how long each commit took; None: nobody asks.
    """

    def __init__(
        self,
        output: str,
        ledger: Ledger,
        superseded: Mapping[str, Sequence[str]],
        profile: Listener | None = None,
    ) -> None:
        self._output, self._ledger, self._superseded, self._profile = output, ledger, superseded, profile
        self._rows: list[pa.Table] = []
        self._refused: list[PhotoRecord] = []
        self._last = time.monotonic()

    @property
    def is_due(self) -> bool:
        return time.monotonic() - self._last >= COMMIT_SECONDS

    def add_rows(self, rows: pa.Table) -> None:
        """Ledger rows of photographs that are done."""
        self._rows.append(rows)

    def add(self, *records: PhotoRecord) -> None:
        """Photographs that are refused."""
        self._refused += records

    def commit(self) -> list[PhotoRecord]:
        """Commit what waits, and give back the refused as they were recorded. Raises OutputError."""
        now = int(time.time())
        rows, self._rows = [_recorded(table, now) for table in self._rows], []
        refused = [replace(_with_earlier_outputs(r, self._ledger), recorded=now) for r in self._refused]
        self._refused = []
        with _timed(self._profile, sum(table.num_rows for table in rows) + len(refused)):
            if rows:
                self._ledger.append_table(pa.concat_tables(rows))
            self._ledger.append(refused)
        self._last = time.monotonic()
        self._remove_superseded(rows, refused)
        return refused

    def _remove_superseded(self, rows: list[pa.Table], refused: list[PhotoRecord]) -> None:
        """Masks of earlier versions that the new ones did not replace by name."""
        if not self._superseded:
            return
        stale: list[str] = []
        for table in rows:
            for name, made in zip(words(table["source_id"]), words(table["outputs"]), strict=True):
                new = {item["path"] for item in made}
                stale += [path for path in self._superseded.get(name, ()) if path not in new]
        for record in refused:
            if record.status == "quarantined":
                stale += self._superseded.get(record.source_id, ())
        with contextlib.suppress(OutputError):
            publish.remove_files([result_file(self._output, path) for path in stale])


@contextlib.contextmanager
def _timed(profile: Listener | None, count: int) -> Iterator[None]:
    """A commit of so many records, on the driver's row of a profile."""
    watch = Stopwatch("driver", profiled=True)
    with watch.step("commit"):
        yield
    if profile is not None and count:
        profile(Committed(records=count, stint=watch.stint("commit")))


def _timed_record(record: OfScene, now: int) -> OfScene:
    """What is derived from a mask keeps when that was made."""
    return record if isinstance(record, ShardRecord) or record.recorded else replace(record, recorded=now)


def _with_earlier_outputs(record: R, ledger: Ledger) -> R:
    """A failure may pass: what an earlier version of the source left stays until a new one is done."""
    before = ledger.source(record.source_id) if record.status == "failed" else None
    if before is None:
        return record
    kept: dict[str, Any] = {"outputs": before.outputs, "region_count": before.region_count}
    if isinstance(before, PhotoRecord):
        judged = ("verdict", "rule", "review_reason", "rule_px", "rule_class", "unlike")
        kept |= {name: getattr(before, name) for name in judged}
    return replace(record, **kept)


def _recorded(rows: pa.Table, now: int) -> pa.Table:
    """Ledger rows, and when they were committed; those that were derived keep when they were made."""
    number = rows.schema.get_field_index("recorded")
    when = pc.if_else(pc.equal(rows["recorded"], 0), now, rows["recorded"])
    return rows.set_column(number, rows.schema.field(number), when)


class _Takes(Protocol[R_contra]):
    def add(self, *records: R_contra) -> None: ...


class Refusals(Generic[R]):
    """Sources that cannot be done: told at once, and quarantined unless they are all alike.

    Args:
        stop_after: sources in a row with the same error that end the run, none of them quarantined.
        commits: where they are recorded.
        emit: hears of each.
    """

    def __init__(self, stop_after: int, commits: _Takes[R], emit: Listener) -> None:
        self._streak: Streak[R] = Streak(stop_after)
        self._commits, self._emit = commits, emit

    def add(self, record: R, *, is_single: bool = False, tiles: int = 0) -> None:
        """Record a source as quarantined or failed, unless its error turns out to be everybody's.

        Args:
            record: the source with its error.
            is_single: the error is known to be this source's own: any number may have it.
            tiles: of it that will not be predicted.

        Raises:
            GivenUpError: so many sources in a row failed in the same way.
        """
        self._emit(
            SceneRefused(
                source_id=record.source_id,
                reason=record.error,
                transient=record.status == "failed",
                tiles=tiles,
            )
        )
        if is_single:
            self.flush()  # its storage answered, and so did what reads it
            self._commits.add(record)
            return
        try:
            self._commits.add(*self._streak.add(record))
        except GivenUpError:
            self._commits.add(*(replace(held, status="failed") for held in self._streak.flush()))
            raise

    def flush(self) -> None:
        """A success, or the end: those held back were single cases after all."""
        self._commits.add(*self._streak.flush())


def refusal_record(
    source: Source, reason: str, *, transient: bool, height: int = 0, width: int = 0
) -> SceneRecord:
    """A scene that cannot be done; height and width where its header is known."""
    return SceneRecord(
        status="failed" if transient else "quarantined",
        source_id=source.source_id,
        tag=source.tag,
        error=reason,
        uri=source.uri,
        height=height,
        width=width,
    )


@dataclass(slots=True)
class Streak(Generic[R]):
    """Holds back refusals while they are all alike: the same error on many sources is nobody's fault."""

    limit: int
    _held: list[R] = field(default_factory=list)
    _kind: str = ""

    def add(self, record: R) -> list[R]:
        """Take a refusal; give back those that can be recorded.

        Raises:
            GivenUpError: `limit` sources in a row failed in the same way. They are held still.
        """
        name = record.uri.rsplit("/", 1)[-1]
        kind = re.sub(r"\d+", "#", record.error.replace(record.uri, "").replace(name, ""))
        released = self.flush() if kind != self._kind else []
        self._held.append(record)
        self._kind = kind
        if len(self._held) >= self.limit:
            first, last = self._held[0].source_id, record.source_id
            msg = (
                f"{len(self._held)} sources in a row failed alike, from {first} to {last}, and none is "
                f"quarantined: {record.error}. Mend the cause and run again: the next run does them last"
            )
            raise GivenUpError(msg)
        return released

    def flush(self) -> list[R]:
        """A success, or the end: those held back were single cases after all."""
        held, self._held, self._kind = self._held, [], ""
        return held

"""When records are committed, and what goes with them: the results that they make superfluous."""

import contextlib
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from batchseg.driver.plan import SceneJob
from batchseg.errors import OutputError, StoppedError
from batchseg.output import publish
from batchseg.output.ledger import Ledger
from batchseg.output.record import Record, SceneRecord, SourceRecord
from batchseg.output.scene_mask import discard_fragments
from batchseg.system.location import join

COMMIT_SECONDS, HURRY_SECONDS = 1.0, 0.1
"""At most this long after its end a shard is recorded, and a scene's last one. A segment takes 2 ms on a
disk and a request on a bucket, and thousands of small scenes must not make one each."""

COMMIT_SHARE, HURRY_SHARE, COMMIT_SECONDS_MOST = 0.1, 0.5, 10.0
"""Of the driver's time, which waits for its commits, that they take: on a bucket that needs 0.1 s for a
request they are 1 s apart, but however slow it is no more than ten. Half of it where a scene waits."""


class Commits:
    """Records that wait for the ledger.

    Args:
        output: root of the results.
        ledger: where to commit.
        clock: seconds, as time.monotonic.
    """

    def __init__(self, output: str, ledger: Ledger, clock: Callable[[], float]) -> None:
        self._output, self._ledger, self._clock = output, ledger, clock
        self._waiting: list[Record] = []
        self._last, self._took = clock(), 0.0
        self._damaged: set[str] = set()
        self._sweeper = ThreadPoolExecutor(4, thread_name_prefix="sweeper")

    def add(self, *records: Record) -> None:
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

    def commit(self) -> list[Record]:
        """Commit what waits, and give it back as it was recorded. Raises OutputError."""
        records, self._waiting = [self._with_outputs(r) for r in self._waiting], []
        stale = {r.source_id: self._stale(r) for r in records if r.status == "quarantined"}
        before = self._clock()
        self._ledger.append(records)
        self._last = self._clock()
        self._took = self._last - before
        for record in records:
            if record.status in ("done", "quarantined"):
                self._sweeper.submit(self._sweep, record.source_id, stale.get(record.source_id, ()))
        return records

    def close(self) -> None:
        """Wait for what is swept."""
        self._sweeper.shutdown()

    def _with_outputs(self, record: Record) -> Record:
        """A failure may pass: what an earlier version of the source left stays until a new one is done."""
        if not isinstance(record, SceneRecord) or record.status != "failed":
            return record
        if record.source_id in self._damaged:
            return record
        before = self._ledger.source(record.source_id)
        if before is None:
            return record
        return replace(record, outputs=before.outputs, region_count=before.region_count)

    def _stale(self, record: Record) -> Sequence[str]:
        """Files that show an earlier version of a source that cannot be segmented as it is now."""
        before = self._ledger.source(record.source_id)
        if before is None:
            return ()
        # Its rows in region tables, which others may share, go at the run's end.
        own = (made.path for made in before.outputs if made.path != before.regions_part)
        return [join(self._output, path) for path in own]

    def _sweep(self, source_id: str, stale: Sequence[str]) -> None:
        """Remove a source's fragments and old results; what stays behind goes at a later run's end."""
        with contextlib.suppress(OutputError):
            discard_fragments(self._output, source_id)
            publish.remove_files(stale)


def describe_damage(record: SceneRecord) -> str:
    """What `on_bad_block: nodata` left out of a scene."""
    share = record.bad_pixels / (record.height * record.width)
    return f"{record.bad_pixels} pixels ({share:.2%}) lie in blocks that cannot be decoded; they are nodata"


def refusal_record(job: SceneJob, reason: str, *, transient: bool) -> SceneRecord:
    source = job.scene.source
    return SceneRecord(
        status="failed" if transient else "quarantined",
        source_id=source.source_id,
        tag=source.tag,
        error=reason,
        uri=source.uri,
        height=job.scene.height,
        width=job.scene.width,
    )


R = TypeVar("R", bound=SourceRecord)


@dataclass(slots=True)
class Streak(Generic[R]):
    """Holds back refusals while they are all alike: the same error on many sources is nobody's fault."""

    limit: int
    _held: list[R] = field(default_factory=list)
    _kind: str = ""

    def add(self, record: R) -> list[R]:
        """Take a refusal; give back those that can be recorded.

        Raises:
            StoppedError: `limit` sources in a row failed in the same way.
        """
        name = record.uri.rsplit("/", 1)[-1]
        kind = re.sub(r"\d+", "#", record.error.replace(record.uri, "").replace(name, ""))
        released = self.flush() if kind != self._kind else []
        self._held.append(record)
        self._kind = kind
        if len(self._held) >= self.limit:
            msg = (
                f"{len(self._held)} sources in a row failed alike, none is quarantined: {record.error}. "
                f"Mend the cause and run again, or raise stop_after if these files are really bad"
            )
            raise StoppedError(msg)
        return released

    def flush(self) -> list[R]:
        """A success, or the end: those held back were single cases after all."""
        held, self._held, self._kind = self._held, [], ""
        return held

"""What is recorded of sources that cannot be done, and when it is nobody's fault."""

import re
from dataclasses import dataclass, field

from batchseg.driver.plan import SceneJob
from batchseg.errors import StoppedError
from batchseg.output.ledger import Record


def describe_damage(record: Record) -> str:
    """What `on_bad_block: nodata` left out of a scene."""
    share = record.bad_pixels / (record.height * record.width)
    return f"{record.bad_pixels} pixels ({share:.2%}) lie in blocks that cannot be decoded; they are nodata"


def refusal_record(job: SceneJob, reason: str, *, transient: bool) -> Record:
    source = job.scene.source
    return Record(
        status="failed" if transient else "quarantined",
        source_id=source.source_id,
        tag=source.tag,
        error=reason,
        uri=source.uri,
        height=job.scene.height,
        width=job.scene.width,
    )


@dataclass(slots=True)
class Streak:
    """Holds back refusals while they are all alike: the same error on many sources is nobody's fault."""

    limit: int
    _held: list[Record] = field(default_factory=list)
    _kind: str = ""

    def add(self, record: Record) -> list[Record]:
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

    def flush(self) -> list[Record]:
        """A success, or the end: those held back were single cases after all."""
        held, self._held, self._kind = self._held, [], ""
        return held

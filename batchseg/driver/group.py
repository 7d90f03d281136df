"""A group of photographs: the unit of scheduling. What goes to a worker, and what comes back."""

import math
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from batchseg.errors import MismatchError, NoImageError, SourceError
from batchseg.system.timing import Stint

Work = Literal["predict", "hash", "derive"]
"""predict: read, predict, judge. hash: digests of the files' bytes. derive: from stored results, nothing
is predicted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Consecutive photographs; never recorded."""

    id: int
    work: Work
    images: bytes
    """LISTING rows as an Arrow stream: a slice of a table would carry the whole table along."""
    results: bytes = b""
    """derive: ledger rows, aligned with `images`, of the results to derive from."""
    count: int
    seconds: float = math.inf
    """After which no more of it is begun: what a stop or a kill can cost, however large the images are."""
    profiled: bool = False
    """Whether each step's times are wanted, not only the whole's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """A photograph that could not be done; it is looked at alone before anything is recorded."""

    source_id: str
    reason: str
    transient: bool
    """The storage failed, or the file changed: the next run tries again."""
    is_mismatch: bool = False
    """The file is sound, and the model takes other bands or values."""
    is_no_image: bool = False
    """The file's first bytes show it: any number of such may lie in a folder."""

    @classmethod
    def of(cls, source_id: str, error: SourceError) -> "Doubt":
        """What an error says of a photograph."""
        return cls(
            source_id=source_id,
            reason=str(error),
            transient=error.transient,
            is_mismatch=isinstance(error, MismatchError),
            is_no_image=isinstance(error, NoImageError),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupAnswer:
    """What a worker made of a group."""

    rows: pa.Table
    """Ledger rows of the photographs that are done; of `hash` two columns, source_id and content."""
    doubts: tuple[Doubt, ...]
    left: tuple[str, ...] = ()
    """Ids of those that were not begun, because the group's seconds were over."""
    tiles: int = 0
    pixels: int = 0
    read_seconds: float = 0.0
    predict_seconds: float = 0.0
    stitch_seconds: float = 0.0
    """From answers to masks, regions and verdicts."""
    write_seconds: float = 0.0
    stints: tuple[Stint, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sifted:
    """What came of looking at photographs."""

    doubts: tuple[Doubt, ...]
    left: tuple[str, ...] = ()
    """Ids of those that were not looked at, because the time was over."""


def to_stream(table: pa.Table) -> bytes:
    """An Arrow stream of the table's own rows, whatever it is a slice of."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def from_stream(data: bytes) -> pa.Table:
    return pa.ipc.open_stream(data).read_all()

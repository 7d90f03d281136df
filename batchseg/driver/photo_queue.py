"""Photographs to do, cut into groups."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from batchseg.driver.tasks import Group, Work, to_stream
from batchseg.inputs.source import compute as pc

GROUP_BYTES = 256 * 2**20
"""Of a group's files, unless one has more."""


@dataclass(slots=True)
class Batch:
    """Photographs to do, as one group or several."""

    images: pa.Table
    work: Work = "predict"
    results: pa.Table | None = None
    """derive: ledger rows, aligned with `images`."""
    attempts: int = 0
    lost: int = 0

    def slice(self, start: int, count: int) -> "Batch":
        results = None if self.results is None else self.results.slice(start, count)
        return replace(self, images=self.images.slice(start, count), results=results)

    def pick(self, ids: Sequence[str]) -> "Batch":
        """Those of some ids."""
        mask = pc.is_in(self.images["source_id"], value_set=pa.array(ids, pa.string()))
        results = None if self.results is None else self.results.filter(mask)
        return replace(self, images=self.images.filter(mask), results=results)


class Waiting:
    """What of a batch was not given out yet."""

    def __init__(self, batch: Batch) -> None:
        self._batch, self._at = batch, 0

    def __bool__(self) -> bool:
        return self.left > 0

    @property
    def left(self) -> int:
        return self._batch.images.num_rows - self._at

    def take(self, count: int) -> Batch | None:
        """The next photographs: at most so many, and GROUP_BYTES."""
        if not self.left:
            return None
        part = self._batch.slice(self._at, count)
        total = pc.cumulative_sum(part.images["size"]).to_numpy()
        fitting = max(1, int((total <= GROUP_BYTES).sum()))
        if fitting < part.images.num_rows:
            part = part.slice(0, fitting)
        self._at += part.images.num_rows
        return part


def group_of(number: int, batch: Batch, seconds: float = math.inf) -> Group:
    """A batch as it goes to a worker, which begins no image of it after so many seconds."""
    return Group(
        id=number,
        work=batch.work,
        images=to_stream(batch.images),
        results=b"" if batch.results is None else to_stream(batch.results),
        count=batch.images.num_rows,
        seconds=seconds,
    )

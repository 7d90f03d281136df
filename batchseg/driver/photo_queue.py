"""Photographs that are left to do, and how many of them make a group."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from batchseg.driver.tasks import Group, GroupAnswer, Work, to_stream
from batchseg.inputs.source import compute as pc
from batchseg.job.settings import MAX_PHOTO_MEMORY
from batchseg.pixels.usual_values import Usual

GROUP_BYTES = 256 * 2**20
"""Of a group's files, unless one has more."""

GROUP_SECONDS = 2.0
"""Aim of a group: what a kill can cost, and how often the driver is asked."""

FIRST_IMAGES, MOST_IMAGES = 32, 2048
"""Of a group, before anything is known of the speed, and at most."""


@dataclass(slots=True)
class PhotoWork:
    """Photographs to do, as one group or several."""

    images: pa.Table
    """LISTING rows."""
    how: Work = "predict"
    results: pa.Table | None = None
    """derive: ledger rows, aligned with `images`."""
    attempts: int = 0
    lost: int = 0
    starved: int = 0
    """Processes that ended over it for lack of memory."""
    alone: bool = False
    """It takes very much memory, or may: of all such one is done at a time."""

    @property
    def count(self) -> int:
        return int(self.images.num_rows)

    def slice(self, start: int, count: int) -> "PhotoWork":
        results = None if self.results is None else self.results.slice(start, count)
        return replace(self, images=self.images.slice(start, count), results=results)

    def pick(self, ids: Sequence[str]) -> "PhotoWork":
        """Those of some ids."""
        mask = pc.is_in(self.images["source_id"], value_set=pa.array(ids, pa.string()))
        results = None if self.results is None else self.results.filter(mask)
        return replace(self, images=self.images.filter(mask), results=results)

    def group(
        self,
        number: int,
        seconds: float = math.inf,
        *,
        epoch: int = 0,
        memory: int = MAX_PHOTO_MEMORY,
        profiled: bool = False,
        usual: tuple[Usual, ...] = (),
    ) -> Group:
        """As it goes to a worker, which begins no image of it after so many seconds, takes for none more
        memory than so many bytes, and publishes nothing once the output is no longer of this epoch."""
        return Group(
            id=number,
            work=self.how,
            images=to_stream(self.images),
            epoch=epoch,
            results=b"" if self.results is None else to_stream(self.results),
            count=self.count,
            seconds=seconds,
            profiled=profiled,
            memory=memory,
            alone=self.alone,
            usual=usual,
        )


class PhotoQueue:
    """What of some work was not given out yet, and what is to be done again, which goes first."""

    def __init__(self, work: PhotoWork) -> None:
        self._work, self._at = work, 0
        self._again: deque[PhotoWork] = deque()
        self._alone: deque[PhotoWork] = deque()

    def __bool__(self) -> bool:
        return self.left > 0 or bool(self._again or self._alone)

    @property
    def left(self) -> int:
        """Photographs that were never given out."""
        return self._work.count - self._at

    def add_again(self, work: PhotoWork, *, first: bool = False) -> None:
        """Work to repeat, after or before what is repeated already."""
        queue = self._alone if work.alone else self._again
        if first:
            queue.appendleft(work)
        else:
            queue.append(work)

    def add_alone(self, work: PhotoWork) -> None:
        """Photographs that take very much memory, each as work of its own."""
        self._alone += (replace(work.slice(number, 1), alone=True) for number in range(work.count))

    def take(self, count: int, *, alone: bool = True) -> PhotoWork | None:
        """The next to be done again; or the next photographs: at most so many, and GROUP_BYTES.

        What failed before is given as it is, so that who is at fault is found.

        Args:
            count: of photographs that never failed.
            alone: whether it may be one that is done alone.
        """
        if alone and self._alone:
            return self._alone.popleft()
        if self._again:
            work = self._again.popleft()
            if work.count > count and not (work.attempts or work.lost):
                # What a group had no time for: else a predictor that is free, or joins, finds nothing to do.
                self._again.appendleft(work.slice(count, work.count - count))
                work = work.slice(0, count)
            return work
        if not self.left:
            return None
        part = self._work.slice(self._at, count)
        total = pc.cumulative_sum(part.images["size"]).to_numpy()
        fitting = max(1, int((total <= GROUP_BYTES).sum()))
        if fitting < part.count:
            part = part.slice(0, fitting)
        self._at += part.count
        return part


class GroupSizes:
    """How many photographs take about GROUP_SECONDS, learned from the groups that came back."""

    def __init__(self) -> None:
        self._seconds_per_image: float | None = None

    def learn(self, answer: GroupAnswer) -> None:
        done = answer.rows.num_rows
        if not done:
            return
        seconds = (
            answer.read_seconds + answer.predict_seconds + answer.stitch_seconds + answer.write_seconds
        ) / done
        known = self._seconds_per_image
        self._seconds_per_image = seconds if known is None else known + 0.3 * (seconds - known)

    def images(self, left: int, slots: int) -> int:
        """For the next group; towards the end fewer, so that predictors end at the same time.

        Args:
            left: photographs that were never given out.
            slots: predictors at work.
        """
        if self._seconds_per_image is None:
            return FIRST_IMAGES
        count = int(GROUP_SECONDS / self._seconds_per_image)
        even = -(-left // (2 * max(1, slots)))
        return max(1, min(count, MOST_IMAGES, max(even, FIRST_IMAGES)))

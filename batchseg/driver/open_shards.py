"""A scene's shards that nobody was given yet, in runs: a predictor goes on where its last lease ended.

Neighbouring shards share a halo and blocks of the file, which a process decodes once. Where predictors took
turns, each block was decoded by two of them: two thirds more CPU in reading.
"""

from collections import deque
from collections.abc import Iterable, Sequence

from batchseg.pixels.grid import AllShards, Shard

MOST_RUNS = 8
"""Beyond it predictors share runs: of hundreds each would have a few shards, and leases would be small."""


class OpenShards:
    """Runs of consecutive shards."""

    def __init__(self) -> None:
        self._runs: list[deque[Shard]] = []
        """None is empty."""
        self._of: dict[int, deque[Shard]] = {}
        """The run that a predictor takes from, by its id; one that is empty is no run any more."""
        self._all: AllShards | None = None
        """Of a scene that nobody has begun with: no run, as most small scenes go out whole."""

    def __bool__(self) -> bool:
        return bool(self._runs) or self._all is not None

    def put(self, shards: Iterable[Shard]) -> None:
        """Shards in their order, which come before others."""
        if isinstance(shards, AllShards) and not self:
            self._all = shards
        else:
            self._part_all()
            if run := deque(shards):
                self._runs.insert(0, run)

    def _part_all(self) -> None:
        if self._all is not None:
            self._runs, self._all = [deque(self._all)], None

    def first(self, slot: int) -> Shard:
        """The next one for a predictor: of its run, else of one that nobody has, else of half of the longest.

        There must be some.
        """
        self._part_all()
        if not self._of.get(slot):
            self._of[slot] = self._unowned() or self._half()
        return self._of[slot][0]

    def take(self, slot: int) -> Shard:
        """What `first` gave."""
        run = self._of[slot]
        shard = run.popleft()
        if not run:
            self._runs = [other for other in self._runs if other is not run]
        return shard

    def goes_on(self, slot: int) -> bool:
        """Whether the predictor's run has another shard."""
        return bool(self._of.get(slot))

    @property
    def rest(self) -> Sequence[Shard]:
        """All that are left, in order."""
        return self._all or tuple(shard for run in self._runs for shard in run)

    def clear(self) -> None:
        self._all = None
        self._runs.clear()
        self._of.clear()

    def _unowned(self) -> deque[Shard] | None:
        owned = {id(run) for run in self._of.values()}
        return next((run for run in self._runs if id(run) not in owned), None)

    def _half(self) -> deque[Shard]:
        longest = max(self._runs, key=len)
        if len(longest) == 1 or len(self._runs) >= MOST_RUNS:
            return longest
        half = deque[Shard]()
        while len(half) < len(longest):
            half.appendleft(longest.pop())
        self._runs.append(half)
        return half

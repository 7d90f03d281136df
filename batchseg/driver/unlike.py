"""Sources that may be of another unit than their output's first ones, or of another order of bands: counted,
some named."""

from collections.abc import Iterable, Sequence

from batchseg.pixels.band_order import ORDER
from batchseg.pixels.usual_values import Reach, Usual, unlike
from batchseg.system.amounts import counted

NAMED = 3


class Unlike:
    """Those of one run.

    Args:
        what: the word for one of them.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._values, self._order = _Named(), _Named()

    def add(self, found: Iterable[tuple[str, str]]) -> None:
        """Take ids, each with its reason."""
        for source_id, reason in found:
            (self._order if reason.startswith(ORDER) else self._values).add(source_id, reason)

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line for each kind of them."""
        kinds = (
            (self._order, "may have their bands in another order than the job reads"),
            (self._values, "may be of another unit than this output's first ones"),
        )
        return tuple(
            f"{counted(found.count, self._what)} {what}: {found.in_words}"
            for found, what in kinds
            if found.count
        )


class _Named:
    """Sources of one kind."""

    def __init__(self) -> None:
        self.count = 0
        self._first: list[str] = []

    def add(self, source_id: str, reason: str) -> None:
        self.count += 1
        if len(self._first) < NAMED:
            self._first.append(f"{source_id}: {reason}")

    @property
    def in_words(self) -> str:
        more = self.count - len(self._first)
        return "; ".join([*self._first, *([f"and {more:,} more"] if more else [])])


class SceneReaches:
    """How far the values of scenes reach, from lease to lease.

    Args:
        usual: what the output's first scenes held; empty: nobody knows, and nothing is compared.
    """

    def __init__(self, usual: Sequence[Usual]) -> None:
        self._usual = usual
        self._reaches: dict[str, Reach] = {}
        self.unlike = Unlike("scene")

    def add(self, source_id: str, reach: Reach | None) -> None:
        """Take what one of a scene's leases held."""
        if self._usual and reach is not None:
            self._reaches[source_id] = reach.joined(self._reaches.get(source_id))

    def end(self, source_id: str) -> None:
        """A scene is predicted: compare it."""
        reach = self._reaches.pop(source_id, None)
        if reach is not None and (reason := unlike(reach, self._usual, surely=True)):
            self.unlike.add([(source_id, reason)])

"""Photographs looked at in fresh processes: whose fault it is that a group failed."""

import time
from collections.abc import Sequence

from batchseg import storage
from batchseg.errors import SourceError
from batchseg.isolate import ProcessDiedError, each_in_fresh_process
from batchseg.photos.fitting import Fitting
from batchseg.photos.group import Doubt, Sifted
from batchseg.photos.loading import Row, load
from batchseg.recipe import Recipe


def look_at(row: Row, recipe: Recipe) -> Doubt | None:
    """Read, decode and fit one photograph; why it cannot be done, None where it can."""
    loaded = load(row, with_content=False)
    if loaded.picture is None:
        return loaded.doubt
    try:
        Fitting(loaded.picture, recipe)
    except SourceError as e:
        return Doubt.of(row["source_id"], e)
    return None


def sift(rows: Sequence[Row], recipe: Recipe, timeout: float) -> Sifted:
    """Look at photographs one by one in a fresh process; one that ends or stops it is in doubt.

    Args:
        rows: as they were listed.
        recipe: the pixel settings.
        timeout: seconds after which no more of them are looked at. One that hangs gets a third of that, 60
            at most, twice.
    """
    until = time.monotonic() + timeout
    doubts: list[Doubt] = []
    each = max(5.0, min(60.0, timeout / 3))
    answers = each_in_fresh_process(_look, rows, recipe, storage.environment(), timeout=each)
    for count, (row, answer) in enumerate(zip(rows, answers, strict=True), start=1):
        if isinstance(answer, ProcessDiedError):
            doubts.append(_died(row, answer))
        elif answer is not None:
            doubts.append(answer)
        if time.monotonic() > until:
            return Sifted(doubts=tuple(doubts), left=tuple(row["source_id"] for row in rows[count:]))
    return Sifted(doubts=tuple(doubts))


def _died(row: Row, error: ProcessDiedError) -> Doubt:
    """A photograph whose server does not answer is not blamed."""
    transient = error.hung and storage.local_path(row["uri"]) is None
    return Doubt(
        source_id=row["source_id"], reason=f"the process that decoded it {error}", transient=transient
    )


def _look(row: Row, recipe: Recipe, where: dict[str, str]) -> Doubt | None:
    storage.adopt(where)
    return look_at(row, recipe)

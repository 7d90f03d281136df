"""Photographs looked at in fresh processes: whose fault it is that a group failed."""

import json
import tempfile
from dataclasses import asdict
from pathlib import Path

from batchseg import storage
from batchseg.errors import SourceError
from batchseg.isolate import ProcessDiedError, call_in_fresh_process
from batchseg.photos.fitting import Fitting
from batchseg.photos.group import Doubt
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


def sift(rows: list[Row], recipe: Recipe, timeout: float) -> tuple[Doubt, ...]:
    """Look at photographs one by one in a fresh process.

    The process notes each one that it is through with. Where it ends or hangs, the next one is looked at
    in a process of its own before it is blamed, and another goes on behind it.

    Args:
        rows: as they were listed.
        recipe: the pixel settings.
        timeout: seconds for all of them together, and for one that hangs at most 30.
    """
    doubts: list[Doubt] = []
    left = list(rows)
    with tempfile.TemporaryDirectory(prefix="sift-") as folder:
        while left:
            notes = Path(folder) / f"{len(left)}"
            try:
                call_in_fresh_process(
                    _look, storage.environment(), left, recipe, notes, timeout=_wait(left, timeout)
                )
            except ProcessDiedError as e:
                if len(left) == 1:
                    reason = f"the process that decoded it {e}"
                    return (*doubts, Doubt(source_id=left[0]["source_id"], reason=reason, transient=False))
            seen = _noted(notes)
            doubts += [doubt for doubt in seen if doubt is not None]
            left = left[len(seen) :]
            if left:
                doubts += sift(left[:1], recipe, timeout)
                left = left[1:]
    return tuple(doubts)


def _wait(rows: list[Row], timeout: float) -> float:
    return min(timeout, 30.0 + len(rows))


def _look(where: dict[str, str], rows: list[Row], recipe: Recipe, notes: Path) -> None:
    storage.adopt(where)
    with notes.open("w", encoding="utf-8") as file:
        for row in rows:
            doubt = look_at(row, recipe)
            file.write(json.dumps(None if doubt is None else asdict(doubt)) + "\n")
            file.flush()


def _noted(notes: Path) -> list[Doubt | None]:
    """What the process wrote of each photograph that it was through with."""
    lines = notes.read_text(encoding="utf-8").splitlines() if notes.exists() else []
    noted = [json.loads(line) for line in lines]
    return [None if doubt is None else Doubt(**doubt) for doubt in noted]

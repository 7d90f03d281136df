"""What an output holds, read without a lock and without touching it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from batchseg.output import layout
from batchseg.output.columns import verdict_counts
from batchseg.output.ledger import Ledger
from batchseg.output.lock import holder
from batchseg.output.record import SceneRecord, sources_of
from batchseg.output.seam_shares import SeamShares, seam_shares
from batchseg.output.state import OutputState, require_results
from batchseg.system import fetch, listing
from batchseg.system.json_text import parse_json

RUNS_LOOKED_AT = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class UnfinishedScene:
    source_id: str
    shards_done: int
    pixels_done: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedSource:
    source_id: str
    status: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DamagedScene:
    """A scene that is done, with blocks that cannot be decoded."""

    source_id: str
    bad_pixels: int
    bad_share: float
    """Of all its pixels, 0..1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LastRun:
    """What a run's predictors did."""

    run_id: str
    shares: Mapping[str, float]
    """Of their time, as `bottleneck.Usage.shares`."""
    bound_by: str
    advice: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    output: str
    running: str | None
    """Who holds the output now."""
    verdicts: Mapping[str, int] | None
    """Of photographs that are done, how many have which; None: the output is of scenes."""
    done: int
    pixels_done: int
    """Of finished masks."""
    unfinished: tuple[UnfinishedScene, ...]
    refused: tuple[RefusedSource, ...]
    """Quarantined or failed."""
    damaged: tuple[DamagedScene, ...]
    last_run: LastRun | None
    """The latest that came to its end."""
    gone: tuple[str, ...]
    """Sources that the last run did not find any more; `prune` removes what is left of them."""
    seams: SeamShares
    """Of scenes that are done: pixels that depend on where tiles lie."""
    broken_rows: tuple[str, ...] = ()
    """Rows of lists that the last run left out because they are broken, in lines."""


def read_status(output: str) -> Status:
    """Raises ConfigError where no run has written to `output`."""
    state = require_results(output)
    ledger = Ledger(output)
    table = ledger.table()
    is_done = pc.equal(table.column("status"), pa.scalar("done"))
    done = table.filter(is_done)
    sizes = pc.multiply(done.column("height").cast(pa.int64()), done.column("width"))
    return Status(
        output=output,
        running=holder(output),
        verdicts=verdict_counts(table) if state and state.of_photographs else None,
        done=len(done),
        pixels_done=pc.sum(sizes).as_py() or 0,
        unfinished=tuple(
            UnfinishedScene(
                source_id=source_id,
                shards_done=len(shards),
                pixels_done=sum(shard.window.size for shard in shards),
            )
            for source_id in ledger.unfinished()
            if (shards := ledger.shards(source_id))
        ),
        refused=tuple(
            RefusedSource(source_id=record.source_id, status=record.status, error=record.error)
            for record in sources_of(table.filter(pc.invert(is_done)))
        ),
        damaged=tuple(
            DamagedScene(
                source_id=record.source_id,
                bad_pixels=record.bad_pixels,
                bad_share=record.bad_pixels / (record.height * record.width),
            )
            for record in sources_of(done.filter(pc.greater(done.column("bad_pixels"), pa.scalar(0))))
            if isinstance(record, SceneRecord)
        ),
        last_run=_last_run(output),
        gone=state.vanished if state else (),
        seams=seam_shares(table, _predicted_names(state)),
        broken_rows=state.broken_rows if state else (),
    )


def _predicted_names(state: OutputState | None) -> tuple[str, ...]:
    """Of the classes as they were predicted; none where some were merged: who has which name is not known."""
    return () if state is None or "" in state.classes else state.classes


def _last_run(output: str) -> LastRun | None:
    """Of the last few runs, as one that was stopped leaves no summary and one without work no shares."""
    folder = layout.runs_folder(output)
    runs = (run.rstrip("/").rpartition("/")[2] for run in listing.list_subfolders(folder))
    for run_id in sorted(runs, reverse=True)[:RUNS_LOOKED_AT]:
        try:
            found = parse_json(fetch.read_bytes(folder.listed(run_id).below(layout.SUMMARY)))
        except (OSError, ValueError):
            continue
        shares = found.get("predictor_shares") if isinstance(found, dict) else None
        if shares and found.get("tiles") and _is_as_written(found):
            return LastRun(
                run_id=run_id,
                shares=shares,
                bound_by=found["bound_by"],
                advice=found["advice"],
            )
    return None


def _is_as_written(found: dict[str, Any]) -> bool:
    """Whether a run's summary has the types that `driver/report` gives it."""
    shares = found["predictor_shares"]
    return (
        isinstance(shares, dict)
        and all(isinstance(share, int | float) for share in shares.values())
        and all(isinstance(found.get(name), str) for name in ("bound_by", "advice"))
    )

"""What is done to an output between runs: `batchseg retry` and `batchseg prune`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from batchseg.errors import ConfigError
from batchseg.output import layout, publish
from batchseg.output.columns import is_below, outputs_of
from batchseg.output.fragments import discard_leftovers
from batchseg.output.items import write_items
from batchseg.output.ledger import Ledger
from batchseg.output.lock import Lock, hold
from batchseg.output.record import filled, sources_of
from batchseg.output.region_parts import tidy
from batchseg.output.seam_shares import keep_seams
from batchseg.output.state import OutputState, require_results, save_state
from batchseg.system.temp_folders import run_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What was, or would be, removed."""

    sources: tuple[str, ...]
    files: tuple[str, ...]
    """Paths below the output, of masks, sidecars and confidence."""
    nbytes: int


def retry(output: str, run_id: str, source_ids: Sequence[str]) -> tuple[str, ...]:
    """Let the next run try quarantined sources again.

    Args:
        output: root of the results.
        run_id: for others who want the output meanwhile.
        source_ids: which; none: all that are quarantined.

    Returns:
        Their ids.

    Raises:
        ConfigError: there is no such output, or a named source is not quarantined.
        LockedError: a run is under way.
    """
    with _held(output, run_id) as (ledger, state, lock):
        table = ledger.table()
        table = table.filter(pc.equal(table.column("status"), pa.scalar("quarantined")))
        quarantined = {record.source_id: record for record in sources_of(table)}
        unknown = [source_id for source_id in source_ids if source_id not in quarantined]
        if unknown:
            msg = f"{unknown[0]} is not quarantined in {output}; `batchseg status` names those that are"
            raise ConfigError(msg)
        chosen = [quarantined[key] for key in (source_ids or sorted(quarantined))]
        ledger.claim(run_id, lock.guard)
        ledger.append(replace(record, status="failed") for record in chosen)
        _end(output, ledger, state)
        return tuple(record.source_id for record in chosen)


def prune(output: str, run_id: str, *, dry_run: bool, everything: bool) -> Pruned:
    """Remove what belongs to sources that the last run did not find any more.

    Args:
        output: root of the results.
        run_id: for others who want the output meanwhile.
        dry_run: only say what would be removed.
        everything: also where the last run found no source at all.

    Raises:
        ConfigError: there is no such output; no source is left and `everything` is not set; or those that
            the last run did not find may be there still.
        LockedError: a run is under way.
    """
    with _held(output, run_id) as (ledger, state, lock):
        table = ledger.table()
        vanished = pa.array(state.vanished, pa.string())
        rows = table.filter(pc.is_in(table.column("source_id"), value_set=vanished))
        if len(rows) == len(table) and len(rows) and not everything:
            msg = (
                f"the last run found none of the {len(rows)} sources of {output}; was a disk not mounted? "
                f"Run the job again, or prune with --all"
            )
            raise ConfigError(msg)
        if state.unseen and not len(rows):
            msg = (
                f"nothing of {output} counts as gone: what the last run did not find may be among what it "
                f"could not read. Mend that, run the job again, and prune then"
            )
            raise ConfigError(msg, *state.unseen)
        own = outputs_of(rows)
        # Its rows leave their parts, which others may share.
        own = own.filter(pa.array(~is_below(own.column("path"), layout.ANNOTATIONS)))
        pruned = Pruned(
            sources=tuple(map(str, rows.column("source_id").to_pylist())),
            files=tuple(map(str, own.column("path").to_pylist())),
            nbytes=pc.sum(own.column("nbytes")).as_py() or 0,
        )
        if not dry_run:
            ledger.claim(run_id, lock.guard)
            publish.remove_files([layout.result_file(output, path) for path in pruned.files])
            ledger.append_table(_removed(rows))
            tidy(output, ledger)
            discard_leftovers(output, ledger.unfinished())
            state = replace(state, vanished=())
            save_state(output, state)
            _end(output, ledger, state)
        return pruned


def _removed(rows: pa.Table) -> pa.Table:
    """Rows that say that sources are no more."""
    known: dict[str, Any] = {name: rows.column(name) for name in ("source_id", "tag")}
    return filled({"status": pa.array(["removed"] * len(rows), pa.string()), **known}, len(rows))


@contextmanager
def _held(output: str, run_id: str) -> Iterator[tuple[Ledger, OutputState, Lock]]:
    """The ledger is not claimed: whoever refuses, or only looks, leaves it as it is."""
    state = require_results(output)
    if state is None:
        msg = f"the first run to {output} has recorded nothing yet; run its job again"
        raise ConfigError(msg)
    with run_folder(), hold(output, run_id) as lock:
        yield Ledger(output), state, lock


def _end(output: str, ledger: Ledger, state: OutputState) -> None:
    ledger.guard()
    photographs = state.of_photographs
    write_items(output, ledger.table(), state.classes, state.vanished, photographs=photographs)
    keep_seams(output, ledger.table())
    ledger.merge()

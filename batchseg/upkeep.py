"""What is done to an output between runs: `batchseg retry` and `batchseg prune`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from batchseg import publishing, storage
from batchseg.errors import ConfigError
from batchseg.items import write_items
from batchseg.ledger import Ledger, Record
from batchseg.locks import hold
from batchseg.scratch import run_folder
from batchseg.state import OutputState, require_results, save_state
from batchseg.tables import tidy
from batchseg.write import discard_leftovers


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What was, or would be, removed."""

    sources: tuple[str, ...]
    files: int
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
    with _held(output, run_id) as (ledger, state):
        quarantined = {r.source_id: r for r in ledger.sources() if r.status == "quarantined"}
        unknown = [source_id for source_id in source_ids if source_id not in quarantined]
        if unknown:
            msg = f"{unknown[0]} is not quarantined in {output}; `batchseg status` names those that are"
            raise ConfigError(msg)
        chosen = [quarantined[key] for key in (source_ids or sorted(quarantined))]
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
        ConfigError: there is no such output, or no source is left and `everything` is not set.
        LockedError: a run is under way.
    """
    with _held(output, run_id) as (ledger, state):
        records = [record for key in state.vanished if (record := ledger.source(key)) is not None]
        if len(records) == sum(1 for _ in ledger.sources()) and records and not everything:
            msg = (
                f"the last run found none of the {len(records)} sources of {output}; was a disk not mounted? "
                f"Run the job again, or prune with --all"
            )
            raise ConfigError(msg)
        own = [made for r in records for made in r.outputs if made.path != r.regions_part]
        pruned = Pruned(
            sources=tuple(record.source_id for record in records),
            files=len(own),
            nbytes=sum(made.nbytes for made in own),
        )
        if not dry_run:
            publishing.remove_files([storage.join(output, made.path) for made in own])
            ledger.append(_removed(record) for record in records)
            tidy(output, ledger)
            discard_leftovers(output, ledger.unfinished())
            save_state(output, replace(state, vanished=()))
            _end(output, ledger, state)
        return pruned


def _removed(record: Record) -> Record:
    return Record(status="removed", source_id=record.source_id, tag=record.tag)


@contextmanager
def _held(output: str, run_id: str) -> Iterator[tuple[Ledger, OutputState]]:
    state = require_results(output)
    if state is None:
        msg = f"the first run to {output} has recorded nothing yet; run its job again"
        raise ConfigError(msg)
    with run_folder(), hold(output, run_id):
        ledger = Ledger(output)
        ledger.claim(run_id)
        yield ledger, state


def _end(output: str, ledger: Ledger, state: OutputState) -> None:
    ledger.merge()
    write_items(output, ledger.sources(), state.classes)

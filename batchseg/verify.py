"""`batchseg verify`: every published file against the ledger, every table row against a source."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from batchseg import publishing, storage
from batchseg.errors import OutputError
from batchseg.ledger import Ledger, Output
from batchseg.state import require_results
from batchseg.tables import read_part

FOLDERS = ("masks", "confidence", "annotations")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What was looked at, and what is wrong with it."""

    sources: int
    files: int
    nbytes: int
    rows: int
    """Of the region tables."""
    problems: tuple[str, ...]
    unrecorded: tuple[str, ...]
    """Files that no record names: left by a run that was killed, or somebody else's."""


def verify(output: str, *, quick: bool, say: Callable[[str], None]) -> Verification:
    """Compare what an output holds with what its ledger says.

    Args:
        output: root of the results.
        quick: compare sizes and rows, not checksums.
        say: told of progress.

    Raises:
        ConfigError: no run has written there.
        OutputError: the ledger cannot be read.
    """
    require_results(output)
    ledger = Ledger(output)
    recorded = {made.path: made for record in ledger.sources() for made in record.outputs}
    sizes = {path: size for folder in FOLDERS for path, size in _listed(output, folder)}
    say(f"{len(recorded)} files to compare")
    problems = [problem for made in recorded.values() if (problem := _size_problem(made, sizes))]
    if not quick:
        whole = [made for made in recorded.values() if sizes.get(made.path) == made.nbytes]
        answers = storage.at_once(lambda made: _checksum_problem(output, made), whole, output)
        problems += [problem for problem in answers if problem]
    rows, row_problems = _region_rows(output, ledger, sizes)
    problems += row_problems
    if ledger.is_settled:  # the items table is written when a run ends
        problems += _item_problems(output, ledger)
    else:
        say("a run is under way or was interrupted: the items table is not compared")
    return Verification(
        sources=sum(1 for _ in ledger.sources()),
        files=len(recorded),
        nbytes=sum(made.nbytes for made in recorded.values()),
        rows=rows,
        problems=tuple(sorted(problems)),
        unrecorded=tuple(sorted(set(sizes) - set(recorded))),
    )


def _listed(output: str, folder: str) -> Iterator[tuple[str, int]]:
    root = storage.join(output, folder)
    with publishing.output_errors("list", root):
        infos = storage.list_below(root)
    return ((info.uri.removeprefix(output + "/"), info.size) for info in infos)


def _size_problem(made: Output, sizes: dict[str, int]) -> str:
    size = sizes.get(made.path)
    if size is None:
        return f"{made.path}: missing"
    return "" if size == made.nbytes else f"{made.path}: {size} bytes, recorded are {made.nbytes}"


def _checksum_problem(output: str, made: Output) -> str:
    try:
        found = storage.sha256(storage.join(output, made.path))
    except OSError as e:
        return f"{made.path}: cannot be read: {e}"
    return "" if found == made.sha256 else f"{made.path}: its checksum is not the recorded one"


def _region_rows(output: str, ledger: Ledger, sizes: dict[str, int]) -> tuple[int, list[str]]:
    """Rows in the region tables, and what is wrong with them."""
    expected = {(r.source_id, r.regions_part): r.region_count for r in ledger.sources() if r.regions_part}
    found: Counter[tuple[str, str]] = Counter()
    problems = []
    for path in sorted(p for p in sizes if p.startswith("annotations/") and p.endswith(".parquet")):
        try:
            part = read_part(output, path)
            for number in range(part.num_row_groups):
                ids = part.read_row_group(number, columns=["source_id"]).column("source_id")
                found.update((str(source_id), path) for source_id in ids.to_pylist())
        except OutputError as e:
            problems.append(str(e))
    for source_id, path in sorted(set(found) - set(expected)):
        count = found[source_id, path]
        problems.append(f"{path}: {count} rows of {source_id}, whose record does not name this table")
    for (source_id, path), count in expected.items():
        if path in sizes and found[source_id, path] != count:
            problems.append(f"{path}: {found[source_id, path]} rows of {source_id}, recorded are {count}")
    return found.total(), problems


def _item_problems(output: str, ledger: Ledger) -> list[str]:
    path = "items/items.parquet"
    try:
        table = read_part(output, path).read(["source_id", "status"])
    except OutputError as e:
        return [f"{path}: {e}"]
    rows = Counter((row["source_id"], row["status"]) for row in table.to_pylist())
    known = Counter((record.source_id, record.status) for record in ledger.sources())
    wrong = sorted({source_id for source_id, _ in (rows - known) + (known - rows)})
    return [f"{path}: {source_id}: its rows are not what the ledger says" for source_id in wrong]

"""`batchseg verify`: every published file against the ledger, every table row against a source."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from batchseg.errors import OutputError
from batchseg.output import layout, publish, sidecar
from batchseg.output.columns import PLAIN_OUTPUT, first_output, open_parquet, outputs_of
from batchseg.output.ledger import Ledger
from batchseg.output.record import Output
from batchseg.output.region_parts import read_part, read_rows
from batchseg.output.state import require_results
from batchseg.system import fetch, listing, storage
from batchseg.system.amounts import counted

_COLUMNS: dict[str, pa.DataType] = {"source_id": pa.string(), "path": pa.string(), "found": pa.int64()}
_FOUND = pa.schema(_COLUMNS)
_WORDS: dict[str, pa.DataType] = {"source_id": pa.string(), "status": pa.string()}
_ITEMS = pa.schema(_WORDS)
_JUDGED = pa.schema({**_WORDS, "verdict": pa.string()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What was looked at, and what is wrong with it."""

    sources: int
    files: int
    nbytes: int
    rows: int
    """Of the region tables."""
    problems: tuple[str, ...]
    amended: tuple[str, ...]
    """Files of class names into which others wrote, `gdalinfo -stats` or QGIS: the names are as recorded."""
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
    state = require_results(output)
    ledger = Ledger(output)
    recorded = _recorded(ledger.table())
    sizes = {path: size for folder in layout.RESULTS for path, size in _listed(output, folder)}
    say(f"{counted(len(recorded), 'file')} to compare")
    problems = {made.path: problem for made in recorded.values() if (problem := _size_problem(made, sizes))}
    if not quick:
        whole = [made for made in recorded.values() if made.path not in problems]
        answers = storage.at_once(lambda made: _checksum_problem(output, made), whole, output)
        problems |= {made.path: problem for made, problem in zip(whole, answers, strict=True) if problem}
    amended = _amended(output, problems, sizes, state.classes if state else None)
    # A run that was stopped leaves tables that it did not come to record: they count for nobody.
    tables = sizes if ledger.is_settled else {path: sizes[path] for path in sizes if path in recorded}
    rows, row_problems = _region_rows(output, ledger.table(), tables)
    found = [problem for path, problem in problems.items() if path not in amended] + row_problems
    if not ledger.has_news and state is not None:  # the items table is written when a run ends
        found += _item_problems(output, ledger)
    else:
        say("a run is under way or was interrupted: the items table is not compared")
    return Verification(
        sources=len(ledger.table()),
        files=len(recorded),
        nbytes=sum(made.nbytes for made in recorded.values()),
        rows=rows,
        problems=tuple(sorted(found)),
        amended=tuple(sorted(amended)),
        unrecorded=tuple(sorted(set(sizes) - set(recorded))),
    )


def _amended(
    output: str, paths: Iterable[str], sizes: Mapping[str, int], classes: tuple[str, ...] | None
) -> set[str]:
    """Those of the paths that differ from their record by what others added alone."""
    found = set()
    for path in paths:
        if path in sizes and path.endswith(sidecar.SUFFIX):
            with contextlib.suppress(OSError):  # that is its problem already
                content = sidecar.content_at(layout.result_file(output, path))
                if content is not None and classes is not None and sidecar.has_names(content, classes):
                    found.add(path)
    return found


def _recorded(table: pa.Table) -> dict[str, Output]:
    """Each file once, however many sources it is of."""
    files = outputs_of(table).drop_columns("row").cast(PLAIN_OUTPUT).group_by(["path", "nbytes", "sha256"])
    return {row["path"]: Output(**row) for row in files.aggregate([]).to_pylist()}


def _listed(output: str, folder: str) -> Iterator[tuple[str, int]]:
    root = layout.result_folder(output, folder)
    with publish.output_errors("list", root):
        infos = listing.list_below(root)
    # A name that is no UTF-8 is nobody's result: it is shown as tables can hold it.
    paths = (info.uri.removeprefix(output + "/").encode(errors="surrogateescape") for info in infos)
    sizes = (info.size or 0 for info in infos)
    return zip((path.decode(errors="backslashreplace") for path in paths), sizes, strict=True)


def _size_problem(made: Output, sizes: dict[str, int]) -> str:
    size = sizes.get(made.path)
    if size is None:
        return f"{made.path}: missing"
    return "" if size == made.nbytes else f"{made.path}: {size} bytes, recorded are {made.nbytes}"


def _checksum_problem(output: str, made: Output) -> str:
    try:
        found = fetch.sha256(layout.result_file(output, made.path))
    except OSError as e:
        return f"{made.path}: cannot be read: {e}"
    return "" if found == made.sha256 else f"{made.path}: its checksum is not the recorded one"


def _region_rows(output: str, table: pa.Table, sizes: dict[str, int]) -> tuple[int, list[str]]:
    """Rows in the region tables, and what is wrong with them."""
    there = pa.array(list(sizes), pa.string())
    parts = first_output(table, layout.ANNOTATIONS).cast(pa.string())
    columns = {
        "source_id": table.column("source_id"),
        "path": parts,
        "expected": table.column("region_count"),
    }
    expected = pa.table(columns).filter(pc.is_in(parts, value_set=there))
    found, problems = _found_rows(output, sorted(sizes))
    both = expected.join(found, ["source_id", "path"], join_type="full outer")
    for row in both.filter(_differ(both)).to_pylist():
        text = f"{row['path']}: {row['found'] or 0} rows of {row['source_id']}"
        if row["expected"] is None:
            problems.append(f"{text}, whose record does not name this table")
        else:
            problems.append(f"{text}, recorded are {row['expected']}")
    return pc.sum(found.column("found")).as_py() or 0, problems


def _differ(both: pa.Table) -> Any:
    zero: Any = pa.scalar(0, pa.int64())
    expected, found = (pc.fill_null(both.column(name), zero) for name in ("expected", "found"))
    return pc.or_(pc.not_equal(expected, found), pc.is_null(both.column("expected")))


def _found_rows(output: str, paths: Sequence[str]) -> tuple[pa.Table, list[str]]:
    """How many rows each source has in each region table, and the tables that cannot be read."""
    found = [_FOUND.empty_table()]
    problems = []
    for path in paths:
        if not layout.is_region_table(path):
            continue
        try:
            ids = read_rows(read_part(output, path), path, ["source_id"])
        except OutputError as e:
            problems.append(str(e))
            continue
        counts = ids.group_by("source_id").aggregate([([], "count_all")])
        columns: list[Any] = [counts.column(0), pa.array([path] * len(counts)), counts.column(1)]
        found.append(pa.Table.from_arrays(columns, schema=_FOUND))
    return pa.concat_tables(found), problems


def _item_problems(output: str, ledger: Ledger) -> list[str]:
    path = layout.ITEMS_TABLE
    try:
        file = open_parquet(layout.items_file(output))
        wanted = _JUDGED if "verdict" in file.schema_arrow.names else _ITEMS  # of photographs, of scenes
        items = file.read(wanted.names).select(wanted.names).cast(wanted)
    except (OSError, pa.ArrowException, KeyError) as e:
        return [f"{path}: cannot be read: {e}"]
    table = ledger.table().select(wanted.names).cast(wanted)
    if "verdict" in wanted.names:  # null in items, empty in the ledger
        at = wanted.get_field_index("verdict")
        empty: Any = pa.scalar("")
        items = items.set_column(at, "verdict", pc.fill_null(items.column(at), empty))
    if items.equals(table):
        return []
    rows, known = (Counter(zip(*t.to_pydict().values(), strict=True)) for t in (items, table))
    wrong = sorted({source_id for source_id, *_ in (rows - known) + (known - rows)})
    return [f"{path}: {source_id}: its rows are not what the ledger says" for source_id in wrong]

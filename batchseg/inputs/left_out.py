"""What of the inputs' folders is no input, counted: so that nothing is left out without a word."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from batchseg.inputs.ids import in_utf8
from batchseg.system.amounts import are, counted
from batchseg.system.redact import public

RECORDS = "_batchseg"
"""The folder in an output that holds what is known of its results."""

SHOWN = 10
"""Kinds, folders or rows that a line names."""


@dataclass(slots=True, kw_only=True)
class LeftOut:
    """Filled while inputs are listed; `lines` says it."""

    kinds: Counter[str] = field(default_factory=Counter)
    """Files in listed folders by their ending, in small letters; empty: they have none."""
    folders: set[str] = field(default_factory=set)
    """Hidden ones, and those in which systems keep snapshots, thumbnails or what was deleted."""
    links: set[str] = field(default_factory=set)
    """To folders."""
    results: set[str] = field(default_factory=set)
    """Outputs of other jobs."""
    rows: list[str] = field(default_factory=list)
    """Of manifests, in words: which, and why."""

    def lines(self) -> tuple[str, ...]:
        """One line for the folders, one for each manifest; none where nothing was left out."""
        parts = []
        if self.kinds:
            count = sum(self.kinds.values())
            kinds = [f"{ending or 'without ending'} {n}" for ending, n in _most_first(self.kinds)]
            parts.append(f"{counted(count, 'file')} of other kinds: {_first(kinds)}")
        for folders, what in ((self.folders, "hidden or system"), (self.links, "linked")):
            if folders:
                names = Counter(folder.rpartition("/")[2] for folder in folders)
                shown = [name if n == 1 else f"{name} {n}" for name, n in _most_first(names)]
                parts.append(f"{counted(len(folders), f'{what} folder')}: {_first(shown)}")
        if self.results:
            parts.append(f"results of other jobs: {_first(sorted(map(public, self.results)))}")
        lines = ([f"left out: {'; '.join(parts)}"] if parts else []) + self.rows
        return tuple(in_utf8(line)[0] for line in lines)


def _most_first(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def rows_left_out(manifest: str, rows: Iterable[int], why: str, kind: str = "row") -> str:
    """Which rows of a manifest are left out, in words; the first below its header is row 1.

    >>> rows_left_out("/in/list.csv", [3], "no path")
    'list.csv: row 3 is left out: no path'
    >>> rows_left_out("/in/list.csv", range(2, 14), "no path")
    'list.csv: rows 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 2 more are left out: no path'
    """
    numbers = [str(row) for row in rows]
    count = len(numbers)
    return f"{_name(manifest)}: {kind}{'s' * (count != 1)} {_first(numbers)} {are(count)} left out: {why}"


def some_left_out(manifest: str, count: int, why: str) -> str:
    """The same where nobody knows their numbers.

    >>> some_left_out("/in/list.csv", 3, "no path")
    'list.csv: 3 rows are left out: no path'
    """
    return f"{_name(manifest)}: {counted(count, 'row')} {are(count)} left out: {why}"


def scene_left_out(listing: str, name: str) -> str:
    """Of a scene whose name cannot name its mask."""
    return f"{_name(listing)}: the scene {name[:60]!r} is left out: no file can have that name; rename it"


def _name(uri: str) -> str:
    return public(uri).rpartition("/")[2]


def _first(words: list[str]) -> str:
    more = len(words) - SHOWN
    return ", ".join(words[:SHOWN]) + (f" and {more} more" if more > 0 else "")

"""What of the inputs' folders is no input, counted: so that nothing is left out without a word."""

from collections import Counter
from collections.abc import Iterable, Mapping
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
    closed: set[str] = field(default_factory=set)
    """Folders that this user may not read, or in which are files that he may not even look at."""
    archives: dict[str, str] = field(default_factory=dict)
    """That cannot be read, and why: which products they hold, nobody knows."""
    empty_archives: dict[str, bool] = field(default_factory=dict)
    """Archives that were read, and whether no input found a product in them; `add_archive` fills it."""
    others: dict[str, Counter[str]] = field(default_factory=dict)
    """As `kinds`, by folder, of those in which products are looked for; `add_others` fills it."""
    rows: list[str] = field(default_factory=list)
    """Of manifests, in words: which, and why."""
    unread: list[str] = field(default_factory=list)
    """Of these rows those that may name a source, in the same words: it may be one of an earlier run."""
    comments: list[tuple[str, str]] = field(default_factory=list)
    """Lists of text, and their lines that begin with #, which may be paths."""
    hidden: Counter[str] = field(default_factory=Counter)
    """Hidden files that would be inputs, by their ending."""

    def add_archive(self, uri: str, *, is_empty: bool) -> None:
        """An archive that an input has read. Another input may look for other products in it."""
        self.empty_archives[uri] = is_empty and self.empty_archives.get(uri, True)

    def add_others(self, folder: str, kinds: Counter[str]) -> None:
        """Files of a folder that an input of products has no use for: left out is what none has a use for."""
        self.others[folder] = kinds & self.others[folder] if folder in self.others else kinds

    def add_unread(self, line: str) -> None:
        """Rows that may name a source, in words."""
        self.rows.append(line)
        self.unread.append(line)

    def broken(self) -> tuple[str, ...]:
        """Of `lines` those of rows that are broken: work that is not done."""
        return tuple(in_utf8(line)[0] for line in self.unread)

    def lines(self) -> tuple[str, ...]:
        """One line for the folders, one for each manifest; none where nothing was left out."""
        parts = []
        if all_kinds := sum(self.others.values(), self.kinds):
            count = sum(all_kinds.values())
            kinds = [f"{ending or 'without ending'} {n}" for ending, n in _most_first(all_kinds)]
            parts.append(f"{counted(count, 'file')} of other kinds: {_first(kinds)}")
        if self.hidden:
            kinds = [f"{ending} {n}" for ending, n in _most_first(self.hidden)]
            parts.append(f"{counted(sum(self.hidden.values()), 'hidden file')}: {_first(kinds)}")
        for folders, what in ((self.folders, "hidden or system"), (self.links, "linked")):
            if folders:
                names = Counter(folder.rpartition("/")[2] for folder in folders)
                shown = [name if n == 1 else f"{name} {n}" for name, n in _most_first(names)]
                parts.append(f"{counted(len(folders), f'{what} folder')}: {_first(shown)}")
        if empty := [_name(uri) for uri, is_empty in sorted(self.empty_archives.items()) if is_empty]:
            parts.append(f"{counted(len(empty), 'archive')} without a product: {_first(empty)}")
        if self.archives:
            parts.append(archives_unread(self.archives))
        if self.results:
            parts.append(f"results of other jobs: {_first(sorted(map(public, self.results)))}")
        if self.closed:
            parts.append(closed_folders(self.closed))
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


def short_rows(manifest: str, lines: Iterable[int]) -> str:
    """Which lines of a manifest have fewer cells than its header; they are read.

    >>> short_rows("/in/list.csv", [3])
    'list.csv: line 3 has fewer cells than columns; the last columns count as empty'
    """
    numbers = [str(line) for line in lines]
    which = f"line {numbers[0]} has" if len(numbers) == 1 else f"lines {_first(numbers)} have"
    return f"{_name(manifest)}: {which} fewer cells than columns; the last columns count as empty"


def comments_in(manifest: str, count: int) -> str:
    """How many lines of a manifest are taken for comments.

    >>> comments_in("/in/list.txt", 3)
    '3 lines of list.txt begin with #: taken for comments; ./#name is a path'
    """
    begin, what = ("begins", "a comment") if count == 1 else ("begin", "comments")
    return (
        f"{counted(count, 'line')} of {_name(manifest)} {begin} with #: taken for {what}; ./#name is a path"
    )


def commented_lines(lists: Iterable[str]) -> str:
    """Where lines that begin with # name sources of earlier runs.

    >>> commented_lines(["/in/list.txt", "/in/list.txt"])
    'lines of list.txt begin with # and name them: where these are paths, write ./#name'
    """
    names = sorted({_name(uri) for uri in lists})
    return f"lines of {_first(names)} begin with # and name them: where these are paths, write ./#name"


def closed_folders(folders: Iterable[str]) -> str:
    """Those that this user may not read, in words.

    >>> closed_folders({"/in/private"})
    '1 folder closed to this user: /in/private'
    """
    names = sorted(folders)
    return f"{counted(len(names), 'folder')} closed to this user: {_first(names)}"


def archives_unread(archives: Mapping[str, str]) -> str:
    """Those that may hold products, in words.

    >>> archives_unread({"/in/download.zip": "is encrypted; unpack it"})
    '1 archive that cannot be read: download.zip is encrypted; unpack it'
    """
    words = [f"{_name(uri)} {why}" for uri, why in sorted(archives.items())]
    return f"{counted(len(words), 'archive')} that cannot be read: {_first(words)}"


def scene_left_out(listing: str, name: str) -> str:
    """Of a scene whose name cannot name its mask."""
    return f"{_name(listing)}: the scene {name[:60]!r} is left out: no file can have that name; rename it"


def scenes_unseen(names: list[str]) -> str:
    """Of scenes of several files that were not all found.

    >>> scenes_unseen(["north", "south"])
    '2 scenes are left out: files of theirs may lie in a folder that is closed to this user: north, south'
    """
    where = "files of theirs may lie in a folder that is closed to this user"
    return f"{counted(len(names), 'scene')} {are(len(names))} left out: {where}: {_first(names)}"


def _name(uri: str) -> str:
    return public(uri).rpartition("/")[2]


def _first(words: list[str]) -> str:
    more = len(words) - SHOWN
    return ", ".join(words[:SHOWN]) + (f" and {more} more" if more > 0 else "")

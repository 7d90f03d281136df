"""Files by the hundred thousand: facts in columns, as a stream, without an object per file.

The same rules as in `listing`: a link counts by its target, or as absent, linked folders are not entered, and
what is no regular file is left out. On a local disk this asks the system itself, about 2.5 us per file; S3 is
listed page by page, other object stores folder by folder.
"""

import contextlib
import errno
import os
import re
import stat
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path

from batchseg.errors import SourceIOError
from batchseg.system import listing, storage
from batchseg.system.file_info import ABSENT, FileInfo, file_infos
from batchseg.system.location import Location

Notice = Callable[[str, str], None]
"""Told the folder and the name of a file."""

BATCH = 16_384
"""Files in one batch at most: what a walk holds, about 5 MB."""

LISTED_FROM = 64
"""Members of one folder of a bucket from which on the folder is listed (1000 files per request)."""

TRIED, QUICK_SECONDS = 256, 20e-6
"""Files that are asked for first, and what one takes at most where the disk is a local one."""

_GONE = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP))
"""Meanwhile: that entry is left out, as `listing` does."""

_CLOSED = frozenset((errno.EACCES, errno.EPERM))
"""To this user: it is left out, too, and who asked is told."""

_ABSENT = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG))


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Some files, column by column; one entry per file in each list."""

    uris: list[str] = field(default_factory=list)
    sizes: list[int | None] = field(default_factory=list)
    """Bytes; 0 where the file is absent, None where a web server does not say."""
    tags: list[str | None] = field(default_factory=list)
    """Size and version (mtime in nanoseconds, or ETag); None where the file is absent."""
    modified: list[float | None] = field(default_factory=list)
    """Seconds since 1970; None where the storage does not say, or the file is absent."""
    versions: list[str] = field(default_factory=list)
    """As `FileInfo.version`; empty where all lie on a local disk, where it is the time."""

    def add(self, uri: str, size: int | None, tag: str | None, modified: float | None) -> None:
        self.uris.append(uri)
        self.sizes.append(size)
        self.tags.append(tag)
        self.modified.append(modified)

    def add_info(self, uri: str, info: FileInfo | None) -> None:
        if info is None:
            self.add(uri, 0, None, None)
            self.versions.append(ABSENT)
        else:
            self.add(uri, info.size, _tag_of(info), info.modified)
            self.versions.append(info.version)

    def every_version(self) -> list[str]:
        """As `FileInfo.version`, of local files too."""
        return self.versions or [
            ABSENT if tag is None else str(modified)
            for tag, modified in zip(self.tags, self.modified, strict=True)
        ]

    def infos(self) -> Iterator[FileInfo]:
        """One by one, as `listing.list_files` has them."""
        columns = zip(self.uris, self.sizes, self.every_version(), self.modified, strict=True)
        for uri, size, version, modified in columns:
            yield FileInfo(uri=uri, size=size, version=version, modified=modified)


def _local_tag(facts: os.stat_result) -> str:
    return f"{facts.st_size:x}-{facts.st_mtime_ns:x}"


def _tag_of(info: FileInfo) -> str:
    return f"{info.size or 0:x}-" + info.version.strip('"')


def walk(
    pattern: str, *, selection: listing.Selection = listing.EVERYTHING, without: str = ""
) -> Iterator[Files]:
    """Regular files of a path, a folder (all below it) or a glob, in no order, in batches.

    Args:
        pattern: as `listing.list_files` takes it.
        selection: told what there is, and asked what of it is wanted.
        without: a folder that is not entered.

    Raises:
        SourceIOError: the storage could not be listed.
        ValueError: the pattern has `**` beside other characters.
    """
    place = Location.of(pattern)
    plain = str(place.path or pattern)
    folder, _, name = plain.rpartition("/")
    tree = _Tree(selection, without, is_local=place.is_local)
    if listing.is_folder(pattern):
        yield from tree.below(plain)
    elif listing.is_glob(pattern):
        yield from tree.matching(plain)
    elif selection.wants(folder, name):
        found = look([plain])
        if found.tags[0] is not None:
            yield found


class _Tree:
    """Folders of one storage, of which some files are wanted."""

    def __init__(self, selection: listing.Selection, without: str, *, is_local: bool) -> None:
        self._selection, self._without, self._is_local = selection, without, is_local

    def below(self, folder: str) -> Iterator[Files]:
        if self._is_local:
            return _scan([folder], self._selection, self._without, deep=True)
        pages = listing.pages(folder, self._selection, deep=True)
        return _chosen(pages, storage.spelt(folder), self._selection, self._without)

    def matching(self, pattern: str) -> Iterator[Files]:
        """Level by level down to the pattern's last part, or to its `**`, below which all is listed."""
        parts = pattern.split("/")
        first = next(n for n, part in enumerate(parts) if any(c in part for c in listing.WILDCARDS))
        stars = next((n for n, part in enumerate(parts) if "**" in part), None)
        last = len(parts) - 1 if stars is None else stars
        folders = ["/".join(parts[:first])]
        for part in parts[first:last]:
            folders = self._one_level_down(folders, part)
        if stars is None:
            fitting = _Fitting(self._selection, storage.glob_regex(parts[-1]))
            yield from self._directly_in(folders, fitting)
            return
        whole = storage.glob_regex(pattern).match
        for folder in folders:
            for files in self.below(folder):
                yield _filtered(files, [bool(whole(uri)) for uri in files.uris])

    def _directly_in(self, folders: list[str], selection: listing.Selection) -> Iterator[Files]:
        if self._is_local:
            yield from _scan(folders, selection, self._without, deep=False)
            return
        for folder in folders:
            pages = listing.pages(folder, selection, deep=False)
            yield from _chosen(pages, storage.spelt(folder), selection, self._without)

    def _one_level_down(self, folders: list[str], part: str) -> list[str]:
        entered = [folder for folder in folders if self._selection.enters(folder)]
        listed = storage.at_once(self._subfolders, entered, entered[0] if entered else "")
        for folder in (below for lower in listed for below in lower):
            self._selection.sees(folder)
        if any(c in part for c in listing.WILDCARDS):
            fits = storage.glob_regex(part).match
            return [below for lower in listed for below in lower if fits(below.rpartition("/")[2])]
        lower = [f"{folder}/{part}" for folder in entered]
        return [folder for folder in lower if not self._is_local or _is_real_folder(folder)]

    def _subfolders(self, folder: str) -> list[str]:
        if not self._is_local:
            return listing.list_subfolders(folder)
        try:
            with os.scandir(folder or "/") as entries:
                return [f"{folder}/{e.name}" for e in entries if e.is_dir(follow_symlinks=False)]
        except OSError as e:
            _pass_over(e, folder, self._selection)
            return []


class _Fitting(listing.Selection):
    """Of what is wanted the files whose names fit a glob's last part."""

    def __init__(self, selection: listing.Selection, fits: re.Pattern[str]) -> None:
        self._whole, self._fits = selection, fits.match

    def sees(self, folder: str) -> None:
        self._whole.sees(folder)

    def enters(self, folder: str) -> bool:
        return self._whole.enters(folder)

    def wants(self, folder: str, name: str) -> bool:
        if self._fits(name):
            return self._whole.wants(folder, name)
        self._whole.passes(folder, name)
        return False

    def is_closed(self, folder: str) -> None:
        self._whole.is_closed(folder)


def _is_real_folder(path: str) -> bool:
    return Path(path).is_dir() and not Path(path).is_symlink()


def _filtered(files: Files, keep: Sequence[bool]) -> Files:
    chosen = Files()
    for entry in zip(keep, files.uris, files.sizes, files.tags, files.modified, strict=True):
        if entry[0]:
            chosen.add(*entry[1:])
    chosen.versions.extend(compress(files.versions, keep))
    return chosen


def _scan(folders: list[str], selection: listing.Selection, without: str, *, deep: bool) -> Iterator[Files]:
    """Files in local folders, and in those below them where `deep`."""
    left_out = str(Location.of(without).path or "") if without else ""
    files = Files()
    pending = folders[::-1]
    while pending:
        folder = pending.pop()
        if folder == left_out or not selection.enters(folder):
            continue
        try:
            with os.scandir(folder or "/") as entries:
                prefix = folder.rstrip("/") + "/"
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        selection.sees(prefix + entry.name)
                        if deep:
                            pending.append(prefix + entry.name)
                    elif deep and entry.is_symlink() and _is_folder(entry):
                        selection.sees_link(prefix + entry.name)
                    elif selection.wants(folder, entry.name):
                        _add_entry(files, prefix + entry.name, entry, selection)
                        if len(files.uris) == BATCH:
                            yield files
                            files = Files()
        except OSError as e:
            _pass_over(e, folder, selection)
    yield files


def _is_folder(link: os.DirEntry[str]) -> bool:
    try:
        return link.is_dir()
    except OSError:  # a link to itself
        return False


def _add_entry(files: Files, path: str, entry: os.DirEntry[str], selection: listing.Selection) -> None:
    try:
        facts = entry.stat()
    except OSError as e:
        if e.errno in _ABSENT and entry.is_symlink():
            files.add(path, 0, None, None)
        else:
            _pass_over(e, path, selection, folder=path.rpartition("/")[0])
        return
    if stat.S_ISREG(facts.st_mode):
        files.add(path, facts.st_size, _local_tag(facts), facts.st_mtime)


def _pass_over(error: OSError, path: str, selection: listing.Selection, folder: str = "") -> None:
    """Leave out what is gone, or closed: a folder, or what lies in `folder`. Raises SourceIOError else."""
    if error.errno in _CLOSED:
        selection.is_closed(folder or path)
    elif error.errno not in _GONE:
        msg = f"cannot list {path}: {error.strerror or error}"
        raise SourceIOError(msg) from error


def _chosen(
    pages: Iterable[list[FileInfo]], top: str, selection: listing.Selection, without: str
) -> Iterator[Files]:
    left_out = without.rstrip("/") + "/"
    entered: dict[str, bool] = {}

    def is_entered(folder: str) -> bool:
        if folder not in entered:
            above = len(folder) <= len(top) or is_entered(folder.rpartition("/")[0])
            if above and len(folder) > len(top):
                selection.sees(folder)
            entered[folder] = above and selection.enters(folder)
        return entered[folder]

    for page in pages:
        files = Files()
        for info in page:
            inside = without and info.uri.startswith(left_out)
            folder, _, name = info.uri.rpartition("/")
            if not inside and is_entered(folder) and selection.wants(folder, name):
                files.add_info(info.uri, info)
        yield files


def look(uris: Sequence[str], notice: Notice | None = None) -> Files:
    """Facts of the files of these names, in their order; local ones in a few threads, for network disks.

    Args:
        uris: of files.
        notice: told folder and name of all files in the folders of those in buckets, by several threads.

    Raises:
        SourceIOError: a storage does not answer, or denies access.
    """
    remote = [uri for uri in uris if "://" in uri and not Location.of(uri).is_local]
    if not remote:
        return _stat_all(uris)
    facts = dict(zip(remote, _asked(remote, notice), strict=True))
    local = [uri for uri in uris if uri not in facts]
    facts |= zip(local, _facts_of(_stat_all(local)), strict=True)
    files = Files()
    for uri in uris:
        size, tag, modified, version = facts[uri]
        files.add(uri, size, tag, modified)
        files.versions.append(version)
    return files


_Facts = tuple[int | None, str | None, float | None, str]
"""Size, tag, time and version, as in Files."""


def _facts_of(files: Files) -> Iterator[_Facts]:
    return zip(files.sizes, files.tags, files.modified, files.every_version(), strict=True)


def _asked(uris: Sequence[str], notice: Notice | None) -> list[_Facts]:
    """Of files in buckets and on web servers: folders of many are listed, others are asked for each."""
    counts = Counter(uri.rpartition("/")[0] for uri in uris)
    known: dict[str, _Facts] = {}
    many = {f for f, count in counts.items() if count >= LISTED_FROM and not f.startswith("http")}
    asked_for = set(uris) if many else set()
    for folder in sorted(many):
        for files in _directly_in_remote(folder, notice):
            pairs = zip(files.uris, _facts_of(files), strict=True)
            known |= ((uri, facts) for uri, facts in pairs if uri in asked_for)
    if few := sorted(f for f in counts if notice and f not in many and not f.startswith("http")):
        storage.at_once(lambda folder: _notice_all(folder, notice), few, few[0])
    single = [uri for uri in uris if uri.rpartition("/")[0] not in many]
    found = Files()
    for uri, info in file_infos(single).items():
        found.add_info(uri, info)
    known |= zip(found.uris, _facts_of(found), strict=True)
    return [known.get(uri, (0, None, None, ABSENT)) for uri in uris]


def _notice_all(folder: str, notice: Notice | None) -> None:
    # A key may read what a list names and list nothing: what is there beside it then stays unknown.
    with contextlib.suppress(SourceIOError, PermissionError):
        deque(_directly_in_remote(folder, notice), maxlen=0)


def _directly_in_remote(folder: str, notice: Notice | None) -> Iterator[Files]:
    for files in _chosen(
        listing.pages(folder, listing.EVERYTHING, deep=False), folder, listing.EVERYTHING, ""
    ):
        if notice is not None:
            for uri in files.uris:
                notice(folder, uri.rpartition("/")[2])
        yield files


def _stat_all(uris: Sequence[str]) -> Files:
    """One stat each. On a local disk a single thread is fastest, on a network disk 16 are many times so."""
    began = time.monotonic()
    files, rest = _stat_some(uris[:TRIED]), uris[TRIED:]
    is_fast = time.monotonic() - began < QUICK_SECONDS * TRIED
    size = max(TRIED, -(-len(rest) // storage.REQUESTS)) if not is_fast else max(1, len(rest))
    parts = [rest[start : start + size] for start in range(0, len(rest), size)]
    with contextlib.ExitStack() as stack:
        side_by_side = stack.enter_context(ThreadPoolExecutor(len(parts))).map if len(parts) > 1 else map
        for part in side_by_side(_stat_some, parts):
            files.uris.extend(part.uris)
            files.sizes.extend(part.sizes)
            files.tags.extend(part.tags)
            files.modified.extend(part.modified)
    return files


def _stat_some(uris: Sequence[str]) -> Files:
    files = Files()
    add_size, add_tag, add_time = files.sizes.append, files.tags.append, files.modified.append
    for uri in uris:
        try:
            facts = os.stat(uri.removeprefix("file://"))  # noqa: PTH116  a Path takes twice as long
        except OSError as e:
            if e.errno not in _ABSENT:
                msg = f"cannot look at {uri}: {e}"
                raise SourceIOError(msg) from e
            facts = None
        except ValueError:  # a zero byte: no file can be called so
            facts = None
        if facts is not None and stat.S_ISREG(facts.st_mode):
            add_size(facts.st_size)
            add_tag(_local_tag(facts))
            add_time(facts.st_mtime)
        else:
            add_size(0)
            add_tag(None)
            add_time(None)
    files.uris.extend(uris)
    return files


def current_tags(uris: Sequence[str]) -> list[str | None]:
    """The tags of files as they are now, one stat (or request) each; None where one is gone.

    Raises:
        SourceIOError: a storage does not answer, or denies access.
    """
    return look(uris).tags

"""What one input holds, in columns: what scenes and photographs share before they have ids."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from batchseg.inputs.ids import in_utf8
from batchseg.inputs.left_out import LeftOut
from batchseg.inputs.selection import InputSelection
from batchseg.inputs.source import LISTING, Column
from batchseg.inputs.source import compute as pc
from batchseg.job.settings import JobConfig
from batchseg.system import listing, walk
from batchseg.system.location import PATH_BYTES, Location, unreadable

FOUND = pa.schema([field for field in LISTING if field.name != "source_id"])
"""LISTING before there are ids."""

LAST_PART = re.compile("(?s)/[^/]*$").pattern
"""Of a URI: its name."""


@dataclass(frozen=True, slots=True)
class Clock:
    """Tells which files may still be written."""

    now: float
    min_age: float

    def is_young(self, modified: float | None) -> bool:
        """A time that lies further ahead than `min_age` is wrong, not young: such a file would wait for
        ever."""
        return modified is not None and abs(self.now - modified) < self.min_age

    def young(self, modified: list[float | None]) -> Column:
        """The same of many."""
        times = np.array(modified, dtype=np.float64)  # None becomes NaN, which is never young
        return pa.array(np.abs(self.now - times) < self.min_age)


def walked(
    pattern: str,
    config: JobConfig,
    kinds: frozenset[str],
    left_out: LeftOut,
    notice: Callable[[str, str], None] | None = None,
) -> tuple[Iterator[walk.Files], InputSelection]:
    """What a path, a folder or a glob names, in batches; and who chooses it, who knows other jobs' results.

    Args:
        pattern: the input.
        config: the job.
        kinds: endings of what counts in a folder, in small letters. A glob takes whatever it matches.
        left_out: told what is not wanted.
        notice: told folder and name of each file of another kind.
    """
    whole_folder = listing.is_folder(pattern)
    selection = InputSelection(
        pattern, config.output, kinds, left_out, whole_folder=whole_folder, notice=notice
    )
    if whole_folder or listing.is_glob(pattern):
        return walk.walk(pattern, selection=selection, without=config.output), selection
    infos = [info for info in listing.list_files(pattern) if selection.wants(*_split(info.uri))]
    if Location.of(pattern).is_local:  # with the tag by which it is known when it is read
        return iter([walk.look([info.uri for info in infos])]), selection
    files = walk.Files()
    for info in infos:
        files.add_info(info.uri, info)
    return iter([files]), selection


def _split(uri: str) -> tuple[str, str]:
    """Folder and name."""
    folder, _, name = uri.rpartition("/")
    return folder, name


def without_results(found: pa.Table, selection: InputSelection) -> pa.Table:
    """Without what was found before it was seen that its folder is the output of another job."""
    for folder in selection.results:
        found = found.filter(pc.invert(pc.starts_with(found["uri"], f"{folder}/")))
    return found


def check_web(pattern: str) -> None:
    """Raises ValueError where a pattern asks for a listing of a web server."""
    if pattern.startswith("http") and any(c in pattern for c in "*["):
        msg = "web servers have no listings; name single URLs, or put them in a manifest"
        raise ValueError(msg)


def texts(uris: list[str]) -> tuple[Column, Column]:
    """URIs as tables can hold them, and what is wrong with the original names."""
    try:
        return pa.array(uris, pa.string()), pa.repeat("", len(uris))
    except UnicodeEncodeError:
        pairs = [in_utf8(uri) for uri in uris]
        return pa.array([name for name, _ in pairs]), pa.array([problem for _, problem in pairs])


def unreadables(uris: Column) -> Column:
    """`unreadable` of each."""
    long = pc.greater(pc.binary_length(uris), PATH_BYTES)
    if not pc.any(pc.or_(long, pc.match_substring_regex(uris, r"://|\x00"))).as_py():
        return pa.array([""] * len(uris), pa.string())
    return pa.array([unreadable(uri) for uri in uris.to_pylist()], pa.string())


def nothing_of(uris: Column) -> walk.Files:
    """What is known of files that are not even looked for."""
    files = walk.Files()
    for uri in uris.to_pylist():
        files.add(str(uri), 0, None, None)
    return files

"""Which files in a folder are inputs: neither what systems keep for themselves nor results of other jobs."""

from collections.abc import Callable
from pathlib import PurePosixPath

from batchseg.inputs.left_out import RECORDS, LeftOut
from batchseg.inputs.sidecars import is_sidecar
from batchseg.system import listing
from batchseg.system.file_info import FileInfo
from batchseg.system.walk import walk

SYSTEM_FOLDERS = frozenset(
    (
        "#recycle",
        "#snapshot",
        "$recycle.bin",
        "@eadir",
        "@recently-snapshot",
        "@recycle",
        "@sharebin",
        "@snapshot",
        "@tmp",
        "__macosx",
        "_gsdata_",
        "found.000",
        "lost+found",
        "lost.dir",
        "network trash folder",
        "recycled",
        "recycler",
        "system volume information",
        "~snapshot",
    )
)
"""In small letters: of Synology, QNAP, NetApp, Windows, macOS, Linux, Android and GoodSync. Others are
hidden: `.snapshot`."""


def is_hidden(folder: str) -> bool:
    """Whether a folder of this name is hidden, or a system's own.

    >>> [is_hidden(name) for name in (".Trash-1000", "@eaDir", "$RECYCLE.BIN", "RECYCLER", "2024")]
    [True, True, True, True, False]
    """
    return folder.startswith(".") or folder.lower() in SYSTEM_FOLDERS


def ending_of(name: str) -> str:
    """In small letters; empty where a file's name has none.

    >>> [ending_of(name) for name in ("a.b.TIF", "README", ".hidden")]
    ['.tif', '', '']
    """
    dot = name.rfind(".")
    return name[dot:].lower() if dot > 0 else ""


class InputSelection(listing.Selection):
    """What of one input's folders is wanted.

    Hidden folders and systems' own are entered where the job names them, as a part of a path; a part of a
    glob that begins with a wildcard does not name them, as in shells.
    """

    def __init__(
        self,
        pattern: str,
        output: str,
        kinds: frozenset[str],
        left_out: LeftOut,
        *,
        whole_folder: bool,
        sidecars: bool = False,
        notice: Callable[[str, str], None] | None = None,
    ) -> None:
        """
        Args:
            pattern: the input: a path, a folder or a glob.
            output: of the job itself.
            kinds: endings of what counts in a folder, in small letters.
            left_out: told what is not wanted.
            whole_folder: files of other kinds are not wanted; a glob takes whatever it matches.
            sidecars: they are wanted too.
            notice: told folder and name of each file of another kind.
        """
        self._named = [part for part in pattern.split("/") if part]
        self._output, self._kinds, self._left_out, self._notice = output, kinds, left_out, notice
        self._whole_folder, self._sidecars = whole_folder, sidecars
        self._results: set[str] = set()

    def sees(self, folder: str) -> None:
        above, _, name = folder.rpartition("/")
        if name == RECORDS and above != self._output:
            self._results.add(above)
            self._left_out.results.add(above)

    def sees_link(self, folder: str) -> None:
        self._left_out.links.add(folder)

    def enters(self, folder: str) -> bool:
        above, _, name = folder.rpartition("/")
        if name == RECORDS or folder in self._results or above in self._results:
            return False
        if is_hidden(name) and not any(self._names(part, name) for part in self._named):
            self._left_out.folders.add(folder)
            return False
        return True

    def _names(self, part: str, folder: str) -> bool:
        return folder == part or (part[0] not in listing.WILDCARDS and PurePosixPath(folder).match(part))

    def wants(self, folder: str, name: str) -> bool:
        ending = ending_of(name)
        if ending in self._kinds:
            if name[0] == ".":
                self._left_out.hidden[ending] += 1
            return name[0] != "."
        self.passes(folder, name)
        if is_sidecar(name):
            return self._sidecars
        if name.startswith("."):
            return False
        if self._whole_folder:
            self._left_out.kinds[ending] += 1
        return not self._whole_folder

    def passes(self, folder: str, name: str) -> None:
        if self._notice is not None:
            self._notice(folder, name)

    def is_closed(self, folder: str) -> None:
        self._left_out.closed.add(folder)

    def is_result(self, uri: str) -> bool:
        """Of another job: what was found before it was seen that its folder is an output."""
        return any(uri.startswith(f"{folder}/") for folder in self._results)

    @property
    def results(self) -> frozenset[str]:
        """Folders that are outputs of other jobs."""
        return frozenset(self._results)


def selected_files(
    pattern: str, output: str, kinds: frozenset[str], left_out: LeftOut, *, sidecars: bool = False
) -> list[FileInfo]:
    """What an input names, sorted by URI.

    Args:
        pattern: a path, a folder (all below it) or a glob.
        output: of the job itself, which is not entered.
        kinds: endings of what counts in a folder, in small letters; a glob takes whatever it matches.
        left_out: told what is not wanted.
        sidecars: they are wanted too.

    Raises:
        SourceIOError: the storage could not be listed.
        ValueError: the pattern has `**` beside other characters.
    """
    is_folder = listing.is_folder(pattern)
    selection = InputSelection(pattern, output, kinds, left_out, whole_folder=is_folder, sidecars=sidecars)
    if pattern.startswith("http") or not (is_folder or listing.is_glob(pattern)):
        named = [(info, *info.uri.rpartition("/")) for info in listing.list_files(pattern)]
        return [info for info, folder, _, name in named if selection.wants(folder, name)]
    found = [info for files in walk(pattern, selection=selection, without=output) for info in files.infos()]
    kept = [info for info in found if not selection.is_result(info.uri)] if selection.results else found
    return sorted(kept, key=lambda info: info.uri)

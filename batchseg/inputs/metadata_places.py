"""Where the metadata files of rasters lie: found by few requests, in any case of letters."""

import re
from collections.abc import Iterable

from batchseg.inputs.metadata import metadata_files
from batchseg.system import listing
from batchseg.system.file_info import FileInfo, file_info

_SENTINEL = re.compile(r"MTD_MSIL\d\w\.xml", re.IGNORECASE)


class MetadataPlaces:
    """Metadata files of rasters: by one glob where patterns show where they lie, else one by one."""

    def __init__(self, globs: Iterable[str] = ()) -> None:
        """`globs`: of rasters; empty where each raster is asked for."""
        self._known: dict[str, FileInfo | None] = {}
        self._folders: dict[str, dict[str, FileInfo]] = {}
        wanted = {candidate for glob in globs for candidate in metadata_files(glob)}
        self._complete = bool(wanted)
        for candidate in sorted(wanted):
            self._known |= {_key(info.uri): info for info in listing.list_files(_any_case(candidate))}

    def of(self, raster: str) -> FileInfo | None:
        """The first there is of a raster's `metadata_files`. Raises SourceIOError."""
        candidates = metadata_files(raster)
        if not self._complete:
            for uri in candidates:
                if _key(uri) not in self._known:
                    self._known[_key(uri)] = file_info(uri)
                if self._known[_key(uri)] is not None:
                    break
            else:
                return self._in_other_case(candidates)
        return next((info for uri in candidates if (info := self._known.get(_key(uri)))), None)

    def _in_other_case(self, candidates: tuple[str, ...]) -> FileInfo | None:
        """Of Sentinel-2's: their folder holds few files. A web server need not show what is in one."""
        if not candidates or candidates[0].startswith("http") or not _SENTINEL.search(candidates[0]):
            return None
        folder = candidates[0].rpartition("/")[0]
        if folder not in self._folders:
            self._folders[folder] = {_key(info.uri): info for info in listing.list_folder(folder)}
        return next((info for uri in candidates if (info := self._folders[folder].get(_key(uri)))), None)


def _key(uri: str) -> str:
    """A file's folder, and its name in small letters where it is one of Sentinel-2's."""
    folder, _, name = uri.rpartition("/")
    return f"{folder}/{name.lower() if _SENTINEL.fullmatch(name) else name}"


def _any_case(glob: str) -> str:
    """A glob of Sentinel-2's files in any case of letters.

    >>> _any_case("/a/*/MTD_MSIL2A.xml").rpartition("/")[2][:12]
    '[Mm][Tt][Dd]'
    """
    folder, _, name = glob.rpartition("/")
    if not _SENTINEL.fullmatch(name):
        return glob
    return f"{folder}/" + re.sub(r"[A-Za-z]", lambda at: f"[{at[0].upper()}{at[0].lower()}]", name)

"""Files that GDAL reads beside a raster."""

import os
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from batchseg.inputs.formats import is_address, names_in_vrt
from batchseg.system import fetch, listing, storage
from batchseg.system.file_info import FileInfo, file_info
from batchseg.system.location import Location

SIDECAR_SUFFIXES = (".msk", ".aux.xml", ".ovr", ".ovr.msk", ".wld", ".prj", ".tfw", ".jgw", ".pgw", ".j2w")
"""Files beside a raster that GDAL reads with it: `a.tif.msk`, or `a.wld` for the last ones."""


def is_sidecar(uri: str) -> bool:
    return uri.lower().endswith(SIDECAR_SUFFIXES)


def sidecars(uri: str, listed: Mapping[str, FileInfo], *, allow_vrt: bool = False) -> list[FileInfo]:
    """Those of a raster, out of the listed files; of a VRT that may be opened its members as well."""
    folder, _, name = uri.rpartition("/")
    stem = name.rpartition(".")[0]
    names = [f"{folder}/{base}{suffix}" for base in (name, stem) for suffix in SIDECAR_SUFFIXES]
    found = [listed[key] for key in names if key in listed]
    if allow_vrt and name.lower().endswith(".vrt"):
        found += [info for member in _vrt_members(uri) if (info := file_info(member))]
    return found


class Folders:
    """Sidecars by folder, one listing each: a glob such as *.tif does not show them."""

    def __init__(self, *, allow_vrt: bool = False) -> None:
        """`allow_vrt`: files that a VRT names are looked at."""
        self._allow_vrt = allow_vrt
        self._listed: dict[str, dict[str, FileInfo]] = {}

    def list_remote(self, uris: Iterable[str]) -> None:
        """List the folders of rasters in buckets side by side: one after the other is a round trip each."""
        folders = {uri.rpartition("/")[0] for uri in uris if not Location.of(uri).is_local}
        missing = sorted(folders - set(self._listed))
        if missing:
            listed = storage.at_once(_sidecars_in, missing, missing[0])
            self._listed |= zip(missing, listed, strict=True)

    def sidecars(self, uri: str) -> list[FileInfo]:
        folder = uri.rpartition("/")[0]
        if folder not in self._listed:
            self._listed[folder] = _sidecars_in(folder)
        return sidecars(uri, self._listed[folder], allow_vrt=self._allow_vrt)


def _sidecars_in(folder: str) -> dict[str, FileInfo]:
    if folder.startswith("http"):
        return {}  # a web server need not show what is in a folder
    return {info.uri: info for info in listing.list_folder(folder) if is_sidecar(info.uri)}


def beside(uri: str, files: Iterable[str]) -> list[str]:
    """Those of some files that belong to one raster: it and its sidecars."""
    stem = uri[: -len(PurePosixPath(uri).suffix) or None]
    return [file for file in files if file == uri or (file.startswith(stem) and is_sidecar(file))]


def _vrt_members(uri: str) -> list[str]:
    """Files that a VRT refers to: it changes when they do."""
    try:
        named = names_in_vrt(fetch.read_bytes(uri))
    except OSError:
        return []
    folder = uri.rpartition("/")[0]
    local = [(name, relative) for name, relative in named if not is_address(name) and "/vsi" not in name]
    return sorted({_below(folder, name) if relative else name for name, relative in local})


def _below(folder: str, name: str) -> str:
    protocol, separator, path = folder.rpartition("://")
    return protocol + separator + os.path.normpath(f"{path}/{name}")

"""Files that GDAL reads beside a raster, in any case of letters: masks, metadata, and where it lies."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence

from batchseg.errors import SourceIOError
from batchseg.inputs.formats import is_address, names_in_vrt
from batchseg.system import fetch, listing, storage
from batchseg.system.file_info import FileInfo, file_info
from batchseg.system.location import Location

BEHIND_EITHER = frozenset(
    (".msk", ".aux.xml", ".ovr", ".ovr.msk", ".wld", ".prj", ".tfw", ".jgw", ".pgw", ".j2w", ".aux")
)
"""Behind a raster's whole name or its stem: `a.tif.msk`, `a.wld`."""

BEHIND_STEM = frozenset((".tab", ".ige", ".rrd"))

OF_SATELLITES = frozenset((".rpb", ".imd", ".xml", "_rpc.txt", ".pvl", ".rpc", ".pass"))
"""Behind the stem of a GeoTIFF or a JPEG 2000 file: rational polynomials, and what GDAL wants with them (its
gcore/mdreader: DigitalGlobe, OrbView, GeoEye, EROS, Kompsat)."""

PICTURES = frozenset(("jpg", "jpeg", "png", "bmp", "gif", "webp", "img"))
"""Suffixes of rasters for which GDAL looks for none of these."""

WORLD_FILES = frozenset(
    (
        *(".tfw", ".tifw", ".tiffw", ".gfw", ".gtiffw", ".jgw", ".jpw", ".jpgw", ".jpegw", ".pgw", ".pngw"),
        *(".bpw", ".bmpw", ".gifw", ".j2w", ".jp2w", ".jkw", ".j2kw", ".wld"),
    )
)
"""Suffixes of those of the usual rasters."""

CERTAIN = tuple(BEHIND_EITHER | BEHIND_STEM | WORLD_FILES | OF_SATELLITES - {".xml"})

NOTHING_ALONE = (".xml", ".txt", "w")
"""How names of others end, which say nothing without their raster."""

POSSIBLE = CERTAIN + NOTHING_ALONE

_LAST_LETTERS = frozenset(letter for end in POSSIBLE for letter in (end[-1], end[-1].upper()))
"""Few rasters' names end in one."""

MOST_LISTED = 100_000
"""Folders of which it is remembered what lies in them."""

PLEIADES = re.compile(r"....(.+)_r\d+c\d+")
ALOS = re.compile(r"img-.*")


def is_sidecar(uri: str) -> bool:
    """Whether a file is one by its name alone, whatever lies beside it."""
    return uri.lower().endswith(CERTAIN)


def may_be_sidecar(uri: str) -> bool:
    """Whether a file is one, or may be one of some raster."""
    return uri.lower().endswith(POSSIBLE)


def belongs(name: str, raster: str) -> bool:
    """Whether GDAL 3.10 reads a file with a raster; names without folders, in small letters.

    >>> [belongs(name, "a.tif") for name in ("a.tifw", "a_rpc.txt", "a.tif.msk", "ab.tfw", "a.jgw")]
    [True, True, True, False, True]
    """
    stem, dot, suffix = raster.rpartition(".")
    stem, suffix = (stem, suffix) if dot else (raster, "")
    if name.startswith(stem):
        behind = name[len(stem) :]
        if behind in BEHIND_EITHER or behind in BEHIND_STEM or name.removeprefix(raster) in BEHIND_EITHER:
            return True
        # World files: first and last letter of the raster's suffix and a w, or all of it and a w.
        if suffix and behind in (f".{suffix[0]}{suffix[-1]}w", f".{suffix}w", ".jpw"):
            return True
        return behind in OF_SATELLITES and suffix not in PICTURES
    return suffix not in PICTURES and name in _elsewhere(stem)


def _elsewhere(stem: str) -> tuple[str, ...]:
    """Names of another stem: the polynomials of Pleiades (`IMG_x_R1C1`) and of ALOS (`IMG-01-x`)."""
    if found := PLEIADES.fullmatch(stem):
        return tuple(f"{kind}_{rest}.xml" for kind in ("rpc", "dim") for rest in (found[1], stem[4:]))
    if ALOS.fullmatch(stem):
        ends = [f"{kind}{rest}.txt" for kind in ("rpc", "hdr") for rest in (stem[3:], stem[6:])]
        return (*ends, "summary.txt")
    return ()


def _key(uri: str) -> str:
    """What a raster's name and those of its sidecars begin with; few others do."""
    folder, _, name = uri.rpartition("/")
    return f"{folder}/{name.lower().partition('.')[0].partition('_rpc')[0]}"


class Beside:
    """Files of some folders, to find those of a raster without looking at all."""

    def __init__(self, infos: Iterable[FileInfo] = ()) -> None:
        self._by_key: dict[str, list[FileInfo]] = {}
        self.add(infos)

    def add(self, infos: Iterable[FileInfo]) -> None:
        for info in infos:
            if may_be_sidecar(info.uri):
                self._by_key.setdefault(_key(info.uri), []).append(info)

    def __bool__(self) -> bool:
        return bool(self._by_key)

    def of(self, uri: str) -> list[FileInfo]:
        if not self._by_key:
            return []
        folder, _, name = uri.rpartition("/")
        raster = name.lower()
        keys = [_key(uri), *(_key(f"{folder}/{other}") for other in _elsewhere(raster.rpartition(".")[0]))]
        near = (info for key in dict.fromkeys(keys) for info in self._by_key.get(key, ()))
        return [info for info in near if belongs(info.uri.rpartition("/")[2].lower(), raster)]


class Folders:
    """Sidecars by folder, one listing each: a glob such as *.tif does not show them."""

    def __init__(self, *, allow_vrt: bool = False) -> None:
        """`allow_vrt`: files that a VRT names are looked at."""
        self._allow_vrt = allow_vrt
        self._listed: dict[str, Beside] = {}

    def sidecars(self, uri: str) -> list[FileInfo]:
        folder = uri.rpartition("/")[0]
        if folder not in self._listed:
            self._listed[folder] = _beside_in(folder)
        return sidecars(uri, self._listed[folder], allow_vrt=self._allow_vrt)

    def of_all(self, uris: Sequence[str]) -> Mapping[int, list[FileInfo]]:
        """Sidecars of many rasters, by the place of those that have any."""
        if len(self._listed) > MOST_LISTED:
            self._listed.clear()
        folders = {uri.rpartition("/")[0] for uri in uris}
        missing = sorted(folders - set(self._listed))
        # In buckets side by side: one after the other is a round trip each.
        remote = next((folder for folder in missing if not Location.of(folder).is_local), "")
        self._listed |= zip(missing, storage.at_once(_beside_in, missing, remote), strict=True)
        if not self._allow_vrt and not any(self._listed[folder] for folder in folders):
            return {}
        found = ((place, self.sidecars(uri)) for place, uri in enumerate(uris))
        return {place: infos for place, infos in found if infos}


def _beside_in(folder: str) -> Beside:
    if folder.startswith("http"):
        return Beside()  # a web server need not show what is in a folder
    if not Location.of(folder).is_local:
        return Beside(listing.list_folder(folder))
    try:
        names = os.listdir(folder.removeprefix("file://") or "/")  # noqa: PTH208  a Path takes five times as long
    except (FileNotFoundError, NotADirectoryError):
        return Beside()
    except OSError as e:
        msg = f"cannot list {folder}: {e}"
        raise SourceIOError(msg) from e
    possible = [name for name in names if name[-1:] in _LAST_LETTERS and may_be_sidecar(name)]
    return Beside(info for name in possible if (info := file_info(f"{folder}/{name}")) is not None)


def sidecars(uri: str, listed: Beside, *, allow_vrt: bool = False) -> list[FileInfo]:
    """Those of a raster, out of the listed files; of a VRT that may be opened its members as well."""
    found = listed.of(uri)
    if allow_vrt and uri.lower().endswith(".vrt"):
        found += [info for member in _vrt_members(uri) if (info := file_info(member))]
    return found


def beside(uri: str, files: Iterable[str]) -> list[str]:
    """Those of some files that belong to one raster: it and its sidecars."""
    folder, _, name = uri.rpartition("/")
    return [file for file in files if file == uri or _is_beside(file, folder, name.lower())]


def _is_beside(file: str, folder: str, raster: str) -> bool:
    where, _, name = file.rpartition("/")
    return where == folder and belongs(name.lower(), raster)


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

"""Georeferences that lie beside photographs: their results would lose them without a word."""

import os
import re
from collections.abc import Collection, Iterator, Mapping

from batchseg.inputs.formats import local_head
from batchseg.system import fetch, storage
from batchseg.system.location import Location

HAS_PLACE = "has a place on the ground"
"""How the reason begins of photographs that are refused for it."""

KINDS = {
    "jpg": ("jpg", "jpeg", "jpe", "jfif", "mpo"),
    "tif": ("tif", "tiff"),
    "jp2": ("jp2", "j2k"),
    **{kind: (kind,) for kind in ("png", "bmp", "gif", "webp")},
}
"""Endings of files to which GDAL finds a world file."""

_WORLD_FILES = {f"{e[0]}{e[-1]}w" for endings in KINDS.values() for e in endings} | {
    f"{e}w" for endings in KINDS.values() for e in endings
}
_BESIDE = re.compile(r"(?P<stem>.+?)(?P<ending>\.aux\.xml|_rpc\.txt|\.rpb|\.tab|\.\w{3,5})", re.IGNORECASE)
_IN_TEXT = {
    ".aux.xml": re.compile(rb"<(SRS|GeoTransform|GCPList)\b|domain=\"RPC\""),
    ".tab": re.compile(rb"!table", re.IGNORECASE),
}
"""Such files may hold nothing but statistics, or be a table of something else."""

_ALONE = frozenset((".wld", "_rpc.txt", ".rpb", ".tab"))
_LAST = frozenset((".xml", ".txt", ".rpb", ".tab", ".wld", *(f".{ending}" for ending in _WORLD_FILES)))
_ENDS = frozenset(letter for ending in _LAST for letter in (ending[-1], ending[-1].upper()))
TEXT_BYTES = 2**16
"""At the beginning of a text, in which a place stands."""


class Places:
    """Files of georeferences as a walk comes by them, and which photographs they belong to."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[str, str]] = {}

    def notice(self, folder: str, name: str) -> None:
        """Remember a file by the photographs that it may belong to."""
        if name[name.rfind(".") :].lower() not in _LAST:
            return
        match = _BESIDE.fullmatch(name)
        ending = match["ending"].lower() if match else ""
        if match is None or (ending != ".aux.xml" and not _is_world_file(ending)):
            return
        for photograph in _named_by(match["stem"], ending):
            self._found[f"{folder}/{photograph}".lower()] = (f"{folder}/{name}", ending)

    def notice_all(self, folder: str) -> None:
        """What lies in a folder on a disk, whose photographs a list names."""
        try:
            names = os.listdir(folder)  # noqa: PTH208  a Path takes five times as long
        except (OSError, ValueError):
            return
        for name in names:
            if name[-1:] in _ENDS:  # no photograph's
                self.notice(folder, name)

    def problems(self, uris: Collection[str]) -> Mapping[str, str]:
        """Why photographs are refused, by those of their URIs that are, in small letters.

        Args:
            uris: in small letters.

        Raises:
            OSError: a storage does not give a text that lies beside one.
        """
        beside = {uri: self._found[uri] for uri in uris if uri in self._found}
        texts = sorted({file for file, ending in beside.values() if ending in _IN_TEXT})
        heads = dict(zip(texts, storage.at_once(_head, texts, texts[0]), strict=True)) if texts else {}
        return {
            uri: place_refused(f"{ending} beside it")
            for uri, (file, ending) in beside.items()
            if file not in heads or _IN_TEXT[ending].search(heads[file])
        }

    def __bool__(self) -> bool:
        return bool(self._found)

    def __iter__(self) -> Iterator[str]:
        """URIs of photographs that may have a place, in small letters."""
        return iter(self._found)


def place_refused(what: str) -> str:
    """Why a photograph with a georeference is not done.

    >>> place_refused("CRS")
    'has a place on the ground (CRS), which results of photographs do not keep: leave out `fit` and `rules`'
    """
    return f"{HAS_PLACE} ({what}), which results of photographs do not keep: leave out `fit` and `rules`"


def _is_world_file(ending: str) -> bool:
    return ending in _ALONE or ending[1:] in _WORLD_FILES


def _named_by(stem: str, ending: str) -> Iterator[str]:
    if ending == ".aux.xml":
        yield stem
        return
    for endings in KINDS.values():
        for of in endings:
            if ending in _ALONE or ending[1:] in (f"{of[0]}{of[-1]}w", f"{of}w"):
                yield f"{stem}.{of}"


def _head(uri: str) -> bytes:
    path = Location.of(uri).path
    if path is None:
        with fetch.open_file(uri) as file:
            return file.read(TEXT_BYTES)
    try:
        return local_head(path, TEXT_BYTES)
    except OSError:  # closed to this user, or no regular file
        return b""

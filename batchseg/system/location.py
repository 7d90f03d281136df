"""Where a file or folder is: its address as it was given, and its path if a disk here has it."""

import re
from dataclasses import dataclass
from pathlib import Path

from batchseg.errors import OutputError

PROTOCOLS = {
    "s3": ("s3", "s3a"),
    "gs": ("gs", "gcs"),
    "az": ("az", "abfs", "abfss"),
    "http": ("http", "https"),
}
"""Which spellings of a URI an entry of the job file's `storage` is for."""


@dataclass(frozen=True, slots=True)
class Location:
    """Made once where an address comes in; who works there asks it, and not the text."""

    uri: str
    """As it was given: a path, relative or not, or protocol://..."""
    path: Path | None
    """On a disk of this machine, of network file systems too; None on other storages."""
    protocol: str
    """What the address spells: s3, s3a, http ...; file for what has a path."""
    root: Path | None = None
    """Of what `below` made: the folder. Others may write there, so no link below it is followed."""

    @classmethod
    def of(cls, where: "str | Location") -> "Location":
        """The place of an address; a place is given back."""
        if isinstance(where, Location):
            return where
        protocol, separator, rest = where.partition("://")
        if separator and protocol != "file":
            return cls(where, None, protocol)
        return cls(where, Path(rest if separator else where), "file")

    def below(self, path: str) -> "Location":
        """What lies below this folder.

        Args:
            path: relative, its parts separated by slashes.

        Raises:
            OutputError: it leads out of the folder, or no file can have it.
        """
        if problem := misplaced(path):
            msg = f"{shortened(path)!r} is no path below {self.uri}: {problem}"
            raise OutputError(msg)
        return self.listed(path)

    def listed(self, name: str) -> "Location":
        """What a listing of this folder names: it is there, whatever its name holds."""
        local = None if self.path is None else self.path / name
        return Location(join(self.uri, name), local, self.protocol, self.root or self.path)

    @property
    def name(self) -> str:
        """The last part."""
        return self.uri.rstrip("/").rpartition("/")[2]

    @property
    def is_local(self) -> bool:
        return self.path is not None

    def __str__(self) -> str:
        return self.uri


def join(root: str, *parts: str) -> str:
    """The address of what lies below another."""
    return "/".join((root.rstrip("/"), *parts))


PATH_BYTES = 4096
"""Of one path: Linux takes no more, S3 a quarter of it."""

SHOWN = 200
"""Characters of a path that is no path."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def shortened(path: str) -> str:
    """For messages."""
    return path if len(path) <= SHOWN else f"{path[:SHOWN]}..."


def has_control_character(text: str) -> bool:
    """Of C0 or C1, or DEL."""
    return bool(_CONTROL.search(text))


def misplaced(path: str) -> str:
    """Why a relative path does not name a file below its folder, in words; empty where it does."""
    if len(path.encode(errors="surrogateescape")) > PATH_BYTES:
        return f"it is longer than {PATH_BYTES} bytes"
    if has_control_character(path):
        return "it holds a control character"
    if any(part in ("", ".", "..") for part in path.split("/")):
        return "it is absolute, or has an empty part, `.` or `..`"
    return ""


SPOKEN = frozenset((*(spelling for each in PROTOCOLS.values() for spelling in each), "file", "memory"))


def unreadable(uri: str) -> str:
    """Why what a listing holds can name no file, in words; empty where it can.

    fsspec knows many more protocols, and chains of them, that unpack archives or run programs; GDAL has
    names that begin with /vsi.
    """
    if "\0" in uri:
        return "its path holds a NUL character; correct the list"
    if len(uri) > PATH_BYTES:
        return f"its path has {len(uri):,} characters; correct the list"
    protocol, separator, rest = uri.partition("://")
    if separator and (protocol not in SPOKEN or "::" in protocol or not rest.strip("/")):
        return "is no path, and no address that is read: s3://, gs://, az://, http:// or https://"
    return ""

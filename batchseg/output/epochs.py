"""The epochs of an output, as they are on its storage: who holds it, or held it last."""

import os
from dataclasses import dataclass
from pathlib import Path

from batchseg.errors import OutputError
from batchseg.output import layout
from batchseg.system import fetch, listing
from batchseg.system.file_info import FileInfo, file_info
from batchseg.system.json_text import parse_json
from batchseg.system.location import Location

HOLDER_CHARACTERS = 500
"""Of who holds an output, at most; batchseg's own words are a fifth of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """Somebody's epoch as it is on the storage."""

    token: str
    text: str
    released: bool
    ending: bool
    """Its workers are to publish nothing more."""
    scope: str
    """Where a flock on its file tells whether its holder lives, see `flock_scope`; empty: everywhere."""
    modified: float | None


def listed(output: str) -> list[FileInfo]:
    """Epochs, and what starts were killed over: files in the making, and those that asked for the time."""
    return list(listing.list_folder(layout.locks_folder(output)))


def newest(output: str) -> int:
    """The highest number there is; 0 where nobody ever held the output."""
    return max((layout.epoch_number(info.uri) or 0 for info in listed(output)), default=0)


def found(output: str, epoch: int) -> Epoch | None:
    """An epoch, and when it was written last. Raises as `read` does."""
    place = layout.epoch_file(output, epoch)
    info = file_info(place)
    return read(place, info.modified if info else None)


def read(place: Location, modified: float | None = None) -> Epoch | None:
    """The epoch of a file; None where there is none. Raises OutputError where it cannot be read."""
    try:
        loaded = parse_json(fetch.read_bytes(place))
        return Epoch(
            token=_text(loaded["token"]),
            text=_text(loaded["holder"]),
            released=loaded["released"] is True,
            ending=loaded.get("ending") is True,
            scope=_text(loaded.get("scope", "")),
            modified=modified,
        )
    except FileNotFoundError:
        return None
    except OSError as e:
        msg = f"cannot read {place}: {e}"
        raise OutputError(msg) from e
    except (AttributeError, ValueError, KeyError, TypeError, RecursionError):
        # A power cut leaves an empty file, and so does, for a moment, who creates one without hard links.
        text = f"unknown, as {place} is damaged"
        return Epoch(token="", text=text, released=False, ending=False, scope="", modified=modified)


def flock_scope(descriptor: int) -> str:
    """Who sees a flock on an open file: processes of one kernel that have it from one mounted file system.

    Others may have their own: FUSE keeps flocks in each host's kernel, and for each mount.
    """
    kernel = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{kernel}:{os.fstat(descriptor).st_dev:x}"


def _text(value: object) -> str:
    """Of an epoch, which whoever may write to the output can have written. Raises TypeError."""
    if not isinstance(value, str) or len(value) > HOLDER_CHARACTERS:
        msg = f"no text of up to {HOLDER_CHARACTERS} characters"
        raise TypeError(msg)
    return value

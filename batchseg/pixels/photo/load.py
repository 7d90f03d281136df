"""Photographs read, decoded and hashed, a few ahead of who wants them."""

import hashlib
import math
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pyarrow as pa

from batchseg.errors import MismatchError, SourceChangedError, SourceError, SourceIOError
from batchseg.inputs.places import HAS_PLACE
from batchseg.inputs.source import Doubt
from batchseg.pixels.photo.decode import USUAL, decode
from batchseg.pixels.photo.limits import Limits, NoRoomError
from batchseg.pixels.photo.picture import Picture
from batchseg.pixels.photo.room import Claim, Room
from batchseg.system import fetch
from batchseg.system.location import Location
from batchseg.system.walk import current_tags

CHUNK_FILES, CHUNK_BYTES = 16, 4 * 2**20
"""Files that one reading thread takes at a time: many small ones, or one large one."""

REMOTE_READERS = 16
"""Threads where files lie in a bucket: each waits for its replies most of the time."""

AHEAD_BYTES = 32 * 2**20
"""Of files that are read ahead; in memory most photographs take about ten times their file."""

DECODED_BYTES = 64 * 2**20
"""Of pixels from one chunk, or one photograph of more: a PNG may take a thousand times its file."""

TOGETHER_BYTES = 2**29
"""That photographs which are read ahead may take together, at least."""

MAX_FILE_BYTES = 2**31
"""A file is read whole; 300 megapixels without compression take less in 16 bits."""

DIGEST_BYTES = 16
"""128 bits: no two contents in any archive share one."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """One photograph as it was read, or why it could not be."""

    row: Row
    picture: Picture | None
    content: str
    """Digest of the file's bytes; empty unless asked for."""
    doubt: Doubt | None = None
    is_large: bool = False
    """It takes more memory than there is room for beside others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """A file whose picture has to wait."""

    row: Row
    data: bytes
    content: str


_Chunk = Sequence[Row | _Read]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """What was made of the first of a chunk."""

    loaded: list[Loaded]
    held: int
    """Bytes that they took of the room."""
    rest: _Chunk
    """Left because the others fill the memory."""


_Ahead = tuple[int, "Future[_Part]"]
"""Bytes of a chunk's files, and what becomes of it."""


def content_digest(data: bytes) -> str:
    """What two files of the same content share, and no others."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).hexdigest()


def load(row: Row, *, with_content: bool, limits: Limits = USUAL) -> Loaded:
    """Read and decode one photograph, and see that it is the one that was listed."""
    photo = _load(row, with_content, limits)
    return photo if isinstance(photo, Loaded) else _large(row)


def _load(what: Row | _Read, with_content: bool, limits: Limits) -> Loaded | _Read:
    """A photograph; its file where there is no room for the picture now."""
    row = _row(what)
    try:
        read = what if isinstance(what, _Read) else _read(row, with_content)
        try:
            picture = decode(read.data, row["source_id"].rpartition("/")[2], limits=limits)
        except NoRoomError:
            return read
    except SourceError as e:
        return Loaded(row=row, picture=None, content="", doubt=Doubt.of(row["source_id"], e))
    return Loaded(row=row, picture=picture, content=read.content)


def _large(row: Row) -> Loaded:
    return Loaded(row=row, picture=None, content="", is_large=True)


def _read(row: Row, with_content: bool) -> _Read:
    """Raises SourceError."""
    if row["problem"]:
        wrong_job = row["problem"].startswith(HAS_PLACE)
        raise MismatchError(row["problem"]) if wrong_job else SourceError(row["problem"])
    if row["size"] > MAX_FILE_BYTES:
        msg = f"is a file of {row['size']:,} bytes, at most {MAX_FILE_BYTES:,} are taken for a photograph"
        raise SourceError(msg)
    data = read_listed(row)
    return _Read(row=row, data=data, content=content_digest(data) if with_content else "")


def read_listed(row: Row) -> bytes:
    """The bytes of a file, if it is still the version that was listed.

    Raises:
        SourceIOError: the storage does not give it.
        SourceChangedError: it is gone, or another version.
    """
    try:
        local = Location.of(row["uri"]).path  # fsspec takes 0.1 ms for a file
        if local is None:
            data = fetch.read_bytes(row["uri"])
        else:
            with local.open("rb") as file:
                data = file.read(row["size"] + 1)  # of one that has grown: it may have grown without end
    except OSError as e:
        raise _not_given(e) from e
    _check_tag(row)
    return data


def listed_digest(row: Row) -> str:
    """`content_digest` of a file, if it is still the version that was listed; little of it is in memory.

    Raises as `read_listed`.
    """
    if row["size"] <= CHUNK_BYTES:
        return content_digest(read_listed(row))
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    try:
        with fetch.open_file(row["uri"]) as file:
            left = row["size"] + 1
            while left and (piece := file.read(min(left, CHUNK_BYTES))):
                digest.update(piece)
                left -= len(piece)
    except OSError as e:
        raise _not_given(e) from e
    _check_tag(row)
    return digest.hexdigest()


def _not_given(error: OSError) -> SourceError:
    if isinstance(error, FileNotFoundError):
        return SourceChangedError("the file is gone")
    return SourceIOError(f"the storage does not give the file: {error.strerror or error}")


def _check_tag(row: Row) -> None:
    """Raises SourceChangedError where the file is another version than was listed."""
    if current_tags([row["uri"]])[0] != row["tag"]:
        msg = "the file changed while the run was going on; the next run does the new version"
        raise SourceChangedError(msg)


def read_ahead(
    images: pa.Table,
    *,
    readers: int,
    with_content: bool,
    limits: Limits = USUAL,
    share: float = math.inf,
) -> Iterator[Loaded]:
    """Photographs in their order, read and decoded in threads.

    Args:
        images: LISTING rows.
        readers: threads; from a bucket there are more.
        with_content: hash the files' bytes.
        limits: what one photograph may take.
        share: bytes that one may take beside others; what takes more is not decoded, and said to be large.
            Those that are read ahead take half of it together.
    """
    room = Room(max(TOGETHER_BYTES, share / 2))
    load_chunk = partial(_load_chunk, with_content=with_content, limits=limits, room=room, share=share)
    files = CHUNK_FILES
    if images.num_rows and not Location.of(images["uri"][0].as_py()).is_local:
        readers, files = max(readers, REMOTE_READERS), 1
    chunks = _chunks(images, files)
    ahead: deque[_Ahead] = deque()
    with ThreadPoolExecutor(readers, thread_name_prefix="reader") as pool:
        try:
            while True:
                while _has_room(ahead, readers) and (chunk := next(chunks, None)):
                    ahead.append((_size(chunk), pool.submit(load_chunk, chunk)))
                if not ahead:
                    return
                part = ahead.popleft()[1].result()
                if part.rest:
                    ahead.appendleft((_size(part.rest), pool.submit(load_chunk, part.rest, is_next=True)))
                yield from part.loaded
                room.give_back(part.held)
        finally:
            for _, future in ahead:
                future.cancel()


def _row(what: Row | _Read) -> Row:
    return what.row if isinstance(what, _Read) else what


def _size(chunk: _Chunk) -> int:
    return sum(_row(what)["size"] for what in chunk)


def _has_room(ahead: "Collection[_Ahead]", readers: int) -> bool:
    return not ahead or (len(ahead) <= readers and sum(size for size, _ in ahead) <= AHEAD_BYTES)


def _chunks(images: pa.Table, files: int) -> Iterator[list[Row]]:
    """Consecutive rows: at most so many, and CHUNK_BYTES, or one of more."""
    chunk: list[Row] = []
    nbytes = 0
    for row in images.to_pylist():
        chunk.append(row)
        nbytes += row["size"]
        if len(chunk) == files or nbytes >= CHUNK_BYTES:
            yield chunk
            chunk, nbytes = [], 0
    if chunk:
        yield chunk


def _load_chunk(
    chunk: _Chunk, *, with_content: bool, limits: Limits, room: Room, share: float, is_next: bool = False
) -> _Part:
    """Photographs in their order, and those that were left because these fill the memory.

    Args:
        chunk: photographs.
        with_content: hash the files' bytes.
        limits: what one photograph may take.
        room: of what is read ahead.
        share: bytes that one may take beside others.
        is_next: the first is what the others wait for: it needs no room.
    """
    loaded: list[Loaded] = []
    nbytes = held = 0
    claim = Claim(None if is_next else room, share)
    limits = replace(limits, has_room=claim)
    for number, what in enumerate(chunk):
        if number:
            claim.begin(room)
        if not _row(what)["problem"] and share < _row(what)["size"] <= MAX_FILE_BYTES:
            loaded.append(_large(_row(what)))
            continue
        photo = _load(what, with_content, limits)
        if isinstance(photo, _Read) and not claim.is_large:
            return _Part(loaded=loaded, held=held, rest=(photo, *chunk[number + 1 :]))
        loaded.append(_large(photo.row) if isinstance(photo, _Read) else photo)
        picture = loaded[-1].picture
        taken = 0 if picture is None else picture.pixels.nbytes
        held += claim.shrink(taken)
        nbytes += taken
        if nbytes > DECODED_BYTES:
            break
    return _Part(loaded=loaded, held=held, rest=chunk[len(loaded) :])

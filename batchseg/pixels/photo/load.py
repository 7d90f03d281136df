"""Photographs read, decoded and hashed, a few ahead of who wants them."""

import hashlib
from collections import deque
from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from batchseg.errors import SourceChangedError, SourceError, SourceIOError
from batchseg.inputs.source import Doubt
from batchseg.pixels.photo.decode import decode
from batchseg.pixels.photo.picture import Picture
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

MAX_FILE_BYTES = 2**31
"""A file is read whole; 300 megapixels without compression take less in 16 bits."""

Row = dict[str, Any]
_Part = tuple[list["Loaded"], list[Row]]
_Ahead = tuple[int, "Future[_Part]"]
"""Bytes of a chunk's files, and what becomes of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """One photograph as it was read, or why it could not be."""

    row: Row
    picture: Picture | None
    content: str
    """Digest of the file's bytes; empty unless asked for."""
    doubt: Doubt | None = None


def content_digest(data: bytes) -> str:
    """What two files of the same content share. 128 bits: no two others in any archive."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def load(row: Row, *, with_content: bool) -> Loaded:
    """Read and decode one photograph, and see that it is the one that was listed."""
    name = row["source_id"].rpartition("/")[2]
    try:
        if row["problem"]:
            raise SourceError(row["problem"])
        if row["size"] > MAX_FILE_BYTES:
            msg = f"is a file of {row['size']:,} bytes, at most {MAX_FILE_BYTES:,} are taken for a photograph"
            raise SourceError(msg)
        data = read_listed(row)
        content = content_digest(data) if with_content else ""
        return Loaded(row=row, picture=decode(data, name), content=content)
    except SourceError as e:
        return Loaded(row=row, picture=None, content="", doubt=Doubt.of(row["source_id"], e))


def read_listed(row: Row) -> bytes:
    """The bytes of a file, if it is still the version that was listed.

    Raises:
        SourceIOError: the storage does not give it.
        SourceChangedError: it is gone, or another version.
    """
    uri = row["uri"]
    try:
        local = Location.of(uri).path  # fsspec takes 0.1 ms for a file
        data = fetch.read_bytes(uri) if local is None else local.read_bytes()
    except FileNotFoundError as e:
        msg = "the file is gone"
        raise SourceChangedError(msg) from e
    except OSError as e:
        msg = f"the storage does not give the file: {e.strerror or e}"
        raise SourceIOError(msg) from e
    if current_tags([uri])[0] != row["tag"]:
        msg = "the file changed while the run was going on; the next run does the new version"
        raise SourceChangedError(msg)
    return data


def read_ahead(images: pa.Table, *, readers: int, with_content: bool) -> Iterator[Loaded]:
    """Photographs in their order, read and decoded in threads.

    Args:
        images: LISTING rows.
        readers: threads; from a bucket there are more.
        with_content: hash the files' bytes.
    """
    files = CHUNK_FILES
    if images.num_rows and not Location.of(images["uri"][0].as_py()).is_local:
        readers, files = max(readers, REMOTE_READERS), 1
    chunks = _chunks(images, files)
    ahead: deque[_Ahead] = deque()
    with ThreadPoolExecutor(readers, thread_name_prefix="reader") as pool:
        try:
            while True:
                while _has_room(ahead, readers) and (chunk := next(chunks, None)):
                    ahead.append((_size(chunk), pool.submit(_load_chunk, chunk, with_content)))
                if not ahead:
                    return
                loaded, rest = ahead.popleft()[1].result()
                if rest:
                    ahead.appendleft((_size(rest), pool.submit(_load_chunk, rest, with_content)))
                yield from loaded
        finally:
            for _, future in ahead:
                future.cancel()


def _size(chunk: list[Row]) -> int:
    return sum(row["size"] for row in chunk)


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


def _load_chunk(rows: list[Row], with_content: bool) -> "_Part":
    """Photographs in their order, and the rows that were left because these fill the memory."""
    loaded: list[Loaded] = []
    nbytes = 0
    for row in rows:
        loaded.append(load(row, with_content=with_content))
        picture = loaded[-1].picture
        nbytes += 0 if picture is None else picture.pixels.nbytes
        if nbytes > DECODED_BYTES:
            break
    return loaded, rows[len(loaded) :]

"""A group's life: photographs read ahead, predicted in batches across images, traced, judged, published."""

import hashlib
import json
import tempfile
import time
from collections import deque
from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from batchseg import storage
from batchseg.errors import DamagedResultError, SourceChangedError, SourceError, SourceIOError
from batchseg.isolate import ProcessDiedError, call_in_fresh_process
from batchseg.photos.decode import decode
from batchseg.photos.fitting import Fitting
from batchseg.photos.group import Doubt, Group, GroupAnswer, from_stream
from batchseg.photos.picture import Picture
from batchseg.photos.stored import StoredMasks
from batchseg.photos.tables import words
from batchseg.photos.writing import Finished, ResultWriter
from batchseg.predict import Predictor
from batchseg.prepare import Preparation
from batchseg.recipe import Product, Recipe
from batchseg.walking import current_tags

CHUNK_FILES, CHUNK_BYTES = 16, 4 * 2**20
"""Files that one reading thread takes at a time: many small ones, or one large one."""

BATCH_PIXELS, MOST_TILES = 512 * 512, 16
"""Of a batch where the job names no size. A call of a network takes 0.2 ms whatever it is given, which
tells with small tiles; of large ones batches give nothing on a CPU."""

REMOTE_READERS = 16
"""Threads where files lie in a bucket: each waits for its replies most of the time."""

AHEAD_BYTES = 32 * 2**20
"""Of files that are read ahead; in memory most photographs take about ten times their file."""

DECODED_BYTES = 64 * 2**20
"""Of pixels from one chunk, or one photograph of more: a PNG may take a thousand times its file."""

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


def usual_batch(recipe: Recipe) -> int:
    """Tiles per run of the network for jobs that name no `batch_size`."""
    fitting = MOST_TILES if recipe.device == "gpu" else BATCH_PIXELS // recipe.tile_size**2
    return max(1, min(MOST_TILES, fitting))


def content_digest(data: bytes) -> str:
    """What two files of the same content share. 128 bits: no two others in any archive."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def load(row: Row, *, with_content: bool) -> Loaded:
    """Read and decode one photograph, and see that it is the one that was listed."""
    name = row["source_id"].rpartition("/")[2]
    try:
        if row["problem"]:
            raise SourceError(row["problem"])
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
        local = storage.local_path(uri)  # fsspec takes 0.1 ms for a file
        data = storage.read_bytes(uri) if local is None else local.read_bytes()
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


def look_at(row: Row, recipe: Recipe) -> Doubt | None:
    """Read, decode and fit one photograph; why it cannot be done, None where it can."""
    loaded = load(row, with_content=False)
    if loaded.picture is None:
        return loaded.doubt
    try:
        Fitting(loaded.picture, recipe)
    except SourceError as e:
        return Doubt.of(row["source_id"], e)
    return None


def sift(rows: list[Row], recipe: Recipe, timeout: float) -> tuple[Doubt, ...]:
    """Look at photographs one by one in a fresh process.

    The process notes each one that it is through with. Where it ends or hangs, the next one is looked at
    in a process of its own before it is blamed, and another goes on behind it.

    Args:
        rows: as they were listed.
        recipe: the pixel settings.
        timeout: seconds for all of them together, and for one that hangs at most 30.
    """
    doubts: list[Doubt] = []
    left = list(rows)
    with tempfile.TemporaryDirectory(prefix="sift-") as folder:
        while left:
            notes = Path(folder) / f"{len(left)}"
            try:
                call_in_fresh_process(
                    _look, storage.environment(), left, recipe, notes, timeout=_wait(left, timeout)
                )
            except ProcessDiedError as e:
                if len(left) == 1:
                    reason = f"the process that decoded it {e}"
                    return (*doubts, Doubt(source_id=left[0]["source_id"], reason=reason, transient=False))
            seen = _noted(notes)
            doubts += [doubt for doubt in seen if doubt is not None]
            left = left[len(seen) :]
            if left:
                doubts += sift(left[:1], recipe, timeout)
                left = left[1:]
    return tuple(doubts)


def _wait(rows: list[Row], timeout: float) -> float:
    return min(timeout, 30.0 + len(rows))


def _look(where: dict[str, str], rows: list[Row], recipe: Recipe, notes: Path) -> None:
    storage.adopt(where)
    with notes.open("w", encoding="utf-8") as file:
        for row in rows:
            doubt = look_at(row, recipe)
            file.write(json.dumps(None if doubt is None else asdict(doubt)) + "\n")
            file.flush()


def _noted(notes: Path) -> list[Doubt | None]:
    """What the process wrote of each photograph that it was through with."""
    lines = notes.read_text(encoding="utf-8").splitlines() if notes.exists() else []
    noted = [json.loads(line) for line in lines]
    return [None if doubt is None else Doubt(**doubt) for doubt in noted]


@dataclass(slots=True)
class _Clock:
    read: float = 0.0
    predict: float = 0.0
    stitch: float = 0.0
    tiles: int = 0
    pixels: int = 0
    doubts: list[Doubt] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


class GroupWorker:
    """Does groups with one predictor. One group at a time.

    Args:
        output: root of the results.
        recipe: the pixel settings.
        product: names, formats, rules.
        predictor: the network.
        batch_size: tiles per run of the network, across photographs; pixels do not depend on it.
        readers: threads that read and decode ahead.
        cpu_class: of the predictor.
    """

    def __init__(
        self,
        output: str,
        recipe: Recipe,
        product: Product,
        predictor: Predictor,
        *,
        batch_size: int,
        readers: int,
        cpu_class: str,
    ) -> None:
        self._output, self._recipe, self._product = output, recipe, product
        self._predictor, self._readers, self._cpu_class = predictor, readers, cpu_class
        self._preparation = Preparation(recipe)
        self._buffer = self._preparation.buffer(batch_size)
        assert product.photographs is not None
        self._with_content = product.photographs.same_content

    def __call__(self, group: Group) -> GroupAnswer:
        """Do a group.

        Raises:
            ModelError: the network gives what no mask can hold.
            OutputError: a result cannot be written.
        """
        images = from_stream(group.images)
        if group.work == "hash":
            return self._hash(images)
        clock = _Clock()
        writer = ResultWriter(self._output, self._recipe, self._product, self._cpu_class)
        if group.work == "predict":
            masks = self._predicted(images, clock, until=time.monotonic() + group.seconds)
        else:
            masks = self._derived(images, from_stream(group.results), clock)
        before = time.perf_counter()
        for finished in masks:
            writer.add(finished)
        rows = writer.close()
        total = time.perf_counter() - before
        return GroupAnswer(
            rows=rows,
            doubts=tuple(clock.doubts),
            left=tuple(clock.left),
            tiles=clock.tiles,
            pixels=clock.pixels,
            read_seconds=clock.read,
            predict_seconds=clock.predict,
            stitch_seconds=max(0.0, total - clock.predict - writer.seconds - clock.read),
            write_seconds=writer.seconds,
        )

    def _predicted(self, images: pa.Table, clock: _Clock, *, until: float) -> Iterator[Finished]:
        """Masks in the order of the images; a batch holds tiles of as many images as it takes.

        Images are begun until `until`, of time.monotonic, at least one.
        """
        open_: deque[tuple[Loaded, Fitting]] = deque()
        batch: list[tuple[Fitting, int]] = []
        for at, loaded in enumerate(self._loaded(images, clock)):
            if at and time.monotonic() > until:
                clock.left += words(images["source_id"].slice(at))
                break
            fitting = self._fitting(loaded, clock)
            if fitting is None:
                continue
            open_.append((loaded, fitting))
            for number in range(fitting.inputs):
                self._preparation(fitting.tile(number), self._buffer[len(batch)])
                batch.append((fitting, number))
                if len(batch) == len(self._buffer):
                    self._run(batch, clock)
                    batch = []
            while open_ and open_[0][1].is_complete:
                yield _finished(*open_.popleft())
        self._run(batch, clock)
        for item in open_:
            yield _finished(*item)

    def _fitting(self, loaded: Loaded, clock: _Clock) -> Fitting | None:
        if loaded.doubt is not None:
            clock.doubts.append(loaded.doubt)
        if loaded.picture is None:
            return None
        try:
            fitting = Fitting(loaded.picture, self._recipe)
        except SourceError as e:
            clock.doubts.append(Doubt.of(loaded.row["source_id"], e))
            return None
        clock.tiles += fitting.inputs
        clock.pixels += fitting.shape_hw[0] * fitting.shape_hw[1]
        return fitting

    def _run(self, batch: list[tuple[Fitting, int]], clock: _Clock) -> None:
        if not batch:
            return
        before = time.perf_counter()
        answers = self._predictor.run(self._buffer[: len(batch)])
        clock.predict += time.perf_counter() - before
        for (fitting, number), answer in zip(batch, answers, strict=True):
            fitting.place(number, answer)

    def _loaded(self, images: pa.Table, clock: _Clock) -> Iterator[Loaded]:
        """Photographs in their order, read and decoded ahead in threads."""
        readers, files = self._readers, CHUNK_FILES
        if images.num_rows and storage.local_path(images["uri"][0].as_py()) is None:
            readers, files = max(readers, REMOTE_READERS), 1
        chunks = _chunks(images, files)
        ahead: deque[_Ahead] = deque()
        with ThreadPoolExecutor(readers, thread_name_prefix="reader") as pool:
            try:
                while True:
                    while _has_room(ahead, readers) and (chunk := next(chunks, None)):
                        ahead.append((_size(chunk), pool.submit(_load_chunk, chunk, self._with_content)))
                    if not ahead:
                        return
                    loaded, rest = self._taken(ahead.popleft(), clock)
                    if rest:
                        ahead.appendleft((_size(rest), pool.submit(_load_chunk, rest, self._with_content)))
                    yield from loaded
            finally:
                for _, future in ahead:
                    future.cancel()

    def _taken(self, oldest: "_Ahead", clock: _Clock) -> "_Part":
        before = time.perf_counter()
        part = oldest[1].result()
        clock.read += time.perf_counter() - before
        return part

    def _derived(self, images: pa.Table, results: pa.Table, clock: _Clock) -> Iterator[Finished]:
        """From what is stored; a photograph of which too little is stored is in doubt."""
        stored = StoredMasks(self._output, self._recipe)
        for row, known in zip(images.to_pylist(), results.to_pylist(), strict=True):
            try:
                mask = stored(known)
            except DamagedResultError as e:
                clock.doubts.append(Doubt.of(row["source_id"], e))
                continue
            is_copy = known["source_id"] != row["source_id"]
            yield Finished(
                row=row,
                mask=mask,
                content=known["content"] or "",
                same_as=known["source_id"] if is_copy else known["same_as"] or "",
                recorded=0 if is_copy else known["recorded"],
            )

    def _hash(self, images: pa.Table) -> GroupAnswer:
        rows = [row for row in images.to_pylist() if not row["problem"]]

        def digest(row: Row) -> str | Doubt:
            try:
                return content_digest(read_listed(row))
            except SourceError as e:
                return Doubt.of(row["source_id"], e)

        with ThreadPoolExecutor(max(self._readers, 2)) as pool:
            digests = list(pool.map(digest, rows))
        known = {r["source_id"]: d for r, d in zip(rows, digests, strict=True) if isinstance(d, str)}
        columns = {"source_id": list(known), "content": list(known.values())}
        table = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
        return GroupAnswer(rows=table, doubts=())


def _finished(loaded: Loaded, fitting: Fitting) -> Finished:
    return Finished(row=loaded.row, mask=fitting.mask(), content=loaded.content)


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

"""What is committed: an append-only series of Parquet segments and a merged snapshot.

    _batchseg/ledger/snapshot-00000041.parquet   everything up to segment 41
    _batchseg/ledger/segment-00000042.parquet    later commits, created only if absent

A segment appears whole or not at all, so a killed driver leaves a readable ledger. Only the driver
that holds the lock writes; readers need no lock. Outputs are published before they are recorded. A
driver claims the next number before it does anything: one that was thought dead and wakes then finds
its number taken, and stops.
"""

import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from batchseg import publishing, storage
from batchseg.errors import OutputError
from batchseg.grid import Window

MERGE_AFTER = 256
"""Segments in the tail before they are merged in mid-run: keeps a start-up after a crash short."""

Status = Literal["shard", "done", "quarantined", "failed", "removed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """A file that was published for a source."""

    path: str
    """Below the output's root."""
    nbytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One commit. A shard's key is (source_id, tag, pixel, grid, window); a source's is its id."""

    status: Status
    source_id: str
    tag: str
    pixel: str = ""
    """Digest of the pixel settings."""
    product: str = ""
    """Digest of names, colours, format and region settings: with another one nothing is predicted, but
    what differs is made again from the mask."""
    encoding: str = ""
    """Digest of names, colours and format alone: with the same one the mask stays as it is."""
    cpu_class: str = ""
    grid: str = ""
    """Tiles per shard, `down x across`: kept for a scene from its first commit to its last."""
    row_off: int = 0
    col_off: int = 0
    height: int = 0
    width: int = 0
    """Of the shard's core, or of the whole scene."""
    empty: bool = False
    """No valid pixel: the shard has no fragment."""
    predicted: int = 0
    """Tiles that went through the model."""
    bad_pixels: int = 0
    """In blocks that cannot be decoded: nodata in the mask. Absent from ledgers of earlier versions."""
    valid_pixels: int = 0
    class_ids: tuple[int, ...] = ()
    class_pixels: tuple[int, ...] = ()
    class_area_m2: tuple[float, ...] = ()
    """Empty where the scene has no CRS."""
    outputs: tuple[Output, ...] = ()
    """Of a done source: mask first, then its sidecar, confidence and regions. Of a failed one: what an
    earlier version left, which stays until the new version is done."""
    region_count: int = 0
    """Rows of the source in the region tables."""
    fragment_bytes: int = 0
    """Of a shard's fragments, all layers together."""
    error: str = ""
    uri: str = ""
    verdict: str = ""
    """Of a photograph: PASS, FAIL or REVIEW; empty without rules."""
    rule: str = ""
    """Name of the rule that decided; empty for a PASS."""
    judged: str = ""
    """Digest of the rules: with others the verdict is derived again from the regions."""
    largest_px: int = 0
    """Pixels of a photograph's largest region."""
    largest_class: int = -1
    """Its class id; -1 without regions."""
    confidence: float = 0.0
    """The highest mean confidence of a region of the photograph, 0..1; 0 without regions or scores."""
    attributes: str = ""
    """What a manifest says of a photograph beside its path: a JSON object of strings, keys sorted."""
    content: str = ""
    """Digest of the file's bytes, where the job says `same_content`."""
    same_as: str = ""
    """Id of the photograph of the same content whose results were copied."""

    @property
    def mask(self) -> str:
        """The mask's path below the output; empty where there is none."""
        return self.outputs[0].path if self.outputs else ""

    @property
    def layers(self) -> tuple[str, ...]:
        """Paths of mask and confidence: what cannot be derived from other outputs."""
        paths = (o.path for o in self.outputs)
        return tuple(p for p in paths if p.startswith(("masks/", "confidence/")) and p.endswith(".tif"))

    @property
    def regions_part(self) -> str:
        """The region table that holds the source's rows; empty where it has none."""
        return next((o.path for o in self.outputs if o.path.startswith("annotations/")), "")

    @property
    def window(self) -> Window:
        return Window(row_off=self.row_off, col_off=self.col_off, height=self.height, width=self.width)

    @property
    def grid_hw(self) -> tuple[int, int]:
        down, across = self.grid.split("x")
        return int(down), int(across)


_OUTPUT: dict[str, pa.DataType] = {"path": pa.string(), "nbytes": pa.int64(), "sha256": pa.string()}
_COLUMNS: dict[str, pa.DataType] = {
    "status": pa.string(),
    "source_id": pa.string(),
    "tag": pa.string(),
    "pixel": pa.string(),
    "product": pa.string(),
    "encoding": pa.string(),
    "cpu_class": pa.string(),
    "grid": pa.string(),
    "row_off": pa.int32(),
    "col_off": pa.int32(),
    "height": pa.int32(),
    "width": pa.int32(),
    "empty": pa.bool_(),
    "predicted": pa.int32(),
    "bad_pixels": pa.int64(),
    "valid_pixels": pa.int64(),
    "class_ids": pa.list_(pa.int32()),
    "class_pixels": pa.list_(pa.int64()),
    "class_area_m2": pa.list_(pa.float64()),
    "outputs": pa.list_(pa.struct(list(_OUTPUT.items()))),
    "region_count": pa.int64(),
    "fragment_bytes": pa.int64(),
    "error": pa.string(),
    "uri": pa.string(),
    "verdict": pa.string(),
    "rule": pa.string(),
    "judged": pa.string(),
    "largest_px": pa.int64(),
    "largest_class": pa.int32(),
    "confidence": pa.float32(),
    "attributes": pa.string(),
    "content": pa.string(),
    "same_as": pa.string(),
}
SCHEMA = pa.schema(_COLUMNS)
_TUPLES = tuple(f.name for f in fields(Record) if f.type == tuple[int, ...] or f.type == tuple[float, ...])


class Ledger:
    """The ledger of one output, replayed into memory."""

    def __init__(self, output: str) -> None:
        """Read snapshot and tail.

        Raises:
            OutputError: a part cannot be read.
        """
        self._root = storage.join(output, "_batchseg", "ledger")
        self._run = ""
        for attempts_left in (2, 1, 0):
            try:
                self._load()
                return
            except FileNotFoundError as e:  # who only reads may meet a merge, which removes parts
                if not attempts_left:
                    msg = f"cannot read the ledger: {e}"
                    raise OutputError(msg) from e

    def _load(self) -> None:
        self._sources: dict[str, Record] = {}
        self._shards: dict[str, dict[Window, Record]] = {}
        snapshots, segments = self._parts()
        self._last = snapshots[-1] if snapshots else 0
        self._tail = [number for number in segments if number > self._last]
        parts = [self._uri("snapshot", self._last)] if snapshots else []
        for records in _read([*parts, *(self._uri("segment", number) for number in self._tail)]):
            self._replay(records)
        self._last = self._tail[-1] if self._tail else self._last

    def sources(self) -> Iterator[Record]:
        """The latest record of each source that is done, quarantined or failed, sorted by id."""
        return (self._sources[key] for key in sorted(self._sources))

    def source(self, source_id: str) -> Record | None:
        return self._sources.get(source_id)

    def shards(self, source_id: str) -> list[Record]:
        """Shards committed for a source that is not finished yet, in the order of their windows."""
        shards = self._shards.get(source_id, {})
        return [shards[window] for window in sorted(shards)]

    def unfinished(self) -> list[str]:
        return sorted(self._shards)

    @property
    def is_settled(self) -> bool:
        """Whether the last run came to its end; else one is under way, or was killed."""
        return not self._tail

    def claim(self, run_id: str) -> None:
        """Take the ledger over for a run: from now on nobody else's commits succeed.

        Raises:
            OutputError: it cannot be read or written.
        """
        self._run = run_id
        while not publishing.create(self._uri("segment", self._last + 1), _to_parquet([], run_id)):
            for records in _read([self._uri("segment", self._last + 1)]):
                self._replay(records)
            self._last += 1
            self._tail.append(self._last)
        self._last += 1
        self._tail.append(self._last)

    def append(self, records: Iterable[Record]) -> None:
        """Commit records in one segment.

        Raises:
            OutputError: the segment cannot be written, or another driver wrote one of that number.
        """
        batch = list(records)
        if not batch:
            return
        number = self._last + 1
        if not publishing.create(self._uri("segment", number), _to_parquet(batch, self._run)):
            msg = f"ledger segment {number} exists already: another run took this output over"
            raise OutputError(msg)
        self._last = number
        self._tail.append(number)
        self._replay(batch)
        if len(self._tail) >= MERGE_AFTER:
            self.merge()

    def merge(self) -> None:
        """Write the snapshot and remove the parts that it covers. Interrupted anywhere, nothing is lost."""
        if not self._tail:
            return
        unfinished = (record for key in self.unfinished() for record in self.shards(key))
        everything = [*self.sources(), *unfinished]
        publishing.publish(self._uri("snapshot", self._last), _to_parquet(everything, self._run))
        snapshots, segments = self._parts()
        covered = [self._uri("snapshot", number) for number in snapshots if number < self._last]
        covered += [self._uri("segment", number) for number in segments if number <= self._last]
        publishing.remove_files(covered)
        self._tail = []

    def _replay(self, records: Iterable[Record]) -> None:
        for record in records:
            if record.status == "removed":
                self._sources.pop(record.source_id, None)
                self._shards.pop(record.source_id, None)
            elif record.status != "shard":
                self._sources[record.source_id] = record
                if record.status != "failed":  # a transient failure keeps what was predicted
                    self._shards.pop(record.source_id, None)
            else:
                shards = self._shards.setdefault(record.source_id, {})
                other = next(iter(shards.values()), record)
                if _generation(other) != _generation(record):
                    shards.clear()  # a new version of the source, or a run with --replace: what was is void
                shards[record.window] = record

    def _uri(self, kind: str, number: int) -> str:
        return storage.join(self._root, f"{kind}-{number:08d}.parquet")

    def _parts(self) -> tuple[list[int], list[int]]:
        """Numbers of the snapshots and of the segments there are, ascending."""
        numbers: dict[str, list[int]] = {"snapshot": [], "segment": []}
        with publishing.output_errors("list", self._root):
            infos = list(storage.list_folder(self._root))
        for info in infos:
            match = re.search(r"/(snapshot|segment)-(\d{8})\.parquet$", info.uri)
            if match:
                numbers[match[1]].append(int(match[2]))
        return sorted(numbers["snapshot"]), sorted(numbers["segment"])


def _generation(record: Record) -> tuple[str, str, str, str]:
    return record.tag, record.pixel, record.grid, record.cpu_class


def _to_parquet(records: list[Record], run_id: str) -> bytes:
    """The run's id makes equal records of two runs different bytes: see publishing.create."""
    schema = SCHEMA.with_metadata({"run": run_id})
    table = pa.Table.from_pylist([asdict(record) for record in records], schema=schema)
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def _read(uris: list[str]) -> Iterator[Iterator[Record]]:
    """Records of each part, in the order of the parts."""
    try:
        parts = storage.read_many(uris)
    except FileNotFoundError:
        raise
    except OSError as e:
        msg = f"cannot read the ledger: {e}"
        raise OutputError(msg) from e
    for uri, data in zip(uris, parts, strict=True):
        yield _records(uri, data)


def _records(uri: str, data: bytes) -> Iterator[Record]:
    try:
        parquet = pq.ParquetFile(io.BytesIO(data))
        for batch in parquet.iter_batches(batch_size=4096):
            for row in batch.to_pylist():
                yield _record(row)
    except (OSError, pa.ArrowException) as e:
        msg = f"cannot read the ledger's {uri}: {e}"
        raise OutputError(msg) from e


def _record(row: dict[str, Any]) -> Record:
    for name in _TUPLES:
        row[name] = tuple(row[name])
    row["outputs"] = tuple(Output(**output) for output in row["outputs"])
    return Record(**row)

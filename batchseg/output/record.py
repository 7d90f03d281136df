"""One commit of the ledger, as an object of its kind and as a row of an Arrow table.

All kinds are rows of one table. A column that a kind does not have holds its empty value there.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal

import pyarrow as pa

from batchseg.output import layout
from batchseg.pixels.grid import Window
from batchseg.predict.moved import SeamSample

SourceStatus = Literal["done", "quarantined", "failed", "removed"]

NO_CLASS = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """A file that was published for a source."""

    path: str
    """Below the output's root."""
    nbytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardRecord:
    """A predicted shard, its fragments published. Its key is (source_id, tag, pixel, grid, window)."""

    status: ClassVar[Literal["shard"]] = "shard"
    kind: ClassVar[str] = "scene"
    source_id: str
    tag: str
    pixel: str = ""
    """Digest of the pixel settings."""
    cpu_class: str = ""
    grid: str = ""
    """Tiles per shard, `down x across`: kept for a scene from its first commit to its last."""
    row_off: int = 0
    col_off: int = 0
    height: int = 0
    width: int = 0
    """Of the shard's core."""
    empty: bool = False
    """No valid pixel: the shard has no fragment."""
    predicted: int = 0
    """Tiles that went through the model."""
    bad_pixels: int = 0
    """In blocks that cannot be decoded: nodata in the mask. Absent from ledgers of earlier versions."""
    fragment_bytes: int = 0
    """Of its fragments, all layers together."""
    uri: str = ""
    seams: tuple[SeamSample, ...] = ()
    """What moved tiles showed, of its lease. Absent from ledgers of earlier versions."""

    @property
    def window(self) -> Window:
        return Window(row_off=self.row_off, col_off=self.col_off, height=self.height, width=self.width)

    @property
    def grid_hw(self) -> tuple[int, int]:
        down, across = self.grid.split("x")
        return int(down), int(across)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRecord:
    """What a scene's and a photograph's record share: how far it came, and its results."""

    status: SourceStatus
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
    height: int = 0
    width: int = 0
    """Of the whole image."""
    predicted: int = 0
    """Tiles that went through the model."""
    valid_pixels: int = 0
    class_ids: tuple[int, ...] = ()
    class_pixels: tuple[int, ...] = ()
    class_area_m2: tuple[float, ...] = ()
    """Empty where the scene has no CRS, or the job no `pixel_size` for photographs."""
    outputs: tuple[Output, ...] = ()
    """Of a done source: mask first, then its sidecar, confidence and regions. Of a failed one: what an
    earlier version left, which stays until the new version is done."""
    region_count: int = 0
    """Rows of the source in the region tables."""
    error: str = ""
    uri: str = ""
    value_spread: tuple[float, ...] = ()
    """The lowest, the mean and the highest of the network's numbers; empty where it tells classes, or no
    pixel has one. Absent from ledgers of earlier versions, as the next one is."""
    clipped_pixels: int = 0
    """At an end of what uint16 holds: of what lay beyond, or just there."""
    recorded: int = 0
    """When the row was committed, in seconds since 1970: what "yesterday" means in a summary. 0 in ledgers of
    earlier versions."""

    @property
    def mask(self) -> str:
        """The mask's path below the output; empty where there is none."""
        return next((o.path for o in self.outputs if o.path.startswith(f"{layout.MASKS}/")), "")

    @property
    def predicted_mask(self) -> str:
        """The path of the mask as it was predicted, below the output; empty where the mask itself is that."""
        return next((o.path for o in self.outputs if o.path.startswith(f"{layout.PREDICTED}/")), "")

    @property
    def regions_part(self) -> str:
        """The region table that holds the source's rows; empty where it has none."""
        return next((o.path for o in self.outputs if o.path.startswith(f"{layout.ANNOTATIONS}/")), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneRecord(SourceRecord):
    """The latest of a scene."""

    kind: ClassVar[str] = "scene"
    grid: str = ""
    """Of its shards."""
    bad_pixels: int = 0
    """In blocks that cannot be decoded: nodata in the mask. Absent from ledgers of earlier versions."""
    seams: tuple[SeamSample, ...] = ()
    """What moved tiles showed, on the grid on which the scene was predicted. Absent from ledgers of earlier
    versions."""

    @property
    def window(self) -> Window:
        """All of it."""
        return Window(row_off=0, col_off=0, height=self.height, width=self.width)


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoRecord(SourceRecord):
    """The latest of a photograph."""

    kind: ClassVar[str] = "photograph"
    empty: bool = False
    """No valid pixel."""
    class_regions: tuple[int, ...] = ()
    """Regions by class, in the order of `class_ids`."""
    verdict: str = ""
    """PASS, FAIL or REVIEW; empty without rules."""
    rule: str = ""
    """Name of the rule that decided; `min_valid` where too little was inspected, `check_values` where
    `unlike` kept it from passing; empty for a PASS."""
    review_reason: str = ""
    """How little was inspected, in words, where `min_valid` decided; `unlike` where that did; else empty."""
    unlike: str = ""
    """Why it may be of another unit than the output's first photographs, or of another order of bands than
    the job reads, in words; else empty. Absent from ledgers of earlier versions."""
    rule_px: int = 0
    """Pixels of the largest region that the rule hit, as the rule measures them; 0 where none did. Absent
    from ledgers of earlier versions, as the next one is."""
    rule_class: int = NO_CLASS
    """Its class id; NO_CLASS where no rule hit."""
    judged: str = ""
    """Digest of the rules: with others the verdict is derived again from the regions."""
    interests: str = ""
    """Digest of the regions of interest that `interest_valid` is of."""
    interest_valid: tuple[float, ...] = ()
    """Pixels with data in each of them, in the order of `Ruleset.parts`; a pixel that a border cuts counts by
    its share. Empty where all or none of the photograph's pixels have data."""
    largest_px: int = 0
    """Pixels of the largest region."""
    largest_class: int = NO_CLASS
    """Its class id; NO_CLASS without regions."""
    confidence: float = 0.0
    """The highest mean confidence of a region, 0..1; 0 without regions or scores."""
    attributes: str = ""
    """What a manifest says of it beside its path: a JSON object of strings, keys sorted."""
    content: str = ""
    """Digest of the file's bytes, where the job says `same_content`."""
    same_as: str = ""
    """Id of the photograph of the same content whose results were copied."""


Latest = SceneRecord | PhotoRecord
"""The kinds of which a source has one that counts."""

Record = ShardRecord | Latest


_OUTPUT: dict[str, pa.DataType] = {"path": pa.string(), "nbytes": pa.int64(), "sha256": pa.string()}
_SEAM: dict[str, pa.DataType] = {
    "row_off": pa.int32(),
    "col_off": pa.int32(),
    "height": pa.int32(),
    "width": pa.int32(),
    "class_id": pa.int32(),
    "pixels": pa.int64(),
    "changed": pa.int64(),
    "lon": pa.float64(),
    "lat": pa.float64(),
}
_COLUMNS: dict[str, pa.DataType] = {
    "kind": pa.string(),
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
    "class_regions": pa.list_(pa.int64()),
    "outputs": pa.list_(pa.struct(list(_OUTPUT.items()))),
    "region_count": pa.int64(),
    "fragment_bytes": pa.int64(),
    "error": pa.string(),
    "uri": pa.string(),
    "verdict": pa.string(),
    "rule": pa.string(),
    "review_reason": pa.string(),
    "unlike": pa.string(),
    "rule_px": pa.int64(),
    "rule_class": pa.int32(),
    "judged": pa.string(),
    "interests": pa.string(),
    "interest_valid": pa.list_(pa.float64()),
    "largest_px": pa.int64(),
    "largest_class": pa.int32(),
    "confidence": pa.float32(),
    "attributes": pa.string(),
    "content": pa.string(),
    "same_as": pa.string(),
    "recorded": pa.int64(),
    "value_spread": pa.list_(pa.float64()),
    "clipped_pixels": pa.int64(),
    "seams": pa.list_(pa.struct(list(_SEAM.items()))),
}
SCHEMA = pa.schema(_COLUMNS)
_STRUCTS = ("outputs", "seams")
_LISTS = tuple(name for name, kind in _COLUMNS.items() if pa.types.is_list(kind) and name not in _STRUCTS)
_KINDS = (ShardRecord, SceneRecord, PhotoRecord)
_NAMES = {kind: tuple(field.name for field in fields(kind)) for kind in _KINDS}
_PHOTOGRAPHS_ALONE = tuple(name for name in _NAMES[PhotoRecord] if name not in _NAMES[SceneRecord])
_EMPTY: dict[str, Any] = {"kind": ""} | {f.name: f.default for kind in _KINDS for f in fields(kind)}
"""What a column holds in rows of kinds that do not have it."""

BATCH_ROWS = 4096


def to_table(records: Iterable[Record], schema: pa.Schema = SCHEMA) -> pa.Table:
    """One row per record, in their order; of SCHEMA, or some of its columns."""
    rows = list(records)
    columns = {name: [getattr(record, name, _EMPTY[name]) for record in rows] for name in schema.names}
    if "outputs" in columns:
        columns["outputs"] = [[_output(made) for made in outputs] for outputs in columns["outputs"]]
    if "seams" in columns:
        columns["seams"] = [[asdict(sample) for sample in seams] for seams in columns["seams"]]
    return pa.Table.from_pydict(columns, schema=schema)


def _output(made: Output) -> dict[str, Any]:
    return {"path": made.path, "nbytes": made.nbytes, "sha256": made.sha256}  # asdict takes ten times as long


def to_records(table: pa.Table) -> Iterator[Record]:
    """One record per row, made when it is asked for; columns may be dictionaries."""
    for start in range(0, len(table), BATCH_ROWS):
        for row in table.slice(start, BATCH_ROWS).to_pylist():
            yield _record(row)


def sources_of(table: pa.Table) -> Iterator[Latest]:
    """The same of a table without shards."""
    for record in to_records(table):
        assert not isinstance(record, ShardRecord)  # noqa: S101  by their status there are none
        yield record


def filled(columns: Mapping[str, Any], rows: int, schema: pa.Schema = SCHEMA) -> pa.Table:
    """Rows of the ledger from the columns that are known; the others hold their empty values.

    Args:
        columns: arrays by the name of the column; those of other names are left out.
        rows: their length.
        schema: SCHEMA, or its names with types that its own can be cast to.
    """
    arrays = [columns[name] if name in columns else _default(name, rows) for name in schema.names]
    return pa.Table.from_arrays(arrays, names=schema.names).cast(schema)


def _default(name: str, rows: int) -> Any:
    value = _EMPTY[name]
    scalar: Any = pa.scalar(list(value) if isinstance(value, tuple) else value, _COLUMNS[name])
    return pa.repeat(scalar, max(rows, 1)).slice(0, rows)  # pyarrow cannot repeat a list no times


def _record(row: dict[str, Any]) -> Record:
    for name in _LISTS:
        row[name] = tuple(row[name])
    row["outputs"] = tuple(Output(**output) for output in row["outputs"])
    row["seams"] = tuple(SeamSample(**sample) for sample in row["seams"])
    kind = _kind(row)
    return kind(**{name: row[name] for name in _NAMES[kind]})


def _kind(row: Mapping[str, Any]) -> type[Record]:
    """What a row is of, as it says; rows of earlier versions do not."""
    if row["status"] == "shard":
        return ShardRecord
    if row["kind"]:
        return PhotoRecord if row["kind"] == PhotoRecord.kind else SceneRecord
    # A row that says nothing that photographs alone have loses nothing as a scene's.
    is_photograph = any(row[name] != _EMPTY[name] for name in _PHOTOGRAPHS_ALONE)
    return PhotoRecord if is_photograph else SceneRecord

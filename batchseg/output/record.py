"""One commit of the ledger: as an object, and as a row of an Arrow table."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import pyarrow as pa

from batchseg.output import layout
from batchseg.pixels.grid import Window

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
    """Empty where the scene has no CRS, or the job no `pixel_size` for photographs."""
    class_regions: tuple[int, ...] = ()
    """Regions of a photograph by class, in the order of `class_ids`; empty for scenes."""
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
    recorded: int = 0
    """When a photograph's row was committed, in seconds since 1970: what "yesterday" means in a summary."""

    @property
    def mask(self) -> str:
        """The mask's path below the output; empty where there is none."""
        return next((o.path for o in self.outputs if o.path.startswith(f"{layout.MASKS}/")), "")

    @property
    def layers(self) -> tuple[str, ...]:
        """Paths of mask and confidence: what cannot be derived from other outputs."""
        return tuple(o.path for o in self.outputs if layout.is_layer(o.path))

    @property
    def regions_part(self) -> str:
        """The region table that holds the source's rows; empty where it has none."""
        return next((o.path for o in self.outputs if o.path.startswith(f"{layout.ANNOTATIONS}/")), "")

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
    "class_regions": pa.list_(pa.int64()),
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
    "recorded": pa.int64(),
}
SCHEMA = pa.schema(_COLUMNS)
_LISTS = tuple(name for name, kind in _COLUMNS.items() if pa.types.is_list(kind) and name != "outputs")
_DEFAULTS = {field.name: field.default for field in fields(Record)}

BATCH_ROWS = 4096


def to_table(records: Iterable[Record], schema: pa.Schema = SCHEMA) -> pa.Table:
    """One row per record, in their order."""
    rows = list(records)
    columns = {name: [getattr(record, name) for record in rows] for name in schema.names}
    columns["outputs"] = [[asdict(made) for made in outputs] for outputs in columns["outputs"]]
    return pa.Table.from_pydict(columns, schema=schema)


def to_records(table: pa.Table) -> Iterator[Record]:
    """One record per row, made when it is asked for; columns may be dictionaries."""
    for start in range(0, len(table), BATCH_ROWS):
        for row in table.slice(start, BATCH_ROWS).to_pylist():
            yield _record(row)


def filled(columns: Mapping[str, Any], rows: int, schema: pa.Schema = SCHEMA) -> pa.Table:
    """Rows of the ledger from the columns that are known; the others hold what a Record has by default.

    Args:
        columns: arrays by the name of the column; those of other names are left out.
        rows: their length.
        schema: SCHEMA, or its names with types that its own can be cast to.
    """
    arrays = [columns[name] if name in columns else _default(name, rows) for name in schema.names]
    return pa.Table.from_arrays(arrays, names=schema.names).cast(schema)


def _default(name: str, rows: int) -> Any:
    value = _DEFAULTS[name]
    scalar: Any = pa.scalar(list(value) if isinstance(value, tuple) else value, _COLUMNS[name])
    return pa.repeat(scalar, max(rows, 1)).slice(0, rows)  # pyarrow cannot repeat a list no times


def _record(row: dict[str, Any]) -> Record:
    for name in _LISTS:
        row[name] = tuple(row[name])
    row["outputs"] = tuple(Output(**output) for output in row["outputs"])
    return Record(**row)

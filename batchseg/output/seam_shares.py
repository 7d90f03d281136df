"""What moved tiles showed, summed over rows of the ledger, and the same as a map: `seams/seams.parquet`."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray

from batchseg.inputs.source import Scene
from batchseg.output import layout, publish
from batchseg.output.columns import open_parquet
from batchseg.output.record import ShardRecord
from batchseg.predict.moved import SeamSample
from batchseg.regions.geodesy import lon_lat
from batchseg.system.amounts import counted

_COLUMNS: dict[str, pa.DataType] = {
    "source_id": pa.string(),
    "row_off": pa.int32(),  # of the place, on the grid on which the scene was predicted
    "col_off": pa.int32(),
    "height": pa.int32(),
    "width": pa.int32(),
    "class_name": pa.string(),  # in the mask
    "pixels": pa.int64(),
    "changed": pa.int64(),
    "share": pa.float64(),  # changed of pixels, 0..1
    "geometry": pa.binary(),  # the place's middle; null where the scene has no place
}
_GEOMETRY = {"encoding": "WKB", "geometry_types": ["Point"]}
"""GeoParquet 1.1: without `crs` it is longitude and latitude (OGC:CRS84)."""
_GEO = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": _GEOMETRY}}
SCHEMA = pa.schema(list(_COLUMNS.items()), metadata={"geo": json.dumps(_GEO, sort_keys=True)})
"""One row per place and class."""


CLASS_PIXELS = 1000
"""That a class's share is made of: fewer may lie along one edge."""

SHOWN = 3
"""Classes and scenes that words name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeamShares:
    """Of the pixels that were predicted twice, those that another place of the tiles changes."""

    places: int = 0
    """That were looked at, in sources that are done."""
    pixels: int = 0
    changed: int = 0
    by_class: Mapping[str, float] = field(default_factory=dict)
    """Shares, 0..1, by the name of the class in the mask, as it was predicted; of classes with at least
    CLASS_PIXELS."""
    by_scene: Mapping[str, float] = field(default_factory=dict)
    """Shares, 0..1, by source id; the largest first."""

    @property
    def share(self) -> float:
        """Of all pixels, 0..1."""
        return self.changed / self.pixels if self.pixels else 0.0

    @property
    def in_words(self) -> str:
        """Empty where nothing was looked at."""
        if not self.places:
            return ""
        where = f"looked at in {counted(self.places, 'place')}"
        if not self.changed:
            return f"no pixel of {self.pixels:,} depends on where tiles lie, {where}"
        words = f"{_percent(self.share)} of the pixels depend on where tiles lie, {where}"
        if len(self.by_class) > 1:
            words += f"; by class {_worst(self.by_class)}"
        if len(self.by_scene) > 1:
            words += f"; most in {_worst(self.by_scene)}"
        return words

    def document(self, scenes: int) -> dict[str, Any]:
        """For JSON, with so many of the scenes."""
        return {
            "places": self.places,
            "share": round(self.share, 6),
            "by_class": {name: round(share, 6) for name, share in self.by_class.items()},
            "by_scene": {name: round(share, 6) for name, share in list(self.by_scene.items())[:scenes]},
        }


def _worst(shares: Mapping[str, float]) -> str:
    most = sorted(shares.items(), key=lambda item: -item[1])[:SHOWN]
    return ", ".join(f"{name} {_percent(share)}" for name, share in most if share)


def _percent(share: float) -> str:
    """
    >>> _percent(0.013), _percent(0.000013)
    ('1.30 %', '0.0013 %')
    """
    return f"{share:.2%}".replace("%", " %") if share >= 1e-4 else f"{100 * share:.2g} %"


def with_seams(
    records: Sequence[ShardRecord], seams: Sequence[SeamSample], scene: Scene
) -> list[ShardRecord]:
    """A lease's records, of which the first says what its moved tiles showed, and where on the earth."""
    if not seams:
        return list(records)
    placed = []
    for sample in seams:
        row, col = sample.row_off + sample.height / 2, sample.col_off + sample.width / 2
        lon, lat = lon_lat(scene.georeference, row, col)
        placed.append(replace(sample, lon=lon, lat=lat))
    return [replace(records[0], seams=tuple(placed)), *records[1:]]


def seam_shares(table: pa.Table, class_names: Sequence[str], among: Any = None) -> SeamShares:
    """Sum up the samples of rows that are done.

    Args:
        table: rows of the ledger, the latest of each source.
        class_names: as they are predicted, by id.
        among: ids of the sources that count; None: all.
    """
    rows = _samples(table, among)
    if not len(rows):
        return SeamShares()
    place = ["source_id", "row_off", "col_off", "height", "width"]
    by_class, by_scene = _shares(rows, "class_id", CLASS_PIXELS), _shares(rows, "source_id")
    return SeamShares(
        places=len(rows.group_by(place).aggregate([])),
        pixels=_sum(rows.column("pixels")),
        changed=_sum(rows.column("changed")),
        by_class={_name(number, class_names): by_class[number] for number in sorted(by_class)},
        by_scene=dict(sorted(by_scene.items(), key=lambda item: (-item[1], item[0]))),
    )


def _name(number: int, names: Sequence[str]) -> str:
    return (names[number] if number < len(names) else "") or f"class {number}"


def _samples(table: pa.Table, among: Any) -> pa.Table:
    """A row per place and class, with its source."""
    wanted: Any = pc.equal(table.column("status").cast(pa.string()), pa.scalar("done"))
    if among is not None:
        wanted = pc.and_(wanted, pc.is_in(table.column("source_id"), value_set=among))
    rows = table.select(["source_id", "seams"]).filter(wanted).combine_chunks()
    lists: Any = rows.column("seams")
    parents: Any = pc.list_parent_indices(lists)
    structs: Any = pc.list_flatten(lists)
    columns = {"source_id": rows.column("source_id").take(parents)}
    columns |= {kind.name: pc.struct_field(structs, kind.name) for kind in lists.type.value_type}
    return pa.table(columns)


def _shares(rows: pa.Table, key: str, at_least: int = 1) -> dict[Any, float]:
    sums = rows.group_by([key]).aggregate([("pixels", "sum"), ("changed", "sum")]).to_pylist()
    return {row[key]: row["changed_sum"] / row["pixels_sum"] for row in sums if row["pixels_sum"] >= at_least}


def _sum(values: Any) -> int:
    return pc.sum(values).as_py() or 0


def write_seams(output: str, table: pa.Table, class_names: Sequence[str]) -> None:
    """Replace the map by the ledger's present state; none is written where nothing was looked at.

    Args:
        output: root of the results.
        table: rows of the ledger, the latest of each source.
        class_names: as they are predicted, by id.

    Raises:
        OutputError: it cannot be written.
    """
    file = layout.seams_file(output)
    rows = _samples(table, None)
    if not len(rows):
        publish.remove_files([file])
        return
    lon, lat = (np.asarray(rows.column(name), np.float64) for name in ("lon", "lat"))
    known: NDArray[np.bool_] = np.isfinite(lon) & np.isfinite(lat)
    points = np.where(known, shapely.points(np.nan_to_num(lon), np.nan_to_num(lat)), None)
    ids = rows.column("class_id").to_numpy().tolist()
    made: dict[str, Any] = {name: rows.column(name) for name in SCHEMA.names if name in rows.column_names}
    made["class_name"] = [_name(number, class_names) for number in ids]
    made["share"] = pc.divide(rows.column("changed").cast(pa.float64()), rows.column("pixels"))
    made["geometry"] = pa.array(shapely.to_wkb(points), pa.binary())
    publish.publish(file, _as_parquet(pa.table([made[name] for name in SCHEMA.names], schema=SCHEMA)))


def keep_seams(output: str, table: pa.Table) -> None:
    """Leave on the map what is of sources that the ledger still knows as done.

    Raises:
        OutputError: it cannot be read or written.
    """
    file = layout.seams_file(output)
    with publish.output_errors("read", file):
        try:
            rows = open_parquet(file).read()
        except FileNotFoundError:
            return
    done: Any = pc.equal(table.column("status").cast(pa.string()), pa.scalar("done"))
    known = table.column("source_id").filter(done)
    kept = rows.filter(pc.is_in(rows.column("source_id"), value_set=known))
    if not len(kept):
        publish.remove_files([file])
    elif len(kept) < len(rows):
        publish.publish(file, _as_parquet(kept))


def _as_parquet(rows: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(rows, sink, compression="zstd")
    return sink.getvalue()

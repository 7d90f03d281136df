"""`batchseg export`: region tables as one file that any GIS opens."""

import errno
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyproj
import shapely
from pyproj.exceptions import CRSError, ProjError

from batchseg.errors import ConfigError, OutputError
from batchseg.output.columns import first_output
from batchseg.output.layout import ANNOTATIONS
from batchseg.output.ledger import Ledger
from batchseg.output.publish import replaced
from batchseg.output.region_parts import read_part, read_rows, region_parts
from batchseg.output.state import require_results
from batchseg.regions.wkb import read_polygons
from batchseg.system.json_text import parse_json

FORMATS = {".gpkg": "GPKG", ".fgb": "FlatGeobuf", ".geojson": "GeoJSON", ".geojsonl": "GeoJSONSeq"}
"""GDAL's drivers by file suffix."""

DEGREES = pyproj.CRS.from_epsg(4326)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedRegions:
    """What was written."""

    path: str
    layers: tuple[tuple[str, int], ...]
    """(name, regions), one per CRS unless all were brought to one."""


def export(output: str, target: Path, *, crs: str | None, classes: tuple[str, ...]) -> ExportedRegions:
    """Write an output's regions to a vector file, row group by row group.

    Args:
        output: root of the results.
        target: .gpkg, .fgb, .geojson or .geojsonl; replaced where it exists.
        crs: bring all to this one; None: as they are, one layer per CRS where the format has layers.
        classes: names or ids; none: all.

    Raises:
        ConfigError: a value is wrong, there are no regions, or several CRS and a format with one layer.
        OutputError: a table cannot be read, or the file cannot be written.
    """
    driver = FORMATS.get(target.suffix.lower())
    if driver is None:
        msg = f"{target}: expected a name that ends in {', '.join(FORMATS)}, or .json for COCO"
        raise ConfigError(msg)
    state = require_results(output)
    if state is None:
        msg = f"the first run to {output} has recorded nothing yet; run its job again"
        raise ConfigError(msg)
    if state.facts.output == "values" and not state.classes:
        msg = (
            f"{output} holds numbers without a threshold, which make no regions; set "
            f"values: {{threshold: ...}} in its job, and run it to another output, or with --replace"
        )
        raise ConfigError(msg)
    unknown = [name for name in classes if name not in state.classes and not name.isdigit()]
    if unknown:
        msg = f"--class {unknown[0]!r}: expected an id, or one of {state.class_list}"
        raise ConfigError(msg)
    wanted = _parsed(crs) if crs is not None else DEGREES if driver.startswith("GeoJSON") else None
    groups = _by_crs(output)
    if not groups:
        msg = (
            f"{output} has no regions: its job says `regions: false`, or no region is of a chosen class and "
            f"at least min_area pixels"
        )
        raise ConfigError(msg)
    _refuse_photographs(output, groups)
    if wanted is not None and "none" in groups:
        name = wanted.to_string()
        msg = f"some regions have no CRS, so they cannot be brought to {name}; use .gpkg without --crs"
        raise ConfigError(msg)
    if wanted is None and len(groups) > 1 and driver != "GPKG":
        found = ", ".join(groups)
        msg = f"regions are in {found}, a {driver} file holds one CRS; add --crs EPSG:4326, or use .gpkg"
        raise ConfigError(msg)
    layers = _layers(groups, joined=wanted is not None)
    written = []
    with replaced(target) as making:
        for layer, codes in layers.items():
            parts = [path for code in codes for path in groups[code]]
            counts: list[int] = []
            tables = _tables(output, parts, classes, wanted, counts)
            own = schema_crs(read_part(output, parts[0]).schema_arrow, parts[0])
            _write(tables, making, driver, layer, wanted or own)
            written.append((layer, sum(counts)))
        _check(making, written)
    return ExportedRegions(path=str(target), layers=tuple(written))


def _refuse_photographs(output: str, groups: dict[str, list[str]]) -> None:
    """Regions of photographs lie in `crs=none` too, and are no GeoParquet."""
    paths = groups.get("none", [])
    if paths and b"geo" not in (read_part(output, paths[0]).schema_arrow.metadata or {}):
        msg = (
            f"{output} holds photographs, whose regions are in pixels and have no place on a map; export "
            f"them for COCO's tools: batchseg export {output} regions.json"
        )
        raise ConfigError(msg)


def _layers(groups: dict[str, list[str]], *, joined: bool) -> dict[str, list[str]]:
    """CRS codes by the layer that they go to."""
    if joined or len(groups) == 1:
        return {"regions": list(groups)}
    return {f"regions_{code.replace('-', '_')}": [code] for code in groups}  # a name that SQL takes unquoted


def _parsed(crs: str) -> pyproj.CRS:
    try:
        return pyproj.CRS.from_user_input(crs)
    except pyproj.exceptions.CRSError as e:
        msg = f"--crs {crs}: expected something like EPSG:4326 ({e})"
        raise ConfigError(msg) from e


def _by_crs(output: str) -> dict[str, list[str]]:
    """Parts that the ledger knows, by CRS code."""
    recorded = set(pc.unique(first_output(Ledger(output).table(), ANNOTATIONS)).to_pylist())
    groups: dict[str, list[str]] = {}
    for path in sorted(set(region_parts(output)) & recorded):
        groups.setdefault(path.split("/")[1].removeprefix("crs="), []).append(path)
    return groups


def _tables(
    output: str,
    parts: Sequence[str],
    classes: tuple[str, ...],
    wanted: pyproj.CRS | None,
    counts: list[int],
) -> Iterator[pa.Table]:
    """Row groups of parts, in the wanted CRS; how many rows each has goes to `counts`."""
    ids = pa.array([int(c) for c in classes if c.isdigit()], pa.int32())
    for path in parts:
        part = read_part(output, path)
        own = schema_crs(part.schema_arrow, path)
        for number in range(part.num_row_groups):
            rows = read_rows(part, path, group=number)
            if classes:
                named = pc.is_in(rows.column("class_name"), value_set=pa.array(classes, pa.string()))
                rows = rows.filter(pc.or_(named, pc.is_in(rows.column("class_id"), value_set=ids)))
            counts.append(len(rows))
            if wanted is None:
                # GDAL is not handed what others may have written.
                read_polygons(rows.column("geometry"), path)
                yield rows
            else:
                yield moved(rows, own, wanted, path)


def schema_crs(schema: pa.Schema, path: str) -> pyproj.CRS | None:
    """What the metadata of the region table of that path say. Raises OutputError where they are damaged."""
    try:
        geo = parse_json((schema.metadata or {}).get(b"geo", b"{}"))  # photographs' parts may have none
        said = geo["columns"]["geometry"]["crs"] if geo else None
        _refuse_files(said)
        return None if said is None else pyproj.CRS.from_json_dict(said)
    except (ValueError, LookupError, TypeError, CRSError) as e:
        msg = (
            f"{path} does not say its CRS as GeoParquet does ({type(e).__name__}: {e}); run `batchseg verify`"
        )
        raise OutputError(msg) from e


def _refuse_files(said: Any) -> None:
    """Raises ValueError where a PROJJSON names a file: PROJ would open it, or ask a server for it."""
    if isinstance(said, list):
        for value in said:
            _refuse_files(value)
    if not isinstance(said, dict):
        return
    # A BoundCRS of numbers stays: WKT with TOWGS84 becomes one.
    if isinstance(said.get("value"), str):
        msg = f"the parameter {said.get('name')} names a file"
        raise ValueError(msg)
    method = said.get("method")
    if isinstance(method, dict) and "+" in str(method.get("name")):
        msg = "a method is given as text for PROJ"
        raise ValueError(msg)
    for value in said.values():
        _refuse_files(value)


def moved(table: pa.Table, own: pyproj.CRS | None, wanted: pyproj.CRS, path: str) -> pa.Table:
    """Geometries and centroids in another CRS; measures stay what they are.

    Raises:
        ConfigError: there is no way from their CRS to the wanted one, or none for some of the outlines.
        OutputError: the table of that path lacks a column, or holds an outline that is no polygon.
    """
    if own is None or own == wanted or not len(table):
        return table
    if missing := [name for name in ("centroid_x", "centroid_y") if name not in table.schema.names]:
        msg = f"{path} has no column {missing[0]}; `batchseg verify` tells more"
        raise OutputError(msg)
    shapes = read_polygons(table.column("geometry"), path)
    corners = shapely.get_coordinates(shapes).T
    centroids = [table.column(name).to_numpy() for name in ("centroid_x", "centroid_y")]
    try:
        transformer = pyproj.Transformer.from_crs(own, wanted, always_xy=True)
        corners = np.stack(transformer.transform(*corners), axis=1)
        centroids = transformer.transform(*centroids)
    except ProjError as e:
        raise ConfigError(_no_way(own, wanted, path, str(e).rstrip("."))) from e
    if not np.isfinite(corners).all():
        raise ConfigError(_no_way(own, wanted, path, "some of their corners lie where it is not defined"))
    wkb = pa.array(shapely.to_wkb(shapely.set_coordinates(shapes, corners)), pa.binary())
    columns: dict[str, Any] = {"geometry": wkb}
    columns |= zip(("centroid_x", "centroid_y"), centroids, strict=True)
    for name, values in columns.items():
        at = table.schema.get_field_index(name)
        table = table.set_column(at, table.schema.field(name), pa.array(values))
    return table


def _no_way(own: pyproj.CRS, wanted: pyproj.CRS, path: str, reason: str) -> str:
    return (
        f"regions cannot be brought to {wanted.to_string()}: those of {path} are in the CRS {own.name!r}: "
        f"{reason}; export to .gpkg without --crs, which keeps each CRS in a layer of its own"
    )


def _check(path: Path, written: Sequence[tuple[str, int]]) -> None:
    """Count again what was written: where a disk is full, GDAL closes some formats without their end.

    Raises:
        OSError: regions are missing.
    """
    import pyogrio

    for layer, count in written:
        try:
            one = path.suffix.lower() != ".gpkg"
            info = pyogrio.read_info(path, layer=None if one else layer, force_feature_count=True)
        except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as e:
            raise OSError(errno.EIO, f"what was written cannot be read: {e}; is the disk full?") from e
        if info["features"] != count:
            msg = f"{info['features']} of {count} regions were written; is the disk full?"
            raise OSError(errno.EIO, msg)


def _write(tables: Iterator[pa.Table], target: Path, driver: str, layer: str, crs: pyproj.CRS | None) -> None:
    """One layer, in one stream: FlatGeobuf and GeoJSON cannot be appended to."""
    try:
        import pyogrio
    except ImportError as e:
        msg = "vector files need pyogrio: `pip install '.[vector]'` in batchseg's clone"
        raise ConfigError(msg) from e
    first = next(tables)  # of its schema
    failures: list[Exception] = []
    batches = (batch for table in chain([first], _kept(tables, failures)) for batch in table.to_batches())
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="'crs' was not provided")
            pyogrio.write_arrow(
                pa.RecordBatchReader.from_batches(first.schema, batches),
                target,
                layer=layer,
                driver=driver,
                geometry_name="geometry",
                geometry_type="Polygon",
                crs=None if crs is None else crs.to_wkt(),
            )
    except Exception as e:
        if failures:
            raise failures[0] from e
        if isinstance(e, pyogrio.errors.DataSourceError | pyogrio.errors.DataLayerError):
            raise OSError(str(e)) from e
        raise
    if failures:
        raise failures[0]


def _kept(tables: Iterator[pa.Table], failures: list[Exception]) -> Iterator[pa.Table]:
    """The tables; what is raised in them is kept, as Arrow's C interface hands on that it failed, not why."""
    try:
        yield from tables
    except Exception as e:
        failures.append(e)
        raise

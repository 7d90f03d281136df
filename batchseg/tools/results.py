"""What an output holds, as tables and places for Python."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyproj
from numpy.typing import NDArray

from batchseg.errors import ConfigError
from batchseg.output import layout
from batchseg.output.columns import first_output
from batchseg.output.ledger import Ledger
from batchseg.output.region_parts import read_part, read_rows
from batchseg.output.state import require_results
from batchseg.regions.rows import PHOTO_COLUMNS, SCENE_COLUMNS
from batchseg.regions.wkb import read_polygons
from batchseg.system.location import join
from batchseg.tools.export import moved, schema_crs
from batchseg.tools.tables import is_done, open_items, recorded_parts


def read_items(output: str) -> pa.Table:
    """The items table as it is, a row per source.

    Raises:
        ConfigError: there are no results, or no run has come to where it writes the table.
        OutputError: it cannot be read.
    """
    return open_items(output).file.read()


def mask_uris(output: str) -> dict[str, str]:
    """Path or URI of each mask, by source id: of sources that are done and whose mask is kept.

    Raises:
        ConfigError: no run has written there.
        OutputError: the ledger cannot be read.
    """
    return _raster_uris(output, layout.MASKS)


def value_uris(output: str) -> dict[str, str]:
    """The same of the rasters of numbers. Raises as `mask_uris`."""
    return _raster_uris(output, layout.VALUES)


def _raster_uris(output: str, folder: str) -> dict[str, str]:
    """Of the rasters in one of `layout.RASTERS`.

    Raises:
        ConfigError: no run has written there.
        OutputError: the ledger cannot be read.
    """
    require_results(output)
    table = Ledger(output).table()
    done = table.filter(is_done(table))
    ids, paths = done.column("source_id").to_pylist(), first_output(done, folder).to_pylist()
    return {
        str(source_id): join(output, str(path))
        for source_id, path in zip(ids, paths, strict=True)
        if path is not None
    }


def read_regions(output: str, crs: str | None) -> tuple[pa.Table, pyproj.CRS | None]:
    """All regions that the ledger knows, geometries as WKB, and their CRS.

    Args:
        output: root of the results.
        crs: bring them to this one; None: as they are.

    Returns:
        The table; its CRS is None for photographs, whose regions are in pixels, x to the right and y down.

    Raises:
        ConfigError: no run has written there; `crs` is none, or regions have no place to be brought from;
            without `crs`, they are in several.
        OutputError: a table cannot be read.
    """
    state = require_results(output)
    wanted = None if crs is None else _parsed(crs)
    parts = recorded_parts(output)
    tables, found = [], {}
    for number, path in enumerate(parts.paths):
        part = read_part(output, path)
        own = schema_crs(part.schema_arrow, path)
        if own is None and wanted is not None:
            msg = f"regions of {output} have no CRS, so they cannot be brought to {crs}; ask for them without"
            raise ConfigError(msg)
        rows = read_rows(part, path)
        rows = rows.filter(pc.is_in(rows.column("source_id"), value_set=parts.members(number)))
        found[layout.crs_of(path)] = own
        tables.append(rows if wanted is None else moved(rows, own, wanted, path))
    if wanted is None and len(found) > 1:
        msg = f"regions of {output} are in several CRS: {', '.join(found)}; name one to bring them to"
        raise ConfigError(msg)
    if not tables:
        photographs = state is not None and state.of_photographs
        return (PHOTO_COLUMNS if photographs else SCENE_COLUMNS).empty_table(), wanted
    return pa.concat_tables(tables), wanted or next(iter(found.values()))


def outlines_of(table: pa.Table, output: str) -> NDArray[Any]:
    """The polygons (N,) of what `read_regions` gives. Raises OutputError where one is damaged."""
    return read_polygons(table.column("geometry"), f"regions of {output}")


def _parsed(crs: str) -> pyproj.CRS:
    try:
        return pyproj.CRS.from_user_input(crs)
    except pyproj.exceptions.CRSError as e:
        msg = f"{crs} is no CRS: expected something like EPSG:4326 ({e})"
        raise ConfigError(msg) from e

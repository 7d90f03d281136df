"""Regions of scenes in several CRS; tests/api/test_outputs.py has those of photographs."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from factories import make_state

from batchseg.errors import ConfigError
from batchseg.inputs.source import Georeference
from batchseg.output.ledger import Ledger
from batchseg.output.record import Output, SceneRecord
from batchseg.output.state import save_state
from batchseg.regions.rows import region_schema
from batchseg.tools.results import mask_uris, read_regions

CODES = (32633, 32634)


@pytest.fixture
def output(tmp_path: Path) -> str:
    """One region per scene, each in a zone of its own, at 500 km east of it."""
    save_state(str(tmp_path), make_state())
    ledger = Ledger(str(tmp_path))
    ledger.claim("20260101-000000-abcdef")
    for code in CODES:
        import pyproj

        wkt = pyproj.CRS.from_epsg(code).to_wkt()
        place = Georeference(crs_wkt=wkt, transform=(1, 0, 0, 0, -1, 0), gcps=(), gcps_crs_wkt=None, rpcs=())
        schema = region_schema(place)
        square = shapely.to_wkb(shapely.box(500_000, 0, 500_010, 10))
        values = {"source_id": f"{code}.tif", "centroid_x": 500_005.0, "centroid_y": 5.0, "geometry": square}
        row = {field.name: values.get(field.name) for field in schema}
        path = tmp_path / f"annotations/crs=EPSG-{code}/{code}.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist([row], schema=schema), path)
        made = [Output(path=f"masks/{code}.tif", nbytes=1, sha256="")]
        made += [Output(path=str(path.relative_to(tmp_path)), nbytes=1, sha256="")]
        ledger.append([SceneRecord(status="done", source_id=f"{code}.tif", tag="", outputs=tuple(made))])
    ledger.append([SceneRecord(status="quarantined", source_id="q.tif", tag="", error="no raster")])
    return str(tmp_path)


def test_one_crs_is_named_to_bring_them_to(output: str) -> None:
    with pytest.raises(ConfigError, match="several CRS: EPSG-32633, EPSG-32634; name one"):
        read_regions(output, None)
    table, crs = read_regions(output, "EPSG:4326")
    assert crs is not None
    assert crs.to_epsg() == 4326
    west = shapely.bounds(shapely.from_wkb(table.column("geometry").to_numpy(zero_copy_only=False)))[:, 0]
    assert west.round(3).tolist() == [15.0, 21.0], "the middle of either zone"


def test_masks_are_of_sources_that_are_done(output: str) -> None:
    assert mask_uris(output) == {f"{code}.tif": f"{output}/masks/{code}.tif" for code in CODES}

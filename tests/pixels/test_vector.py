"""Vector files that point elsewhere, before a server that counts what it is asked."""

import http.server
import json
import sqlite3
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyogrio
import pytest
import shapely

from batchseg.errors import ConfigError
from batchseg.job.settings import AreaFile
from batchseg.pixels import vector
from batchseg.pixels.area import read_area
from batchseg.pixels.vector import check_crs, kind_of, read_layer

SQUARE = shapely.box(16, 45, 16.5, 45.5)
RING = json.loads(shapely.to_geojson(SQUARE))


class _Counting(http.server.BaseHTTPRequestHandler):
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(404)
        self.end_headers()

    do_HEAD = do_POST = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """Its address, and the paths that were asked for."""
    _Counting.asked = []
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Counting)
    threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{made.server_port}", _Counting.asked
    made.shutdown()
    made.server_close()


def write(path: Path, crs: str = "EPSG:4326", **options: str) -> Path:
    pyogrio.raw.write(
        str(path),
        np.array([shapely.to_wkb(SQUARE)], dtype=object),
        field_data=[],
        fields=[],
        geometry_type="Polygon",
        crs=crs,
        **options,
    )
    return path


def collection(crs: object = None, *, key: str = "crs", **feature: object) -> str:
    members = {"type": "FeatureCollection", **({} if crs is None else {key: crs})}
    return json.dumps(
        {**members, "features": [{"type": "Feature", "properties": {}, "geometry": RING, **feature}]}
    )


def link(url: str, kind: str = "link") -> dict[str, object]:
    return {"type": kind, "properties": {"href": url, "url": url, "name": url, "urn": url}}


def gml(*, attributes: str = "", srs: str = "EPSG:4326", more: str = "", doctype: str = "") -> str:
    return (
        f'<?xml version="1.0"?>{doctype}<!-- a --><e:FeatureCollection xmlns:e="http://e" '
        'xmlns:xlink="http://www.w3.org/1999/xlink" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        f'xmlns:gml="http://www.opengis.net/gml"{attributes}><gml:featureMember><e:a><e:geom>'
        f'<gml:Polygon srsName="{srs}"><gml:exterior><gml:LinearRing><gml:posList>'
        f"16 45 16.5 45 16.5 45.5 16 45.5 16 45</gml:posList></gml:LinearRing></gml:exterior>"
        f"</gml:Polygon></e:geom>{more}</e:a>"
        "</gml:featureMember></e:FeatureCollection>"
    )


def kml(document: str = "", placemark: str = "") -> str:
    return (
        f'<?xml version="1.0"?><kml xmlns="http://www.opengis.net/kml/2.2"><Document><name>d</name>{document}'
        f"<Placemark>{placemark}<Polygon><outerBoundaryIs><LinearRing><coordinates>"
        "16,45 16.5,45 16.5,45.5 16,45.5 16,45</coordinates></LinearRing></outerBoundaryIs>"
        "</Polygon></Placemark></Document></kml>"
    )


def ogr_vrt(source: str) -> str:
    return (
        f'<OGRVRTDataSource><OGRVRTLayer name="l"><SrcDataSource>{source}</SrcDataSource></OGRVRTLayer>'
        "</OGRVRTDataSource>"
    )


SERVICES = {
    "wfs.vrt": lambda url: ogr_vrt(f"WFS:{url}"),
    "http.vrt": lambda url: ogr_vrt(f"{url}/a.geojson"),
    "curl.vrt": lambda url: ogr_vrt(f"/vsicurl/{url}/a.geojson"),
    "wfs.xml": lambda url: f"<OGRWFSDataSource><URL>{url}</URL></OGRWFSDataSource>",
    "csw.xml": lambda url: f"<OGRCSWDataSource><URL>{url}</URL></OGRCSWDataSource>",
    # GDAL's driver of VRTs looks for its words in the first kilobyte, wherever.
    "words.geojson": lambda url: (
        '{"type": "FeatureCollection", "a": "'
        + ogr_vrt(f"WFS:{url}").replace('"', "'")
        + '", "features": []}'
    ),
    "entity.gml": lambda url: gml(
        doctype=f'<!DOCTYPE a [<!ENTITY e SYSTEM "{url}/e">]>', more="<e:n>&e;</e:n>"
    ),
}

CRS_MEMBERS = {
    "link": lambda url: collection(link(url)),
    "URL": lambda url: collection(link(url, "URL")),
    "uri": lambda url: collection(link(url, "uri")),
    "an address as a name": lambda url: collection(link(url, "name")),
    "in capitals": lambda url: collection(link(url), key="CRS"),
    "escaped": lambda url: collection(link(url), key="crs").replace('"crs"', '"\\u0063r\\u0073"'),
    "in single quotes": lambda url: collection(link(url)).replace('"crs"', "'crs'"),
    "a comment before": lambda url: collection(link(url)).replace('"crs":', '"crs"/* */:'),
    "a comment behind": lambda url: collection(link(url)).replace('"crs":', '"crs":/* */'),
    "two types": lambda url: collection(link(url)).replace(
        '"type": "link"', '"type": "name", "type": "link"'
    ),
    "two types, turned": lambda url: collection(link(url)).replace(
        '"type": "link"', '"type": "link", "type": "name"'
    ),
    "of a feature": lambda url: collection(crs=None).replace(
        '"type": "Feature"', f'"type": "Feature", "crs": {json.dumps(link(url))}'
    ),
    "of a geometry": lambda url: collection(geometry={**RING, "crs": link(url)}),
    "of a sequence": lambda url: "\n".join(
        [json.dumps({"type": "Feature", "crs": link(url), "properties": {}, "geometry": RING})] * 2
    ),
}


@pytest.mark.parametrize("name", SERVICES)
def test_what_describes_a_service_is_not_opened(
    tmp_path: Path, server: tuple[str, list[str]], name: str
) -> None:
    url, asked = server
    (tmp_path / name).write_text(SERVICES[name](url))
    with pytest.raises(ConfigError, match=r"cannot be read|no polygon"):
        read_area(AreaFile(uri=str(tmp_path / name), layer=None))
    assert asked == []


@pytest.mark.parametrize("name", CRS_MEMBERS)
def test_a_crs_that_is_an_address_is_not_asked_for(
    tmp_path: Path, server: tuple[str, list[str]], name: str
) -> None:
    url, asked = server
    (tmp_path / "a.geojson").write_text(CRS_MEMBERS[name](url))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "a.geojson", "a.geojson")
    for path in (tmp_path / "a.geojson", tmp_path / "a.zip"):
        with pytest.raises(ConfigError, match=r"nothing is fetched from the network for it.*EPSG::25832"):
            read_area(AreaFile(uri=str(path), layer=None))
    assert asked == []


@pytest.mark.parametrize("nul", ["\\u0000", "\0"])
@pytest.mark.parametrize("key", ["crs", "type", "properties", "name"])
def test_a_key_that_gdal_cuts_off_is_refused(
    tmp_path: Path, server: tuple[str, list[str]], key: str, nul: str
) -> None:
    url, asked = server
    text = collection(link(url)).replace(f'"{key}"', f'"{key}{nul}x"')
    (tmp_path / "a.geojson").write_text(text)
    with pytest.raises(ConfigError, match=r"U\+0000"):
        read_area(AreaFile(uri=str(tmp_path / "a.geojson"), layer=None))
    assert asked == []


NAMED = {"type": "name", "properties": {"name": "EPSG:4326"}}


@pytest.mark.parametrize(
    "properties",
    [
        {"note": "see the 'crs' member"},
        {"crs": "https://epsg.io/4326"},
        {"crs": {"type": "link", "properties": {"href": "URL/a"}}},
        {"CRS": {"type": "link", "properties": {"href": "URL/a"}}, "crs": [{"type": "url"}]},
        {"proj": {"crs": {"type": "GeographicCRS", "name": "WGS 84"}}},
        {"a": {"type": "FeatureCollection", "crs": {"type": "url", "properties": {"url": "URL/b"}}}},
    ],
)
def test_a_property_that_is_called_crs_is_taken_and_nobody_asked(
    tmp_path: Path, server: tuple[str, list[str]], properties: dict[str, object]
) -> None:
    url, asked = server
    properties = json.loads(json.dumps(properties).replace("URL", url))
    feature = {"type": "Feature", "properties": properties, "geometry": RING}
    for text in (
        collection(NAMED, properties=properties),
        json.dumps(feature, indent=1),
        "\n".join([json.dumps(feature)] * 2),
    ):
        (tmp_path / "a.geojson").write_text(text)
        crs, shapes = read_layer(str(tmp_path / "a.geojson"), None)
        assert crs == "EPSG:4326"
        assert len(shapes) >= 1
    assert asked == []


@pytest.mark.parametrize(
    "text",
    [
        '{"properties": {"type": "FeatureCollection", "crs": LINK, "features": [FEATURE]}}',
        '{"type": "Feature", "type": "a", "properties": {"type": "Polygon", "crs": LINK}}',
        '{"type": "FeatureCollection", "properties": {"crs": LINK}, "features": [FEATURE]}',
        'FEATURE\n{"type": "Feature", "properties":\n{"type": "Feature", "crs": LINK}\n}',
        "FEATURE\n'crs' LINK",
        '{"type": "FeatureCollection", "crs": LINK, "crs": NAMED, "features": [FEATURE]}',
    ],
)
def test_what_may_be_read_as_a_crs_is_looked_at(
    tmp_path: Path, server: tuple[str, list[str]], text: str
) -> None:
    url, asked = server
    feature = json.dumps({"type": "Feature", "properties": {}, "geometry": RING})
    for word, given in (("LINK", link(url)), ("NAMED", NAMED)):
        text = text.replace(word, json.dumps(given))
    (tmp_path / "a.geojson").write_text(text.replace("FEATURE", feature))
    with pytest.raises(ConfigError, match="nothing is fetched"):
        read_area(AreaFile(uri=str(tmp_path / "a.geojson"), layer=None))
    assert asked == []


@pytest.mark.parametrize("depth", [1000, 100_000])
def test_properties_that_are_nested_deep_are_refused(depth: int) -> None:
    nested = '{"a":' * depth + '{"crs": {"type": "link"}}' + "}" * depth
    with pytest.raises(ValueError, match="nothing is fetched"):
        check_crs(nested.encode())


@pytest.mark.parametrize(
    "text",
    [
        {"type": "EPSG", "properties": {"code": 4326}},
        {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}},
        {"properties": {"name": "EPSG:4326"}, "type": "Name"},
        {"type": "name", "properties": {"name": "http://www.opengis.net/def/crs/EPSG/0/4326"}},
    ],
)
def test_names_of_crss_are_taken(tmp_path: Path, text: object) -> None:
    (tmp_path / "a.geojson").write_text(collection(text))
    crs, _ = read_layer(str(tmp_path / "a.geojson"), None)
    assert crs == "EPSG:4326"


@pytest.mark.parametrize("value", ["null", '"EPSG:4326"', '{"a": 1}', "7", '"crs"'])
def test_other_members_that_are_called_so_are_no_hindrance(value: str) -> None:
    check_crs(f'{{"properties": {{"crs": {value}, "b": "crs"}}, "c": ["crs", 1]}}'.encode())


def test_a_million_members_take_no_square_of_time() -> None:
    data = b"[" + b'{"crs": 1},' * 100_000 + b"0]"
    started = time.process_time()
    check_crs(data)
    assert time.process_time() - started < 10


DOCUMENTS: dict[str, Callable[[str], str]] = {
    "schema.gml": lambda url: gml(attributes=f' xsi:schemaLocation="http://e {url}/a.xsd"'),
    "wfs.gml": lambda url: gml(
        attributes=f' xsi:schemaLocation="http://e {url}/?request=DescribeFeatureType&amp;typename=e:a"'
    ),
    "beside.gml": lambda _: gml(),
    "xlink.gml": lambda url: gml(more=f'<e:b xlink:href="{url}/b"/>'),
    "dtd.gml": lambda url: gml(doctype=f'<!DOCTYPE a SYSTEM "{url}/dtd">'),
    "links.kml": lambda url: kml(
        f"<NetworkLink><Link><href>{url}/a.kml</href></Link></NetworkLink>",
        f"<styleUrl>{url}/style.kml#a</styleUrl>",
    ),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_are_read_and_their_links_left_alone(
    tmp_path: Path, server: tuple[str, list[str]], name: str
) -> None:
    url, asked = server
    path = tmp_path / name
    path.write_text(DOCUMENTS[name](url))
    path.with_suffix(".xsd").write_text(
        '<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" targetNamespace="http://e">'
        f'<xs:import namespace="y" schemaLocation="{url}/import.xsd"/></xs:schema>'
    )
    before = sorted(tmp_path.iterdir())
    area = read_area(AreaFile(uri=str(path), layer=None))
    assert shapely.from_wkb(area.wkb).equals(SQUARE)
    assert area.crs == "EPSG:4326"
    assert asked == []
    assert sorted(tmp_path.iterdir()) == before  # GDAL would write a .gfs


FUNCTIONS = (
    "SELECT fid, ogr_geocode('x', 'geometry', 'SERVICE=OSM_NOMINATIM', 'QUERY_TEMPLATE={url}/?q=%s') AS geom "
    "FROM l",
    "SELECT fid, geom FROM l WHERE ogr_datasource_load_layers('{url}/a') IS NULL",
)


@pytest.mark.parametrize("allowed", ["", "YES"])
@pytest.mark.parametrize("sql", FUNCTIONS)
def test_views_of_a_geopackage_call_no_function_that_asks(
    tmp_path: Path, server: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch, sql: str, allowed: str
) -> None:
    url, asked = server
    if allowed:
        monkeypatch.setenv("ALLOW_OGR_SQL_FUNCTIONS_FROM_TRIGGER_AND_VIEW", allowed)
    path = write(tmp_path / "a.gpkg", layer="l")
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA writable_schema=ON")
        database.execute(
            "INSERT INTO sqlite_master VALUES ('view', 'v', 'v', 0, ?)",
            ("CREATE VIEW v AS " + sql.format(url=url),),
        )
        database.execute("UPDATE gpkg_contents SET table_name = 'v', identifier = 'v'")
        database.execute("UPDATE gpkg_geometry_columns SET table_name = 'v'")
    database.close()
    with pytest.raises(ConfigError) as caught:
        read_area(AreaFile(uri=str(path), layer=None))
    assert "ALLOW_" not in str(caught.value)
    assert asked == []


def test_archives_hold_a_shapefile_or_one_file(tmp_path: Path) -> None:
    write(tmp_path / "a.shp", crs="EPSG:32633")
    parts = [path for path in tmp_path.iterdir() if path.stem == "a"]
    for folder in ("", "deep/er/"):
        with zipfile.ZipFile(tmp_path / "shape.zip", "w") as archive:
            for part in parts:
                archive.write(part, folder + part.name)
        assert read_layer(str(tmp_path / "shape.zip"), "a")[0] == "EPSG:32633"
    for name, path in (
        ("a.gpkg", write(tmp_path / "a.gpkg")),
        ("a.fgb", write(tmp_path / "a.fgb")),
        ("a.geojson", write(tmp_path / "a.geojson")),
    ):
        with zipfile.ZipFile(tmp_path / "one.zip", "w") as archive:
            archive.write(path, name)
        crs, shapes = read_layer(str(tmp_path / "one.zip"), None)
        assert (crs, len(shapes)) == ("EPSG:4326", 1)
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a.geojson", collection())
        archive.writestr("b.vrt", ogr_vrt(str(tmp_path / "a.geojson")))
    with pytest.raises(ValueError, match="unpack it"):
        read_layer(str(tmp_path / "two.zip"), None)
    (tmp_path / "cut.zip").write_bytes((tmp_path / "one.zip").read_bytes()[:200])
    with pytest.raises(ValueError, match="damaged ZIP"):
        read_layer(str(tmp_path / "cut.zip"), None)


@pytest.mark.parametrize(
    ("name", "document"), [("a.kmz", "doc.kml"), ("a.zip", "doc.kml"), ("a.kmz", "Places.KML")]
)
def test_a_kmz_may_hold_pictures(tmp_path: Path, name: str, document: str) -> None:
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        archive.writestr("files/icon.png", b"x")
        archive.writestr(document, kml())
    crs, shapes = read_layer(str(tmp_path / name), None)
    assert (crs, len(shapes)) == ("EPSG:4326", 1)


def test_of_several_documents_in_an_archive_none_is_guessed(tmp_path: Path) -> None:
    for name, second in (("a.kmz", "b.kml"), ("a.zip", "b.gpkg")):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("a.kml", kml())
            archive.writestr(second, kml())
        with pytest.raises(ValueError, match="unpack it"):
            read_layer(str(tmp_path / name), None)


def test_an_archive_that_unpacks_to_too_much_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector, "UNPACKED_BYTES", 1000)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.geojson", collection() + " " * 1000)
    with pytest.raises(ValueError, match="unpack it"):
        read_layer(str(tmp_path / "a.zip"), None)


@pytest.mark.parametrize("name", ["a.geojson", "a.gpkg", "a.fgb", "a.shp"])
def test_a_layer_is_called_as_before(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name)
    assert len(read_layer(str(path), "a")[1]) == 1
    with pytest.raises(RuntimeError, match="Layer 'b'"):
        read_layer(str(path), "b")


def test_gdal_is_left_as_it_was(tmp_path: Path) -> None:
    drivers = list(pyogrio.list_drivers())
    pyogrio.set_gdal_config_options({"GML_DOWNLOAD_SCHEMA": True})
    try:
        for name in ("a.geojson", "a.gpkg"):
            read_layer(str(write(tmp_path / name)), None)
        with pytest.raises(RuntimeError, match="not a database"):
            (tmp_path / "a.gpkg").write_bytes(b"SQLite format 3\0" + bytes(100))
            read_layer(str(tmp_path / "a.gpkg"), None)
        assert list(pyogrio.list_drivers()) == drivers
        assert pyogrio.get_gdal_config_option("GML_DOWNLOAD_SCHEMA") is True
        assert pyogrio.get_gdal_config_option("OGR_SKIP") is None
    finally:
        pyogrio.set_gdal_config_options({"GML_DOWNLOAD_SCHEMA": None})


def test_a_pyogrio_that_keeps_to_no_driver_reads_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.gpkg")
    monkeypatch.setattr(pyogrio.core, "_register_drivers", lambda: None)
    with pytest.raises(RuntimeError, match="does not keep to one driver"):
        read_layer(str(path), None)


@pytest.mark.parametrize(
    "head", [b"", b"a,b\n1,2", b"<a>", b"<?xml?>" + b"<!---->" * 500, b"\x1f\x8b", b"%PDF"]
)
def test_heads_of_other_kinds_are_refused_in_no_time(head: bytes) -> None:
    started = time.monotonic()
    with pytest.raises(ValueError, match=r"ogr2ogr area\.gpkg a\.x"):
        kind_of(head, "a.x")
    assert time.monotonic() - started < 5


def test_a_crs_of_a_grid_at_an_address_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wkt = (
        'GEOGCS["a",DATUM["a",SPHEROID["a",6378137,298],EXTENSION["PROJ4_GRIDS","http://127.0.0.1:9/a.gsb"]]]'
    )
    monkeypatch.setattr("batchseg.pixels.area.read_layer", lambda *_: (wkt, [shapely.to_wkb(SQUARE)]))
    with pytest.raises(ConfigError, match="names the address of a grid"):
        read_area(AreaFile(uri="a.gpkg", layer=None))

"""Vector files, each opened by the driver that its first bytes name, out of a short list.

GDAL knows sixty kinds, some of which read what a file merely points at, or ask the network for it. pyogrio
tries all of them, and brings a GDAL of its own: nothing that is set for rasters holds here.
"""

import contextlib
import io
import json
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchseg.inputs.formats import local_head
from batchseg.system import fetch

HEAD_BYTES = 4096

UNPACKED_BYTES = 2**30
"""Of the one file of an archive, which is read into memory."""

_BEFORE_ROOT = rb"(?:\xef\xbb\xbf)?\s*+(?:(?:<\?.*?\?>|<!--.*?-->|<!DOCTYPE[^>\[]*>)\s*+)*+"


@dataclass(frozen=True, slots=True)
class Kind:
    """A format that is opened."""

    begins: re.Pattern[bytes]
    drivers: tuple[str, ...]
    """GDAL's; of several the first that takes the file reads it."""
    is_text: bool = False
    """It is given to GDAL as bytes: no schema beside it counts, and none is written there."""


GEOJSON = Kind(re.compile(rb"(?:\xef\xbb\xbf)?[\s\x1e]*+\{"), ("GeoJSON", "GeoJSONSeq"), is_text=True)

SHAPEFILE = Kind(re.compile(rb"\0\0\x27\x0a"), ("ESRI Shapefile",))

KINDS = (
    Kind(re.compile(rb"SQLite format 3\0"), ("GPKG",)),
    Kind(re.compile(rb"fgb[\x01-\xff]fgb"), ("FlatGeobuf",)),
    SHAPEFILE,
    Kind(re.compile(_BEFORE_ROOT + rb"<(\w+:)?kml\b", re.DOTALL), ("LIBKML", "KML"), is_text=True),
    Kind(re.compile(_BEFORE_ROOT + rb"<\w.*opengis\.net/gml", re.DOTALL), ("GML",), is_text=True),
    GEOJSON,
)

ARCHIVE = re.compile(rb"PK\x03\x04")

GDAL_OPTIONS = {
    "CPL_VSIL_CURL_ALLOWED_FILENAME": "none",
    # A view of a GeoPackage may call any function of SQLite, and GDAL adds some that ask the network.
    "ALLOW_OGR_SQL_FUNCTIONS_FROM_TRIGGER_AND_VIEW": "NO",
    "OGR_SQLITE_PRAGMA": "trusted_schema=OFF",
    "GML_DOWNLOAD_SCHEMA": "NO",
    "GML_DOWNLOAD_WFS_SCHEMA": "NO",
    "GML_SKIP_RESOLVE_ELEMS": "ALL",
    "LIBKML_RESOLVE_STYLE": "NO",
    "LIBKML_EXTERNAL_STYLE": "NO",
}

_CRS_KEY = re.compile(
    rb"""["'](?:c|\\u00[46]3)(?:r|\\u00[57]2)(?:s|\\u00[57]3)["']\s*+(?P<next>[^,\]}]?)\s*+""", re.IGNORECASE
)
"""As GDAL's parser takes it: in capitals, escaped or in single quotes too. `next` is empty after a value."""

_NUL = re.compile(rb"\0|\\u0000")

_CRS_BYTES = 4096

_CRS_NAME = re.compile(r"(https?://(www\.)?opengis\.net/def/crs/)?[^/\\]+(/[^/\\]+)*", re.IGNORECASE)
"""No address, but for OGC's own, which GDAL knows without asking."""


def read_layer(uri: str, layer: str | None) -> tuple[str | None, Sequence[bytes | None]]:
    """The CRS and the geometries of one layer.

    Args:
        uri: of the file.
        layer: its name; None: the first.

    Returns:
        EPSG:code or WKT, None where the file has none; and per feature WKB in two dimensions, None where it
        has no geometry.

    Raises:
        ImportError: pyogrio is not installed.
        OSError: the storage does not give the file.
        ValueError, RuntimeError: it is of no kind that is opened, names an address, or is damaged.
    """
    import pyogrio  # noqa: F401  what is to be installed is said first

    found, name = fetch.path_or_bytes(uri), uri.rpartition("/")[2]
    given: str | bytes | Path
    if ARCHIVE.match(_head(found)):
        given, kind, name = _unpacked(found, name)
    else:
        given, kind = found, kind_of(_head(found), name)
    if kind.is_text and isinstance(given, Path):
        given = given.read_bytes()
        kind = kind_of(given[:HEAD_BYTES], name)  # of what is read in the end
    if kind is GEOJSON and isinstance(given, bytes):
        check_crs(given)
    return _read(given if isinstance(given, bytes) else str(given), layer, kind, name)


def kind_of(head: bytes, name: str) -> Kind:
    """The kind of a file that begins with `head`, HEAD_BYTES of it or all.

    Raises:
        ValueError: it is of none that is opened.
    """
    kind = next((kind for kind in KINDS if kind.begins.match(head)), None)
    if kind is None:
        msg = (
            f"{name} is no GeoPackage, GeoJSON, Shapefile (.shp), FlatGeobuf, KML or GML file, nor a ZIP "
            f"archive of one; convert it: ogr2ogr area.gpkg {name}"
        )
        raise ValueError(msg)
    return kind


def check_crs(data: bytes) -> None:
    """Look at each member `crs` of a GeoJSON file: GDAL would fetch what one links to.

    Raises:
        ValueError: one is anything but a name or a code, or keys may be other ones to GDAL.
    """
    if _NUL.search(data):
        msg = "it holds the character U+0000, at which GDAL cuts names off; write it without"
        raise ValueError(msg)
    for match in _CRS_KEY.finditer(data):
        value = data[match.end() : match.end() + _CRS_BYTES]
        if match["next"] and not (match["next"] == b":" and _begins_named(value)):
            break
    else:
        return
    if not _are_named(data):
        msg = (
            'its "crs" is no name, and nothing is fetched from the network for it; write one, as in '
            '"crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::25832"}}'
        )
        raise ValueError(msg)


def _begins_named(text: bytes) -> bool:
    """Whether a member `crs` that begins here is something that GDAL looks up, or leaves alone."""
    try:
        value, _ = _decoder().raw_decode(text.decode("utf-8", errors="replace"))
    except (ValueError, RecursionError):
        return False
    return _is_named(value)


def _are_named(data: bytes) -> bool:
    """The same of all members `crs` but those in the properties of features, which GDAL takes as values."""
    try:
        documents = [_parsed(data)]
    except (ValueError, RecursionError):
        try:
            documents = [_parsed(line) for line in re.split(rb"[\n\x1e]", data) if line.strip()]
        except (ValueError, RecursionError):
            return False
    values = documents
    while values:
        value = values.pop()
        if isinstance(value, list):
            values += value
        elif isinstance(value, _Object):
            is_feature = value.all("type") in (["Feature"], ["feature"])
            values += [inner for key, inner in value.members if not (is_feature and key == "properties")]
            if not all(_is_named(crs) for crs in value.all("crs")):
                return False
    return True


def _is_named(crs: Any) -> bool:
    if not isinstance(crs, _Object) or not crs.all("type"):
        return True
    kinds, properties = crs.all("type"), crs.all("properties")
    if len(kinds) > 1 or len(properties) != 1 or not isinstance(kinds[0], str):
        return False
    if kinds[0].lower() == "epsg":
        return True  # GDAL takes a number there
    names = properties[0].all("name") if isinstance(properties[0], _Object) else []
    is_name = kinds[0].lower() == "name" and len(names) == 1 and isinstance(names[0], str)
    return is_name and _CRS_NAME.fullmatch(names[0]) is not None


@dataclass(frozen=True, slots=True)
class _Object:
    members: list[tuple[str, Any]]
    """Keys in small letters, as GDAL compares them; they may come twice."""

    def all(self, key: str) -> list[Any]:
        return [value for name, value in self.members if name == key]


def _without_coordinates(pairs: list[tuple[str, Any]]) -> _Object:
    members = ((key.lower(), value) for key, value in pairs)
    return _Object([(key, of) for key, of in members if key != "coordinates" or not isinstance(of, list)])


def _decoder() -> json.JSONDecoder:
    return json.JSONDecoder(object_pairs_hook=_without_coordinates)


def _parsed(data: bytes) -> Any:
    return _decoder().decode(data.decode("utf-8-sig"))


def _head(found: Path | bytes) -> bytes:
    return found[:HEAD_BYTES] if isinstance(found, bytes) else local_head(found, HEAD_BYTES)


def _unpacked(found: Path | bytes, name: str) -> tuple[str | bytes, Kind, str]:
    """What GDAL is given of a ZIP archive, its kind and its name: a Shapefile, a KMZ's text or the one file.

    Raises:
        ValueError: it is damaged, or holds several files and no Shapefile, or a very large one.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(found) if isinstance(found, bytes) else found) as archive:
            files = [info for info in archive.infolist() if not info.is_dir()]
            shapes = [info.filename for info in files if info.filename.lower().endswith(".shp")]
            if shapes:
                if isinstance(found, bytes):
                    return found, SHAPEFILE, name
                inside = shapes[0] if len(shapes) == 1 else shapes[0].rpartition("/")[0]
                return f"/vsizip/{{{found.absolute()}}}/{inside}", SHAPEFILE, name
            files = _of_kmz(files, name) or files
            if len(files) != 1 or files[0].file_size > UNPACKED_BYTES:
                msg = f"{name} holds neither a Shapefile nor one file of at most 1 GiB; unpack it"
                raise ValueError(msg)
            data = archive.read(files[0])
    except (zipfile.BadZipFile, NotImplementedError, EOFError, zlib.error) as e:
        msg = f"{name} is a damaged ZIP archive, or one of a kind that is not unpacked: {e}"
        raise ValueError(msg) from e
    return data, kind_of(data[:HEAD_BYTES], files[0].filename), files[0].filename


def _of_kmz(files: Sequence[zipfile.ZipInfo], name: str) -> list[zipfile.ZipInfo]:
    """The document of a KMZ, whose other files are pictures."""
    documents = [info for info in files if info.filename.lower() == "doc.kml"]
    if not documents and name.lower().endswith(".kmz"):
        documents = [info for info in files if info.filename.lower().endswith(".kml")]
    return documents


def _read(
    given: str | bytes, layer: str | None, kind: Kind, name: str
) -> tuple[str | None, Sequence[bytes | None]]:
    import pyogrio

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of several layers the first is what is documented
        with _held_to(kind.drivers):
            try:
                if isinstance(given, bytes) and layer == name.rpartition(".")[0]:
                    # A layer of some formats is called as its file, and bytes have no name.
                    layer = layer if layer in pyogrio.list_layers(given)[:, 0] else None
                meta, _, geometries, _ = pyogrio.raw.read(given, layer=layer, columns=[], force_2d=True)
            except RuntimeError as e:
                raise RuntimeError(_words(str(e), kind, name)) from e
    return meta["crs"], [] if geometries is None else geometries


def _words(error: str, kind: Kind, name: str) -> str:
    """GDAL's error, without its ways around what is refused here."""
    if "not recognized as being in a supported" in error:
        return f"{name} begins as a file for GDAL's {' or '.join(kind.drivers)}, which does not take it"
    shown = re.sub(r"(/vsizip/+)?/vsimem/\w+(\.zip)?", name, error)
    return shown.partition(" The database will not be opened")[0]


@contextlib.contextmanager
def _held_to(drivers: Sequence[str]) -> Iterator[None]:
    """pyogrio's GDAL with these drivers alone, as GDALOpenEx can be told and pyogrio cannot.

    Raises:
        RuntimeError: pyogrio does not keep to them.
    """
    import pyogrio

    names = list(pyogrio.list_drivers())
    options = {**GDAL_OPTIONS, "OGR_SKIP": ",".join(name for name in names if name not in drivers)}
    before = {name: pyogrio.get_gdal_config_option(name) for name in options}
    pyogrio.set_gdal_config_options(options)
    try:
        pyogrio.core._register_drivers()  # GDAL leaves out there what OGR_SKIP names
        if not set(pyogrio.list_drivers()) <= set(drivers):
            msg = f"pyogrio {pyogrio.__version__} does not keep to one driver; install pyogrio 0.13"
            raise RuntimeError(msg)
        yield
    finally:
        pyogrio.set_gdal_config_options({"OGR_SKIP": ",".join(names)})
        pyogrio.core._register_drivers()  # none: those that stayed would come first from now on
        pyogrio.set_gdal_config_options(before)
        pyogrio.core._register_drivers()
